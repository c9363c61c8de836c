/* memory.c - aligned allocation with overflow checks and, for tests, injected failures. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { ALIGNMENT = 64 };

static bool (*fault_fn)(void *ctx, size_t bytes);
static void *fault_ctx;

void cwi_alloc_set_fault(bool (*fails)(void *ctx, size_t bytes), void *ctx)
{
    fault_fn = fails;
    fault_ctx = ctx;
}

static void *aligned(size_t bytes)
{
    if (fault_fn && fault_fn(fault_ctx, bytes))
        return NULL;
    size_t rounded;
    if (!cwi_add_size(bytes, ALIGNMENT - 1, &rounded))
        return NULL;
    rounded &= ~(size_t)(ALIGNMENT - 1);
    return aligned_alloc(ALIGNMENT, rounded ? rounded : ALIGNMENT);
}

void *cwi_alloc(size_t count, size_t size)
{
    size_t bytes;
    return cwi_mul_size(count, size, &bytes) ? aligned(bytes) : NULL;
}

void *cwi_calloc(size_t count, size_t size)
{
    void *p = cwi_alloc(count, size);
    if (p)
        memset(p, 0, count * size);
    return p;
}

void *cwi_realloc(void *old, size_t old_size, size_t new_size)
{
    void *p = aligned(new_size);
    if (p && old)
        memcpy(p, old, CWI_MIN(old_size, new_size));
    if (p)
        cwi_free(old);
    return p;
}

char *cwi_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = cwi_alloc(size, 1);
    if (copy)
        memcpy(copy, s, size);
    return copy;
}

void cwi_free(void *p)
{
    free(p);
}

void cwi_wipe(void *p, size_t size)
{
    for (volatile uint8_t *b = p; size; size--)
        *b++ = 0;
}
