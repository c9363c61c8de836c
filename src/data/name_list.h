/* name_list.h - a growing list of strings. Internal. */
#ifndef CWI_NAME_LIST_H
#define CWI_NAME_LIST_H

#include "base/base.h"

/* Zeroed: empty. */
typedef struct cwi_names {
    char **items;
    size_t count, capacity;
} cwi_names;

void cwi_names_free(cwi_names *names);
cw_status cwi_names_add(cwi_names *names, const char *text, cw_error *err); /* a copy */
/* By their bytes. */
void cwi_names_sort(cwi_names *names);
bool cwi_names_hold(const cwi_names *sorted, const char *text);

#endif
