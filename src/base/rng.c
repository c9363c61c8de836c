/* rng.c - counter-based random streams, and the distributions the project draws from. */
#include <math.h>

#include "base/base.h"

/* The 64-bit finalizer of splitmix64. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);

cwi_rng cwi_rng_make(uint64_t seed, cwi_stream purpose, uint64_t a, uint64_t b)
{
    uint64_t key = mix(seed + golden);
    key = mix(key ^ mix((uint64_t)purpose * golden));
    key = mix(key ^ mix(a + golden));
    key = mix(key ^ mix(b + 2 * golden));
    return (cwi_rng){.key = key, .next = 0};
}

uint64_t cwi_rng_at(const cwi_rng *r, uint64_t i)
{
    return mix(r->key + (i + 1) * golden);
}

uint64_t cwi_rng_u64(cwi_rng *r)
{
    return cwi_rng_at(r, r->next++);
}

double cwi_rng_double(cwi_rng *r)
{
    return (double)(cwi_rng_u64(r) >> 11) * 0x1p-53;
}

/* The 128-bit product's halves, by 32 bits at a time: not every machine has an integer so wide. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    const uint64_t mask = UINT32_MAX, a0 = a & mask, a1 = a >> 32, b0 = b & mask, b1 = b >> 32;
    const uint64_t p00 = a0 * b0, p01 = a0 * b1, p10 = a1 * b0;
    const uint64_t middle = (p00 >> 32) + (p01 & mask) + (p10 & mask);
    *low = (p00 & mask) | middle << 32;
    return a1 * b1 + (p01 >> 32) + (p10 >> 32) + (middle >> 32);
}

uint64_t cwi_rng_below(cwi_rng *r, uint64_t bound)
{
    /* Lemire 2019: the high half of a product, rejecting the few low halves that would bias it. */
    uint64_t reject = (0 - bound) % bound;
    for (;;) {
        uint64_t low, high = multiply(cwi_rng_u64(r), bound, &low);
        if (low >= reject)
            return high;
    }
}

double cwi_rng_normal(cwi_rng *r)
{
    /* Box-Muller; one of the pair is thrown away so that a draw always moves the stream by two. */
    double u = 1.0 - cwi_rng_double(r);
    double v = cwi_rng_double(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

double cwi_rng_gamma(cwi_rng *r, double shape)
{
    if (shape < 1.0) {
        double u = 1.0 - cwi_rng_double(r);
        return cwi_rng_gamma(r, shape + 1.0) * pow(u, 1.0 / shape);
    }
    double d = shape - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = cwi_rng_normal(r);
        double v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        double u = 1.0 - cwi_rng_double(r);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

void cwi_rng_shuffle(cwi_rng *r, uint32_t *a, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)cwi_rng_below(r, i);
        uint32_t t = a[i - 1];
        a[i - 1] = a[j];
        a[j] = t;
    }
}

uint64_t cwi_hash_string(const char *s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
    return h;
}
