/* names.c - a choice by its name. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"

cw_status cwi_name_find(const char *what, const char *name, const char *const *names, size_t count, size_t *index,
                        cw_error *err)
{
    char known[160] = "";
    if (!name || !index)
        return cwi_fail(err, CW_ERR_INVALID, "%s: NULL argument", what);
    for (size_t i = 0; i < count; i++) {
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
        if (strcmp(names[i], name) == 0) {
            *index = i;
            return CW_OK;
        }
    }
    return cwi_fail(err, CW_ERR_SPEC, "%s '%.40s': unknown: known are %s", what, name, known);
}
