/* arena.c - which buffers may share memory. */
#include <stdlib.h>

#include "nn/program.h"

enum { ARENA_ALIGN = 64 };

static size_t padded(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static bool overlaps(const cwi_buffer *a, const cwi_buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Insertion sort by size, largest first; equal sizes keep their order so that the layout is reproducible. */
static void sort_by_size(const cwi_buffer *buffers, int *order, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        int moving = order[i];
        size_t j = i;
        for (; j > 0 && buffers[order[j - 1]].bytes < buffers[moving].bytes; j--)
            order[j] = order[j - 1];
        order[j] = moving;
    }
}

/* The lowest offset at which `b` collides with none of the placed buffers that live at the same time. Those are kept
 * in `order[0..placed)`; each pass moves past the first collision, so it ends. */
static size_t lowest_offset(const cwi_buffer *buffers, const int *order, size_t placed, const cwi_buffer *b)
{
    size_t offset = 0;
    bool moved = true;
    while (moved) {
        moved = false;
        for (size_t i = 0; i < placed; i++) {
            const cwi_buffer *other = &buffers[order[i]];
            size_t end = other->offset + padded(other->bytes);
            if (overlaps(b, other) && offset < end && other->offset < offset + padded(b->bytes)) {
                offset = end;
                moved = true;
            }
        }
    }
    return offset;
}

size_t cwi_arena_layout(cwi_buffer *buffers, size_t count, int *order)
{
    size_t used = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        if (!buffers[i].slot && buffers[i].last >= 0)
            order[used++] = (int)i;
    }
    sort_by_size(buffers, order, used);
    for (size_t i = 0; i < used; i++) {
        cwi_buffer *b = &buffers[order[i]];
        b->offset = lowest_offset(buffers, order, i, b);
        size = CWI_MAX(size, b->offset + padded(b->bytes));
    }
    return size;
}
