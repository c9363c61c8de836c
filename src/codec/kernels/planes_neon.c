/* planes_neon.c - codes in bit planes with NEON, which every 64-bit ARM has. */
#include <arm_neon.h>
#include <string.h>

#include "codec/kernels/kernels.h"

enum { PARTS = 4 }; /* 16 codes each */

typedef struct v_codes {
    uint8x16_t part[PARTS];
} v_codes;

typedef struct v_quant {
    float32x4_t pre, base, scale, half, top;
} v_quant;

typedef struct v_levels {
    uint8x16x4_t small; /* 16 floats as bytes: of codes up to 4 bits */
    const float *large; /* of others */
} v_levels;

CWI_INLINE v_quant v_quant_of(const cwi_quant *q)
{
    return (v_quant){.pre = vdupq_n_f32(q->pre),
                     .base = vdupq_n_f32(q->base),
                     .scale = vdupq_n_f32(q->scale),
                     .half = vdupq_n_f32(q->half),
                     .top = vdupq_n_f32(q->top)};
}

CWI_INLINE uint32x4_t keys_of(const float *x)
{
    return vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x)));
}

/* The low bytes of 4 x 4 numbers below 256, in order. */
CWI_INLINE uint8x16_t pack_codes(const uint32x4_t v[4])
{
    const uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(v[0]), vreinterpretq_u16_u32(v[1]));
    const uint16x8_t high = vuzp1q_u16(vreinterpretq_u16_u32(v[2]), vreinterpretq_u16_u32(v[3]));
    return vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
}

/* ---- quantizers ---- */

/* minnm, not min: a NaN becomes `top`, as by definition. */
CWI_INLINE uint32x4_t code_of(float32x4_t scaled, float32x4_t add, const v_quant *q)
{
    return vcvtq_u32_f32(vminnmq_f32(vaddq_f32(scaled, add), q->top));
}

CWI_INLINE float32x4_t scale(float32x4_t x, const v_quant *q)
{
    return vmulq_f32(vsubq_f32(vmulq_f32(x, q->pre), q->base), q->scale);
}

CWI_INLINE v_codes v_quantize(const float *x, const v_quant *q)
{
    v_codes codes;
    for (int part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (int i = 0; i < 4; i++)
            v[i] = code_of(scale(vld1q_f32(x + 4 * i), q), q->half, q);
        codes.part[part] = pack_codes(v);
    }
    return codes;
}

CWI_INLINE v_codes v_quantize_above(const float *x, float low, const v_quant *q)
{
    const float32x4_t least = vdupq_n_f32(low);
    v_codes codes;
    for (int part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (int i = 0; i < 4; i++) {
            const float32x4_t in = vld1q_f32(x + 4 * i);
            v[i] = code_of(scale(vbslq_f32(vcgtq_f32(in, least), in, least), q), q->half, q);
        }
        codes.part[part] = pack_codes(v);
    }
    return codes;
}

/* cwi_noise_bits() of 4 elements. */
CWI_INLINE uint32x4_t noise_bits(uint32x4_t h, uint32x4_t after)
{
    h = veorq_u32(h, vshrq_n_u32(h, 16));
    h = vmulq_u32(h, vdupq_n_u32(UINT32_C(0x21f0aaad)));
    h = veorq_u32(h, vshrq_n_u32(h, 15));
    h = vmulq_u32(h, vdupq_n_u32(UINT32_C(0x735a2d97)));
    h = veorq_u32(h, vshrq_n_u32(h, 15));
    h = vaddq_u32(h, after);
    h = veorq_u32(h, vshrq_n_u32(h, 16));
    h = vmulq_u32(h, vdupq_n_u32(UINT32_C(0x85ebca6b)));
    return veorq_u32(h, vshrq_n_u32(h, 13));
}

/* The random numbers of 4 elements from first + skip on, whose numbers' high half is that of `first`. */
CWI_INLINE float32x4_t noise_from(uint64_t key, uint64_t first, unsigned skip)
{
    static const uint32_t lanes[4] = {0, 1, 2, 3};
    const uint32x4_t number = vaddq_u32(vdupq_n_u32((uint32_t)first + skip), vld1q_u32(lanes));
    const uint32x4_t h =
        noise_bits(veorq_u32(number, vdupq_n_u32((uint32_t)key)), vdupq_n_u32(cwi_noise_high(key, first)));
    return vmulq_n_f32(vcvtq_f32_u32(vshrq_n_u32(h, 8)), 0x1p-24f);
}

CWI_INLINE v_codes v_quantize_noise(const float *x, const v_quant *q, uint64_t key, uint64_t first)
{
    v_codes codes;
    for (unsigned part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (unsigned i = 0; i < 4; i++)
            v[i] = code_of(scale(vld1q_f32(x + 4 * i), q), noise_from(key, first, 16 * part + 4 * i), q);
        codes.part[part] = pack_codes(v);
    }
    return codes;
}

/* ---- symbols of ec ---- */

/* The exponent of a sum of 8 and more is 130 and more; of smaller ones it is larger than their whole part, or wraps. */
CWI_INLINE uint32x4_t symbol_of(float32x4_t scaled, float32x4_t add, const v_quant *q)
{
    const float32x4_t sum = vminnmq_f32(vaddq_f32(scaled, add), q->top);
    const uint32x4_t exponent = vshrq_n_u32(vreinterpretq_u32_f32(sum), 23);
    return vminq_u32(vcvtq_u32_f32(sum), vsubq_u32(exponent, vdupq_n_u32(127 - CWI_EC_LOG_OFFSET)));
}

CWI_INLINE float32x4_t magnitude(const float *x, const v_quant *q)
{
    return scale(vabsq_f32(vld1q_f32(x)), q);
}

CWI_INLINE v_codes v_symbols(const float *x, const v_quant *q)
{
    v_codes codes;
    for (int part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (int i = 0; i < 4; i++)
            v[i] = symbol_of(magnitude(x + 4 * i, q), q->half, q);
        codes.part[part] = pack_codes(v);
    }
    return codes;
}

CWI_INLINE v_codes v_symbols_noise(const float *x, const v_quant *q, uint64_t key, uint64_t first)
{
    v_codes codes;
    for (unsigned part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (unsigned i = 0; i < 4; i++)
            v[i] = symbol_of(magnitude(x + 4 * i, q), noise_from(key, first, 16 * part + 4 * i), q);
        codes.part[part] = pack_codes(v);
    }
    return codes;
}

CWI_INLINE v_codes v_quantize_ms(const float *x, const v_quant *q, unsigned bits, int32_t cut)
{
    const uint32x4_t ones = vdupq_n_u32((1u << bits) - 1);
    const int32x4_t limit = vdupq_n_s32(cut);
    v_codes codes;
    for (int part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (int i = 0; i < 4; i++) {
            const uint32x4_t key = keys_of(x + 4 * i);
            v[i] = vandq_u32(vcgtq_s32(vreinterpretq_s32_u32(key), limit), ones);
            if (bits == 1)
                continue;
            const float32x4_t scaled = vmulq_f32(vmulq_f32(vreinterpretq_f32_u32(key), q->pre), q->scale);
            v[i] = vorrq_u32(v[i], code_of(scaled, q->half, q));
        }
        codes.part[part] = pack_codes(v);
    }
    return codes;
}

/* ---- masks of 64 elements ---- */

CWI_INLINE uint8x16_t bit_of_lane(void)
{
    return vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
}

/* One bit of each of 64 bytes that are 0 or 255: every addition puts two halves of a byte together. */
CWI_INLINE uint64_t mask_of(const uint8x16_t byte[PARTS])
{
    uint8x16_t bit[PARTS];
    for (int i = 0; i < PARTS; i++)
        bit[i] = vandq_u8(byte[i], bit_of_lane());
    const uint8x16_t sum = vpaddq_u8(vpaddq_u8(bit[0], bit[1]), vpaddq_u8(bit[2], bit[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sum, sum)), 0);
}

CWI_INLINE uint64_t v_nonzero(const v_codes *codes)
{
    uint8x16_t byte[PARTS];
    for (int i = 0; i < PARTS; i++)
        byte[i] = vtstq_u8(codes->part[i], codes->part[i]);
    return mask_of(byte);
}

CWI_INLINE v_codes v_load_codes(const uint8_t *p)
{
    v_codes codes;
    for (int i = 0; i < PARTS; i++)
        codes.part[i] = vld1q_u8(p + 16 * i);
    return codes;
}

CWI_INLINE void v_store_codes(v_codes codes, uint8_t *p)
{
    for (int i = 0; i < PARTS; i++)
        vst1q_u8(p + 16 * i, codes.part[i]);
}

CWI_INLINE uint64_t v_plane(const v_codes *codes, unsigned p)
{
    uint8x16_t byte[PARTS];
    for (int i = 0; i < PARTS; i++)
        byte[i] = vtstq_u8(codes->part[i], vdupq_n_u8((uint8_t)(1u << p)));
    return mask_of(byte);
}

CWI_INLINE uint64_t v_signs(const float *x)
{
    uint8x16_t byte[PARTS];
    for (int part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (int i = 0; i < 4; i++)
            v[i] = vcltq_s32(vreinterpretq_s32_f32(vld1q_f32(x + 4 * i)), vdupq_n_s32(0));
        byte[part] = pack_codes(v);
    }
    return mask_of(byte);
}

CWI_INLINE uint64_t v_equal(const float *x, uint32_t key)
{
    uint8x16_t byte[PARTS];
    for (int part = 0; part < PARTS; part++, x += 16) {
        uint32x4_t v[4];
        for (int i = 0; i < 4; i++)
            v[i] = vceqq_u32(keys_of(x + 4 * i), vdupq_n_u32(key));
        byte[part] = pack_codes(v);
    }
    return mask_of(byte);
}

/* ---- kept values: one at a time, there is no instruction for it ---- */

CWI_INLINE uint8_t *v_pack(const float *x, uint64_t keep, uint8_t *out)
{
    for (; keep; keep &= keep - 1, out += sizeof *x)
        memcpy(out, x + __builtin_ctzll(keep), sizeof *x);
    return out;
}

CWI_INLINE const uint8_t *v_unpack(const uint8_t *in, uint64_t keep, float *out)
{
    for (; keep; keep &= keep - 1, in += sizeof *out)
        memcpy(out + __builtin_ctzll(keep), in, sizeof *out);
    return in;
}

/* ---- decoding ---- */

CWI_INLINE v_codes v_unplane(const uint8_t *group, unsigned bits)
{
    v_codes codes = {{vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)}};
    for (unsigned p = 0; p < bits; p++, group += 8) {
        const uint8x16_t one = vdupq_n_u8((uint8_t)(1u << p));
        for (int part = 0; part < PARTS; part++) {
            const uint8x16_t spread = vcombine_u8(vdup_n_u8(group[2 * part]), vdup_n_u8(group[2 * part + 1]));
            codes.part[part] = vorrq_u8(codes.part[part], vandq_u8(vtstq_u8(spread, bit_of_lane()), one));
        }
    }
    return codes;
}

CWI_INLINE v_levels v_levels_of(const float *level, unsigned bits)
{
    float small[16] = {0};
    memcpy(small, level, sizeof *level * CWI_MIN(1u << bits, 16u));
    v_levels l = {.large = level};
    for (int i = 0; i < 4; i++)
        l.small.val[i] = vreinterpretq_u8_f32(vld1q_f32(small + 4 * i));
    return l;
}

/* Four floats of the table, as its bytes 4 * code .. 4 * code + 3. */
CWI_INLINE uint8x16_t table_bytes(const v_levels *levels, uint8x16_t at, unsigned bits)
{
    if (bits <= 2)
        return vqtbl1q_u8(levels->small.val[0], at);
    if (bits == 3)
        return vqtbl2q_u8((uint8x16x2_t){{levels->small.val[0], levels->small.val[1]}}, at);
    return vqtbl4q_u8(levels->small, at);
}

CWI_INLINE void v_lookup(const v_codes *codes, const v_levels *levels, unsigned bits, float *out)
{
    static const uint8_t four_times[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    const uint8x16_t offset = vreinterpretq_u8_u32(vdupq_n_u32(UINT32_C(0x03020100)));
    for (int part = 0; part < PARTS; part++, out += 16) {
        if (bits > 4) {
            uint8_t code[16];
            vst1q_u8(code, codes->part[part]);
            for (int i = 0; i < 16; i++)
                out[i] = levels->large[code[i]];
            continue;
        }
        const uint8x16_t at = vshlq_n_u8(codes->part[part], 2);
        uint8x16_t from = vld1q_u8(four_times);
        for (int i = 0; i < 4; i++, from = vaddq_u8(from, vdupq_n_u8(4))) {
            const uint8x16_t bytes = vaddq_u8(vqtbl1q_u8(at, from), offset);
            vst1q_f32(out + 4 * i, vreinterpretq_f32_u8(table_bytes(levels, bytes, bits)));
        }
    }
}

CWI_INLINE void v_set_signs(uint64_t signs, float *out)
{
    static const int32_t up[4] = {31, 30, 29, 28};
    const uint32x4_t sign = vdupq_n_u32(UINT32_C(0x80000000));
    for (int i = 0; i < 16; i++, signs >>= 4, out += 4) {
        const uint32x4_t bits = vandq_u32(vshlq_u32(vdupq_n_u32((uint32_t)(signs & 15)), vld1q_s32(up)), sign);
        vst1q_f32(out, vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(vld1q_f32(out)), bits)));
    }
}

#include "codec/kernels/planes_simd.h"
/* after it */
#include "codec/kernels/ec_simd.h"

void cwi_planes_neon(cwi_kernels *k)
{
    planes_fill(k);
    ec_fill(k);
}
