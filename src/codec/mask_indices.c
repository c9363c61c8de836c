/* mask_indices.c - the indices of the kept elements instead of a bit for each element. */
#include <string.h>

#include "codec/mask.h"

unsigned cwi_index_size(size_t n)
{
    unsigned size = 1;
    while (size < 8 && (n - 1) >> (8 * size))
        size++;
    return size;
}

/* The places of a plane's ones. Inlined for each common size of an index, so that storing one takes no loop. */
CWI_INLINE uint8_t *put_indices(const uint8_t *plane, size_t first, size_t n, unsigned size, uint8_t *out)
{
    for (size_t i = 0; i < n; i += CWI_GROUP) {
        const size_t left = n - i;
        uint64_t word =
            left >= CWI_GROUP ? cwi_get_le(plane + i / 8, 8) : cwi_get_le(plane + i / 8, (unsigned)(left + 7) / 8);
        for (; word; word &= word - 1, out += size)
            cwi_put_le(out, first + i + (unsigned)__builtin_ctzll(word), size);
    }
    return out;
}

uint8_t *cwi_marks_put(const cwi_mask *m, const uint8_t *plane, size_t first, size_t n, uint8_t *marks)
{
    const size_t bytes = (n + 7) / 8;
    switch (m->index_size) {
    case 0:
        memcpy(marks, plane, bytes);
        return marks + bytes;
    case 2:
        return put_indices(plane, first, n, 2, marks);
    case 3:
        return put_indices(plane, first, n, 3, marks);
    default:
        return put_indices(plane, first, n, m->index_size, marks);
    }
}

/* The kept values, converted a buffer at a time. */
typedef struct reader {
    const cwi_kernels *kernels;
    cwi_values values;
    const uint8_t *in;
    size_t left; /* not yet converted */
    size_t have, next;
    bool finite;
    float buffer[CWI_CHUNK];
} reader;

static float read_value(reader *r)
{
    if (r->next == r->have) {
        r->have = CWI_MIN(r->left, (size_t)CWI_CHUNK);
        r->next = 0;
        r->finite &= cwi_values_get(r->kernels, r->values, r->in, r->have, r->buffer);
        r->in += r->have * cwi_values_size(r->values);
        r->left -= r->have;
    }
    return r->buffer[r->next++];
}

cwi_trouble cwi_indices_decode(const cwi_mask_decoder *d, size_t segment)
{
    const cwi_mask *m = d->mask;
    const cwi_sink *sink = &d->job->sink;
    const size_t length = m->layout.length, step = cwi_sink_step(sink);
    const uint8_t *index = d->marks + segment * cwi_mask_marks_size(m), *end = index + cwi_mask_marks_size(m);
    reader r = {.kernels = d->job->kernels, .values = m->values, .left = m->kept, .finite = true};
    r.in = d->values + segment * cwi_mask_values_size(m);
    float chunk[CWI_CHUNK];
    size_t least = 0; /* that the next index may be */
    for (size_t done = 0; done < length; done += step) {
        const size_t n = CWI_MIN(step, length - done);
        float *out = cwi_sink_at(sink, segment * length + done, chunk);
        memset(out, 0, n * sizeof *out);
        for (; index < end; index += m->index_size) {
            uint64_t i = cwi_get_le(index, m->index_size);
            if (i < least)
                return CWI_BAD_INDEX;
            if (i >= done + n)
                break;
            out[i - done] = read_value(&r);
            least = (size_t)i + 1;
        }
        cwi_sink_put(sink, segment * length + done, n, out);
    }
    if (index < end)
        return CWI_BAD_INDEX;
    return r.finite ? CWI_FINE : CWI_NOT_FINITE;
}
