/* bench_data.h - the tensors that benchmarks encode. Our measurements and the peers' use the same. */
#ifndef CLI_BENCH_DATA_H
#define CLI_BENCH_DATA_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* A sample of 64 x 16 x 16 elements is 64 KiB: the shallow cut of the paper's VGG19. */
enum { BENCH_CHANNELS = 64, BENCH_SIDE = 16, BENCH_SAMPLE = BENCH_CHANNELS * BENCH_SIDE * BENCH_SIDE };

static inline double bench_uniform(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}

/* n floats as a ReLU leaves them: a share of zeros, the others half-normal. */
static inline void bench_fill(float *x, size_t n, double zeros)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < n; i++) {
        const double keep = bench_uniform(&state), radius = bench_uniform(&state), angle = bench_uniform(&state);
        x[i] = keep < zeros ? 0.0f : (float)fabs(sqrt(-2.0 * log(radius)) * cos(6.283185307179586 * angle));
    }
}

/* The same with signs, and magnitudes as heavy-tailed as gradients' at a cut (kurtosis about 40). */
static inline void bench_fill_gradient(float *x, size_t n, double zeros)
{
    uint64_t state = UINT64_C(0x2545f4914f6cdd1d);
    bench_fill(x, n, zeros);
    for (size_t i = 0; i < n; i++)
        x[i] *= (float)((bench_uniform(&state) < 0.5 ? -1e-4 : 1e-4) * exp(1.2 * x[i]));
}

#endif
