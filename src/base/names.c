/* names.c - a choice by its name, and lists of names. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

void cwi_list_add(cwi_list *list, const char *name)
{
    const size_t used = strlen(list->text);
    const int added = snprintf(list->text + used, sizeof list->text - used, "%s%s", used ? ", " : "", name);
    assert(added >= 0 && (size_t)added < sizeof list->text - used);
    (void)added;
}

cw_status cwi_name_find(const char *what, const char *name, const char *const *names, size_t count, size_t *index,
                        cw_error *err)
{
    cwi_list known = {""};
    if (!name || !index)
        return cwi_fail(err, CW_ERR_INVALID, "%s: NULL argument", what);
    for (size_t i = 0; i < count; i++) {
        cwi_list_add(&known, names[i]);
        if (strcmp(names[i], name) == 0) {
            *index = i;
            return CW_OK;
        }
    }
    return cwi_fail(err, CW_ERR_SPEC, "%s '%.40s': unknown: known are %s", what, name, known.text);
}
