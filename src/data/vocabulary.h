/* vocabulary.h - a numbered set of strings with counts: words of a text, values of a column. Internal. */
#ifndef CWI_VOCABULARY_H
#define CWI_VOCABULARY_H

#include "base/base.h"

typedef struct cwi_word {
    size_t offset; /* of the terminated string in the arena */
    uint64_t count;
} cwi_word;

/* Zeroed: empty. */
typedef struct cwi_vocabulary {
    char *arena;
    size_t arena_used, arena_size;
    cwi_word *words; /* [count], by number */
    size_t count, capacity;
    uint32_t *slots; /* hash table: number + 1, 0: free */
    size_t slot_count;
} cwi_vocabulary;

void cwi_vocabulary_free(cwi_vocabulary *v);
/* Counts one more of the n bytes at text, which hold no NUL; new ones get the next number. */
cw_status cwi_vocabulary_add(cwi_vocabulary *v, const char *text, size_t n, cw_error *err);
/* The number, or -1. */
int64_t cwi_vocabulary_find(const cwi_vocabulary *v, const char *text, size_t n);
const char *cwi_vocabulary_text(const cwi_vocabulary *v, size_t number);

typedef enum cwi_order { CWI_BY_COUNT, CWI_BY_TEXT } cwi_order;
/* Keeps what was counted at least min_count times, at most the `max` most frequent, and numbers it anew: the most
 * frequent first (equal ones by their bytes), or all by their bytes. */
cw_status cwi_vocabulary_rank(cwi_vocabulary *v, cwi_order order, uint64_t min_count, size_t max, cw_error *err);

#endif
