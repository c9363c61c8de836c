/* recipe.h - the lines of text that keep what was learned from a training split. Internal. */
#ifndef CWI_RECIPE_H
#define CWI_RECIPE_H

#include "base/base.h"

/* Text that grows. Zeroed: empty. */
typedef struct cwi_text {
    char *data; /* terminated */
    size_t used, size;
} cwi_text;

cw_status cwi_text_add(cwi_text *t, cw_error *err, const char *fmt, ...) CWI_PRINTF(3, 4);

/* The next line of *at into line (terminated, without the newline); false at the end or when it does not fit. */
bool cwi_text_line(const char **at, char *line, size_t size);

#endif
