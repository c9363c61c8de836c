/* weights.c - a part's parameters as flat vectors and named tensors. */
#include <stdio.h>
#include <string.h>

#include "nn/part.h"

size_t cw_part_param_count(const cw_part *part)
{
    return part->params.count;
}

cw_param cw_part_param(const cw_part *part, size_t i)
{
    if (i >= part->params.count)
        return (cw_param){0};
    const cwi_param *p = &part->params.items[i];
    return (cw_param){.name = p->name,
                      .shape = p->shape,
                      .count = p->count,
                      .trainable = p->trainable,
                      .frozen = p->trainable && p->layer->frozen};
}

size_t cw_part_trainable_size(const cw_part *part)
{
    return part->params.trainable_size;
}

size_t cw_part_buffer_size(const cw_part *part)
{
    return part->params.buffer_size;
}

/* ---- flat vectors ---- */

typedef enum cwi_what { VALUES, GRADS } cwi_what;

static void export_flat(const cw_part *part, bool trainable, cwi_what what, float *flat)
{
    int before = cwi_threads_enter(part->threads);
    for (size_t i = 0; i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        const void *home = what == GRADS ? p->grad : p->value;
        if (p->trainable != trainable || !home)
            continue;
        cwi_param_export(&part->params, p, home, flat);
        flat += p->count;
    }
    cwi_threads_leave(before);
}

static void import_flat(cw_part *part, bool trainable, cwi_what what, const float *flat)
{
    int before = cwi_threads_enter(part->threads);
    for (size_t i = 0; i < part->params.count; i++) {
        cwi_param *p = &part->params.items[i];
        void *home = what == GRADS ? p->grad : p->value;
        if (p->trainable != trainable || !home)
            continue;
        cwi_param_import(&part->params, p, flat, home);
        p->version += what == VALUES;
        flat += p->count;
    }
    cwi_threads_leave(before);
}

void cw_part_export_weights(const cw_part *part, float *flat)
{
    export_flat(part, true, VALUES, flat);
}

void cw_part_import_weights(cw_part *part, const float *flat)
{
    import_flat(part, true, VALUES, flat);
}

void cw_part_export_buffers(const cw_part *part, float *flat)
{
    export_flat(part, false, VALUES, flat);
}

void cw_part_import_buffers(cw_part *part, const float *flat)
{
    import_flat(part, false, VALUES, flat);
}

void cw_part_export_grads(const cw_part *part, float *flat)
{
    export_flat(part, true, GRADS, flat);
}

void cw_part_import_grads(cw_part *part, const float *flat)
{
    import_flat(part, true, GRADS, flat);
}

/* ---- named tensors ---- */

cw_status cw_part_state_export(const cw_part *part, cw_named_tensor **items, size_t *count, cw_error *err)
{
    if (!part || !items || !count)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_state_export: NULL argument");
    *items = NULL;
    *count = 0;
    size_t total = part->params.count;
    cw_named_tensor *list = cwi_calloc(total, sizeof *list);
    if (!list)
        return cwi_fail_memory(err, total * sizeof *list);
    int before = cwi_threads_enter(part->threads);
    cw_status s = CW_OK;
    for (size_t i = 0; i < total && s == CW_OK; i++) {
        const cwi_param *p = &part->params.items[i];
        snprintf(list[i].name, sizeof list[i].name, "%s", p->name);
        s = cw_tensor_alloc(&list[i].tensor, CW_F32, &p->shape);
        if (s == CW_OK)
            cwi_param_export(&part->params, p, p->value, list[i].tensor.data);
    }
    cwi_threads_leave(before);
    if (s != CW_OK) {
        cw_named_tensors_free(list, total);
        return cwi_fail(err, s, "cannot export the weights: %s", cw_status_message(s));
    }
    *items = list;
    *count = total;
    return CW_OK;
}

/* Whether the tensor is the model's classifier for another number of classes. */
static bool other_classes(const cw_part *part, const cwi_param *p, const cw_tensor *t)
{
    if (p->layer != &part->model->layers[part->model->layer_count - 1] || t->shape.ndim != p->shape.ndim)
        return false;
    cw_shape alike = t->shape;
    alike.dim[0] = p->shape.dim[0];
    return cw_shape_equal(&alike, &p->shape) && t->shape.dim[0] != p->shape.dim[0];
}

static cw_status check_tensor(const cw_part *part, const cwi_param *p, const cw_tensor *t, cw_error *err)
{
    char want[64], have[64];
    if (!t)
        return cwi_fail(err, CW_ERR_NOT_FOUND, "weights: there is no tensor '%s', which model %s needs", p->name,
                        part->model->name);
    if (t->dtype != CW_F32 || !cw_shape_equal(&t->shape, &p->shape))
        return cwi_fail(err, CW_ERR_MISMATCH, "weights: tensor '%s' is %s %s, model %s needs f32 %s", p->name,
                        cw_dtype_name(t->dtype), cw_shape_format(&t->shape, have, sizeof have), part->model->name,
                        cw_shape_format(&p->shape, want, sizeof want));
    return CW_OK;
}

/* Checks all before it changes any. With `kept`, another number of classes is allowed and told, and a bottleneck that
 * the file has not stays as it was initialized. */
static cw_status import_state(cw_part *part, const cw_tensor_set *set, bool *kept, cw_error *err)
{
    for (size_t i = 0; i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        const cw_tensor *t = cw_tensor_set_find(set, p->name);
        if (kept && t && other_classes(part, p, t))
            *kept = true;
        else if (!(kept && !t && p->layer->inserted))
            CWI_TRY(check_tensor(part, p, t, err));
    }
    int before = cwi_threads_enter(part->threads);
    for (size_t i = 0; i < part->params.count; i++) {
        cwi_param *p = &part->params.items[i];
        const cw_tensor *t = cw_tensor_set_find(set, p->name);
        if (!t || !cw_shape_equal(&t->shape, &p->shape))
            continue;
        cwi_param_import(&part->params, p, t->data, p->value);
        p->version++;
    }
    cwi_threads_leave(before);
    return CW_OK;
}

cw_status cw_part_state_import(cw_part *part, const cw_tensor_set *set, cw_error *err)
{
    if (!part || !set)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_state_import: NULL argument");
    return import_state(part, set, NULL, err);
}

cw_status cw_part_weights_import(cw_part *part, const cw_tensor_set *set, bool *kept, cw_error *err)
{
    if (!part || !set || !kept)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_weights_import: NULL argument");
    *kept = false;
    return import_state(part, set, kept, err);
}
