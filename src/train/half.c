/* half.c - one half of the network, or the whole, with its optimizer; its state as named tensors. */
#include <stdio.h>
#include <string.h>

#include "train/setup.h"

/* Batch norm's biases of a client whose gradients are coded learn at the common rate at most: the noise drives faster
 * ones away (docs/notebook/training.md). */
static float bias_lr_of(const cwi_setup *setup, size_t first, size_t last)
{
    const float given = (float)setup->config.bias_lr;
    const bool client = first == 0 && last < cw_model_layer_count(setup->model);
    return client && (cwi_is_coded(setup->down) || cwi_is_coded(setup->update)) ? CWI_MIN(given, 1.0f) : given;
}

cw_status cwi_half_open(const cwi_setup *setup, size_t first, size_t last, size_t max_batch, cwi_half *half,
                        cw_error *err)
{
    const cw_config *config = &setup->config;
    memset(half, 0, sizeof *half);
    half->first = first;
    half->last = last;
    cw_precision precision;
    cw_init init;
    CWI_TRY(cw_precision_parse(config->precision, &precision, err));
    CWI_TRY(cw_init_parse(config->init, &init, err));
    cw_part_options options = {.max_batch = max_batch,
                               .seed = config->seed,
                               .init = init,
                               .threads = cwi_engine_threads(config),
                               .input_grad = first > 0,
                               .label_smoothing = (float)config->label_smoothing,
                               .precision = precision};
    cw_optimizer_options o = {.momentum = (float)config->momentum,
                              .weight_decay = (float)config->weight_decay,
                              .nesterov = config->nesterov,
                              .bias_lr = bias_lr_of(setup, first, last)};
    CWI_TRY(cw_optimizer_parse(config->optimizer, &o.kind, err));
    CWI_TRY(cw_part_create(setup->model, first, last, &options, &half->part, err));
    half->trainable = cw_part_trainable_size(half->part);
    half->buffers = cw_part_buffer_size(half->part);
    half->flat = cwi_calloc(CWI_MAX(half->trainable, half->buffers), sizeof(float));
    cw_status status = half->flat ? cw_optimizer_create(half->part, &o, &half->optimizer, err)
                                  : cwi_fail_memory(err, half->trainable * sizeof(float));
    if (status != CW_OK)
        cwi_half_close(half);
    return status;
}

void cwi_half_close(cwi_half *half)
{
    cw_optimizer_destroy(&half->optimizer);
    cw_part_destroy(&half->part);
    cwi_free(half->flat);
    memset(half, 0, sizeof *half);
}

static void state_name(const cwi_half *half, const char *what, char *name, size_t size)
{
    snprintf(name, size, "optimizer.%s.%zu-%zu", what, half->first, half->last);
}

cw_tensor cwi_half_vector(const cwi_half *half, float *data)
{
    cw_shape shape = cw_shape_of(3, (int64_t[]){1, 1, (int64_t)half->trainable});
    return cw_tensor_view(CW_F32, &shape, data);
}

static cw_status export_slot(cwi_half *half, size_t slot, cw_named_tensor *item, cw_error *err)
{
    cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)half->trainable});
    state_name(half, cw_optimizer_slot_name(half->optimizer, slot), item->name, sizeof item->name);
    cw_status status = cw_tensor_alloc(&item->tensor, CW_F32, &shape);
    if (status != CW_OK)
        return cwi_fail_memory(err, half->trainable * sizeof(float));
    cw_optimizer_export(half->optimizer, slot, item->tensor.data);
    return CW_OK;
}

static cw_status export_steps(const cwi_half *half, cw_named_tensor *item, cw_error *err)
{
    cw_shape one = cw_shape_of(1, (int64_t[]){1});
    state_name(half, "steps", item->name, sizeof item->name);
    cw_status status = cw_tensor_alloc(&item->tensor, CW_I64, &one);
    if (status != CW_OK)
        return cwi_fail_memory(err, sizeof(int64_t));
    *(int64_t *)item->tensor.data = (int64_t)cw_optimizer_steps(half->optimizer);
    return CW_OK;
}

/* Appends one half's tensors to the state, which takes them over. */
static cw_status append_half(cwi_half *half, cwi_state *state, cw_error *err)
{
    cw_named_tensor *own;
    size_t count, slots = cw_optimizer_slots(half->optimizer);
    CWI_TRY(cw_part_state_export(half->part, &own, &count, err));
    size_t old = state->count * sizeof *own, add = (count + slots + 1) * sizeof *own;
    cw_named_tensor *grown = cwi_realloc(state->items, old, old + add);
    if (!grown) {
        cw_named_tensors_free(own, count);
        return cwi_fail_memory(err, old + add);
    }
    memcpy(grown + state->count, own, count * sizeof *own);
    cwi_free(own);
    state->items = grown;
    state->count += count;
    memset(&grown[state->count], 0, (slots + 1) * sizeof *grown);
    for (size_t slot = 0; slot < slots; slot++) {
        CWI_TRY(export_slot(half, slot, &grown[state->count], err));
        state->count++;
    }
    CWI_TRY(export_steps(half, &grown[state->count], err));
    state->count++;
    return CW_OK;
}

cw_status cwi_halves_export(cwi_half *const *halves, size_t count, cwi_state *state, cw_error *err)
{
    memset(state, 0, sizeof *state);
    for (size_t i = 0; i < count; i++)
        CWI_TRY(append_half(halves[i], state, err));
    return CW_OK;
}

void cwi_state_free(cwi_state *state)
{
    cw_named_tensors_free(state->items, state->count);
    memset(state, 0, sizeof *state);
}

static cw_status fail_missing(const char *name, cw_error *err)
{
    return cwi_fail(err, CW_ERR_MISMATCH,
                    "%s is missing: these weights were trained by another optimizer or cut elsewhere: give the "
                    "same --optimizer, --momentum and --cut",
                    name);
}

static cw_status import_slot(cwi_half *half, size_t slot, const cw_tensor_set *set, cw_error *err)
{
    char name[64];
    state_name(half, cw_optimizer_slot_name(half->optimizer, slot), name, sizeof name);
    const cw_tensor *t = cw_tensor_set_find(set, name);
    if (!t)
        return fail_missing(name, err);
    if (t->dtype != CW_F32 || t->shape.ndim != 1 || t->shape.dim[0] != (int64_t)half->trainable)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: not the %zu floats of this half", name, half->trainable);
    memcpy(half->flat, t->data, half->trainable * sizeof(float));
    cw_optimizer_import(half->optimizer, slot, half->flat);
    return CW_OK;
}

static cw_status import_steps(cwi_half *half, const cw_tensor_set *set, cw_error *err)
{
    char name[64];
    int64_t steps;
    state_name(half, "steps", name, sizeof name);
    const cw_tensor *t = cw_tensor_set_find(set, name);
    if (!t)
        return fail_missing(name, err);
    if (t->dtype != CW_I64 || t->shape.ndim != 1 || t->shape.dim[0] != 1)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: not one whole number", name);
    memcpy(&steps, t->data, sizeof steps);
    if (steps < 0)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: below 0", name);
    cw_optimizer_set_steps(half->optimizer, (uint64_t)steps);
    return CW_OK;
}

cw_status cwi_half_import(cwi_half *half, const cw_tensor_set *set, cw_error *err)
{
    CWI_TRY(cw_part_state_import(half->part, set, err));
    for (size_t slot = 0; slot < cw_optimizer_slots(half->optimizer); slot++)
        CWI_TRY(import_slot(half, slot, set, err));
    return import_steps(half, set, err);
}

cw_status cwi_half_save(cwi_half *half, uint8_t **bytes, size_t *size, cw_error *err)
{
    cwi_state state;
    *bytes = NULL;
    cw_status status = cwi_halves_export(&half, 1, &state, err);
    if (status == CW_OK)
        status = cw_safetensors_encode(state.items, state.count, NULL, bytes, size, err);
    cwi_state_free(&state);
    return status;
}

cw_status cwi_half_load(cwi_half *half, const void *bytes, size_t size, cw_error *err)
{
    cw_tensor_set set;
    CWI_TRY(cw_safetensors_decode(bytes, size, &set, err));
    cw_status status = cwi_half_import(half, &set, err);
    cw_tensor_set_free(&set);
    return status;
}
