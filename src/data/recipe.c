/* recipe.c - growing text, and its lines. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "data/recipe.h"

cw_status cwi_text_add(cwi_text *t, cw_error *err, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    size_t need = t->used + (size_t)(n > 0 ? n : 0) + 1;
    if (need > t->size) {
        size_t size = 2 * need + 1024;
        char *data = cwi_realloc(t->data, t->used, size);
        if (!data) {
            va_end(again);
            return cwi_fail_memory(err, size);
        }
        t->data = data;
        t->size = size;
    }
    vsnprintf(t->data + t->used, t->size - t->used, fmt, again);
    va_end(again);
    t->used = need - 1;
    return CW_OK;
}

bool cwi_text_line(const char **at, char *line, size_t size)
{
    size_t n = strcspn(*at, "\n");
    if (**at == '\0' || n >= size)
        return false;
    size_t kept = n;
    while (kept > 0 && (*at)[kept - 1] == '\r') /* an editor's; no value ends with one */
        kept--;
    memcpy(line, *at, kept);
    line[kept] = '\0';
    *at += n + ((*at)[n] == '\n');
    return true;
}
