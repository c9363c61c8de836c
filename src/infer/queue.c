/* queue.c - requests that wait for a batch. */
#include "infer/queue.h"

#include <string.h>

#include "base/base.h"

cw_status cwi_queue_open(cwi_queue *q, const cw_shape *sample, const cw_profile *profile, size_t max_batch, size_t room,
                         cw_error *err)
{
    *q = (cwi_queue){.sample = *sample, .profile = profile, .max_batch = max_batch, .room = room};
    CWI_TRY(cw_shape_count(sample, &q->each));
    q->requests = cwi_calloc(room, sizeof *q->requests);
    q->x = cwi_alloc(2 * max_batch * q->each, sizeof *q->x);
    return q->requests && q->x ? CW_OK : cwi_fail_memory(err, 2 * max_batch * q->each * sizeof *q->x);
}

void cwi_queue_close(cwi_queue *q)
{
    for (size_t i = 0; i < q->count; i++)
        cw_frame_release(&q->requests[i].frame);
    cwi_free(q->requests);
    cwi_free(q->x);
    *q = (cwi_queue){0};
}

static cw_shape shape_of(const cwi_queue *q, size_t n)
{
    cw_shape shape = {.ndim = q->sample.ndim + 1, .dim = {(int64_t)n}};
    memcpy(shape.dim + 1, q->sample.dim, sizeof(int64_t) * (size_t)q->sample.ndim);
    return shape;
}

cw_status cwi_queue_check(const cwi_queue *q, const cwi_request *r, cw_error *err)
{
    cw_payload_info info;
    char got[80], due[80];
    const cw_shape want = shape_of(q, r->n);
    CWI_TRY(cw_payload_inspect(r->payload, r->payload_size, &info, err));
    if (cw_shape_equal(&info.shape, &want))
        return CW_OK;
    return cwi_fail(err, CW_ERR_MISMATCH, "it sent a tensor of %s, at this cut %s is due",
                    cw_shape_format(&info.shape, got, sizeof got), cw_shape_format(&want, due, sizeof due));
}

/* Where the next n samples go: behind those that are ready, which may have to move for it. n and they are one batch at
 * most. */
static float *place_for(cwi_queue *q, size_t n)
{
    if (q->start + q->ready + n > 2 * q->max_batch) {
        memmove(q->x, q->x + q->start * q->each, q->ready * q->each * sizeof *q->x);
        q->start = 0;
    }
    return q->x + (q->start + q->ready) * q->each;
}

static bool has_room_for(const cwi_queue *q, size_t n)
{
    return q->ready + n <= q->max_batch;
}

/* The request behind those that are decoded. No decoder gives NaN or infinity. */
static cw_status decode_next(cwi_queue *q, const cwi_request *r, cw_error *err)
{
    const cw_shape shape = shape_of(q, r->n);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, place_for(q, r->n));
    const cw_decode_args args = {.profile = q->profile};
    CWI_TRY(cw_decode(r->payload, r->payload_size, &t, &args, err));
    q->decoded++;
    q->ready += r->n;
    return CW_OK;
}

cw_status cwi_queue_put(cwi_queue *q, cwi_request r, cw_frame *frame, cw_error *err)
{
    if (q->decoded == q->count && has_room_for(q, r.n)) {
        CWI_TRY(decode_next(q, &r, err));
    } else {
        r.frame = *frame;
        frame->owner = NULL;
    }
    q->requests[q->count++] = r;
    q->samples += r.n;
    return CW_OK;
}

cw_status cwi_queue_decode(cwi_queue *q, size_t *bad, cw_error *err)
{
    while (q->decoded < q->count && has_room_for(q, q->requests[q->decoded].n)) {
        cwi_request *r = &q->requests[q->decoded];
        *bad = r->member;
        CWI_TRY(decode_next(q, r, err));
        cw_frame_release(&r->frame);
    }
    return CW_OK;
}

size_t cwi_queue_choose(const cwi_queue *q, size_t *n)
{
    size_t count = 0, sum = 0;
    *n = 0;
    for (size_t i = 0; i < q->decoded; i++) {
        sum += q->requests[i].n;
        if ((sum & (sum - 1)) && sum != q->max_batch)
            continue;
        count = i + 1;
        *n = sum;
    }
    if (2 * *n > q->ready)
        return count;
    *n = q->ready; /* requests of several samples may make none of these sizes */
    return q->decoded;
}

const float *cwi_queue_take(cwi_queue *q, size_t count, size_t n, cwi_request *out)
{
    const float *x = q->x + q->start * q->each;
    memcpy(out, q->requests, count * sizeof *out);
    q->samples -= n;
    q->decoded -= count;
    q->ready -= n;
    q->start = q->ready ? q->start + n : 0;
    q->count -= count;
    memmove(q->requests, q->requests + count, q->count * sizeof *q->requests);
    return x;
}

/* The samples of the i-th request, which is decoded, leave x. */
static void close_gap(cwi_queue *q, size_t i)
{
    size_t at = q->start;
    const size_t n = q->requests[i].n;
    for (size_t k = 0; k < i; k++)
        at += q->requests[k].n;
    memmove(q->x + at * q->each, q->x + (at + n) * q->each, (q->start + q->ready - at - n) * q->each * sizeof *q->x);
    q->decoded--;
    q->ready -= n;
}

void cwi_queue_forget(cwi_queue *q, size_t member)
{
    for (size_t i = q->count; i-- > 0;) {
        if (q->requests[i].member != member)
            continue;
        if (i < q->decoded)
            close_gap(q, i);
        cw_frame_release(&q->requests[i].frame);
        q->samples -= q->requests[i].n;
        q->count--;
        memmove(q->requests + i, q->requests + i + 1, (q->count - i) * sizeof *q->requests);
    }
}
