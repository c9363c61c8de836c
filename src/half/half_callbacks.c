/* half_callbacks.c - halves of anybody's engine: its tensors are read and written where they lie. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "half/half_impl.h"

#define STATE_PREFIX "state."

typedef struct own_half {
    cw_half base;
    cw_half_callbacks does;
    void *ctx;
    cw_half_tensor *tensors; /* names owned */
    size_t *counts;          /* elements of each */
    float *sum;              /* of gradients over clients */
    bool summed;
} own_half;

static own_half *self(cw_half *half)
{
    return (own_half *)(void *)half;
}

/* ---- forward and back ---- */

static cw_status forward(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    return self(half)->does.forward(self(half)->ctx, call, x, y, err);
}

static cw_status loss(cw_half *half, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    own_half *h = self(half);
    if (!h->does.loss)
        return cwi_fail(err, CW_ERR_INVALID, "this half ends no network: it has no loss");
    CWI_TRY(h->does.loss(h->ctx, call, targets, out, err));
    return isfinite(out->mean) ? CW_OK : cwi_fail(err, CW_ERR_DIVERGED, "the loss is not finite");
}

static cw_status backward(cw_half *half, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    own_half *h = self(half);
    CWI_TRY(h->does.backward(h->ctx, call, dy, dx, err));
    return h->does.fetch ? h->does.fetch(h->ctx, CW_HALF_GRADIENT, err) : CW_OK;
}

static void release(cw_half *half, size_t ticket)
{
    if (self(half)->does.release)
        self(half)->does.release(self(half)->ctx, ticket);
}

static cw_status store(own_half *h, cw_half_kind kind, cw_error *err)
{
    return h->does.store ? h->does.store(h->ctx, kind, err) : CW_OK;
}

static cw_status fetch(own_half *h, cw_half_kind kind, cw_error *err)
{
    return h->does.fetch ? h->does.fetch(h->ctx, kind, err) : CW_OK;
}

static cw_status step(cw_half *half, float lr, cw_error *err)
{
    return self(half)->does.step(self(half)->ctx, lr, err);
}

static cw_status output(cw_half *half, const cw_half_call *call, cw_tensor *y, cw_error *err)
{
    own_half *h = self(half);
    return h->does.output
               ? h->does.output(h->ctx, call, y, err)
               : cwi_fail(err, CW_ERR_INVALID, "half: its outputs have no shape, and it has no output to ask");
}

static float rate(cw_half *half, float lr)
{
    return self(half)->does.rate ? self(half)->does.rate(self(half)->ctx, lr) : lr;
}

/* ---- vectors ---- */

/* Gradients were fetched after the backward that made them. */
static cw_status get(cw_half *half, cw_half_kind kind, float *flat, cw_error *err)
{
    own_half *h = self(half);
    if (kind != CW_HALF_GRADIENT)
        CWI_TRY(fetch(h, kind, err));
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        if (h->tensors[i].kind != kind)
            continue;
        memcpy(flat, h->tensors[i].tensor.data, h->counts[i] * sizeof(float));
        flat += h->counts[i];
    }
    return CW_OK;
}

static cw_status put(cw_half *half, cw_half_kind kind, const float *flat, cw_error *err)
{
    own_half *h = self(half);
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        if (h->tensors[i].kind != kind)
            continue;
        memcpy(h->tensors[i].tensor.data, flat, h->counts[i] * sizeof(float));
        flat += h->counts[i];
    }
    return store(h, kind, err);
}

/* ---- sums of gradients ---- */

static cw_status sum_clear(cw_half *half, cw_error *err)
{
    own_half *h = self(half);
    if (!h->sum && !(h->sum = cwi_alloc(half->weights, sizeof(float))))
        return cwi_fail_memory(err, half->weights * sizeof(float));
    h->summed = false;
    return CW_OK;
}

/* The first contribution is a plain product, so that a weight of 1 keeps every bit. */
static cw_status sum_add(cw_half *half, float weight, cw_error *err)
{
    own_half *h = self(half);
    if (!h->sum)
        return cwi_fail(err, CW_ERR_INVALID, "gradients are summed before the sum was cleared");
    float *sum = h->sum;
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        if (h->tensors[i].kind != CW_HALF_GRADIENT)
            continue;
        const float *g = h->tensors[i].tensor.data;
        for (size_t k = 0; k < h->counts[i]; k++)
            sum[k] = h->summed ? sum[k] + weight * g[k] : weight * g[k];
        sum += h->counts[i];
    }
    h->summed = true;
    return CW_OK;
}

static cw_status sum_replace(cw_half *half, float scale, cw_error *err)
{
    own_half *h = self(half);
    if (!h->summed)
        return cwi_fail(err, CW_ERR_INVALID, "there is no sum of gradients");
    for (size_t i = 0; i < half->weights; i++)
        h->sum[i] *= scale;
    return put(half, CW_HALF_GRADIENT, h->sum, err);
}

/* ---- nothing absurd ---- */

static cw_status gradient_peak(cw_half *half, float *peak, cw_error *err)
{
    const own_half *h = self(half);
    (void)err;
    *peak = 0;
    for (size_t i = 0; i < h->does.tensor_count; i++)
        if (h->tensors[i].kind == CW_HALF_GRADIENT)
            *peak = fmaxf(*peak, cwi_peak(h->tensors[i].tensor.data, h->counts[i]));
    return CW_OK;
}

static cw_status check_finite(cw_half *half, cw_error *err)
{
    own_half *h = self(half);
    CWI_TRY(fetch(h, CW_HALF_WEIGHT, err));
    CWI_TRY(fetch(h, CW_HALF_BUFFER, err));
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        const cw_half_kind kind = h->tensors[i].kind;
        if ((kind == CW_HALF_WEIGHT || kind == CW_HALF_BUFFER) &&
            isinf(cwi_peak(h->tensors[i].tensor.data, h->counts[i])))
            return cwi_fail(err, CW_ERR_DIVERGED, "'%s' holds NaN or infinity: training has diverged",
                            h->tensors[i].name);
    }
    return CW_OK;
}

static bool is_variance(const char *name)
{
    static const char end[] = "running_var";
    const size_t n = strlen(name);
    return n >= sizeof end - 1 && strcmp(name + n - (sizeof end - 1), end) == 0;
}

static cw_status check_buffers(const cw_half *half, const float *flat, float limit, cw_error *err)
{
    const own_half *h = (const own_half *)(const void *)half;
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        if (h->tensors[i].kind != CW_HALF_BUFFER)
            continue;
        const float low = is_variance(h->tensors[i].name) ? 0 : -limit;
        for (size_t k = 0; k < h->counts[i]; k++)
            if (!(flat[k] >= low && flat[k] <= limit))
                return cwi_fail(err, CW_ERR_DIVERGED, "'%s' holds %g", h->tensors[i].name, (double)flat[k]);
        flat += h->counts[i];
    }
    return CW_OK;
}

/* ---- state ---- */

static bool is_model(cw_half_kind kind)
{
    return kind == CW_HALF_WEIGHT || kind == CW_HALF_BUFFER || kind == CW_HALF_FIXED;
}

static bool is_wanted(cw_half_kind kind, unsigned what)
{
    return is_model(kind) ? what & CWI_STATE_MODEL : kind == CW_HALF_STATE && what & CWI_STATE_OPTIMIZER;
}

static void state_name(const cw_half_tensor *t, char *name, size_t size)
{
    snprintf(name, size, "%s%s", t->kind == CW_HALF_STATE ? STATE_PREFIX : "", t->name);
}

static cw_status fetch_all(own_half *h, cw_error *err)
{
    CWI_TRY(fetch(h, CW_HALF_WEIGHT, err));
    CWI_TRY(fetch(h, CW_HALF_BUFFER, err));
    CWI_TRY(fetch(h, CW_HALF_FIXED, err));
    return fetch(h, CW_HALF_STATE, err);
}

static cw_status export_tensor(cwi_state *state, const char *name, const cw_tensor *t, cw_error *err)
{
    size_t count;
    void *data;
    CWI_TRY(cw_shape_count(&t->shape, &count));
    CWI_TRY(cwi_state_add(state, name, t->dtype, &t->shape, &data, err));
    if (count)
        memcpy(data, t->data, count * cw_dtype_size(t->dtype));
    return CW_OK;
}

/* State that comes into being as training goes on. */
static cw_status export_listed(own_half *h, cwi_state *state, cw_error *err)
{
    const cw_half_tensor *listed = NULL;
    size_t count = 0;
    CWI_TRY(h->does.list_state(h->ctx, &listed, &count, err));
    for (size_t i = 0; i < count; i++) {
        char name[sizeof((cw_named_tensor *)0)->name];
        const int length = snprintf(name, sizeof name, STATE_PREFIX "%s", listed[i].name ? listed[i].name : "");
        if (!listed[i].name || length >= (int)sizeof name || !cw_dtype_size(listed[i].tensor.dtype))
            return cwi_fail(err, CW_ERR_INVALID, "half: state '%.100s' has no name, a long one, or no dtype",
                            listed[i].name ? listed[i].name : "");
        CWI_TRY(export_tensor(state, name, &listed[i].tensor, err));
    }
    return CW_OK;
}

static cw_status export_state(cw_half *half, unsigned what, cwi_state *state, cw_error *err)
{
    own_half *h = self(half);
    CWI_TRY(fetch_all(h, err));
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        const cw_half_tensor *t = &h->tensors[i];
        char name[160];
        if (!is_wanted(t->kind, what))
            continue;
        state_name(t, name, sizeof name);
        CWI_TRY(export_tensor(state, name, &t->tensor, err));
    }
    return what & CWI_STATE_OPTIMIZER && h->does.list_state ? export_listed(h, state, err) : CW_OK;
}

static cw_status find_tensor(const cw_half_tensor *own, const cw_tensor_set *set, const cw_tensor **out, cw_error *err)
{
    char name[160], want[64], have[64];
    state_name(own, name, sizeof name);
    const cw_tensor *t = *out = cw_tensor_set_find(set, name);
    if (!t && own->kind == CW_HALF_FIXED)
        return CW_OK; /* other engines do not know of it */
    if (!t)
        return cwi_fail(err, CW_ERR_NOT_FOUND, "there is no tensor '%s', which this half needs", name);
    if (t->dtype != own->tensor.dtype || !cw_shape_equal(&t->shape, &own->tensor.shape))
        return cwi_fail(err, CW_ERR_MISMATCH, "tensor '%s' is %s %s, this half needs %s %s", name,
                        cw_dtype_name(t->dtype), cw_shape_format(&t->shape, have, sizeof have),
                        cw_dtype_name(own->tensor.dtype), cw_shape_format(&own->tensor.shape, want, sizeof want));
    return CW_OK;
}

static bool is_listed(const own_half *h, const char *name)
{
    for (size_t i = 0; i < h->does.tensor_count; i++)
        if (h->tensors[i].kind == CW_HALF_STATE && strcmp(h->tensors[i].name, name) == 0)
            return false;
    return true;
}

static cw_status import_listed(own_half *h, const cw_tensor_set *set, cw_error *err)
{
    const size_t prefix = sizeof STATE_PREFIX - 1;
    cw_named_tensor *items = cwi_calloc(set->count, sizeof *items);
    size_t count = 0;
    if (!items)
        return cwi_fail_memory(err, set->count * sizeof *items);
    for (size_t i = 0; i < set->count; i++) {
        const cw_named_tensor *t = &set->items[i];
        if (strncmp(t->name, STATE_PREFIX, prefix) != 0 || !is_listed(h, t->name + prefix))
            continue;
        snprintf(items[count].name, sizeof items->name, "%s", t->name + prefix);
        items[count++].tensor = t->tensor;
    }
    const cw_status status = h->does.take_state(h->ctx, items, count, err);
    cwi_free(items);
    return status;
}

static cw_status store_model(own_half *h, cw_error *err)
{
    CWI_TRY(store(h, CW_HALF_WEIGHT, err));
    CWI_TRY(store(h, CW_HALF_BUFFER, err));
    return store(h, CW_HALF_FIXED, err);
}

/* Checks all before it changes any. */
static cw_status import_parts(own_half *h, unsigned what, const cw_tensor_set *set, cw_error *err)
{
    const cw_tensor *t;
    for (size_t i = 0; i < h->does.tensor_count; i++)
        if (is_wanted(h->tensors[i].kind, what))
            CWI_TRY(find_tensor(&h->tensors[i], set, &t, err));
    CWI_TRY(fetch(h, CW_HALF_FIXED, err)); /* one that is missing stays as it is */
    for (size_t i = 0; i < h->does.tensor_count; i++) {
        if (!is_wanted(h->tensors[i].kind, what))
            continue;
        CWI_TRY(find_tensor(&h->tensors[i], set, &t, err));
        if (t)
            memcpy(h->tensors[i].tensor.data, t->data, h->counts[i] * cw_dtype_size(t->dtype));
    }
    CWI_TRY(store_model(h, err));
    if (!(what & CWI_STATE_OPTIMIZER))
        return CW_OK;
    CWI_TRY(store(h, CW_HALF_STATE, err));
    return h->does.take_state ? import_listed(h, set, err) : CW_OK;
}

static cw_status import_state(cw_half *half, const cw_tensor_set *set, cw_error *err)
{
    return import_parts(self(half), CWI_STATE_ALL, set, err);
}

static cw_status import_weights(cw_half *half, const cw_tensor_set *set, bool *kept, cw_error *err)
{
    *kept = false;
    return import_parts(self(half), CWI_STATE_MODEL, set, err);
}

/* ---- life ---- */

static void free_half(own_half *h)
{
    for (size_t i = 0; h->tensors && i < h->does.tensor_count; i++)
        cwi_free((char *)(uintptr_t)h->tensors[i].name);
    cwi_free(h->tensors);
    cwi_free(h->counts);
    cwi_free(h->sum);
    cwi_free(h);
}

static void destroy(cw_half *half)
{
    own_half *h = self(half);
    if (h->does.destroy)
        h->does.destroy(h->ctx);
    free_half(h);
}

static const cwi_half_ops own_ops = {
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .release = release,
    .step = step,
    .get = get,
    .put = put,
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
    .output = output,
    .rate = rate,
};

static bool name_is_taken(const own_half *h, size_t i, const cw_half_tensor *t)
{
    for (size_t k = 0; k < i; k++)
        if (h->tensors[k].kind == t->kind && strcmp(h->tensors[k].name, t->name) == 0)
            return true;
    return false;
}

static cw_status take_tensor(own_half *h, size_t i, const cw_half_tensor *t, cw_error *err)
{
    const size_t longest = sizeof((cw_named_tensor *)0)->name - sizeof "state.";
    const bool state = t->kind == CW_HALF_STATE;
    if (!t->name || !*t->name || strlen(t->name) > longest)
        return cwi_fail(err, CW_ERR_INVALID, "half: tensor %zu has no name, or one of over %zu characters", i, longest);
    if (name_is_taken(h, i, t))
        return cwi_fail(err, CW_ERR_INVALID, "half: there are two tensors '%s' of one kind", t->name);
    const bool free_dtype = t->kind == CW_HALF_FIXED && cw_dtype_size(t->tensor.dtype);
    if (t->tensor.dtype != CW_F32 && !(state && t->tensor.dtype == CW_I64) && !free_dtype)
        return cwi_fail(err, CW_ERR_INVALID, "half: tensor '%s' is %s: weights, gradients and buffers are f32", t->name,
                        cw_dtype_name(t->tensor.dtype));
    if (cw_shape_count(&t->tensor.shape, &h->counts[i]) != CW_OK || (h->counts[i] && !t->tensor.data))
        return cwi_fail(err, CW_ERR_INVALID, "half: tensor '%s' has no memory, or no shape", t->name);
    h->tensors[i] = *t;
    h->tensors[i].name = cwi_strdup(t->name);
    if (!h->tensors[i].name)
        return cwi_fail_memory(err, strlen(t->name));
    h->base.weights += t->kind == CW_HALF_WEIGHT ? h->counts[i] : 0;
    h->base.buffers += t->kind == CW_HALF_BUFFER ? h->counts[i] : 0;
    if (t->kind == CW_HALF_WEIGHT || t->kind == CW_HALF_BUFFER)
        h->base.fingerprint =
            cwi_half_fingerprint_add(h->base.fingerprint, t->kind, t->name, t->tensor.dtype, &t->tensor.shape);
    return CW_OK;
}

/* The next tensor of a kind from i on; tensor_count when there is none. */
static size_t next_of(const own_half *h, cw_half_kind kind, size_t i)
{
    while (i < h->does.tensor_count && h->tensors[i].kind != kind)
        i++;
    return i;
}

/* Weights and gradients go in pairs. */
static cw_status check_pairs(const own_half *h, cw_error *err)
{
    const size_t end = h->does.tensor_count;
    size_t w = next_of(h, CW_HALF_WEIGHT, 0), g = next_of(h, CW_HALF_GRADIENT, 0);
    while (w < end && g < end && strcmp(h->tensors[w].name, h->tensors[g].name) == 0 &&
           cw_shape_equal(&h->tensors[w].tensor.shape, &h->tensors[g].tensor.shape)) {
        w = next_of(h, CW_HALF_WEIGHT, w + 1);
        g = next_of(h, CW_HALF_GRADIENT, g + 1);
    }
    if (w == end && g == end)
        return CW_OK;
    return cwi_fail(err, CW_ERR_INVALID,
                    "half: weights and gradients must have the same names and shapes in the same order ('%s' has none)",
                    h->tensors[w < end ? w : g].name);
}

static cw_status fill(own_half *h, const cw_half_callbacks *does, cw_error *err)
{
    h->tensors = cwi_calloc(does->tensor_count, sizeof *h->tensors);
    h->counts = cwi_calloc(does->tensor_count, sizeof *h->counts);
    if (!h->tensors || !h->counts)
        return cwi_fail_memory(err, does->tensor_count * sizeof *h->tensors);
    for (size_t i = 0; i < does->tensor_count; i++)
        CWI_TRY(take_tensor(h, i, &does->tensors[i], err));
    CWI_TRY(check_pairs(h, err));
    h->base.in = does->in;
    h->base.out = does->out;
    h->base.tickets = does->tickets;
    h->base.behind_relu = does->behind_relu;
    h->base.input_grad = true;
    h->base.any_targets = does->any_targets;
    h->base.state_prefix = STATE_PREFIX;
    return cwi_half_settle(&h->base, err);
}

cw_status cw_half_create(const cw_half_callbacks *callbacks, void *ctx, cw_half **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!callbacks || !out || !callbacks->forward || !callbacks->backward || !callbacks->step ||
        (callbacks->tensor_count && !callbacks->tensors))
        return cwi_fail(err, CW_ERR_INVALID, "half: forward, backward and step are needed, and somewhere to put it");
    if (!callbacks->list_state != !callbacks->take_state)
        return cwi_fail(err, CW_ERR_INVALID, "half: list_state and take_state come together");
    own_half *h = cwi_calloc(1, sizeof *h);
    if (!h)
        return cwi_fail_memory(err, sizeof *h);
    h->base.ops = &own_ops;
    h->does = *callbacks;
    h->ctx = ctx;
    const cw_status status = fill(h, callbacks, err);
    h->does.tensors = NULL; /* the caller's */
    if (status != CW_OK) {
        free_half(h);
        return status;
    }
    *out = &h->base;
    return CW_OK;
}
