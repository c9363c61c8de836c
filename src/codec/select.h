/* select.h - the k-th largest magnitude, exactly, in O(n). Internal. */
#ifndef CWI_SELECT_H
#define CWI_SELECT_H

#include "codec/codec_impl.h"

/* The k elements to keep: all with key > threshold, and the first `ties` of those with key == threshold. */
typedef struct cwi_pick {
    uint32_t threshold; /* with k = 0: 0x7fffffff, which nothing exceeds */
    uint32_t max_key;   /* as in cwi_range */
    uint32_t max_bits;
    uint64_t ties;
} cwi_pick;

/* Keys that cwi_select wants as scratch for n elements on that many threads. */
size_t cwi_select_keys(size_t n, unsigned threads);

/* Selects k <= n of the elements [first, first + n). `keys` is scratch of cwi_select_keys(n, threads). The source is
 * read once when a sample of it foretells where the threshold lies (nearly always, for k/n up to 0.1 or so), else up to
 * four times more. When out->max_key >= CWI_KEY_INF there was a NaN or infinity, and threshold and ties mean nothing.
 */
void cwi_select(const cwi_source *s, size_t first, size_t n, size_t k, uint32_t *keys, unsigned threads, cwi_pick *out);

#endif
