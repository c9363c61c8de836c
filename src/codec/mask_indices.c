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

uint8_t *cwi_marks_put(const cwi_mask *m, const uint8_t *plane, size_t first, size_t n, uint8_t *marks)
{
    const size_t bytes = (n + 7) / 8;
    if (!m->index_size) {
        memcpy(marks, plane, bytes);
        return marks + bytes;
    }
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = cwi_get_le(plane + at, (unsigned)CWI_MIN((size_t)8, bytes - at));
        for (; word; word &= word - 1) {
            cwi_put_le(marks, first + 8 * at + (unsigned)__builtin_ctzll(word), m->index_size);
            marks += m->index_size;
        }
    }
    return marks;
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
