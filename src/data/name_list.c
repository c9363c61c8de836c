/* name_list.c - strings, each a copy. */
#include <stdlib.h>
#include <string.h>

#include "data/name_list.h"

void cwi_names_free(cwi_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        cwi_free(names->items[i]);
    cwi_free(names->items);
    memset(names, 0, sizeof *names);
}

cw_status cwi_names_add(cwi_names *names, const char *text, cw_error *err)
{
    if (names->count == names->capacity) {
        size_t next = names->capacity ? 2 * names->capacity : 64;
        char **items = cwi_realloc(names->items, names->capacity * sizeof *items, next * sizeof *items);
        if (!items)
            return cwi_fail_memory(err, next * sizeof *items);
        names->items = items;
        names->capacity = next;
    }
    names->items[names->count] = cwi_strdup(text);
    return names->items[names->count] ? (names->count++, CW_OK) : cwi_fail_memory(err, strlen(text));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void cwi_names_sort(cwi_names *names)
{
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, by_name);
}

bool cwi_names_hold(const cwi_names *sorted, const char *text)
{
    return sorted->count && bsearch(&text, sorted->items, sorted->count, sizeof *sorted->items, by_name);
}
