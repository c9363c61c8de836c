/* ec_simd.h - the kernels of ec and of coded masks for every SIMD variant, written over groups of 64 elements as
 * planes_simd.h is, which comes before. Besides what that asks for:
 *
 *     v_codes v_symbols(x, &vq)                   ec's symbols of 64 floats
 *     v_codes v_quantize_above(x, low, &vq)       v_quantize() of x, or low where that is larger
 *     v_codes v_symbols_noise(x, &vq, key, i)     the same with noise, as v_quantize_noise
 *     v_codes v_load_codes(p)                     64 bytes
 *     void v_store_codes(codes, p)
 *     uint64_t v_nonzero(&codes)
 */
#ifndef CWI_EC_SIMD_H
#define CWI_EC_SIMD_H

#include "codec/bits.h"

/* ---- some bits of a word, moved together, and back ---- */

CWI_INLINE uint64_t extract_bits(uint64_t word, uint64_t mask)
{
#ifdef __BMI2__
    return _pext_u64(word, mask);
#else
    return cwi_extract(word, mask);
#endif
}

CWI_INLINE uint64_t deposit_bits(uint64_t bits, uint64_t mask)
{
#ifdef __BMI2__
    return _pdep_u64(bits, mask);
#else
    return cwi_deposit(bits, mask);
#endif
}

static uint64_t extract(uint64_t word, uint64_t mask)
{
    return extract_bits(word, mask);
}

static uint64_t deposit(uint64_t bits, uint64_t mask)
{
    return deposit_bits(bits, mask);
}

/* ---- floats to symbols ---- */

/* A group in which the low half of the element number starts again at 0. */
static __attribute__((noinline)) void symbols_across(const float *x, size_t n, const cwi_ec_quant *q, uint64_t first,
                                                     uint8_t *symbols)
{
    for (size_t i = 0; i < n; i++)
        symbols[i] = cwi_ec_symbol(cwi_ec_code(q, x[i], first + i));
}

CWI_INLINE void quantize_group(const float *x, const v_quant *vq, const cwi_ec_quant *q, uint64_t first,
                               uint8_t *symbols)
{
    if (!q->stochastic)
        v_store_codes(v_symbols(x, vq), symbols);
    else if ((uint32_t)first <= UINT32_MAX - CWI_GROUP)
        v_store_codes(v_symbols_noise(x, vq, q->noise, first), symbols);
    else
        symbols_across(x, CWI_GROUP, q, first, symbols);
}

static void ec_quantize(const float *x, size_t n, const cwi_ec_quant *q, uint64_t first, uint8_t *symbols)
{
    const cwi_quant plain = {.pre = q->pre, .scale = q->scale, .half = 0.5f, .top = CWI_EC_ESCAPE};
    const v_quant vq = v_quant_of(&plain);
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP)
        quantize_group(x + i, &vq, q, first + i, symbols + i);
    if (i < n) {
        float last[CWI_GROUP] = {0};
        uint8_t group[CWI_GROUP];
        memcpy(last, x + i, (n - i) * sizeof *x);
        quantize_group(last, &vq, q, first + i, group);
        memcpy(symbols + i, group, n - i);
    }
}

static void ec_quantize_about(const float *x, size_t n, const cwi_quant *q, uint8_t *symbols)
{
    const v_quant vq = v_quant_of(q);
    const float low = q->base / q->pre;
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP)
        v_store_codes(v_quantize_above(x + i, low, &vq), symbols + i);
    if (i < n) {
        float last[CWI_GROUP] = {0};
        uint8_t codes[CWI_GROUP];
        memcpy(last, x + i, (n - i) * sizeof *x);
        v_store_codes(v_quantize_above(last, low, &vq), codes);
        memcpy(symbols + i, codes, n - i);
    }
}

/* In GNU C's vectors, which compilers make of what the instruction set has. */
typedef float floats8 __attribute__((vector_size(32)));
typedef int32_t whole8 __attribute__((vector_size(32)));
typedef uint8_t symbols8 __attribute__((vector_size(8)));
typedef uint16_t words8 __attribute__((vector_size(16)));

CWI_INLINE floats8 choose8(whole8 mask, floats8 yes, floats8 no)
{
    return (floats8)(((whole8)yes & mask) | ((whole8)no & ~mask));
}

/* Neither is NaN. */
CWI_INLINE floats8 between8(floats8 v, float low, float high)
{
    const floats8 least = (floats8){0} + low, most = (floats8){0} + high;
    v = choose8(v < least, least, v);
    return choose8(v > most, most, v);
}

CWI_INLINE void places8(const float *x, const uint8_t *symbols, const cwi_ec_quant *q, unsigned zero, uint16_t *out)
{
    const floats8 none = {0};
    floats8 v;
    symbols8 s;
    memcpy(&v, x, sizeof v);
    memcpy(&s, symbols, sizeof s);
    const whole8 symbol = __builtin_convertvector(s, whole8);
    v = v * q->pre * q->scale;
    const floats8 place = v - __builtin_convertvector(symbol - (int32_t)zero, floats8) + 0.5f;
    const floats8 near = between8(place, -CWI_EC_ESCAPE, CWI_EC_ESCAPE);
    const floats8 part = near - __builtin_convertvector(__builtin_convertvector(near, whole8), floats8);
    const floats8 within = choose8(part < none, part + 1.0f, part);
    const whole8 tail = (symbol == CWI_SYMBOLS - 1) | ((symbol == 0) & -(int32_t)(zero > 0));
    const floats8 at = between8(choose8(tail, within, place), 0, 1) * (float)CWI_EC_PLACES;
    const words8 w = __builtin_convertvector(__builtin_convertvector(at, whole8), words8);
    memcpy(out, &w, sizeof w);
}

static void ec_places(const float *x, const uint8_t *symbols, size_t n, const cwi_ec_quant *q, unsigned zero,
                      uint16_t *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        places8(x + i, symbols + i, q, zero, out + i);
    if (i < n) {
        float last[8] = {0};
        uint8_t codes[8] = {0};
        uint16_t places[8];
        memcpy(last, x + i, (n - i) * sizeof *x);
        memcpy(codes, symbols + i, n - i);
        places8(last, codes, q, zero, places);
        memcpy(out + i, places, (n - i) * sizeof *out);
    }
}

CWI_INLINE floats8 squares8(const float *x, const cwi_ec_quant *q, float low, float shift)
{
    const floats8 none = {0}, least = none + low, most = none + (float)(CWI_SYMBOLS - 1);
    floats8 v;
    memcpy(&v, x, sizeof v);
    v = v * q->pre * q->scale;
    const floats8 at = v + shift;
    const whole8 within = (at >= least) & (at < most);
    const floats8 place = choose8(within, at, none);
    const floats8 part = place - __builtin_convertvector(__builtin_convertvector(place, whole8), floats8);
    const whole8 whole = __builtin_convertvector(part * CWI_EC_SPREAD + 0.5f, whole8) - CWI_EC_SPREAD / 2;
    const floats8 off = __builtin_convertvector(whole & within, floats8);
    return off * off;
}

static uint64_t ec_spread(const float *x, size_t n, const cwi_ec_quant *q, unsigned zero)
{
    _Static_assert(CWI_EC_SPREAD_MOST / 8 * CWI_EC_SPREAD / 2 * CWI_EC_SPREAD / 2 <= 1 << 24,
                   "sums of floats are exact");
    const float low = zero > 0 ? 1.0f : 0.0f, shift = (float)zero + 0.5f;
    floats8 sum = {0};
    uint64_t all = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        sum += squares8(x + i, q, low, shift);
    for (unsigned l = 0; l < 8; l++)
        all += (uint64_t)sum[l];
    if (i < n) {
        float last[8] = {0};
        memcpy(last, x + i, (n - i) * sizeof *x);
        sum = squares8(last, q, low, shift);
        for (size_t l = 0; l < n - i; l++)
            all += (uint64_t)sum[l];
    }
    return all;
}

/* ---- what symbols ask for besides ---- */

/* Which symbols of a group have a sign: neither 0 nor 15. */
CWI_INLINE uint64_t signed_ones(const v_codes *codes)
{
    uint64_t all = UINT64_MAX;
    for (unsigned p = 0; p < 4; p++)
        all &= v_plane(codes, p);
    return v_nonzero(codes) & ~all;
}

CWI_INLINE unsigned ones_in(uint64_t word)
{
    return (unsigned)__builtin_popcountll(word);
}

CWI_INLINE void tally_group(const v_codes *codes, cwi_ec_tally *t)
{
    const uint64_t any = v_nonzero(codes), big = v_plane(codes, 3);
    t->coded += ones_in(any);
    if (big) {
        const uint64_t a = v_plane(codes, 0), b = v_plane(codes, 1), c = v_plane(codes, 2), escaped = a & b & c & big;
        const uint64_t large = big & ~escaped;
        t->coded -= ones_in(escaped);
        t->escaped += ones_in(escaped);
        t->lower += (8 - CWI_EC_LOG_OFFSET) * ones_in(large) + ones_in(a & large) + 2 * ones_in(b & large);
        t->lower += 4 * ones_in(c & large);
    }
}

static void ec_tally(const uint8_t *symbols, size_t n, cwi_ec_tally *t)
{
    cwi_ec_tally sum = *t;
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP) {
        const v_codes codes = v_load_codes(symbols + i);
        tally_group(&codes, &sum);
    }
    if (i < n) {
        uint8_t last[CWI_GROUP] = {0};
        memcpy(last, symbols + i, n - i);
        const v_codes codes = v_load_codes(last);
        tally_group(&codes, &sum);
    }
    *t = sum;
}

static void ec_put_signs(const float *x, const uint8_t *symbols, size_t n, cwi_bit_writer *w)
{
    cwi_bit_writer to = *w;
    for (size_t i = 0; i < n; i += CWI_GROUP) {
        const size_t m = CWI_MIN(n - i, (size_t)CWI_GROUP);
        float last[CWI_GROUP] = {0};
        uint8_t group[CWI_GROUP] = {0};
        const v_codes codes = v_load_codes(m < CWI_GROUP ? memcpy(group, symbols + i, m) : symbols + i);
        const uint64_t coded = signed_ones(&codes);
        const uint64_t signs = v_signs(m < CWI_GROUP ? memcpy(last, x + i, m * sizeof *x) : x + i);
        cwi_bits_put_word(&to, extract_bits(signs, coded), ones_in(coded));
    }
    *w = to;
}

/* ---- symbols to floats ---- */

static void ec_dequantize(const uint8_t *symbols, size_t n, const float level[CWI_SYMBOLS], float *out)
{
    enum { BITS = 4 };
    const v_levels levels = v_levels_of(level, BITS);
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP) {
        const v_codes codes = v_load_codes(symbols + i);
        v_lookup(&codes, &levels, BITS, out + i);
    }
    for (; i < n; i++)
        out[i] = level[symbols[i]];
}

static void ec_set_signs(const uint8_t *symbols, size_t n, cwi_bit_reader *r, float *out)
{
    for (size_t i = 0; i < n; i += CWI_GROUP) {
        const size_t m = CWI_MIN(n - i, (size_t)CWI_GROUP);
        float last[CWI_GROUP];
        uint8_t group[CWI_GROUP] = {0};
        const v_codes codes = v_load_codes(m < CWI_GROUP ? memcpy(group, symbols + i, m) : symbols + i);
        const uint64_t coded = signed_ones(&codes);
        const uint64_t signs = deposit_bits(cwi_bits_get_word(r, ones_in(coded)), coded);
        if (m == CWI_GROUP) {
            v_set_signs(signs, out + i);
            continue;
        }
        memset(last, 0, sizeof last);
        memcpy(last, out + i, m * sizeof *out);
        v_set_signs(signs, last);
        memcpy(out + i, last, m * sizeof *out);
    }
}

/* ---- planes to bytes ---- */

static void codes_of_planes(const uint8_t *in, size_t n, unsigned planes, unsigned first, unsigned bits, uint8_t *codes)
{
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP, in += WORD * planes)
        v_store_codes(v_unplane(in + WORD * first, bits), codes + i);
    if (i < n) {
        uint8_t group[GROUP_MOST], last[CWI_GROUP];
        lengthen(in + (n - i + 7) / 8 * first, bits, n - i, group);
        v_store_codes(v_unplane(group, bits), last);
        memcpy(codes + i, last, n - i);
    }
}

static void planes_of_codes(const uint8_t *codes, size_t n, unsigned planes, unsigned first, unsigned bits,
                            uint8_t *out)
{
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP, out += WORD * planes) {
        const v_codes v = v_load_codes(codes + i);
        store_codes(&v, bits, out + WORD * first);
    }
    if (i < n) {
        uint8_t group[GROUP_MOST], last[CWI_GROUP] = {0};
        memcpy(last, codes + i, n - i);
        const v_codes v = v_load_codes(last);
        store_codes(&v, bits, group);
        shorten(group, bits, n - i, out + (n - i + 7) / 8 * first);
    }
}

/* ---- the table's entries ---- */

static void ec_fill(cwi_kernels *k)
{
    k->ec.quantize = ec_quantize;
    k->ec.quantize_about = ec_quantize_about;
    k->ec.places = ec_places;
    k->ec.spread = ec_spread;
    k->ec.tally = ec_tally;
    k->ec.put_signs = ec_put_signs;
    k->ec.dequantize = ec_dequantize;
    k->ec.set_signs = ec_set_signs;
    k->codes_of_planes = codes_of_planes;
    k->planes_of_codes = planes_of_codes;
    k->extract = extract;
    k->deposit = deposit;
}

#endif
