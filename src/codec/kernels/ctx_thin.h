/* ctx_thin.h - the entropy coder's inner loops where a group has few planes: along a plane in place of across lanes.
 * Included by ctx_*.c, which define unsigned v_search(const uint16_t row[16], &slot): how many numbers of the row are
 * at most `slot`; and what ctx_words.h wants. */
#ifndef CWI_CTX_THIN_H
#define CWI_CTX_THIN_H

#include "codec/kernels/ctx_words.h"

CWI_INLINE mixed_words thin_sum(const cwi_ctx_terms *t, size_t i)
{
    mixed_words sum = (mixed_words){0} + t->bias;
    for (unsigned k = 0; k < t->count; k++)
        sum += mixed_at(t->at[k] + i) * t->weight[k];
    return sum;
}

static void thin_mix(const cwi_ctx_terms *t, size_t n, int16_t *acc)
{
    _Static_assert(CWI_CTX_THIN_PAD % MIXED == 0, "whole vectors");
    for (size_t i = 0; i < n; i += MIXED) {
        const mixed_words sum = thin_sum(t, i);
        memcpy(acc + i, &sum, sizeof sum);
    }
}

static void thin_contexts(const cwi_ctx_terms *t, size_t n, uint8_t *contexts)
{
    for (size_t i = 0; i < n; i += MIXED)
        put_bytes(contexts_of(thin_sum(t, i)), contexts + i);
}

CWI_INLINE unsigned thin_context(int acc)
{
    return (unsigned)CWI_MIN(CWI_MAX(acc >> CWI_CTX_SHIFT, 0), CWI_CONTEXTS - 1);
}

/* Of an element whose context is known: its symbol. Two bytes at `get` may be read. */
CWI_INLINE unsigned thin_decode_one(const cwi_ctx_model *m, unsigned context, uint32_t *state, const uint8_t **get)
{
    const uint32_t slot = *state % CWI_CTX_WHOLE, part = m->part[context][v_search(m->next[context], &slot)];
    const uint32_t next = (part >> 16) * (*state >> CWI_CTX_BITS) + slot - (part & (CWI_CTX_WHOLE - 1));
    const bool less = next < CWI_CTX_LOW;
    uint16_t word;
    memcpy(&word, *get, sizeof word);
    *state = less ? next << 16 | word : next; /* no branch to guess */
    *get += 2 * less;
    return part >> CWI_CTX_BITS & (CWI_SYMBOLS - 1);
}

CWI_INLINE bool thin_decode_lanes(cwi_ctx_lanes *c, int left, const cwi_ctx_thin_row *rows, size_t width, unsigned used)
{
    cwi_ctx_thin_row row[CWI_CTX_THIN]; /* at hand, whatever is written through its pointers */
    uint32_t state[CWI_CTX_THIN];
    unsigned last[CWI_CTX_THIN];
    const cwi_ctx_model *m = c->model;
    const uint8_t *get = c->get, *const end = c->end;
    for (unsigned l = 0; l < used; l++) {
        row[l] = rows[l];
        state[l] = c->state[l];
        last[l] = rows[l].symbols[-1];
    }
    for (size_t x = 0; x < width; x++) {
        uint8_t copy[2 * CWI_CTX_THIN] = {0};
        const size_t left_bytes = (size_t)(end - get);
        const uint8_t *from = get, *at;
        if (left_bytes < sizeof copy) /* there is room to read beyond the last ones */
            from = memcpy(copy, get, left_bytes);
        at = from;
        for (unsigned l = 0; l < used; l++) {
            const unsigned context = thin_context(row[l].acc[x] + left * (int)last[l]);
            const bool coded = !row[l].support || row[l].support[x];
            row[l].contexts[x] = (uint8_t)context;
            last[l] = coded ? thin_decode_one(m, context, &state[l], &at) : 0;
            row[l].symbols[x] = (uint8_t)last[l];
        }
        if ((size_t)(at - from) > left_bytes)
            return false;
        get += at - from;
    }
    for (unsigned l = 0; l < used; l++)
        c->state[l] = state[l];
    c->get = get;
    return true;
}

static bool thin_decode(cwi_ctx_lanes *c, int left, const cwi_ctx_thin_row *rows, size_t width)
{
    switch (c->used) {
    case 1:
        return thin_decode_lanes(c, left, rows, width, 1);
    case 2:
        return thin_decode_lanes(c, left, rows, width, 2);
    case 3:
        return thin_decode_lanes(c, left, rows, width, 3);
    default:
        return thin_decode_lanes(c, left, rows, width, CWI_CTX_THIN);
    }
}

#endif
