/* param.c - making, settling, copying and converting parameters. */
#include <stdio.h>
#include <string.h>

#include "nn/param.h"

/* ---- what parameters a layer has ---- */

static bool layer_has(const cwi_layer *l, cwi_role role)
{
    switch (l->kind) {
    case CWI_CONV:
    case CWI_LINEAR:
        return role == CWI_WEIGHT || (role == CWI_BIAS && l->bias);
    case CWI_EMBED:
        return role == CWI_WEIGHT;
    case CWI_BATCHNORM:
        return true;
    default:
        return false;
    }
}

static cw_shape param_shape(const cwi_layer *l, cwi_role role)
{
    int64_t out = l->out.dim[0], in = l->in.dim[0];
    if (role == CWI_WEIGHT && l->kind == CWI_CONV)
        return (cw_shape){.ndim = 4, .dim = {out, in, l->time ? 1 : l->kernel, l->kernel}};
    if (l->kind == CWI_EMBED)
        return (cw_shape){.ndim = 2, .dim = {l->rows, l->kernel}};
    if (role == CWI_WEIGHT && l->kind == CWI_LINEAR)
        return (cw_shape){.ndim = 2, .dim = {out, in}};
    return (cw_shape){.ndim = 1, .dim = {out}};
}

static cw_status describe(cwi_params *set, const cwi_layer *l, cwi_role role, cw_error *err)
{
    static const char *const suffix[CWI_ROLES] = {"weight", "bias", "running_mean", "running_var"};
    cwi_param *p = &set->items[set->count++];
    *p = (cwi_param){.layer = l, .role = role, .shape = param_shape(l, role), .trainable = role <= CWI_BIAS};
    snprintf(p->name, sizeof p->name, "%s.%s", l->name, suffix[role]);
    if (cw_shape_count(&p->shape, &p->count) != CW_OK)
        return cwi_fail(err, CW_ERR_INVALID, "parameter %s is too large", p->name);
    p->version = 1;
    if (p->trainable)
        set->trainable_size += p->count;
    else
        set->buffer_size += p->count;
    return CW_OK;
}

cw_status cwi_params_create(cwi_params *set, const cw_model *model, size_t first, size_t last, bool gradients,
                            dnnl_engine_t engine, dnnl_stream_t stream, cw_error *err)
{
    *set = (cwi_params){.gradients = gradients, .engine = engine, .stream = stream};
    size_t count = 0;
    for (size_t i = first; i < last; i++) {
        for (int role = 0; role < CWI_ROLES; role++)
            count += layer_has(&model->layers[i], (cwi_role)role);
    }
    set->items = cwi_calloc(count, sizeof *set->items);
    if (!set->items)
        return cwi_fail_memory(err, count * sizeof *set->items);
    for (size_t i = first; i < last; i++) {
        for (int role = 0; role < CWI_ROLES; role++) {
            if (layer_has(&model->layers[i], (cwi_role)role))
                CWI_TRY(describe(set, &model->layers[i], (cwi_role)role, err));
        }
    }
    return CW_OK;
}

static void free_copy(cwi_copy *c)
{
    if (c->reorder)
        dnnl_primitive_destroy(c->reorder);
    if (c->from)
        dnnl_memory_destroy(c->from);
    if (c->to)
        dnnl_memory_destroy(c->to);
    if (c->data != c->param->value)
        cwi_free(c->data);
    cwi_free(c);
}

static void free_param(cwi_param *p)
{
    while (p->copies) {
        cwi_copy *next = p->copies->next;
        free_copy(p->copies);
        p->copies = next;
    }
    if (p->to_plain)
        dnnl_primitive_destroy(p->to_plain);
    if (p->from_plain)
        dnnl_primitive_destroy(p->from_plain);
    if (p->home_mem)
        dnnl_memory_destroy(p->home_mem);
    if (p->plain_mem)
        dnnl_memory_destroy(p->plain_mem);
    cwi_free(p->value);
    cwi_free(p->grad);
    cwi_free(p->sum);
}

void cwi_params_destroy(cwi_params *set)
{
    for (size_t i = 0; i < set->count; i++)
        free_param(&set->items[i]);
    cwi_free(set->items);
    *set = (cwi_params){0};
}

cwi_param *cwi_params_find(cwi_params *set, const cwi_layer *layer, cwi_role role)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->items[i].layer == layer && set->items[i].role == role)
            return &set->items[i];
    }
    return NULL;
}

/* ---- copies ---- */

cw_status cwi_param_use(cwi_param *param, const cwi_md *md, cwi_copy **out, cw_error *err)
{
    for (cwi_copy *c = param->copies; c; c = c->next) {
        if (cwi_md_equal(&c->md, md)) {
            *out = c;
            return CW_OK;
        }
    }
    cwi_copy *c = cwi_calloc(1, sizeof *c);
    if (!c)
        return cwi_fail_memory(err, sizeof *c);
    c->param = param;
    c->md = *md;
    c->next = param->copies;
    param->copies = c;
    *out = c;
    return CW_OK;
}

static cw_status settle_copy(cwi_params *set, cwi_copy *c, cw_error *err)
{
    cwi_param *p = c->param;
    if (c->data)
        return CW_OK;
    if (cwi_md_equal(&c->md, &p->home)) {
        c->data = p->value;
        return CW_OK;
    }
    CWI_TRY(cwi_reorder_create(set->engine, &p->home, &c->md, &c->reorder, err));
    c->data = cwi_calloc(1, cwi_md_bytes(&c->md));
    if (!c->data)
        return cwi_fail_memory(err, cwi_md_bytes(&c->md));
    CWI_DNNL(dnnl_memory_create(&c->from, &p->home, set->engine, p->value), err);
    CWI_DNNL(dnnl_memory_create(&c->to, &c->md, set->engine, c->data), err);
    return CW_OK;
}

cw_status cwi_copy_refresh(cwi_copy *copy, dnnl_stream_t stream, cw_error *err)
{
    if (!copy->reorder || copy->version == copy->param->version)
        return CW_OK;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, copy->from}, {DNNL_ARG_TO, copy->to}};
    CWI_DNNL(dnnl_primitive_execute(copy->reorder, stream, 2, args), err);
    CWI_DNNL(dnnl_stream_wait(stream), err);
    copy->version = copy->param->version;
    return CW_OK;
}

/* ---- homes ---- */

static cw_status settle_home(cwi_params *set, cwi_param *p, cw_error *err)
{
    cwi_md plain = cwi_md_plain(&p->shape, 0, dnnl_f32);
    if (cwi_md_empty(&p->home))
        p->home = plain;
    size_t bytes = cwi_md_bytes(&p->home);
    p->stored = bytes / sizeof(float);
    p->value = cwi_calloc(1, bytes);
    if (!p->value)
        return cwi_fail_memory(err, bytes);
    if (set->gradients && p->trainable) {
        p->grad = cwi_calloc(1, bytes);
        if (!p->grad)
            return cwi_fail_memory(err, bytes);
    }
    if (cwi_md_equal(&p->home, &plain))
        return CW_OK;
    CWI_TRY(cwi_reorder_create(set->engine, &p->home, &plain, &p->to_plain, err));
    CWI_TRY(cwi_reorder_create(set->engine, &plain, &p->home, &p->from_plain, err));
    CWI_DNNL(dnnl_memory_create(&p->home_mem, &p->home, set->engine, DNNL_MEMORY_NONE), err);
    CWI_DNNL(dnnl_memory_create(&p->plain_mem, &plain, set->engine, DNNL_MEMORY_NONE), err);
    return CW_OK;
}

cw_status cwi_params_settle(cwi_params *set, cw_error *err)
{
    for (size_t i = 0; i < set->count; i++) {
        cwi_param *p = &set->items[i];
        cw_status s = p->value ? CW_OK : settle_home(set, p, err);
        for (cwi_copy *c = p->copies; s == CW_OK && c; c = c->next)
            s = settle_copy(set, c, err);
        if (s != CW_OK)
            return cwi_fail_prefix(err, s, "parameter %s", p->name);
    }
    return CW_OK;
}

/* Runs a reorder between home and canonical order. These two cannot fail: handles are valid and shapes fixed. */
static void convert(const cwi_params *set, const cwi_param *p, dnnl_primitive_t reorder, bool outward)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, outward ? p->home_mem : p->plain_mem},
                              {DNNL_ARG_TO, outward ? p->plain_mem : p->home_mem}};
    (void)dnnl_primitive_execute(reorder, set->stream, 2, args);
    (void)dnnl_stream_wait(set->stream);
}

/* oneDNN takes every handle as writable. */
static void *writable(const void *p)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p};
    return u.out;
}

void cwi_param_export(const cwi_params *set, const cwi_param *param, const void *home, float *plain)
{
    if (!param->to_plain) {
        memcpy(plain, home, param->count * sizeof(float));
        return;
    }
    (void)dnnl_memory_set_data_handle(param->home_mem, writable(home));
    (void)dnnl_memory_set_data_handle(param->plain_mem, plain);
    convert(set, param, param->to_plain, true);
}

void cwi_param_import(const cwi_params *set, const cwi_param *param, const float *plain, void *home)
{
    if (!param->from_plain) {
        memcpy(home, plain, param->count * sizeof(float));
        return;
    }
    (void)dnnl_memory_set_data_handle(param->home_mem, home);
    (void)dnnl_memory_set_data_handle(param->plain_mem, writable(plain));
    convert(set, param, param->from_plain, false);
}
