/* classes.h - the names of a run's classes: which label is which, for clients whose data number them otherwise.
 * Internal.
 *
 * As text, in a run's classes.txt and in messages: a line for each class, in the order of the labels. A backslash in a
 * name is written \\ and a newline \n; whatever else a name holds stands as it is. */
#ifndef CWI_TRAIN_CLASSES_H
#define CWI_TRAIN_CLASSES_H

#include "base/base.h"

#define CWI_CLASSES_FILE "classes.txt" /* in a run's folder */

/* Zero-initialize: no names. */
typedef struct cwi_classes {
    char **names; /* [count], by label; no two alike, none empty */
    size_t count;
    uint32_t *order; /* [count], labels in the order of their names */
} cwi_classes;

void cwi_classes_free(cwi_classes *c);
/* Copies; CW_ERR_CORRUPT: a name twice, or an empty one. On failure *out has no names. */
cw_status cwi_classes_copy(const char *const *names, size_t count, cwi_classes *out, cw_error *err);
/* Adds what `from` has and *c lacks, in its order. */
cw_status cwi_classes_add(cwi_classes *c, const cwi_classes *from, cw_error *err);
/* The label, or -1. */
int64_t cwi_classes_find(const cwi_classes *c, const char *name);
/* How many of `own` are none of `run`. */
size_t cwi_classes_unknown(const cwi_classes *run, const cwi_classes *own);
/* Whether both have the same names with the same labels. */
bool cwi_classes_equal(const cwi_classes *a, const cwi_classes *b);
/* (*map)[label of own] = label of run, for own names that run has all; NULL where each is the same. */
cw_status cwi_classes_map(const cwi_classes *run, const cwi_classes *own, int32_t **map, cw_error *err);

/* As text (terminated, freed by cwi_free), and back from anybody's bytes: at most `most` names. CW_ERR_CORRUPT. */
cw_status cwi_classes_format(const cwi_classes *c, char **text, cw_error *err);
cw_status cwi_classes_parse(const void *text, size_t size, size_t most, cwi_classes *out, cw_error *err);

/* For people: "cat", "dog". What steers a terminal is shown as '?'. NULL: out of memory; freed by cwi_free. */
char *cwi_classes_list(const cwi_classes *c);
/* Bytes of lists that go into an error, and leave room for who it is and where: none is ever cut off. */
enum { CWI_CLASSES_INLINE = 240 };
/* CW_ERR_MISMATCH: names of `own` that are none of `run`, both lists behind them as far as there is room for all of
 * them. *both (freed by cwi_free; NULL: out of memory) is the same with both lists, however long. */
cw_status cwi_classes_refuse(const cwi_classes *run, const cwi_classes *own, char **both, cw_error *err);

#endif
