/* kernel_test.h - what the kernels' tests share: memory between unmapped pages, hostile input, and every variant with
 * every length. A test program defines nothing before it includes this. */
#ifndef CWI_KERNEL_TEST_H
#define CWI_KERNEL_TEST_H

#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"
#include "codec/kernels/kernels.h"
#include "test.h"

enum {
    MOST = 3000,               /* elements */
    ARENA = 64 * 1024,         /* bytes between guard pages */
    VARIANTS = 3,              /* besides scalar */
    SHORT = 4 * CWI_GROUP + 1, /* every length below is tried */
};

/* ---- memory between unmapped pages ---- */

typedef struct arena {
    uint8_t *base; /* ARENA bytes */
} arena;

static arena arenas[4];

static inline void arenas_make(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_true(ARENA % page == 0);
    for (size_t i = 0; i < CWI_COUNT(arenas); i++) {
        uint8_t *p = mmap(NULL, ARENA + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(p != MAP_FAILED);
        assert_int_equal(mprotect(p + page, ARENA, PROT_READ | PROT_WRITE), 0);
        arenas[i].base = p + page;
    }
}

/* `size` bytes that end (or begin, every second call) at an unmapped page, filled with `fill`. */
static inline void *place(int which, size_t size, bool at_end, int fill)
{
    assert_true(size <= ARENA);
    memset(arenas[which].base, fill, ARENA);
    return arenas[which].base + (at_end ? ARENA - size : 0);
}

/* ---- input ---- */

static cwi_rng rng;

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t key_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & INT32_MAX;
}

typedef enum pattern {
    NORMAL,    /* both signs */
    RECTIFIED, /* half of them zero, as after a ReLU */
    ANY_BITS,  /* any finite float */
    DENORMAL,
    HUGE_ONES,
    CONSTANT,
    TWO_VALUES,
    ZEROS, /* of both signs */
    RAMP,
    PATTERNS
} pattern;

static inline float sample(pattern p, size_t i)
{
    const uint64_t random = cwi_rng_u64(&rng);
    switch (p) {
    case NORMAL:
        return (float)cwi_rng_normal(&rng);
    case RECTIFIED:
        return fmaxf((float)cwi_rng_normal(&rng), 0);
    case ANY_BITS:
        return (random & CWI_KEY_INF) == CWI_KEY_INF ? 1 : float_of((uint32_t)random);
    case DENORMAL:
        return float_of((uint32_t)random & UINT32_C(0x807fffff));
    case HUGE_ONES:
        return random & 1 ? FLT_MAX : -FLT_MAX * ((float)(random >> 40) * 0x1p-24f);
    case CONSTANT:
        return 0.7f;
    case TWO_VALUES:
        return random & 4 ? 1.5f : 0.25f;
    case ZEROS:
        return random & 1 ? 0.0f : -0.0f;
    default:
        return (float)i * 0.01f;
    }
}

/* n floats of a pattern against an unmapped page; on odd `n` they begin 4 bytes off a vector's alignment anyway. */
static inline float *input(pattern p, size_t n, bool at_end)
{
    float *x = place(0, n * sizeof *x, at_end, 0xee);
    for (size_t i = 0; i < n; i++)
        x[i] = sample(p, i);
    return x;
}

/* ---- the variants ---- */

static cwi_kernels scalar, variant[VARIANTS];
static size_t variants;

static inline int find_variants(void **state)
{
    (void)state;
    static const cwi_cpu all[VARIANTS] = {CWI_CPU_AVX2, CWI_CPU_AVX512, CWI_CPU_NEON};
    assert_true(cwi_kernels_for(CWI_CPU_SCALAR, &scalar));
    for (size_t i = 0; i < VARIANTS; i++) {
        if (cwi_kernels_for(all[i], &variant[variants]))
            variants++;
        else
            printf("SKIP: %s: this machine or build has no such kernels\n", cwi_cpu_name(all[i]));
    }
    rng = cwi_rng_make(1, CWI_STREAM_TEST, 0, 0);
    arenas_make();
    return 0;
}

/* Runs check(kernels, pattern, n, at_end) for every variant, pattern and length. */
typedef void check(const cwi_kernels *k, pattern p, size_t n, bool at_end);

static inline void check_all(check *c)
{
    static const size_t longer[] = {511, 1000, 1025, 2048, MOST - 1};
    for (size_t v = 0; v < variants; v++) {
        for (int p = 0; p < PATTERNS; p++) {
            for (size_t n = 0; n < SHORT; n++)
                c(&variant[v], (pattern)p, n, n & 1 ? p & 1 : !(p & 1));
            for (size_t i = 0; i < CWI_COUNT(longer); i++)
                c(&variant[v], (pattern)p, longer[i], i & 1);
        }
    }
}

#define FAIL_AT(k, what, p, n) fail_msg("%s %s: pattern %d, %zu elements", cwi_cpu_name((k)->cpu), what, p, n)

static inline void assert_same_bytes(const cwi_kernels *k, const char *what, pattern p, size_t n, const void *got,
                                     const void *want, size_t size)
{
    const uint8_t *a = got, *b = want;
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            fail_msg("%s %s: pattern %d, %zu elements: byte %zu is %02x, not %02x", cwi_cpu_name(k->cpu), what, (int)p,
                     n, i, a[i], b[i]);
}

#endif
