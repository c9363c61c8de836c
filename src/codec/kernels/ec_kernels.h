/* ec_kernels.h - the inner loops of ec: floats to symbols, symbols to floats. Internal.
 *
 * v = |x| * pre * scale (a float after each product), q = floor(min(v + add, CWI_EC_ESCAPE)), add = 0.5 or the
 * element's random number (cwi_noise_bits, kernels.h). Symbol: q where that is below 8, else 5 + floor(log2 q): 8
 * for 8..15, 9 for 16..31 .. 15 for an escape. */
#ifndef CWI_EC_KERNELS_H
#define CWI_EC_KERNELS_H

#include "base/base.h"

enum {
    CWI_EC_EXACT = 8,      /* symbols below it stand for themselves */
    CWI_EC_ESCAPE = 1024,  /* q from which on the element is sent as it is */
    CWI_EC_ESCAPED = 15,   /* the symbol of those */
    CWI_EC_LOG_OFFSET = 5, /* symbol - floor(log2 q) of the symbols between */
};

typedef struct cwi_ec_quant {
    float pre, scale;
    bool stochastic;
    uint64_t noise; /* key */
} cwi_ec_quant;

/* q before it becomes a symbol; `i` is the element's number in its tensor. */
uint32_t cwi_ec_code(const cwi_ec_quant *q, float x, uint64_t i);

typedef struct cwi_ec_kernels {
    /* x is element `first` of the tensor. NaN gives any symbol. */
    void (*quantize)(const float *x, size_t n, const cwi_ec_quant *q, uint64_t first, uint8_t *symbols);
    /* out[i] = level[symbols[i]]; symbols are below 16. */
    void (*dequantize)(const uint8_t *symbols, size_t n, const float level[16], float *out);
} cwi_ec_kernels;

#endif
