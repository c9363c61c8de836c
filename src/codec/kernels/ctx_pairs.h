/* ctx_pairs.h - mix() with AVX2: symbols of two rows lie side by side, so that one instruction multiplies both and
 * adds. Included by ctx_avx2.c and ctx_avx512.c. */
#ifndef CWI_CTX_PAIRS_H
#define CWI_CTX_PAIRS_H

#include <immintrin.h>

#include "codec/kernels/kernels.h"

enum { PAIRS = (CWI_CTX_ABOVE + CWI_CTX_REFS + 1) / 2, PAIRS_ABOVE = 2 };

/* Two bytes, or one of 16 bits, for each lane, as interleaving leaves them: lanes 0..7 and 16..23; 8..15 and 24..31. */
typedef struct lane_words {
    __m256i low, high;
} lane_words;

CWI_INLINE lane_words interleaved(const void *a, const void *b)
{
    const __m256i x = _mm256_loadu_si256(a), y = _mm256_loadu_si256(b);
    return (lane_words){_mm256_unpacklo_epi8(x, y), _mm256_unpackhi_epi8(x, y)};
}

/* The sums are at most 2 * 127 * 15: nothing saturates. */
CWI_INLINE lane_words add_pair(lane_words sum, const lane_words *weights, const uint8_t *a, const uint8_t *b)
{
    const lane_words symbols = interleaved(a, b);
    sum.low = _mm256_add_epi16(sum.low, _mm256_maddubs_epi16(symbols.low, weights->low));
    sum.high = _mm256_add_epi16(sum.high, _mm256_maddubs_epi16(symbols.high, weights->high));
    return sum;
}

CWI_INLINE lane_words words_of(const int16_t numbers[CWI_LANES])
{
    const __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)numbers);
    const __m256i last = _mm256_loadu_si256((const __m256i *)(const void *)(numbers + 16));
    return (lane_words){_mm256_permute2x128_si256(first, last, 0x20), _mm256_permute2x128_si256(first, last, 0x31)};
}

CWI_INLINE void put_numbers(lane_words v, int16_t out[CWI_LANES])
{
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permute2x128_si256(v.low, v.high, 0x20));
    _mm256_storeu_si256((__m256i *)(void *)(out + 16), _mm256_permute2x128_si256(v.low, v.high, 0x31));
}

/* The weights in pairs: upper left and upper right, up and the first reference, and the other references. */
static unsigned pair_weights(const cwi_ctx_mix *m, lane_words weights[PAIRS])
{
    const int8_t *first = m->refs ? m->weight[CWI_CTX_ABOVE] : (const int8_t *)cwi_nothing;
    unsigned pairs = PAIRS_ABOVE;
    weights[0] = interleaved(m->weight[1], m->weight[2]);
    weights[1] = interleaved(m->weight[0], first);
    for (unsigned r = 1; r < m->refs; r += 2, pairs++) {
        const void *second = r + 1 < m->refs ? (const void *)m->weight[CWI_CTX_ABOVE + r + 1] : cwi_nothing;
        weights[pairs] = interleaved(m->weight[CWI_CTX_ABOVE + r], second);
    }
    return pairs;
}

/* A row; `up` is NULL where there is none, and `ref` begins with NULL where there are no references. */
CWI_INLINE void mix_row(lane_words bias, const lane_words *weights, unsigned pairs, const uint8_t *up,
                        const uint8_t *const *ref, size_t width, int16_t *acc)
{
    for (size_t x = 0, at = 0; x < width; x++, at += CWI_LANES) {
        lane_words sum = bias;
        if (up)
            sum = add_pair(sum, weights, x > 0 ? up + at - CWI_LANES : cwi_nothing,
                           x + 1 < width ? up + at + CWI_LANES : cwi_nothing);
        const uint8_t *above = up ? up + at : cwi_nothing;
        sum = add_pair(sum, weights + 1, above, ref[0] ? ref[0] + at : above);
        for (unsigned p = PAIRS_ABOVE; p < pairs; p++)
            sum = add_pair(sum, weights + p, ref[2 * p - 3] + at, ref[2 * p - 2] + at);
        put_numbers(sum, acc + at);
    }
}

static void mix(const cwi_ctx_mix *m, const cwi_ctx_near *n, size_t rows, size_t width, int16_t *acc)
{
    lane_words weights[PAIRS];
    const lane_words bias = words_of(m->bias);
    const unsigned pairs = pair_weights(m, weights);
    const size_t size = width * CWI_LANES;
    for (size_t y = 0; y < rows; y++, acc += size) {
        const uint8_t *up = n->top && y == 0 ? NULL : n->row + y * size - size, *ref[CWI_CTX_REFS + 1] = {NULL};
        for (unsigned r = 0; r < m->refs; r++)
            ref[r] = ref[r + 1] = n->ref[r] + y * size; /* the one behind the last has a weight of 0 */
        switch (pairs) {
        case 2:
            mix_row(bias, weights, 2, up, ref, width, acc);
            break;
        case 3:
            mix_row(bias, weights, 3, up, ref, width, acc);
            break;
        case 4:
            mix_row(bias, weights, 4, up, ref, width, acc);
            break;
        case 5:
            mix_row(bias, weights, 5, up, ref, width, acc);
            break;
        default:
            mix_row(bias, weights, PAIRS, up, ref, width, acc);
            break;
        }
    }
}

#endif
