/* half_remote.c - the clients' half at a server that knows nothing of it: no layers, no names but those of the tensors
 * that one of the clients last gave. They are kept as they came, for checkpoints and for clients that join. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "half/half_impl.h"

typedef struct remote_half {
    cw_half base;
    cwi_state held;
} remote_half;

static remote_half *self(cw_half *half)
{
    return (remote_half *)(void *)half;
}

/* ---- what it cannot do ---- */

static cw_status fail_remote(cw_error *err)
{
    return cwi_fail(err, CW_ERR_UNSUPPORTED, "this server has no half like the clients': it cannot compute with one");
}

static cw_status forward(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    (void)half, (void)call, (void)x, (void)y;
    return fail_remote(err);
}

static cw_status loss(cw_half *half, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    (void)half, (void)call, (void)targets, (void)out;
    return fail_remote(err);
}

static cw_status backward(cw_half *half, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    (void)half, (void)call, (void)dy, (void)dx;
    return fail_remote(err);
}

static void release(cw_half *half, size_t ticket)
{
    (void)half, (void)ticket;
}

static cw_status get(cw_half *half, cw_half_kind kind, float *flat, cw_error *err)
{
    (void)half, (void)kind, (void)flat;
    return fail_remote(err);
}

static cw_status sum_clear(cw_half *half, cw_error *err)
{
    (void)half;
    return fail_remote(err);
}

static cw_status sum_one(cw_half *half, float factor, cw_error *err)
{
    (void)half, (void)factor;
    return fail_remote(err);
}

static cw_status gradient_peak(cw_half *half, float *peak, cw_error *err)
{
    (void)half, (void)peak;
    return fail_remote(err);
}

static cw_status import_weights(cw_half *half, const cw_tensor_set *set, bool *kept, cw_error *err)
{
    (void)half, (void)set, (void)kept;
    return cwi_fail(err, CW_ERR_UNSUPPORTED,
                    "the clients bring the weights of their half: a server that has no half like theirs begins with "
                    "no file");
}

/* ---- what happens at the clients ---- */

static cw_status step(cw_half *half, float lr, cw_error *err)
{
    (void)half, (void)lr, (void)err;
    return CW_OK;
}

static cw_status put(cw_half *half, cw_half_kind kind, const float *flat, cw_error *err)
{
    (void)half, (void)kind, (void)flat, (void)err;
    return CW_OK;
}

/* ---- what it holds ---- */

static cw_status check_finite(cw_half *half, cw_error *err)
{
    const cwi_state *held = &self(half)->held;
    for (size_t i = 0; i < held->count; i++) {
        const cw_tensor *t = &held->items[i].tensor;
        size_t count;
        if (t->dtype == CW_F32 && cw_shape_count(&t->shape, &count) == CW_OK && isinf(cwi_peak(t->data, count)))
            return cwi_fail(err, CW_ERR_DIVERGED, "'%s' holds NaN or infinity: training has diverged",
                            held->items[i].name);
    }
    return CW_OK;
}

/* Their names, and so which are variances, are the clients' to know. */
static cw_status check_buffers(const cw_half *half, const float *flat, float limit, cw_error *err)
{
    for (size_t i = 0; i < half->buffers; i++)
        if (!(flat[i] >= -limit && flat[i] <= limit))
            return cwi_fail(err, CW_ERR_DIVERGED, "a buffer holds %g", (double)flat[i]);
    return CW_OK;
}

static bool begins_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Whatever engine made it (half_state.h). */
static bool is_optimizer(const char *name)
{
    return begins_with(name, "state.") || begins_with(name, "optimizer.");
}

static cw_status copy_tensor(cwi_state *state, const cw_named_tensor *from, cw_error *err)
{
    size_t count;
    void *data;
    CWI_TRY(cw_shape_count(&from->tensor.shape, &count));
    CWI_TRY(cwi_state_add(state, from->name, from->tensor.dtype, &from->tensor.shape, &data, err));
    if (count)
        memcpy(data, from->tensor.data, count * cw_dtype_size(from->tensor.dtype));
    return CW_OK;
}

static cw_status export_state(cw_half *half, unsigned what, cwi_state *state, cw_error *err)
{
    const cwi_state *held = &self(half)->held;
    for (size_t i = 0; i < held->count; i++)
        if (what & (is_optimizer(held->items[i].name) ? CWI_STATE_OPTIMIZER : CWI_STATE_MODEL))
            CWI_TRY(copy_tensor(state, &held->items[i], err));
    return CW_OK;
}

static cw_status import_state(cw_half *half, const cw_tensor_set *set, cw_error *err)
{
    cwi_state taken = {0};
    cw_status status = CW_OK;
    for (size_t i = 0; i < set->count && status == CW_OK; i++)
        status = copy_tensor(&taken, &set->items[i], err);
    if (status != CW_OK) {
        cwi_state_free(&taken);
        return status;
    }
    cwi_state_free(&self(half)->held);
    self(half)->held = taken;
    return CW_OK;
}

static void destroy(cw_half *half)
{
    cwi_state_free(&self(half)->held);
    cwi_free(self(half));
}

static const cwi_half_ops remote_ops = {
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .release = release,
    .step = step,
    .get = get,
    .put = put,
    .sum_clear = sum_clear,
    .sum_add = sum_one,
    .sum_replace = sum_one,
    .check_finite = check_finite,
    .gradient_peak = gradient_peak,
    .check_buffers = check_buffers,
    .export_state = export_state,
    .import_state = import_state,
    .import_weights = import_weights,
    .destroy = destroy,
};

cw_status cwi_half_remote_create(cw_half **out, cw_error *err)
{
    remote_half *h = cwi_calloc(1, sizeof *h);
    *out = NULL;
    if (!h)
        return cwi_fail_memory(err, sizeof *h);
    h->base.ops = &remote_ops;
    h->base.remote = true;
    h->base.tickets = 1;
    h->base.state_prefix = "";
    *out = &h->base;
    return CW_OK;
}

void cwi_half_remote_describe(cw_half *half, size_t weights, size_t buffers)
{
    half->weights = weights;
    half->buffers = buffers;
}

bool cwi_half_remote_holds(const cw_half *half)
{
    return ((const remote_half *)(const void *)half)->held.count > 0;
}
