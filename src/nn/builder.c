/* builder.c - appending layers to a model, with their shapes. */
#include <stdio.h>
#include <string.h>

#include "nn/graph.h"

cw_shape cwi_build_shape(const cwi_builder *b)
{
    return b->last == CWI_INPUT ? b->model->options.sample : b->model->layers[b->last].out;
}

/* Room for one more item; false (and a recorded failure) when there is no memory. */
static bool grow(cwi_builder *b, void **items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? 2 * *capacity : 32;
    void *bigger = cwi_realloc(*items, count * size, wanted * size);
    if (!bigger) {
        b->status = cwi_fail_memory(b->err, wanted * size);
        return false;
    }
    *items = bigger;
    *capacity = wanted;
    return true;
}

/* A new layer that reads b->last and keeps its shape; NULL after a failure. */
static cwi_layer *append(cwi_builder *b, cwi_layer_kind kind, const char *name)
{
    cw_model *m = b->model;
    void *items = m->layers;
    if (b->status != CW_OK || !grow(b, &items, m->layer_count, &m->layer_capacity, sizeof(cwi_layer)))
        return NULL;
    m->layers = items;
    cwi_layer *l = &m->layers[m->layer_count];
    *l = (cwi_layer){.kind = kind, .from = b->last, .skip = CWI_INPUT, .in = cwi_build_shape(b)};
    l->out = l->in;
    snprintf(l->name, sizeof l->name, "%s", name);
    b->last = (int)m->layer_count++;
    return l;
}

static int64_t pooled(int64_t side, int kernel, int stride, int pad)
{
    return (side + 2 * pad - kernel) / stride + 1;
}

static void window(cwi_builder *b, cwi_layer *l, int64_t channels, int kernel, int stride, int pad)
{
    l->kernel = kernel;
    l->stride = stride;
    l->pad = pad;
    int64_t h = l->time ? 1 : pooled(l->in.dim[1], kernel, stride, pad), w = pooled(l->in.dim[2], kernel, stride, pad);
    if (l->in.ndim != 3 || h < 1 || w < 1)
        b->status = cwi_fail(b->err, CW_ERR_INVALID, "model %s: layer %s: the sample is too small for it",
                             b->model->name, l->name);
    l->out = (cw_shape){.ndim = 3, .dim = {channels, h, w}};
}

void cwi_build_conv(cwi_builder *b, const char *name, int channels, int kernel, int stride, int pad, bool bias)
{
    cwi_layer *l = append(b, CWI_CONV, name);
    if (!l)
        return;
    l->bias = bias;
    window(b, l, channels, kernel, stride, pad);
    b->model->convolutions++;
}

void cwi_build_batchnorm(cwi_builder *b, const char *name)
{
    append(b, CWI_BATCHNORM, name);
}

void cwi_build_activation(cwi_builder *b, const char *name)
{
    cwi_layer *l = append(b, CWI_ACTIVATION, name);
    if (l)
        l->activation = b->model->activation;
}

void cwi_build_maxpool(cwi_builder *b, const char *name, int kernel, int stride, int pad)
{
    cwi_layer *l = append(b, CWI_MAXPOOL, name);
    if (l)
        window(b, l, l->in.dim[0], kernel, stride, pad);
}

void cwi_build_conv_time(cwi_builder *b, const char *name, int channels, int kernel)
{
    cwi_layer *l = append(b, CWI_CONV, name);
    if (!l)
        return;
    l->time = true;
    window(b, l, channels, kernel, 1, kernel / 2);
    b->model->convolutions++;
}

void cwi_build_max_time(cwi_builder *b, const char *name)
{
    cwi_layer *l = append(b, CWI_MAXPOOL, name);
    if (!l)
        return;
    l->time = true;
    window(b, l, l->in.dim[0], (int)l->in.dim[2], 1, 0);
}

void cwi_build_embed(cwi_builder *b, const char *name, int dim)
{
    cwi_layer *l = append(b, CWI_EMBED, name);
    if (!l)
        return;
    const cwi_input *in = &b->model->input;
    l->kernel = dim;
    l->deviation = 0.1f;
    l->rows = in->vocabulary;
    for (int f = 0; f < in->field_count; f++)
        l->rows += in->fields[f];
    if (in->kind == CWI_TOKENS)
        l->out = (cw_shape){.ndim = 3, .dim = {dim, 1, l->in.dim[0]}};
    else
        l->out = (cw_shape){.ndim = 1, .dim = {in->numeric + in->field_count * dim}};
}

void cwi_build_avgpool(cwi_builder *b, const char *name)
{
    cwi_layer *l = append(b, CWI_AVGPOOL, name);
    if (l)
        l->out = (cw_shape){.ndim = 3, .dim = {l->in.dim[0], 1, 1}};
}

void cwi_build_add(cwi_builder *b, const char *name, int skip)
{
    cwi_layer *l = append(b, CWI_ADD, name);
    if (l)
        l->skip = skip;
}

void cwi_build_flatten(cwi_builder *b, const char *name)
{
    cwi_layer *l = append(b, CWI_FLATTEN, name);
    if (l)
        l->out = (cw_shape){.ndim = 1, .dim = {l->in.dim[0] * l->in.dim[1] * l->in.dim[2]}};
}

void cwi_build_linear(cwi_builder *b, const char *name, int features, bool output)
{
    cwi_layer *l = append(b, CWI_LINEAR, name);
    if (!l)
        return;
    l->bias = true;
    l->output = output;
    l->deviation = b->linear_deviation;
    l->out = (cw_shape){.ndim = 1, .dim = {features}};
}

void cwi_build_dropout(cwi_builder *b, const char *name, float rate)
{
    cwi_layer *l = append(b, CWI_DROPOUT, name);
    if (l)
        l->rate = rate;
}

void cwi_build_cut(cwi_builder *b, int number, const char *alias)
{
    cw_model *m = b->model;
    void *items = m->cuts;
    if (b->status != CW_OK || !grow(b, &items, m->cut_count, &m->cut_capacity, sizeof(cwi_cut_point)))
        return;
    m->cuts = items;
    m->cuts[m->cut_count++] = (cwi_cut_point){.number = number, .layer = (size_t)b->last + 1, .alias = alias};
}

bool cwi_build_needs_image(cwi_builder *b, int64_t side)
{
    const cw_shape *s = &b->model->options.sample;
    if (b->model->input.kind == CWI_IMAGE && s->ndim == 3 && s->dim[1] >= side && s->dim[2] >= side)
        return true;
    char text[64];
    b->status =
        cwi_fail(b->err, CW_ERR_INVALID,
                 "model %s: takes images of C,H,W with sides of at least %d, the sample is %s (%s): choose data of "
                 "images, or say --input image --sample CxHxW",
                 b->model->name, (int)side, cw_shape_format(s, text, sizeof text), cwi_input_name(&b->model->input));
    return false;
}
