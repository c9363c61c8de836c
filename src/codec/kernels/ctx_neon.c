/* ctx_neon.c - the entropy coder with NEON. */
#include <arm_neon.h>

#include "codec/kernels/kernels.h"

#define CTX_WIDTH 4

typedef uint32_t v_u32 __attribute__((vector_size(16)));
typedef int32_t v_i32 __attribute__((vector_size(16)));
typedef float v_f32 __attribute__((vector_size(16)));
typedef uint8_t v_bytes __attribute__((vector_size(16)));

CWI_INLINE unsigned v_search(const uint16_t row[CWI_SYMBOLS], const uint32_t *slot)
{
    const uint16x8_t all = vdupq_n_u16((uint16_t)*slot);
    const uint16x8_t low = vcleq_u16(vld1q_u16(row), all), high = vcleq_u16(vld1q_u16(row + 8), all);
    return (uint16_t)-vaddvq_u16(vaddq_u16(low, high));
}

CWI_INLINE unsigned v_mask(v_u32 v)
{
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32((uint32x4_t)v, vld1q_u32(bit)));
}

CWI_INLINE v_bytes v_shuffle(v_bytes v, v_bytes order)
{
    return (v_bytes)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)order);
}

CWI_INLINE v_bytes v_load_word(const uint8_t *p)
{
    return (v_bytes)vcombine_u8(vld1_u8(p), vdup_n_u8(0));
}

CWI_INLINE void v_store_word(uint8_t *p, v_bytes v)
{
    vst1_u8(p, vget_low_u8((uint8x16_t)v));
}

CWI_INLINE v_bytes v_quad(v_u32 v, int i)
{
    (void)i; /* there is one */
    return (v_bytes)v;
}

CWI_INLINE v_u32 v_of_quads(const v_bytes quad[1])
{
    return (v_u32)quad[0];
}

CWI_INLINE void v_narrow(const v_u32 v[8], uint8_t out[CWI_LANES])
{
    for (int i = 0; i < 8; i += 4, out += 16) {
        const uint16x8_t low = vuzp1q_u16((uint16x8_t)v[i], (uint16x8_t)v[i + 1]);
        const uint16x8_t high = vuzp1q_u16((uint16x8_t)v[i + 2], (uint16x8_t)v[i + 3]);
        vst1q_u8(out, vuzp1q_u8((uint8x16_t)low, (uint8x16_t)high));
    }
}

/* sum and products of 16 numbers and 16 symbols, four of them to each lane. */
CWI_INLINE v_i32 v_dot(v_i32 sum, const int8_t *a, const uint8_t *symbols)
{
    const int8x16_t x = vld1q_s8(a), y = vreinterpretq_s8_u8(vld1q_u8(symbols));
    const int16x8_t pairs = vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(y)), x, y); /* at most 2 * 127 * 15 */
    return (v_i32)vpadalq_s16((int32x4_t)sum, pairs);
}

#define V_MULTIPLIES

/* sum + weight * symbol of eight lanes. */
CWI_INLINE int16x8_t v_add_product(int16x8_t sum, const int8_t *weight, const uint8_t *symbols)
{
    return vmlal_s8(sum, vld1_s8(weight), vreinterpret_s8_u8(vld1_u8(symbols)));
}

#include "codec/kernels/ctx_simd.h"

void cwi_ctx_neon(cwi_kernels *k)
{
    ctx_fill(k);
}
