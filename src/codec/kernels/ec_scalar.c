/* ec_scalar.c - the inner loops of ec, by definition. */
#include <math.h>

#include "codec/kernels/kernels.h"

uint32_t cwi_ec_code(const cwi_ec_quant *q, float x, uint64_t i)
{
    const float scaled = fabsf(x) * q->pre;
    const float v = scaled * q->scale;
    const float add = q->stochastic ? (float)(cwi_noise_bits(q->noise, i) >> 8) * 0x1p-24f : 0.5f;
    const float sum = v + add;
    return sum < CWI_EC_ESCAPE ? (uint32_t)sum : CWI_EC_ESCAPE;
}

static void quantize(const float *x, size_t n, const cwi_ec_quant *q, uint64_t first, uint8_t *symbols)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t code = cwi_ec_code(q, x[i], first + i);
        const unsigned bucket = CWI_EC_LOG_OFFSET + 31 - (unsigned)__builtin_clz(code | 1);
        symbols[i] = (uint8_t)(code < CWI_EC_EXACT ? code : bucket);
    }
}

static void dequantize(const uint8_t *symbols, size_t n, const float level[16], float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = level[symbols[i]];
}

void cwi_ec_scalar(cwi_kernels *k)
{
    k->ec = (cwi_ec_kernels){.quantize = quantize, .dequantize = dequantize};
}
