/* ec_kernels.h - the inner loops of ec: floats to symbols, symbols to floats. Internal.
 *
 * v = |x| * pre * scale (a float after each product), q = floor(min(v + add, CWI_EC_ESCAPE)), add = 0.5 or the
 * element's random number (cwi_noise_bits, kernels.h). Symbol: q where that is below 8, else 5 + floor(log2 q): 8
 * for 8..15, 9 for 16..31 .. 15 for an escape. */
#ifndef CWI_EC_KERNELS_H
#define CWI_EC_KERNELS_H

#include "base/base.h"
#include "codec/bits.h"

enum {
    CWI_EC_EXACT = 8,     /* symbols below it stand for themselves */
    CWI_EC_ESCAPE = 1024, /* q from which on the element is sent as it is */
    CWI_EC_ESCAPED = 15,  /* the symbol of those */
    CWI_EC_PLACES = 1 << 14,
    CWI_EC_SPREAD = 1 << 8,
    CWI_EC_SPREAD_MOST = 4096,
    CWI_EC_LOG_OFFSET = 5, /* symbol - floor(log2 q) of the symbols between */
};

typedef struct cwi_ec_quant {
    float pre, scale;
    bool stochastic;
    uint64_t noise; /* key */
} cwi_ec_quant;

/* q before it becomes a symbol; `i` is the element's number in its tensor. */
uint32_t cwi_ec_code(const cwi_ec_quant *q, float x, uint64_t i);

static inline uint8_t cwi_ec_symbol(uint32_t q)
{
    return (uint8_t)(q < CWI_EC_EXACT ? q : CWI_EC_LOG_OFFSET + 31 - (unsigned)__builtin_clz(q));
}

/* What symbols ask for besides themselves. */
typedef struct cwi_ec_tally {
    uint64_t coded;   /* symbols that are neither 0 nor escaped: these have a sign */
    uint64_t lower;   /* lower bits: symbol - CWI_EC_LOG_OFFSET for those from CWI_EC_EXACT on that are not escaped */
    uint64_t escaped; /* symbols CWI_EC_ESCAPED */
} cwi_ec_tally;

struct cwi_quant;

typedef struct cwi_ec_kernels {
    /* part[i % 8] += the square of x[i], in double precision, in order; what is left of n / 8 adds to part[0]. */
    void (*energy)(const float *x, size_t n, double part[8]);
    /* x is element `first` of the tensor. NaN gives CWI_EC_ESCAPED. */
    void (*quantize)(const float *x, size_t n, const cwi_ec_quant *q, uint64_t first, uint8_t *symbols);
    /* Symbols about a zero: code of max(x, q->base / q->pre), q->top = 15 (kernels.h). */
    void (*quantize_about)(const float *x, size_t n, const struct cwi_quant *q, uint8_t *symbols);
    /* Where within their steps finite elements lie, from their lower ends on, in 1/CWI_EC_PLACES; of tails, symbols 15
     * and with a zero 0, as if they had symbols of their own. */
    void (*places)(const float *x, const uint8_t *symbols, size_t n, const cwi_ec_quant *q, unsigned zero,
                   uint16_t *out);
    /* The sum of the squares of how far n <= CWI_EC_SPREAD_MOST finite elements lie from the middles of their steps, in
     * whole 1/CWI_EC_SPREAD of one; tails are left out. */
    uint64_t (*spread)(const float *x, size_t n, const cwi_ec_quant *q, unsigned zero);
    /* Adds to *t; symbols are below 16, here and below. */
    void (*tally)(const uint8_t *symbols, size_t n, cwi_ec_tally *t);
    /* One bit for each symbol that has a sign. */
    void (*put_signs)(const float *x, const uint8_t *symbols, size_t n, cwi_bit_writer *w);
    /* out[i] = level[symbols[i]]. */
    void (*dequantize)(const uint8_t *symbols, size_t n, const float level[16], float *out);
    /* Sets the sign bits of `out`, which are 0, from one bit for each symbol that has a sign. */
    void (*set_signs)(const uint8_t *symbols, size_t n, cwi_bit_reader *r, float *out);
} cwi_ec_kernels;

#endif
