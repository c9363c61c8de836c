/* convert_neon.c - two-byte floats with NEON. */
#include <arm_neon.h>
#include <string.h>

#include "codec/kernels/kernels.h"

enum { LANES = 4 };

/* Both bring magnitudes that are too large down to the largest finite number. */
CWI_INLINE uint16x4_t f16_of(float32x4_t x)
{
    const float32x4_t most = vdupq_n_f32(65504);
    const float16x4_t half = vcvt_f16_f32(vmaxq_f32(vminq_f32(x, most), vnegq_f32(most)));
    return vreinterpret_u16_f16(half);
}

CWI_INLINE uint16x4_t bf16_of(float32x4_t x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x), sign = vdupq_n_u32(UINT32_C(0x80000000));
    uint32x4_t key = vbicq_u32(bits, sign);
    key = vaddq_u32(key, vandq_u32(vshrq_n_u32(key, 16), vdupq_n_u32(1)));
    key = vshrq_n_u32(vaddq_u32(key, vdupq_n_u32(0x7fff)), 16);
    key = vminq_u32(key, vdupq_n_u32(0x7f7f));
    return vmovn_u32(vorrq_u32(key, vshrq_n_u32(vandq_u32(bits, sign), 16)));
}

CWI_INLINE uint32x4_t f16_value(uint16x4_t v)
{
    return vreinterpretq_u32_f32(vcvt_f32_f16(vreinterpret_f16_u16(v)));
}

CWI_INLINE uint32x4_t bf16_value(uint16x4_t v)
{
    return vshll_n_u16(v, 16);
}

CWI_INLINE uint16x4_t load_halves(const uint8_t *p)
{
    return vreinterpret_u16_u8(vld1_u8(p));
}

CWI_INLINE void store_halves(uint8_t *p, uint16x4_t v)
{
    vst1_u8(p, vreinterpret_u8_u16(v));
}

#define NARROW(name, convert)                                                                                          \
    static void name(const float *x, size_t n, uint8_t *out)                                                           \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES)                                                                             \
            store_halves(out + 2 * i, convert(vld1q_f32(x + i)));                                                      \
        float last[LANES] = {0};                                                                                       \
        uint8_t half[2 * LANES];                                                                                       \
        memcpy(last, x + i, (n - i) * sizeof *x);                                                                      \
        store_halves(half, convert(vld1q_f32(last)));                                                                  \
        memcpy(out + 2 * i, half, 2 * (n - i));                                                                        \
    }

#define WIDEN(name, convert)                                                                                           \
    static bool name(const uint8_t *in, size_t n, float *out)                                                          \
    {                                                                                                                  \
        const uint32x4_t inf = vdupq_n_u32(CWI_KEY_INF);                                                               \
        uint32x4_t bad = vdupq_n_u32(0);                                                                               \
        uint8_t last[2 * LANES] = {0};                                                                                 \
        float wide[LANES];                                                                                             \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) {                                                                           \
            const uint32x4_t v = convert(load_halves(in + 2 * i));                                                     \
            bad = vorrq_u32(bad, vceqq_u32(vandq_u32(v, inf), inf));                                                   \
            vst1q_f32(out + i, vreinterpretq_f32_u32(v));                                                              \
        }                                                                                                              \
        memcpy(last, in + 2 * i, 2 * (n - i));                                                                         \
        const uint32x4_t v = convert(load_halves(last));                                                               \
        bad = vorrq_u32(bad, vceqq_u32(vandq_u32(v, inf), inf));                                                       \
        vst1q_f32(wide, vreinterpretq_f32_u32(v));                                                                     \
        memcpy(out + i, wide, (n - i) * sizeof *out);                                                                  \
        return vmaxvq_u32(bad) == 0;                                                                                   \
    }

NARROW(to_f16, f16_of)
NARROW(to_bf16, bf16_of)
WIDEN(from_f16, f16_value)
WIDEN(from_bf16, bf16_value)

void cwi_convert_neon(cwi_kernels *k)
{
    k->to_f16 = to_f16;
    k->to_bf16 = to_bf16;
    k->from_f16 = from_f16;
    k->from_bf16 = from_bf16;
}
