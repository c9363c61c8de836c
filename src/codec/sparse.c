/* sparse.c - kept elements as bitmap or index list, with their values; everything else is zero.
 *
 * Body: kept count of each segment (7 bytes) and flags (1) | marks of each segment | kept values of each segment. */
#include "codec/sparse.h"

enum { PREFIX = 8, FLAGS_AT = 7, FLAG_INDICES = 1 };

/* The body's size as the mask has it. */
static bool body_size(const cwi_mask *m, size_t *size)
{
    return cwi_mask_size(m, size) && cwi_add_size(*size, PREFIX, size);
}

/* Bitmap or indices for the count of kept elements that the mask has. */
static void choose_marks(cwi_mask *m)
{
    m->index_size = cwi_index_size(m->layout.length);
    if (cwi_mask_marks_size(m) >= cwi_planes_size(m->layout.length, 1))
        m->index_size = 0;
}

cwi_mask cwi_sparse_mask(double r, cwi_values values, bool per_sample, const cw_shape *shape, size_t elements)
{
    cwi_mask m = {.bits = 1, .values = values, .layout = cwi_layout_of(shape, elements, per_sample)};
    m.kept = cwi_kept(r, m.layout.length);
    if (elements)
        choose_marks(&m);
    return m;
}

bool cwi_sparse_bound(const cwi_mask *m, size_t *size)
{
    return body_size(m, size);
}

/* ---- encoding ---- */

cw_status cwi_sparse_begin(cwi_encode_job *job, const cwi_mask *m, uint8_t **marks, uint8_t **values)
{
    size_t size;
    if (!body_size(m, &size))
        return cwi_fail(job->err, CW_ERR_INVALID, "the tensor is too large: its payload's size overflows");
    CWI_TRY(cwi_reserve(job, size));
    cwi_put_le(job->body, m->kept, FLAGS_AT);
    job->body[FLAGS_AT] = m->index_size ? FLAG_INDICES : 0;
    *marks = job->body + PREFIX;
    *values = *marks + m->layout.segments * cwi_mask_marks_size(m);
    return CW_OK;
}

cw_status cwi_sparse_encode_largest(cwi_encode_job *job, const cwi_mask *m)
{
    cwi_mask_work work;
    cwi_mask_encoder e = {.job = job, .mask = m, .work = &work, .rounding = CWI_ROUND_FLOOR};
    CWI_TRY(cwi_sparse_begin(job, m, &e.marks, &e.values));
    if (job->elements == 0)
        return CW_OK;
    bool any_negative;
    cwi_mask_work_init(&work, &m->layout, job->threads, job->work);
    CWI_TRY(cwi_mask_pick(job, &m->layout, m->kept, &work, &any_negative));
    cwi_mask_encode(&e);
    return CW_OK;
}

/* ---- decoding ---- */

/* m with what the body says put in; only after its length is known to be at least PREFIX. */
static void read_prefix(const cwi_payload *p, cwi_mask *m)
{
    m->kept = (size_t)cwi_get_le(p->body, FLAGS_AT);
    m->index_size = p->body[FLAGS_AT] & FLAG_INDICES ? cwi_index_size(m->layout.length) : 0;
}

cw_status cwi_sparse_check(const cwi_payload *p, cwi_mask m, cw_error *err)
{
    if (p->body_size < PREFIX)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body of a %s payload has %zu bytes, %d is the least", p->family->info.name,
                           p->body_size, PREFIX);
    if (p->body[FLAGS_AT] & ~FLAG_INDICES)
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, p->header_size + FLAGS_AT, "unknown flags %02x in a %s payload",
                           p->body[FLAGS_AT], p->family->info.name);
    read_prefix(p, &m);
    size_t size;
    if (m.kept > m.layout.length)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size, "the payload keeps %zu values of %zu elements", m.kept,
                           m.layout.length);
    if (!body_size(&m, &size) || size != p->body_size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, which is not what its shape and parameters take", p->body_size);
    return CW_OK;
}

static void zero_level(const void *ctx, size_t segment, float *level)
{
    (void)ctx;
    (void)segment;
    level[0] = 0.0f;
}

cw_status cwi_sparse_decode(cwi_decode_job *job, cwi_mask m)
{
    read_prefix(job->payload, &m);
    cwi_mask_decoder d = {.job = job, .mask = &m, .marks = job->payload->body + PREFIX, .levels = zero_level};
    d.values = d.marks + m.layout.segments * cwi_mask_marks_size(&m);
    return cwi_mask_decode(&d);
}
