/* batch_room.c - the batch at hand at a server: its shape, and memory for it. */
#include <string.h>

#include "modes/batch_room.h"

/* Few bytes may stand for many elements: where clients say how many there are, so many are taken. 1 GiB of floats. */
enum { ELEMENTS_MAX = 1 << 28 };

static cw_status make_room(cwi_batch_room *b, size_t elements, cw_error *err)
{
    const bool masked = b->setup->mask_gradient;
    if (b->x && elements <= b->elements)
        return CW_OK;
    cwi_free(b->x);
    cwi_free(b->dx);
    cwi_free(b->sent);
    b->x = cwi_alloc(elements, sizeof(float));
    b->dx = cwi_alloc(elements, sizeof(float));
    b->sent = masked ? cwi_alloc(elements, 1) : NULL;
    const bool made = b->x && b->dx && (!masked || b->sent);
    b->elements = made ? elements : 0;
    return made ? CW_OK : cwi_fail_memory(err, elements * 2 * sizeof(float));
}

cw_status cwi_batch_room_labels(cwi_batch_room *b, size_t samples, cw_error *err)
{
    if (b->labels && samples <= b->samples)
        return CW_OK;
    cwi_free(b->labels);
    b->labels = cwi_alloc(samples, sizeof(int32_t));
    b->samples = b->labels ? samples : 0;
    return b->labels ? CW_OK : cwi_fail_memory(err, samples * sizeof(int32_t));
}

cw_status cwi_batch_room_open(cwi_batch_room *b, const cwi_setup *setup, cw_error *err)
{
    const size_t batch = (size_t)setup->config.batch;
    size_t elements;
    *b = (cwi_batch_room){.setup = setup};
    if (!cwi_mul_size(batch, setup->smashed_count, &elements))
        return cwi_fail(err, CW_ERR_INVALID, "batch %zu is too large for this cut", batch);
    CWI_TRY(make_room(b, elements, err));
    return cwi_batch_room_labels(b, batch, err);
}

void cwi_batch_room_close(cwi_batch_room *b)
{
    cwi_free(b->x);
    cwi_free(b->dx);
    cwi_free(b->sent);
    cwi_free(b->labels);
    memset(b, 0, sizeof *b);
}

static cw_status take_open(cwi_batch_room *b, const cw_msg *msg, cw_error *err)
{
    cw_payload_info info;
    CWI_TRY(cw_payload_inspect(msg->blob, msg->blob_size, &info, err));
    if (info.shape.ndim < 1 || info.shape.dim[0] != (int64_t)msg->samples || info.elements > ELEMENTS_MAX)
        return cwi_fail(err, CW_ERR_PROTOCOL,
                        "activations of %zu elements for %llu samples: the first dimension is theirs, and at most %d "
                        "elements are taken",
                        info.elements, (unsigned long long)msg->samples, ELEMENTS_MAX);
    b->shape = info.shape;
    return make_room(b, info.elements, err);
}

cw_status cwi_batch_room_take(cwi_batch_room *b, const cw_msg *msg, cw_error *err)
{
    const cwi_setup *setup = b->setup;
    const uint64_t most =
        setup->client_state ? (uint64_t)ELEMENTS_MAX / setup->smashed_count : (uint64_t)setup->config.batch;
    if (!setup->cut.smashed.ndim)
        return take_open(b, msg, err);
    if (msg->samples < 1 || msg->samples > most)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a batch of %llu samples, this run has at most %llu",
                        (unsigned long long)msg->samples, (unsigned long long)most);
    b->shape = cwi_setup_smashed(setup, b->x, msg->samples).shape;
    return make_room(b, cwi_batch_elements(b), err);
}

cw_status cwi_batch_room_decode(cwi_batch_room *b, const cw_msg *msg, int threads, cw_error *err)
{
    CWI_TRY(cwi_batch_room_take(b, msg, err));
    cw_tensor x = cwi_batch_tensor(b, b->x);
    const cw_decode_args args = {.threads = threads, .sent = b->sent};
    return cw_decode(msg->blob, msg->blob_size, &x, &args, err);
}

void cwi_batch_room_swap(cwi_batch_room *a, cwi_batch_room *b)
{
    const cwi_batch_room was = *a;
    *a = *b;
    *b = was;
    b->labels = a->labels;
    b->samples = a->samples;
    a->labels = was.labels;
    a->samples = was.samples;
}

size_t cwi_batch_elements(const cwi_batch_room *b)
{
    size_t elements = 0;
    (void)cw_shape_count(&b->shape, &elements);
    return elements;
}

/* Behind a ReLU the client has no use for the gradient where its activation is 0, and this is where the server knows of
 * it. An activation that the codec made 0 counts as one that is: the gradient is that of the network with the codec's
 * dead zone in it. */
void cwi_batch_mask(const cwi_batch_room *b)
{
    const size_t elements = cwi_batch_elements(b);
    for (size_t i = 0; i < elements; i++)
        b->dx[i] = b->sent[i] ? b->dx[i] : 0;
}
