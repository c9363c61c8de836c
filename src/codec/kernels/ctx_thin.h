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

typedef struct thin_lane {
    uint32_t state;
    unsigned last; /* its last symbol */
} thin_lane;

CWI_INLINE uint32_t thin_next(uint32_t state, uint32_t part)
{
    return (part >> 16) * (state >> CWI_CTX_BITS) + state % CWI_CTX_WHOLE - (part & (CWI_CTX_WHOLE - 1));
}

CWI_INLINE uint32_t thin_word(const uint8_t *get)
{
    uint16_t word;
    memcpy(&word, get, sizeof word);
    return word;
}

/* An element whose context is known. Two bytes at `get` may be read. */
CWI_INLINE void thin_decode_one(const cwi_ctx_model *m, unsigned context, thin_lane *l, const uint8_t **get)
{
    const uint32_t slot = l->state % CWI_CTX_WHOLE, part = m->part[context][v_search(m->next[context], &slot)];
    const uint32_t next = thin_next(l->state, part);
    const bool less = next < CWI_CTX_LOW;
    l->state = less ? next << 16 | thin_word(*get) : next; /* no branch to guess */
    *get += 2 * less;
    l->last = part >> CWI_CTX_BITS & (CWI_SYMBOLS - 1);
}

/* The same, with branches: as long as processors guess them right, no element waits for the table of the one before. */
CWI_INLINE void thin_decode_likely(const cwi_ctx_model *m, unsigned context, unsigned likely, thin_lane *l,
                                   const uint8_t **get)
{
    const uint32_t guess = m->part[context][likely], slot = l->state % CWI_CTX_WHOLE;
    if (slot - (guess & (CWI_CTX_WHOLE - 1)) < guess >> 16) {
        l->state = thin_next(l->state, guess);
        l->last = likely;
    } else {
        const uint32_t part = m->part[context][v_search(m->next[context], &slot)];
        l->state = thin_next(l->state, part);
        l->last = part >> CWI_CTX_BITS & (CWI_SYMBOLS - 1);
    }
    if (l->state < CWI_CTX_LOW) {
        l->state = l->state << 16 | thin_word(*get);
        *get += 2;
    }
}

CWI_INLINE bool thin_decode_lanes(cwi_ctx_lanes *c, int left, const cwi_ctx_thin_row *rows, size_t width, unsigned used,
                                  bool guess)
{
    cwi_ctx_thin_row row[CWI_CTX_THIN]; /* at hand, whatever is written through its pointers */
    thin_lane lane[CWI_CTX_THIN];
    const cwi_ctx_model *m = c->model;
    const unsigned likely = guess ? c->likely : 0;
    const uint8_t *get = c->get, *const end = c->end;
    for (unsigned l = 0; l < used; l++) {
        row[l] = rows[l];
        lane[l] = (thin_lane){.state = c->state[l], .last = rows[l].symbols[-1]};
    }
    for (size_t x = 0; x < width; x++) {
        uint8_t copy[2 * CWI_CTX_THIN] = {0};
        const size_t left_bytes = (size_t)(end - get);
        const uint8_t *from = get, *at;
        if (left_bytes < sizeof copy) /* there is room to read beyond the last ones */
            from = memcpy(copy, get, left_bytes);
        at = from;
        for (unsigned l = 0; l < used; l++) {
            const unsigned context = thin_context(row[l].acc[x] + left * (int)lane[l].last);
            const bool coded = !row[l].support || row[l].support[x];
            row[l].contexts[x] = (uint8_t)context;
            if (!coded)
                lane[l].last = 0;
            else if (guess)
                thin_decode_likely(m, context, likely, &lane[l], &at);
            else
                thin_decode_one(m, context, &lane[l], &at);
            row[l].symbols[x] = (uint8_t)lane[l].last;
        }
        if ((size_t)(at - from) > left_bytes)
            return false;
        get += at - from;
    }
    for (unsigned l = 0; l < used; l++)
        c->state[l] = lane[l].state;
    c->get = get;
    return true;
}

static bool thin_decode(cwi_ctx_lanes *c, int left, const cwi_ctx_thin_row *rows, size_t width)
{
    const bool guess = c->likely < CWI_SYMBOLS;
    switch (c->used) {
    case 1:
        return guess ? thin_decode_lanes(c, left, rows, width, 1, true)
                     : thin_decode_lanes(c, left, rows, width, 1, false);
    case 2:
        return guess ? thin_decode_lanes(c, left, rows, width, 2, true)
                     : thin_decode_lanes(c, left, rows, width, 2, false);
    case 3:
        return thin_decode_lanes(c, left, rows, width, 3, false);
    default:
        return thin_decode_lanes(c, left, rows, width, CWI_CTX_THIN, false);
    }
}

#endif
