/* ec_scalar.c - the inner loops of ec and of coded masks, by definition. */
#include <math.h>
#include <string.h>

#include "codec/kernels/kernels.h"

/* ---- floats to symbols ---- */

static void energy(const float *x, size_t n, double part[8])
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            part[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++)
        part[0] += (double)x[i] * (double)x[i];
}

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
    for (size_t i = 0; i < n; i++)
        symbols[i] = cwi_ec_symbol(cwi_ec_code(q, x[i], first + i));
}

static void quantize_about(const float *x, size_t n, const cwi_quant *q, uint8_t *symbols)
{
    const float low = q->base / q->pre;
    for (size_t i = 0; i < n; i++) {
        const float at = x[i] > low ? x[i] : low;
        const float left = at * q->pre - q->base;
        const float scaled = left * q->scale; /* each rounded */
        const float sum = scaled + q->half;
        symbols[i] = (uint8_t)(sum < q->top ? sum : q->top);
    }
}

static void places(const float *x, const uint8_t *symbols, size_t n, const cwi_ec_quant *q, unsigned zero,
                   uint16_t *out)
{
    const float beyond = CWI_EC_ESCAPE;
    for (size_t i = 0; i < n; i++) {
        const float scaled = x[i] * q->pre;
        const float v = scaled * q->scale, off = v - (float)((int)symbols[i] - (int)zero); /* each rounded */
        float place = off + 0.5f;
        const float near = CWI_MAX(CWI_MIN(place, beyond), -beyond), part = near - (float)(int)near;
        if (symbols[i] == CWI_SYMBOLS - 1 || (symbols[i] == 0 && zero > 0))
            place = part < 0 ? part + 1 : part;
        const float at = CWI_MAX(CWI_MIN(place, 1.0f), 0.0f) * CWI_EC_PLACES;
        out[i] = (uint16_t)(int)at;
    }
}

/* In floats, whose sums are exact. */
static uint64_t spread(const float *x, size_t n, const cwi_ec_quant *q, unsigned zero)
{
    const float low = zero > 0 ? 1.0f : 0.0f, shift = (float)zero + 0.5f;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float scaled = x[i] * q->pre * q->scale, at = scaled + shift;
        if (at < low || at >= CWI_SYMBOLS - 1)
            continue;
        const float part = at - (float)(int32_t)at;
        const int32_t off = (int32_t)(part * CWI_EC_SPREAD + 0.5f) - CWI_EC_SPREAD / 2;
        sum += (uint64_t)(off * off);
    }
    return sum;
}

static bool has_sign(unsigned symbol)
{
    return symbol != 0 && symbol != CWI_EC_ESCAPED;
}

static void tally(const uint8_t *symbols, size_t n, cwi_ec_tally *t)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned s = symbols[i];
        t->coded += has_sign(s);
        t->lower += s >= CWI_EC_EXACT && s < CWI_EC_ESCAPED ? s - CWI_EC_LOG_OFFSET : 0u;
        t->escaped += s == CWI_EC_ESCAPED;
    }
}

static void put_signs(const float *x, const uint8_t *symbols, size_t n, cwi_bit_writer *w)
{
    for (size_t i = 0; i < n; i++)
        if (has_sign(symbols[i]))
            cwi_bits_put(w, signbit(x[i]) != 0, 1);
}

/* ---- symbols to floats ---- */

static void dequantize(const uint8_t *symbols, size_t n, const float level[16], float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = level[symbols[i]];
}

static void set_signs(const uint8_t *symbols, size_t n, cwi_bit_reader *r, float *out)
{
    for (size_t i = 0; i < n; i++) {
        if (!has_sign(symbols[i]))
            continue;
        uint32_t bits;
        memcpy(&bits, &out[i], sizeof bits);
        bits |= (uint32_t)cwi_bits_get(r, 1) << 31;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

/* ---- masks ---- */

/* The runs of a group of up to 64 elements of which element i is one. */
static size_t run_of(size_t i, size_t n)
{
    return (CWI_MIN(n - i / CWI_GROUP * CWI_GROUP, (size_t)CWI_GROUP) + 7) / 8;
}

static void codes_of_planes(const uint8_t *in, size_t n, unsigned planes, unsigned first, unsigned bits, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) {
        const size_t run = run_of(i, n), at = i % CWI_GROUP;
        const uint8_t *group = in + i / CWI_GROUP * (CWI_GROUP / 8) * planes + first * run + at / 8;
        unsigned code = 0;
        for (unsigned p = 0; p < bits; p++)
            code |= (group[p * run] >> at % 8 & 1u) << p;
        codes[i] = (uint8_t)code;
    }
}

static void planes_of_codes(const uint8_t *codes, size_t n, unsigned planes, unsigned first, unsigned bits,
                            uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const size_t run = run_of(i, n), at = i % CWI_GROUP;
        uint8_t *group = out + i / CWI_GROUP * (CWI_GROUP / 8) * planes + first * run + at / 8;
        for (unsigned p = 0; p < bits; p++) {
            const unsigned before = at % 8 ? group[p * run] : 0u;
            group[p * run] = (uint8_t)(before | (codes[i] >> p & 1u) << at % 8);
        }
    }
}

uint64_t cwi_extract(uint64_t word, uint64_t mask)
{
    uint64_t bits = 0;
    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        bits |= (word >> __builtin_ctzll(mask) & 1) << n;
    return bits;
}

uint64_t cwi_deposit(uint64_t bits, uint64_t mask)
{
    uint64_t word = 0;
    for (; mask; mask &= mask - 1, bits >>= 1)
        word |= (bits & 1) << __builtin_ctzll(mask);
    return word;
}

void cwi_ec_scalar(cwi_kernels *k)
{
    k->ec = (cwi_ec_kernels){.energy = energy,
                             .quantize = quantize,
                             .quantize_about = quantize_about,
                             .places = places,
                             .spread = spread,
                             .tally = tally,
                             .put_signs = put_signs,
                             .dequantize = dequantize,
                             .set_signs = set_signs};
    k->codes_of_planes = codes_of_planes;
    k->planes_of_codes = planes_of_codes;
    k->extract = cwi_extract;
    k->deposit = cwi_deposit;
}
