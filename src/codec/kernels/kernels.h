/* kernels.h - the inner loops of the codecs, as one table of function pointers per instruction set. Internal.
 *
 * The scalar functions (scan_scalar.c, planes_scalar.c, convert_scalar.c) are the definition: a variant must leave the
 * same bytes in every output and return the same results, for every input including NaN and infinity. So no fused
 * multiply-add, no reciprocal estimates, and round-to-nearest-even with denormals honoured (the thread's
 * floating-point state must be the default one).
 *
 * Common rules
 * - n may be anything from 0; x, out need no more alignment than float; byte buffers need none.
 * - Nothing is read or written outside the stated ranges, not even by a masked-out lane that is really a full load:
 *   tests put guard pages on both sides. Output buffers never overlap inputs.
 * - Kernels allocate nothing, keep no state between calls and may run in many threads at once.
 * - Pointers are __restrict in spirit.
 *
 * Vocabulary
 * - key(x): the bits of float x with the sign cleared, as uint32_t. Keys order like magnitudes; a key >= CWI_KEY_INF is
 *   infinite or NaN.
 * - plane layout: codes of `planes` bits each are stored in groups of 64 elements. A full group is `planes` runs of 8
 *   bytes: run p holds bit p of each code, element i of the group at bit i % 8 of byte i / 8 (so a run read as a
 *   little-endian uint64_t has element i at bit i). A last group of m < 64 elements has `planes` runs of (m + 7) / 8
 *   bytes, the unused high bits zero. A sign plane, where there is one, is the last run of each group: planes =
 *   bits + 1. Only the last group of a call may be short, so callers split tensors at multiples of 64 elements.
 */
#ifndef CWI_KERNELS_H
#define CWI_KERNELS_H

#include "base/base.h"
#include "codec/kernels/ctx_kernels.h"
#include "codec/kernels/ec_kernels.h"

#define CWI_KEY_INF UINT32_C(0x7f800000)

/* For the small pieces that kernels are put together from. */
#define CWI_INLINE static inline __attribute__((always_inline))

enum {
    CWI_GROUP = 64, /* elements whose planes lie together */
    CWI_HISTOGRAM_BINS = 2048,
    CWI_MAX_BITS = 8,        /* of a code */
    CWI_CANDIDATE_SLACK = 16 /* keys that window() may scribble past `capacity` */
};

/* Bytes of n codes of `planes` bits in the plane layout. */
static inline size_t cwi_planes_size(size_t n, unsigned planes)
{
    return n / CWI_GROUP * (CWI_GROUP / 8) * planes + (n % CWI_GROUP + 7) / 8 * planes;
}

/* ---- quantizer: float -> code ----
 *
 * With every operation a float operation rounded to nearest even, in this order:
 *     v    = (a * pre - base) * scale        a = x, or |x| for the ms kernels (which have base = 0)
 *     code = (uint32_t)min(v + add, top)     truncation; v + add is never negative nor NaN for inputs the caller allows
 * where add = `half` (0 for floor, 0.5 for nearest), or for stochastic rounding the element's random number in [0, 1).
 * min(a, b) is a < b ? a : b, so infinities saturate. */
typedef struct cwi_quant {
    float pre;   /* a power of two that keeps the product in range; nearly always 1 */
    float base;  /* already multiplied by pre */
    float scale; /* codes per unit; 0 when all inputs are the same */
    float half;
    float top; /* largest code, a whole number 0 .. 2^bits - 1 */
    unsigned bits;
} cwi_quant;

/* ---- random numbers of stochastic rounding ----
 *
 * Element i of a stream gets a number that depends on (key, i) alone. h is 32 bits wide, arithmetic modulo 2^32:
 *     h = (uint32_t)i ^ (uint32_t)key
 *     h ^= h >> 16; h *= 0x21f0aaad; h ^= h >> 15; h *= 0x735a2d97; h ^= h >> 15
 *     h += (uint32_t)(key >> 32) + (uint32_t)(i >> 32) * 0x9e3779b9
 *     h ^= h >> 16; h *= 0x85ebca6b; h ^= h >> 13
 *     u = (float)(h >> 8) * 2^-24                         in [0, 1), exact
 * The first line of multipliers is Wellons' "lowbias32"; the last half round parts streams whose low key halves
 * differ in few bits. */
static inline uint32_t cwi_noise_high(uint64_t key, uint64_t i)
{
    return (uint32_t)(key >> 32) + (uint32_t)(i >> 32) * UINT32_C(0x9e3779b9);
}

static inline uint32_t cwi_noise_bits(uint64_t key, uint64_t i)
{
    uint32_t h = (uint32_t)i ^ (uint32_t)key;
    h ^= h >> 16;
    h *= UINT32_C(0x21f0aaad);
    h ^= h >> 15;
    h *= UINT32_C(0x735a2d97);
    h ^= h >> 15;
    h += cwi_noise_high(key, i);
    h ^= h >> 16;
    h *= UINT32_C(0x85ebca6b);
    return h ^ (h >> 13);
}

/* ---- results and state ---- */

/* What a pass over all elements finds. Start from CWI_RANGE_EMPTY; calls accumulate, in any order. */
typedef struct cwi_range {
    uint32_t max_key; /* largest key: >= CWI_KEY_INF when a NaN or infinity was met */
    uint32_t
        max_bits;   /* largest of the raw bits as uint32_t: > 0x80000000 when a negative number was met (-0 is none) */
    float min, max; /* of finite input; when zeros of both signs are met, either. Unspecified after a NaN */
} cwi_range;
#define CWI_RANGE_EMPTY ((cwi_range){.max_key = 0, .max_bits = 0, .min = __builtin_inff(), .max = -__builtin_inff()})

/* The selection pass: everything cwi_range has but min and max, and the keys of a window [low, high). */
typedef struct cwi_window {
    uint32_t low, high; /* low <= high <= 0x80000000 */
    uint32_t max_key, max_bits;
    uint64_t above;       /* number of keys >= high */
    uint64_t inside;      /* number of keys with low <= key < high, stored or not */
    uint32_t *candidates; /* the first `capacity` of the latter, in order; room for CWI_CANDIDATE_SLACK more, which
                             variants may overwrite with anything */
    size_t capacity;
} cwi_window;

/* The ms encoder's parameters and position. */
typedef struct cwi_ms_encode {
    cwi_quant quant;     /* of magnitudes; base = 0, top = 2^bits - 2 (0 for bits = 1) */
    uint32_t threshold;  /* elements with key > threshold are kept, and the first `ties` with key == threshold; at most
                            0x7fffffff */
    bool is_signed;      /* a sign plane follows the code planes */
    bool signed_zero;    /* whether code 0 has a sign there, too */
    uint64_t ties;       /* in: how many more ties to keep; out: less those kept */
    uint8_t *planes;     /* out position; moves on by cwi_planes_size(n, bits + is_signed) */
    uint8_t *values;     /* out position of the kept values; moves on by 4 bytes for each */
    uint8_t *values_end; /* nothing is written at or past it. The caller made it far enough for every kept value;
                            [values, values_end) past the last one may be overwritten with anything */
} cwi_ms_encode;

/* The ms decoder's parameters and position. */
typedef struct cwi_ms_decode {
    unsigned bits;
    bool is_signed;
    const uint8_t *planes; /* moves on */
    const uint8_t *values; /* moves on by 4 bytes for each all-ones code; little-endian floats */
    const uint8_t *values_end;
    float level[1 << CWI_MAX_BITS]; /* magnitude of each code 0 .. 2^bits - 2, never negative; the rest is not used */
} cwi_ms_decode;

/* Sums that give the mean magnitude of each code (recon=centroid). */
typedef struct cwi_moments {
    uint64_t count[1 << CWI_MAX_BITS];
    uint64_t sum[1 << CWI_MAX_BITS]; /* of (uint32_t)(v * 65536), v as in cwi_quant: 1/65536 of a code step */
} cwi_moments;

/* Planes that are sums of others: of `inputs` planes with weights, `outputs` of them. */
typedef struct cwi_planes_sum {
    size_t inputs, outputs, plane; /* plane: elements of one */
    const float *weight;           /* outputs rows of inputs */
    const float *start;            /* of each output: what its sums begin with */
} cwi_planes_sum;

/* ---- the table ---- */

typedef struct cwi_kernels {
    cwi_cpu cpu;

    /* One read pass: r accumulates. For `none`, fp16, bf16, qu. */
    void (*range)(const float *x, size_t n, cwi_range *r);

    /* The same with min and max left out and the window [low, high) collected and counted: the pass that selects the
     * k-th largest magnitude once a sample has told where it must lie. Accumulates over calls: `inside` tells how many
     * candidates there are already. */
    void (*window)(const float *x, size_t n, cwi_window *w);

    /* *above += number of keys > t; *equal += number of keys == t; t < 0x80000000. */
    void (*count)(const float *x, size_t n, uint32_t t, uint64_t *above, uint64_t *equal);

    /* bins[(key - base) >> shift]++ for each key where that index, computed in uint32_t, is < CWI_HISTOGRAM_BINS.
     * The exact, bounded way to select when sampling failed; must not collapse on constant input. */
    void (*histogram)(const float *x, size_t n, uint32_t base, unsigned shift, uint64_t bins[CWI_HISTOGRAM_BINS]);

    /* One pass of ms (and with bits = 1, scale = 0 of the bitmap of sp). Code of a kept element: all ones, and its raw
     * 4 bytes go to values. Any other: the quantizer's code of |x|. Sign plane: the sign bit of x, also for kept ones
     * and for -0; of code 0 only with signed_zero. Speed matters most at bits 1, 2 and 3, unsigned. Many ties at the
     * threshold (constant or already quantized input) must not be slow. */
    void (*ms_encode)(const float *x, size_t n, cwi_ms_encode *e);

    /* Inverse: all ones -> the next value verbatim (sign included); else level[code] with the sign bit set when the
     * sign plane says so. Returns false, the output and position unspecified, when the codes ask for more values than
     * there are; never reads past values_end. */
    bool (*ms_decode)(cwi_ms_decode *d, size_t n, float *out);

    /* How many of n codes are all ones in the first `bits` of `planes` planes. */
    uint64_t (*ones)(const uint8_t *codes, size_t n, unsigned bits, unsigned planes);

    /* m accumulates every element with key < limit under the code the quantizer gives its magnitude. */
    void (*moments)(const float *x, size_t n, const cwi_quant *q, uint32_t limit, cwi_moments *m);

    /* x -> codes of q->bits planes by the quantizer (a = x). All x lie between the min and max that q was made from. */
    void (*quantize)(const float *x, size_t n, const cwi_quant *q, uint8_t *planes);
    /* The same with stochastic rounding; element 0 of this call is element `first` of the stream `key`. */
    void (*quantize_noise)(const float *x, size_t n, const cwi_quant *q, uint64_t key, uint64_t first, uint8_t *planes);
    /* Codes -> level[code]; 2^bits levels. */
    void (*dequantize)(const uint8_t *planes, size_t n, unsigned bits, const float *level, float *out);

    /* 2-byte floats, little-endian, rounded to nearest even. Finite values too large saturate at the largest finite one
     * (65504 for f16); the input is finite. */
    void (*to_f16)(const float *x, size_t n, uint8_t *out);
    void (*to_bf16)(const float *x, size_t n, uint8_t *out);
    /* Exact. Return false when an infinity or NaN was met; all n are converted all the same, only which NaN comes of a
     * NaN is unspecified. */
    bool (*from_f16)(const uint8_t *in, size_t n, float *out);
    bool (*from_bf16)(const uint8_t *in, size_t n, float *out);

    /* Of groups of `planes` planes, the `bits` (up to 4) from plane `first` on as codes of one byte each; and codes
     * into those planes, the others left as they are. */
    void (*codes_of_planes)(const uint8_t *in, size_t n, unsigned planes, unsigned first, unsigned bits,
                            uint8_t *codes);
    void (*planes_of_codes)(const uint8_t *codes, size_t n, unsigned planes, unsigned first, unsigned bits,
                            uint8_t *out);
    /* The bits of `word` where `mask` has ones, moved together; and the inverse, zeros where mask has zeros. */
    uint64_t (*extract)(uint64_t word, uint64_t mask);
    uint64_t (*deposit)(uint64_t bits, uint64_t mask);

    /* y[o][p] = start[o] + weight[o][0] x[0][p] + weight[o][1] x[1][p] ..., added from the left. */
    void (*sum_planes)(const cwi_planes_sum *s, const float *x, float *y);

    cwi_ctx_kernels ctx;
    cwi_ec_kernels ec;
} cwi_kernels;

/* The scalar ones, also for variants whose processors have no such instruction. */
uint64_t cwi_extract(uint64_t word, uint64_t mask);
uint64_t cwi_deposit(uint64_t bits, uint64_t mask);

/* The table of cwi_cpu_selected(), filled once. Thread-safe. */
const cwi_kernels *cwi_kernels_get(void);
/* The table of one variant, for tests and benchmarks; false when this build or machine lacks it. */
bool cwi_kernels_for(cwi_cpu cpu, cwi_kernels *out);
/* Tests: what cwi_kernels_get() gives from now on; false when this build or machine lacks it. Not while other threads
 * use the table. */
bool cwi_kernels_force(cwi_cpu cpu);

/* Each source file's contribution: fills in the entries it has and leaves the others. */
void cwi_scan_scalar(cwi_kernels *k);
void cwi_planes_scalar(cwi_kernels *k);
void cwi_convert_scalar(cwi_kernels *k);
void cwi_ctx_scalar(cwi_kernels *k);
void cwi_ec_scalar(cwi_kernels *k);
void cwi_klt_scalar(cwi_kernels *k);
#if defined(__x86_64__) && defined(__LP64__)
void cwi_scan_avx2(cwi_kernels *k);
void cwi_planes_avx2(cwi_kernels *k);
void cwi_convert_avx2(cwi_kernels *k);
void cwi_scan_avx512(cwi_kernels *k);
void cwi_planes_avx512(cwi_kernels *k);
void cwi_convert_avx512(cwi_kernels *k);
void cwi_ctx_avx2(cwi_kernels *k);
void cwi_ctx_avx512(cwi_kernels *k);
void cwi_klt_avx2(cwi_kernels *k);
void cwi_klt_avx512(cwi_kernels *k);
#elif defined(__aarch64__)
void cwi_scan_neon(cwi_kernels *k);
void cwi_planes_neon(cwi_kernels *k);
void cwi_convert_neon(cwi_kernels *k);
void cwi_ctx_neon(cwi_kernels *k);
#endif

#endif
