/* convert_scalar.c - two-byte floats, by definition. */
#include <string.h>

#include "codec/kernels/kernels.h"

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Shifts right by `shift` (1..31), rounding to nearest, ties to even. */
static inline uint32_t round_shift(uint32_t v, unsigned shift)
{
    uint32_t half = UINT32_C(1) << (shift - 1);
    return (v + half - 1 + (v >> shift & 1)) >> shift;
}

static inline uint16_t f16_of(float x)
{
    const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, key = bits & UINT32_C(0x7fffffff);
    const uint32_t exponent = key >> 23;
    uint32_t half;
    if (exponent >= 113) /* at least 2^-14: a normal f16, its exponent rebiased from 127 to 15 */
        half = round_shift(key - (UINT32_C(112) << 23), 13);
    else if (exponent >= 102) /* at least 2^-25: a denormal, in units of 2^-24 */
        half = round_shift((key & UINT32_C(0x7fffff)) | UINT32_C(0x800000), 126 - exponent);
    else
        half = 0;
    return (uint16_t)(sign | CWI_MIN(half, UINT32_C(0x7bff)));
}

static inline float f16_value(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, key = h & 0x7fff;
    if (key >= 0x7c00) /* infinity, NaN */
        return float_of(sign | UINT32_C(0x7f800000) | (key & 0x3ff) << 13);
    if (key >= 0x400)
        return float_of(sign | ((key << 13) + (UINT32_C(112) << 23)));
    return float_of(sign | bits_of((float)key * 0x1p-24f));
}

static inline uint16_t bf16_of(float x)
{
    const uint32_t bits = bits_of(x), key = round_shift(bits & UINT32_C(0x7fffffff), 16);
    return (uint16_t)((bits >> 16 & 0x8000) | CWI_MIN(key, UINT32_C(0x7f7f)));
}

static void to_f16(const float *x, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        cwi_put_le(out + 2 * i, f16_of(x[i]), 2);
}

static void to_bf16(const float *x, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        cwi_put_le(out + 2 * i, bf16_of(x[i]), 2);
}

static bool from_f16(const uint8_t *in, size_t n, float *out)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        out[i] = f16_value((uint16_t)cwi_get_le(in + 2 * i, 2));
        finite &= (bits_of(out[i]) & CWI_KEY_INF) != CWI_KEY_INF;
    }
    return finite;
}

static bool from_bf16(const uint8_t *in, size_t n, float *out)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)cwi_get_le(in + 2 * i, 2) << 16;
        out[i] = float_of(bits);
        finite &= (bits & CWI_KEY_INF) != CWI_KEY_INF;
    }
    return finite;
}

void cwi_convert_scalar(cwi_kernels *k)
{
    k->to_f16 = to_f16;
    k->to_bf16 = to_bf16;
    k->from_f16 = from_f16;
    k->from_bf16 = from_bf16;
}
