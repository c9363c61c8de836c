/* half_nn.c - halves of our engine: a part of a model and its optimizer. The only place outside src/nn that trains one.
 */
#include <stdio.h>
#include <string.h>

#include "half/half_impl.h"

typedef struct nn_half {
    cw_half base;
    cw_part *part;
    cw_optimizer *optimizer; /* NULL: for inference */
    float *flat;             /* room for the weights */
    size_t first, last;      /* layers */
} nn_half;

static nn_half *self(cw_half *half)
{
    return (nn_half *)(void *)half;
}

/* ---- forward and back ---- */

static cw_status forward(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    nn_half *h = self(half);
    CWI_TRY(cw_part_select(h->part, call->ticket, err));
    if (call->mode == CW_TRAIN)
        cw_part_set_position(h->part, call->position);
    return cw_part_forward(h->part, call->mode, x + call->first * half->in_count, call->n, y, err);
}

static cw_status loss(cw_half *half, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    if (!targets->labels)
        return cwi_fail(err, CW_ERR_INVALID, "this network is trained by labels, and none came");
    CWI_TRY(cw_part_select(self(half)->part, call->ticket, err));
    return cw_part_loss(self(half)->part, targets->labels, call->n, out, err);
}

static cw_status backward(cw_half *half, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    CWI_TRY(cw_part_select(self(half)->part, call->ticket, err));
    return cw_part_backward(self(half)->part, dy, dx, err);
}

static void release(cw_half *half, size_t ticket)
{
    if (cw_part_select(self(half)->part, ticket, NULL) == CW_OK)
        cw_part_release(self(half)->part);
}

static cw_status step(cw_half *half, float lr, cw_error *err)
{
    if (!self(half)->optimizer)
        return cwi_fail(err, CW_ERR_INVALID, "this half was made for inference: it learns nothing");
    const cw_status status = cw_optimizer_step(self(half)->optimizer, lr);
    return status == CW_OK ? CW_OK : cwi_fail(err, status, "cannot update the weights at the rate %g", (double)lr);
}

/* ---- vectors and sums ---- */

static cw_status get(cw_half *half, cw_half_kind kind, float *flat, cw_error *err)
{
    (void)err;
    const cw_part *part = self(half)->part;
    (kind == CW_HALF_WEIGHT     ? cw_part_export_weights
     : kind == CW_HALF_GRADIENT ? cw_part_export_grads
                                : cw_part_export_buffers)(part, flat);
    return CW_OK;
}

static cw_status put(cw_half *half, cw_half_kind kind, const float *flat, cw_error *err)
{
    (void)err;
    cw_part *part = self(half)->part;
    (kind == CW_HALF_WEIGHT     ? cw_part_import_weights
     : kind == CW_HALF_GRADIENT ? cw_part_import_grads
                                : cw_part_import_buffers)(part, flat);
    return CW_OK;
}

static void gather(const cw_half *half, float *flat)
{
    const cw_part *part = ((const nn_half *)(const void *)half)->part;
    const float *from = flat;
    for (size_t i = 0; i < cw_part_param_count(part); i++) {
        const cw_param p = cw_part_param(part, i);
        if (!p.trainable)
            continue;
        if (!p.frozen) {
            memmove(flat, from, p.count * sizeof(float));
            flat += p.count;
        }
        from += p.count;
    }
}

/* From the last one on, so that nothing is overwritten before it has moved. */
static void spread(const cw_half *half, float *flat)
{
    const cw_part *part = ((const nn_half *)(const void *)half)->part;
    const float *from = flat + half->weights - half->frozen;
    float *to = flat + half->weights;
    for (size_t i = cw_part_param_count(part); i-- > 0;) {
        const cw_param p = cw_part_param(part, i);
        if (!p.trainable)
            continue;
        to -= p.count;
        from -= p.frozen ? 0 : p.count;
        if (p.frozen)
            memset(to, 0, p.count * sizeof(float));
        else
            memmove(to, from, p.count * sizeof(float));
    }
}

static cw_status of_sum(cw_status status, cw_error *err)
{
    return status == CW_OK ? CW_OK : cwi_fail(err, status, "cannot sum gradients: %s", cw_status_message(status));
}

static cw_status sum_clear(cw_half *half, cw_error *err)
{
    return of_sum(cw_part_grad_sum_clear(self(half)->part), err);
}

static cw_status sum_add(cw_half *half, float weight, cw_error *err)
{
    return of_sum(cw_part_grad_sum_add(self(half)->part, weight), err);
}

static cw_status sum_replace(cw_half *half, float scale, cw_error *err)
{
    return of_sum(cw_part_grad_sum_replace(self(half)->part, scale), err);
}

static cw_status check_finite(cw_half *half, cw_error *err)
{
    return cw_part_check_finite(self(half)->part, err);
}

static cw_status gradient_peak(cw_half *half, float *peak, cw_error *err)
{
    (void)err;
    *peak = cw_part_grad_peak(self(half)->part);
    return CW_OK;
}

static cw_status check_buffers(const cw_half *half, const float *flat, float limit, cw_error *err)
{
    return cw_part_check_buffers(((const nn_half *)(const void *)half)->part, flat, limit, err);
}

/* ---- state ---- */

static void state_name(const nn_half *h, const char *what, char *name, size_t size)
{
    snprintf(name, size, "optimizer.%s.%zu-%zu", what, h->first, h->last);
}

static cw_status export_model(nn_half *h, cwi_state *state, cw_error *err)
{
    cw_named_tensor *own;
    size_t count;
    CWI_TRY(cw_part_state_export(h->part, &own, &count, err));
    const cw_status status = cwi_state_grow(state, count, err);
    if (status != CW_OK) {
        cw_named_tensors_free(own, count);
        return status;
    }
    memcpy(state->items + state->count, own, count * sizeof *own);
    state->count += count;
    cwi_free(own);
    return CW_OK;
}

static cw_status export_optimizer(nn_half *h, cwi_state *state, cw_error *err)
{
    char name[128];
    void *data;
    const cw_shape vector = cw_shape_of(1, (int64_t[]){(int64_t)h->base.weights}), one = cw_shape_of(1, (int64_t[]){1});
    for (size_t slot = 0; slot < cw_optimizer_slots(h->optimizer); slot++) {
        state_name(h, cw_optimizer_slot_name(h->optimizer, slot), name, sizeof name);
        CWI_TRY(cwi_state_add(state, name, CW_F32, &vector, &data, err));
        cw_optimizer_export(h->optimizer, slot, data);
    }
    state_name(h, "steps", name, sizeof name);
    CWI_TRY(cwi_state_add(state, name, CW_I64, &one, &data, err));
    *(int64_t *)data = (int64_t)cw_optimizer_steps(h->optimizer);
    return CW_OK;
}

static cw_status export_state(cw_half *half, unsigned what, cwi_state *state, cw_error *err)
{
    if (what & CWI_STATE_MODEL)
        CWI_TRY(export_model(self(half), state, err));
    return what & CWI_STATE_OPTIMIZER && self(half)->optimizer ? export_optimizer(self(half), state, err) : CW_OK;
}

static cw_status fail_missing(const char *name, cw_error *err)
{
    return cwi_fail(err, CW_ERR_MISMATCH,
                    "%s is missing: these weights were trained by another optimizer or cut elsewhere: give the "
                    "same --optimizer, --momentum and --cut",
                    name);
}

static cw_status import_slot(nn_half *h, size_t slot, const cw_tensor_set *set, cw_error *err)
{
    char name[128];
    state_name(h, cw_optimizer_slot_name(h->optimizer, slot), name, sizeof name);
    const cw_tensor *t = cw_tensor_set_find(set, name);
    if (!t)
        return fail_missing(name, err);
    if (t->dtype != CW_F32 || t->shape.ndim != 1 || t->shape.dim[0] != (int64_t)h->base.weights)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: not the %zu floats of this half", name, h->base.weights);
    memcpy(h->flat, t->data, h->base.weights * sizeof(float));
    cw_optimizer_import(h->optimizer, slot, h->flat);
    return CW_OK;
}

static cw_status import_steps(nn_half *h, const cw_tensor_set *set, cw_error *err)
{
    char name[128];
    int64_t steps;
    state_name(h, "steps", name, sizeof name);
    const cw_tensor *t = cw_tensor_set_find(set, name);
    if (!t)
        return fail_missing(name, err);
    if (t->dtype != CW_I64 || t->shape.ndim != 1 || t->shape.dim[0] != 1)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: not one whole number", name);
    memcpy(&steps, t->data, sizeof steps);
    if (steps < 0)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: below 0", name);
    cw_optimizer_set_steps(h->optimizer, (uint64_t)steps);
    return CW_OK;
}

static cw_status import_state(cw_half *half, const cw_tensor_set *set, cw_error *err)
{
    nn_half *h = self(half);
    CWI_TRY(cw_part_state_import(h->part, set, err));
    if (!h->optimizer)
        return CW_OK;
    for (size_t slot = 0; slot < cw_optimizer_slots(h->optimizer); slot++)
        CWI_TRY(import_slot(h, slot, set, err));
    return import_steps(h, set, err);
}

static cw_status import_weights(cw_half *half, const cw_tensor_set *set, bool *kept, cw_error *err)
{
    return cw_part_weights_import(self(half)->part, set, kept, err);
}

/* ---- life ---- */

static void destroy(cw_half *half)
{
    nn_half *h = self(half);
    cw_optimizer_destroy(&h->optimizer);
    cw_part_destroy(&h->part);
    cwi_free(h->flat);
    cwi_free(h);
}

static const cwi_half_ops nn_ops = {
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .release = release,
    .step = step,
    .get = get,
    .put = put,
    .gather = gather,
    .spread = spread,
    .sum_clear = sum_clear,
    .sum_add = sum_add,
    .sum_replace = sum_replace,
    .check_finite = check_finite,
    .gradient_peak = gradient_peak,
    .check_buffers = check_buffers,
    .export_state = export_state,
    .import_state = import_state,
    .import_weights = import_weights,
    .destroy = destroy,
};

cw_status cwi_half_optimizer(const char *name, cw_optimizer_options *options, cw_error *err)
{
    return cw_optimizer_parse(name, &options->kind, err);
}

/* With which weights learn: gradients of no others travel. */
static uint64_t fingerprint_of(const cw_part *part)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < cw_part_param_count(part); i++) {
        const cw_param p = cw_part_param(part, i);
        const cw_half_kind kind = p.frozen ? CW_HALF_FIXED : p.trainable ? CW_HALF_WEIGHT : CW_HALF_BUFFER;
        hash = cwi_half_fingerprint_add(hash, kind, p.name, CW_F32, &p.shape);
    }
    return hash;
}

static size_t count_frozen(const cw_part *part)
{
    size_t floats = 0;
    for (size_t i = 0; i < cw_part_param_count(part); i++)
        floats += cw_part_param(part, i).frozen ? cw_part_param(part, i).count : 0;
    return floats;
}

/* What leaves layer `last` - 1, where that is a cut. */
static bool is_behind_relu(const cw_model *model, size_t last)
{
    for (size_t i = 0; i < cw_model_cut_count(model); i++)
        if (cw_model_cut_at(model, i).layer == last)
            return cw_model_cut_at(model, i).behind_relu;
    return false;
}

static cw_status fill(nn_half *h, const cw_model *model, const cw_part_options *options,
                      const cw_optimizer_options *optimizer, cw_error *err)
{
    CWI_TRY(cw_part_create(model, h->first, h->last, options, &h->part, err));
    h->base.in = cw_part_in_shape(h->part);
    h->base.out = cw_part_out_shape(h->part);
    h->base.max_batch = options->max_batch;
    h->base.tickets = cw_part_in_flight(h->part);
    h->base.input_grad = options->input_grad;
    h->base.behind_relu = is_behind_relu(model, h->last);
    h->base.weights = cw_part_trainable_size(h->part);
    h->base.frozen = count_frozen(h->part);
    h->base.buffers = cw_part_buffer_size(h->part);
    h->base.fingerprint = fingerprint_of(h->part);
    CWI_TRY(cwi_half_settle(&h->base, err));
    if (options->inference)
        return CW_OK;
    h->flat = cwi_calloc(h->base.weights, sizeof(float));
    return h->flat ? cw_optimizer_create(h->part, optimizer, &h->optimizer, err)
                   : cwi_fail_memory(err, h->base.weights * sizeof(float));
}

cw_status cw_half_of_model(const cw_model *model, size_t first, size_t last, const cw_part_options *options,
                           const cw_optimizer_options *optimizer, cw_half **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!model || !options || !out || !(optimizer || options->inference))
        return cwi_fail(err, CW_ERR_INVALID, "cw_half_of_model: a NULL argument");
    nn_half *h = cwi_calloc(1, sizeof *h);
    if (!h)
        return cwi_fail_memory(err, sizeof *h);
    h->base.ops = &nn_ops;
    h->base.state_prefix = "optimizer.";
    h->base.engine = true;
    h->first = h->base.first = first;
    h->last = last;
    const cw_status status = fill(h, model, options, optimizer, err);
    if (status != CW_OK) {
        destroy(&h->base);
        return status;
    }
    *out = &h->base;
    return CW_OK;
}
