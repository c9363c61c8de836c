/* vocabulary.c - strings to numbers by an open hash table over one arena. */
#include <stdlib.h>
#include <string.h>

#include "data/vocabulary.h"

void cwi_vocabulary_free(cwi_vocabulary *v)
{
    cwi_free(v->arena);
    cwi_free(v->words);
    cwi_free(v->slots);
    memset(v, 0, sizeof *v);
}

const char *cwi_vocabulary_text(const cwi_vocabulary *v, size_t number)
{
    return v->arena + v->words[number].offset;
}

static uint64_t hash(const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a, as cwi_hash_string, of bytes with a length */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

/* The slot that holds the text, or the free one where it belongs. */
static uint32_t *slot_of(const cwi_vocabulary *v, const char *text, size_t n)
{
    for (size_t i = hash(text, n) & (v->slot_count - 1);; i = (i + 1) & (v->slot_count - 1)) {
        uint32_t *slot = &v->slots[i];
        if (*slot == 0)
            return slot;
        const char *known = cwi_vocabulary_text(v, *slot - 1);
        if (strncmp(known, text, n) == 0 && known[n] == '\0')
            return slot;
    }
}

int64_t cwi_vocabulary_find(const cwi_vocabulary *v, const char *text, size_t n)
{
    return v->slot_count ? (int64_t)*slot_of(v, text, n) - 1 : -1;
}

static void fill_slots(cwi_vocabulary *v)
{
    memset(v->slots, 0, v->slot_count * sizeof *v->slots);
    for (size_t i = 0; i < v->count; i++) {
        const char *text = cwi_vocabulary_text(v, i);
        *slot_of(v, text, strlen(text)) = (uint32_t)i + 1;
    }
}

/* Room for one more word of n bytes; the table stays at most half full. */
static cw_status reserve(cwi_vocabulary *v, size_t n, cw_error *err)
{
    if (v->arena_size - v->arena_used < n + 1) {
        size_t size = 2 * v->arena_size + n + 4096;
        char *arena = cwi_realloc(v->arena, v->arena_size, size);
        if (!arena)
            return cwi_fail_memory(err, size);
        v->arena = arena;
        v->arena_size = size;
    }
    if (v->count < v->capacity)
        return CW_OK;
    size_t next = v->capacity ? 2 * v->capacity : 256;
    cwi_word *words = cwi_realloc(v->words, v->capacity * sizeof *words, next * sizeof *words);
    if (!words)
        return cwi_fail_memory(err, next * sizeof *words);
    v->words = words;
    v->capacity = next;
    uint32_t *slots = cwi_alloc(2 * next, sizeof *slots);
    if (!slots) {
        v->capacity = v->count; /* so that the next try grows both again */
        return cwi_fail_memory(err, 2 * next * sizeof *slots);
    }
    cwi_free(v->slots);
    v->slots = slots;
    v->slot_count = 2 * next;
    fill_slots(v);
    return CW_OK;
}

cw_status cwi_vocabulary_add(cwi_vocabulary *v, const char *text, size_t n, cw_error *err)
{
    int64_t known = cwi_vocabulary_find(v, text, n);
    if (known >= 0) {
        v->words[known].count++;
        return CW_OK;
    }
    if (v->count >= INT32_MAX / 2)
        return cwi_fail(err, CW_ERR_UNSUPPORTED, "more than %d different words", INT32_MAX / 2);
    CWI_TRY(reserve(v, n, err));
    memcpy(v->arena + v->arena_used, text, n);
    v->arena[v->arena_used + n] = '\0';
    v->words[v->count] = (cwi_word){v->arena_used, 1};
    v->arena_used += n + 1;
    *slot_of(v, text, n) = (uint32_t)++v->count;
    return CW_OK;
}

/* ---- ranking ---- */

typedef struct ranked {
    const char *text;
    cwi_word word;
} ranked;

static int by_text(const void *a, const void *b)
{
    return strcmp(((const ranked *)a)->text, ((const ranked *)b)->text);
}

static int by_count(const void *a, const void *b)
{
    uint64_t x = ((const ranked *)a)->word.count, y = ((const ranked *)b)->word.count;
    return x != y ? (x < y ? 1 : -1) : by_text(a, b);
}

cw_status cwi_vocabulary_rank(cwi_vocabulary *v, cwi_order order, uint64_t min_count, size_t max, cw_error *err)
{
    ranked *list = cwi_alloc(v->count, sizeof *list);
    if (!list)
        return cwi_fail_memory(err, v->count * sizeof *list);
    for (size_t i = 0; i < v->count; i++)
        list[i] = (ranked){cwi_vocabulary_text(v, i), v->words[i]};
    qsort(list, v->count, sizeof *list, by_count);
    size_t kept = 0;
    while (kept < v->count && kept < max && list[kept].word.count >= min_count)
        kept++;
    if (order == CWI_BY_TEXT)
        qsort(list, kept, sizeof *list, by_text);
    for (size_t i = 0; i < kept; i++)
        v->words[i] = list[i].word;
    v->count = kept;
    cwi_free(list);
    if (v->slots)
        fill_slots(v);
    return CW_OK;
}
