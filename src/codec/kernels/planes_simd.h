/* planes_simd.h - the plane kernels of every SIMD variant, written once over groups of 64 elements.
 *
 * A variant's planes_*.c defines the operations below for its instruction set, then includes this file. What happens
 * between the vectors (plane words, kept values, ties, short groups) is the same for all and is here. Each operation
 * is a function over 64 elements, inlined:
 *
 *     v_codes                                     64 codes, one byte each
 *     v_quant v_quant_of(const cwi_quant *q)      the quantizer's constants, broadcast
 *     v_codes v_quantize(x, &vq)                  codes of 64 floats
 *     v_codes v_quantize_noise(x, &vq, key, i)    the same with the noise of elements i .. i + 63, whose numbers share
 *                                                 the high half of i (the low half wraps around)
 *     v_codes v_quantize_ms(x, &vq, bits, cut)    codes of 64 magnitudes; all ones where (int32_t)key > cut
 *     uint64_t v_plane(&codes, p)                 bit p of each code
 *     uint64_t v_signs(x)                         sign bits
 *     uint64_t v_equal(x, key)                    which of 64 keys equal `key`
 *     uint8_t *v_pack(x, keep, out)               values where keep has ones, to `out`; may write 256 bytes
 *
 *     v_codes v_unplane(group, bits)              codes from the planes of a whole group
 *     v_levels v_levels_of(level, bits)           the decoder's table, loaded
 *     void v_lookup(&codes, &levels, bits, out)   64 floats
 *     void v_set_signs(signs, out)                makes 64 floats negative where `signs` has ones
 *     const uint8_t *v_unpack(in, keep, out)      the inverse of v_pack; may read 256 bytes
 */
#ifndef CWI_PLANES_SIMD_H
#define CWI_PLANES_SIMD_H

#include <string.h>

#include "codec/kernels/kernels.h"

enum { GROUP_BYTES = CWI_GROUP * sizeof(float) };
static const uint64_t LAST = UINT64_C(1) << (CWI_GROUP - 1);

/* `call(bits)`, with a number that the compiler knows where it is small: there speed matters most. */
#define BY_BITS(bits, call)                                                                                            \
    do {                                                                                                               \
        switch (bits) {                                                                                                \
        case 1:                                                                                                        \
            call(1);                                                                                                   \
            break;                                                                                                     \
        case 2:                                                                                                        \
            call(2);                                                                                                   \
            break;                                                                                                     \
        case 3:                                                                                                        \
            call(3);                                                                                                   \
            break;                                                                                                     \
        default:                                                                                                       \
            call(bits);                                                                                                \
        }                                                                                                              \
    } while (0)

/* ---- a group in memory ---- */

enum { WORD = sizeof(uint64_t), GROUP_MOST = WORD * (CWI_MAX_BITS + 1) };

/* Every machine with these instruction sets is little-endian. */
CWI_INLINE uint64_t load_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

CWI_INLINE void store_word(uint8_t *p, uint64_t word)
{
    memcpy(p, &word, sizeof word);
}

/* The first m elements of a group. */
CWI_INLINE uint64_t low_bits(size_t m)
{
    return m < CWI_GROUP ? (UINT64_C(1) << m) - 1 : UINT64_MAX;
}

/* A last group of m < 64 elements from or to the layout of a whole one, in which its other bits are anything. */
static uint8_t *shorten(const uint8_t *group, unsigned planes, size_t m, uint8_t *out)
{
    const unsigned run = (unsigned)(m + 7) / 8;
    for (unsigned p = 0; p < planes; p++, out += run)
        cwi_put_le(out, load_word(group + WORD * p) & low_bits(m), run);
    return out;
}

static const uint8_t *lengthen(const uint8_t *in, unsigned planes, size_t m, uint8_t *group)
{
    const unsigned run = (unsigned)(m + 7) / 8;
    for (unsigned p = 0; p < planes; p++, in += run)
        store_word(group + WORD * p, cwi_get_le(in, run));
    return in;
}

/* Stores the planes of `codes` and returns which codes are all ones. */
CWI_INLINE uint64_t store_codes(const v_codes *codes, unsigned bits, uint8_t *group)
{
    uint64_t all = UINT64_MAX;
    for (unsigned p = 0; p < bits; p++) {
        const uint64_t word = v_plane(codes, p);
        store_word(group + WORD * p, word);
        all &= word;
    }
    return all;
}

CWI_INLINE uint64_t all_ones(const uint8_t *group, unsigned bits)
{
    uint64_t all = UINT64_MAX;
    for (unsigned p = 0; p < bits; p++)
        all &= load_word(group + WORD * p);
    return all;
}

/* ---- ms: encode ---- */

/* The group in which the ties run out: keeps all that lie above the threshold, and the first `ties` of `equal`. */
static __attribute__((noinline)) uint64_t last_ties(const float *x, const cwi_quant *q, uint32_t threshold,
                                                    uint64_t equal, uint64_t ties, uint8_t *group)
{
    const v_quant vq = v_quant_of(q);
    const v_codes codes = v_quantize_ms(x, &vq, q->bits, (int32_t)threshold);
    uint64_t keep = store_codes(&codes, q->bits, group);
    for (; ties; ties--, equal &= equal - 1) {
        keep |= equal & -equal;
        for (unsigned p = 0; p < q->bits; p++)
            store_word(group + WORD * p, load_word(group + WORD * p) | (equal & -equal));
    }
    return keep;
}

/* Codes of one group; returns which of its m elements are kept. While ties are due, every tie counts as kept until
 * there are too many. */
CWI_INLINE uint64_t ms_codes(const float *x, size_t m, const v_quant *vq, cwi_ms_encode *e, unsigned bits,
                             uint8_t *group)
{
    const v_codes codes = v_quantize_ms(x, vq, bits, (int32_t)e->threshold - (e->ties != 0));
    uint64_t keep = store_codes(&codes, bits, group) & low_bits(m);
    const uint64_t equal = e->ties ? v_equal(x, e->threshold) & low_bits(m) : 0;
    if (__builtin_expect(equal != 0, 0)) {
        const uint64_t count = (uint64_t)__builtin_popcountll(equal);
        if (count > e->ties)
            keep = last_ties(x, &e->quant, e->threshold, equal, e->ties, group) & low_bits(m);
        e->ties -= CWI_MIN(count, e->ties);
    }
    if (e->is_signed) {
        uint64_t with = e->signed_zero ? UINT64_MAX : 0;
        for (unsigned p = 0; p < bits; p++)
            with |= load_word(group + WORD * p);
        store_word(group + WORD * bits, v_signs(x) & with);
    }
    return keep;
}

static __attribute__((noinline)) uint8_t *copy_kept(const float *x, uint64_t keep, uint8_t *out)
{
    for (; keep; keep &= keep - 1, out += sizeof *x)
        memcpy(out, x + __builtin_ctzll(keep), sizeof *x);
    return out;
}

/* The first `few` kept values are written whether there are so many or not, which costs less than a branch that nothing
 * can predict. Returns what is left of `keep`. */
CWI_INLINE uint64_t put_few(const float *x, uint64_t keep, unsigned few, uint8_t *out)
{
    for (unsigned i = 0; i < few; i++, keep &= keep - 1)
        memcpy(out + i * sizeof *x, x + __builtin_ctzll(keep | LAST), sizeof *x);
    return keep;
}

/* `recent` is some 16 times the mean number of values that the last groups kept. */
CWI_INLINE uint8_t *put_kept(const float *x, uint64_t keep, uint8_t *out, const uint8_t *end, unsigned *recent)
{
    const unsigned count = (unsigned)__builtin_popcountll(keep);
    if (__builtin_expect(end - out < GROUP_BYTES, 0))
        return keep ? copy_kept(x, keep, out) : out;
    *recent += count - *recent / 16;
    if (__builtin_expect((*recent < 20 ? put_few(x, keep, 2, out) : put_few(x, keep, 6, out)) != 0, 0))
        v_pack(x, keep, out);
    return out + count * sizeof *x;
}

CWI_INLINE void ms_encode_bits(const float *x, size_t n, cwi_ms_encode *e, unsigned bits)
{
    const v_quant vq = v_quant_of(&e->quant);
    const unsigned planes = bits + e->is_signed;
    cwi_ms_encode at = *e; /* stores of bytes might change *e, but not this copy: it lives in registers */
    unsigned recent = 0;
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP, at.planes += WORD * planes) {
        const uint64_t keep = ms_codes(x + i, CWI_GROUP, &vq, &at, bits, at.planes);
        at.values = put_kept(x + i, keep, at.values, at.values_end, &recent);
    }
    if (i < n) {
        float last[CWI_GROUP] = {0};
        uint8_t group[GROUP_MOST];
        memcpy(last, x + i, (n - i) * sizeof *x);
        at.values = copy_kept(last, ms_codes(last, n - i, &vq, &at, bits, group), at.values);
        at.planes = shorten(group, planes, n - i, at.planes);
    }
    e->planes = at.planes;
    e->values = at.values;
    e->ties = at.ties;
}

static void ms_encode(const float *x, size_t n, cwi_ms_encode *e)
{
#define CALL(bits) ms_encode_bits(x, n, e, bits)
    BY_BITS(e->quant.bits, CALL);
#undef CALL
}

/* ---- ms: decode ---- */

static __attribute__((noinline)) const uint8_t *copy_back(const uint8_t *in, uint64_t keep, float *out)
{
    for (; keep; keep &= keep - 1, in += sizeof *out)
        memcpy(out + __builtin_ctzll(keep), in, sizeof *out);
    return in;
}

/* Puts the next value where `keep` has its lowest one; when it has none, stores the last element again. */
CWI_INLINE void put_back(const uint8_t *in, uint64_t keep, float *out)
{
    uint32_t next, last;
    memcpy(&next, in, sizeof next);
    memcpy(&last, out + CWI_GROUP - 1, sizeof last);
    next = keep ? next : last;
    memcpy(out + __builtin_ctzll(keep | LAST), &next, sizeof next);
}

/* The inverse of put_kept; NULL when the values run out. */
CWI_INLINE const uint8_t *get_kept(const uint8_t *in, const uint8_t *end, uint64_t keep, float *out)
{
    const uint64_t rest = keep & (keep - 1);
    if (__builtin_expect(end - in < GROUP_BYTES, 0)) {
        if ((size_t)__builtin_popcountll(keep) > (size_t)(end - in) / sizeof *out)
            return NULL;
        return keep ? copy_back(in, keep, out) : in;
    }
    if (__builtin_expect((rest & (rest - 1)) != 0, 0))
        return v_unpack(in, keep, out);
    put_back(in, keep, out);
    put_back(in + sizeof *out, rest, out);
    return in + sizeof *out * ((size_t)(keep != 0) + (rest != 0));
}

CWI_INLINE void ms_values(const uint8_t *group, const v_levels *levels, unsigned bits, bool is_signed, float *out)
{
    const v_codes codes = v_unplane(group, bits);
    v_lookup(&codes, levels, bits, out);
    if (is_signed)
        v_set_signs(load_word(group + WORD * bits), out);
}

CWI_INLINE bool ms_decode_bits(cwi_ms_decode *d, size_t n, float *out, unsigned bits)
{
    const v_levels levels = v_levels_of(d->level, bits);
    const bool is_signed = d->is_signed;
    const unsigned planes = bits + is_signed;
    const uint8_t *in = d->planes, *values = d->values, *const end = d->values_end;
    size_t i = 0;
    for (; values && i + CWI_GROUP <= n; i += CWI_GROUP, in += WORD * planes) {
        ms_values(in, &levels, bits, is_signed, out + i);
        values = get_kept(values, end, all_ones(in, bits), out + i);
    }
    if (values && i < n) {
        float last[CWI_GROUP];
        uint8_t group[GROUP_MOST];
        in = lengthen(in, planes, n - i, group);
        ms_values(group, &levels, bits, is_signed, last);
        values = get_kept(values, end, all_ones(group, bits), last);
        memcpy(out + i, last, (n - i) * sizeof *out);
    }
    d->planes = in;
    d->values = values;
    return values != NULL;
}

static bool ms_decode(cwi_ms_decode *d, size_t n, float *out)
{
    bool complete;
#define CALL(bits) complete = ms_decode_bits(d, n, out, bits)
    BY_BITS(d->bits, CALL);
#undef CALL
    return complete;
}

static uint64_t ones(const uint8_t *codes, size_t n, unsigned bits, unsigned planes)
{
    uint64_t total = 0;
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP, codes += WORD * planes)
        total += (uint64_t)__builtin_popcountll(all_ones(codes, bits));
    if (i < n) {
        uint8_t group[GROUP_MOST];
        lengthen(codes, planes, n - i, group);
        total += (uint64_t)__builtin_popcountll(all_ones(group, bits));
    }
    return total;
}

/* ---- uniform quantization ---- */

static void quantize(const float *x, size_t n, const cwi_quant *q, uint8_t *planes)
{
    const v_quant vq = v_quant_of(q);
    const unsigned bits = q->bits;
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP, planes += WORD * bits) {
        const v_codes codes = v_quantize(x + i, &vq);
        store_codes(&codes, bits, planes);
    }
    if (i < n) {
        float last[CWI_GROUP] = {0};
        uint8_t group[GROUP_MOST];
        memcpy(last, x + i, (n - i) * sizeof *x);
        const v_codes codes = v_quantize(last, &vq);
        store_codes(&codes, bits, group);
        shorten(group, bits, n - i, planes);
    }
}

/* For a group in which the low half of the element number starts again at 0 after `left` elements. */
static __attribute__((noinline)) void noise_across(const float *x, const cwi_quant *q, uint64_t key, uint64_t first,
                                                   size_t left, uint8_t *group)
{
    const v_quant vq = v_quant_of(q);
    const v_codes codes = v_quantize_noise(x, &vq, key, first + (UINT64_C(1) << 32));
    for (unsigned p = 0; p < q->bits; p++) {
        const uint64_t before = load_word(group + WORD * p) & low_bits(left);
        store_word(group + WORD * p, before | (v_plane(&codes, p) & ~low_bits(left)));
    }
}

static void quantize_noise(const float *x, size_t n, const cwi_quant *q, uint64_t key, uint64_t first, uint8_t *planes)
{
    const v_quant vq = v_quant_of(q);
    float last[CWI_GROUP] = {0};
    uint8_t group[GROUP_MOST];
    for (size_t i = 0; i < n; i += CWI_GROUP, first += CWI_GROUP, planes += WORD * q->bits) {
        const size_t m = CWI_MIN(n - i, (size_t)CWI_GROUP), left = (size_t)(-first & UINT32_MAX);
        const float *in = m < CWI_GROUP ? memcpy(last, x + i, m * sizeof *x) : x + i;
        uint8_t *const to = m < CWI_GROUP ? group : planes;
        const v_codes codes = v_quantize_noise(in, &vq, key, first);
        store_codes(&codes, q->bits, to);
        if (left && left < m)
            noise_across(in, q, key, first, left, to);
        if (m < CWI_GROUP)
            shorten(group, q->bits, m, planes);
    }
}

CWI_INLINE void dequantize_bits(const uint8_t *in, size_t n, const float *level, float *out, unsigned bits)
{
    const v_levels levels = v_levels_of(level, bits);
    size_t i = 0;
    for (; i + CWI_GROUP <= n; i += CWI_GROUP, in += WORD * bits) {
        const v_codes codes = v_unplane(in, bits);
        v_lookup(&codes, &levels, bits, out + i);
    }
    if (i < n) {
        float last[CWI_GROUP];
        uint8_t group[GROUP_MOST];
        lengthen(in, bits, n - i, group);
        const v_codes codes = v_unplane(group, bits);
        v_lookup(&codes, &levels, bits, last);
        memcpy(out + i, last, (n - i) * sizeof *out);
    }
}

static void dequantize(const uint8_t *planes, size_t n, unsigned bits, const float *level, float *out)
{
#define CALL(bits) dequantize_bits(planes, n, level, out, bits)
    BY_BITS(bits, CALL);
#undef CALL
}

/* ---- the table's entries ---- */

static void planes_fill(cwi_kernels *k)
{
    k->ms_encode = ms_encode;
    k->ms_decode = ms_decode;
    k->ones = ones;
    k->quantize = quantize;
    k->quantize_noise = quantize_noise;
    k->dequantize = dequantize;
}

#endif
