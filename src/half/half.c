/* half.c - halves whatever their engine: arguments checked, vectors, state as one image. */
#include <stdio.h>
#include <string.h>

#include "half/half_impl.h"

/* ---- construction ---- */

cw_status cwi_half_settle(cw_half *half, cw_error *err)
{
    if (half->in.ndim && (cw_shape_count(&half->in, &half->in_count) != CW_OK || !half->in_count))
        return cwi_fail(err, CW_ERR_INVALID, "half: the shape of an input is not one");
    if (cw_shape_count(&half->out, &half->out_count) != CW_OK || !half->out_count)
        return cwi_fail(err, CW_ERR_INVALID, "half: the shape of an output is not one");
    if (!half->tickets)
        half->tickets = 1;
    return CW_OK;
}

uint64_t cwi_half_fingerprint_add(uint64_t hash, cw_half_kind kind, const char *name, cw_dtype dtype,
                                  const cw_shape *shape)
{
    char text[128];
    const uint64_t parts[] = {(uint64_t)kind, cwi_hash_string(name), (uint64_t)dtype,
                              cwi_hash_string(cw_shape_format(shape, text, sizeof text))};
    for (size_t i = 0; i < CWI_COUNT(parts); i++)
        hash = (hash ^ parts[i]) * UINT64_C(0x100000001b3);
    return hash;
}

void cw_half_destroy(cw_half **half)
{
    if (!half || !*half)
        return;
    cw_half *h = *half;
    *half = NULL;
    h->ops->destroy(h);
}

/* ---- forward and back ---- */

static cw_status check_call(const cw_half *half, const cw_half_call *call, const char *what, cw_error *err)
{
    if (!half || !call)
        return cwi_fail(err, CW_ERR_INVALID, "%s: a NULL argument", what);
    if (call->n < 1 || (half->max_batch && call->n > half->max_batch))
        return cwi_fail(err, CW_ERR_INVALID, "%s: %zu samples, at most %zu are planned for", what, call->n,
                        half->max_batch);
    if (call->ticket >= half->tickets)
        return cwi_fail(err, CW_ERR_INVALID, "%s: ticket %zu, this half has %zu", what, call->ticket, half->tickets);
    if (call->first && !half->in_count && half->tickets == 1)
        return cwi_fail(err, CW_ERR_INVALID, "%s: a half with one ticket cannot cut inputs without a shape", what);
    return CW_OK;
}

cw_status cw_half_forward(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    CWI_TRY(check_call(half, call, "forward", err));
    return half->ops->forward(half, call, x, y, err);
}

cw_status cw_half_loss(cw_half *half, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    CWI_TRY(check_call(half, call, "loss", err));
    if (!targets || !out)
        return cwi_fail(err, CW_ERR_INVALID, "loss: a NULL argument");
    return half->ops->loss(half, call, targets, out, err);
}

cw_status cw_half_backward(cw_half *half, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    CWI_TRY(check_call(half, call, "backward", err));
    if (dx && !half->input_grad)
        return cwi_fail(err, CW_ERR_INVALID, "backward: this half gives no gradient of its input");
    return half->ops->backward(half, call, dy, dx, err);
}

void cw_half_release(cw_half *half, size_t ticket)
{
    if (half && ticket < half->tickets)
        half->ops->release(half, ticket);
}

cw_status cw_half_step(cw_half *half, float lr, cw_error *err)
{
    return half->ops->step(half, lr, err);
}

/* ---- what it is ---- */

cw_shape cw_half_in_shape(const cw_half *half)
{
    return half->in;
}

cw_shape cw_half_out_shape(const cw_half *half)
{
    return half->out;
}

size_t cw_half_tickets(const cw_half *half)
{
    return half->tickets;
}

bool cw_half_behind_relu(const cw_half *half)
{
    return half->behind_relu;
}

size_t cw_half_weight_count(const cw_half *half)
{
    return half->weights;
}

size_t cw_half_buffer_count(const cw_half *half)
{
    return half->buffers;
}

uint64_t cw_half_fingerprint(const cw_half *half)
{
    return half->fingerprint;
}

size_t cwi_half_first_layer(const cw_half *half)
{
    return half->first;
}

/* ---- what only some halves have ---- */

bool cwi_half_takes_targets(const cw_half *half)
{
    return half->any_targets;
}

float cwi_half_rate(cw_half *half, float lr)
{
    return half->ops->rate ? half->ops->rate(half, lr) : lr;
}

cw_status cwi_half_output(cw_half *half, const cw_half_call *call, cw_tensor *y, cw_error *err)
{
    size_t count;
    if (!half->ops->output)
        return cwi_fail(err, CW_ERR_INVALID, "half: its outputs have no shape, and it has no output to ask for one");
    *y = (cw_tensor){0};
    CWI_TRY(half->ops->output(half, call, y, err));
    if (y->dtype != CW_F32 || y->shape.ndim < 1 || cw_shape_count(&y->shape, &count) != CW_OK || !count || !y->data)
        return cwi_fail(err, CW_ERR_INVALID, "half: its output is no tensor of floats");
    if (y->shape.dim[0] != (int64_t)call->n)
        return cwi_fail(err, CW_ERR_INVALID,
                        "half: an output of %lld samples for a batch of %zu: the first dimension "
                        "counts samples",
                        (long long)y->shape.dim[0], call->n);
    return CW_OK;
}

bool cwi_half_is_engine(const cw_half *half)
{
    return half->engine;
}

bool cwi_half_is_remote(const cw_half *half)
{
    return half->remote;
}

/* ---- vectors ---- */

static cw_status check_vector(const cw_half *half, cw_half_kind kind, const float *flat, cw_error *err)
{
    if (!half || (!flat && half->weights + half->buffers))
        return cwi_fail(err, CW_ERR_INVALID, "half: a NULL argument");
    if (kind != CW_HALF_WEIGHT && kind != CW_HALF_GRADIENT && kind != CW_HALF_BUFFER)
        return cwi_fail(err, CW_ERR_INVALID, "half: only weights, gradients and buffers are vectors");
    return CW_OK;
}

cw_status cw_half_get(cw_half *half, cw_half_kind kind, float *flat, cw_error *err)
{
    CWI_TRY(check_vector(half, kind, flat, err));
    return half->ops->get(half, kind, flat, err);
}

cw_status cw_half_put(cw_half *half, cw_half_kind kind, const float *flat, cw_error *err)
{
    CWI_TRY(check_vector(half, kind, flat, err));
    return half->ops->put(half, kind, flat, err);
}

/* ---- gradients as they travel ---- */

size_t cwi_half_learned_count(const cw_half *half)
{
    return half->weights - half->frozen;
}

cw_tensor cwi_half_vector(const cw_half *half, float *data)
{
    cw_shape shape = cw_shape_of(3, (int64_t[]){1, 1, (int64_t)cwi_half_learned_count(half)});
    return cw_tensor_view(CW_F32, &shape, data);
}

cw_status cwi_half_get_learned(cw_half *half, float *flat, cw_error *err)
{
    CWI_TRY(cw_half_get(half, CW_HALF_GRADIENT, flat, err));
    if (half->frozen)
        half->ops->gather(half, flat);
    return CW_OK;
}

cw_status cwi_half_put_learned(cw_half *half, float *flat, cw_error *err)
{
    if (half->frozen)
        half->ops->spread(half, flat);
    return cw_half_put(half, CW_HALF_GRADIENT, flat, err);
}

/* ---- sums over clients ---- */

cw_status cwi_half_sum_clear(cw_half *half, cw_error *err)
{
    return half->ops->sum_clear(half, err);
}

cw_status cwi_half_sum_add(cw_half *half, float weight, cw_error *err)
{
    return half->ops->sum_add(half, weight, err);
}

cw_status cwi_half_sum_replace(cw_half *half, float scale, cw_error *err)
{
    return half->ops->sum_replace(half, scale, err);
}

/* ---- nothing absurd ---- */

cw_status cwi_half_check_finite(cw_half *half, cw_error *err)
{
    return half->ops->check_finite(half, err);
}

cw_status cwi_half_gradient_peak(cw_half *half, float *peak, cw_error *err)
{
    return half->ops->gradient_peak(half, peak, err);
}

cw_status cwi_half_check_buffers(const cw_half *half, const float *flat, float limit, cw_error *err)
{
    return half->ops->check_buffers(half, flat, limit, err);
}

/* ---- state ---- */

cw_status cwi_state_grow(cwi_state *state, size_t count, cw_error *err)
{
    const size_t old = state->count * sizeof *state->items, more = count * sizeof *state->items;
    cw_named_tensor *grown = cwi_realloc(state->items, old, old + more);
    if (!grown)
        return cwi_fail_memory(err, old + more);
    memset(grown + state->count, 0, more);
    state->items = grown;
    return CW_OK;
}

cw_status cwi_state_add(cwi_state *state, const char *name, cw_dtype dtype, const cw_shape *shape, void **data,
                        cw_error *err)
{
    CWI_TRY(cwi_state_grow(state, 1, err));
    cw_named_tensor *item = &state->items[state->count];
    const cw_status status = cw_tensor_alloc(&item->tensor, dtype, shape);
    if (status != CW_OK)
        return cwi_fail(err, status, "%s: cannot be exported: %s", name, cw_status_message(status));
    snprintf(item->name, sizeof item->name, "%s", name);
    state->count++;
    *data = item->tensor.data;
    return CW_OK;
}

cw_status cwi_halves_append(cw_half *const *halves, size_t count, unsigned what, cwi_state *state, cw_error *err)
{
    for (size_t i = 0; i < count; i++)
        CWI_TRY(halves[i]->ops->export_state(halves[i], what, state, err));
    return CW_OK;
}

cw_status cwi_halves_export(cw_half *const *halves, size_t count, unsigned what, cwi_state *state, cw_error *err)
{
    memset(state, 0, sizeof *state);
    return cwi_halves_append(halves, count, what, state, err);
}

void cwi_state_free(cwi_state *state)
{
    cw_named_tensors_free(state->items, state->count);
    memset(state, 0, sizeof *state);
}

cw_status cwi_half_import(cw_half *half, const cw_tensor_set *set, cw_error *err)
{
    return half->ops->import_state(half, set, err);
}

cw_status cwi_half_import_weights(cw_half *half, const cw_tensor_set *set, bool *kept, cw_error *err)
{
    return half->ops->import_weights(half, set, kept, err);
}

cw_status cwi_half_save(cw_half *half, uint8_t **bytes, size_t *size, cw_error *err)
{
    cwi_state state;
    *bytes = NULL;
    cw_status status = cwi_halves_export(&half, 1, CWI_STATE_ALL, &state, err);
    if (status == CW_OK)
        status = cw_safetensors_encode(state.items, state.count, NULL, bytes, size, err);
    cwi_state_free(&state);
    return status;
}

static bool has_state(const cw_half *half, const cw_tensor_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (strncmp(set->items[i].name, half->state_prefix, strlen(half->state_prefix)) == 0)
            return true;
    return false;
}

cw_status cwi_half_load(cw_half *half, const void *bytes, size_t size, cw_error *err)
{
    cw_tensor_set set;
    bool kept;
    CWI_TRY(cw_safetensors_decode(bytes, size, &set, err));
    const cw_status status =
        has_state(half, &set) ? cwi_half_import(half, &set, err) : cwi_half_import_weights(half, &set, &kept, err);
    cw_tensor_set_free(&set);
    return status;
}
