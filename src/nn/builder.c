/* builder.c - appending layers to a model, with their shapes: a layer that does not fit is the builder's failure, which
 * cw_model_build tells. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cutwire/model.h"
#include "nn/graph.h"

enum {
    MAX_CHANNELS = 1 << 16,
    MAX_FEATURES = 1 << 20,
    MAX_WINDOW = 1 << 16,
    MAX_ELEMENTS = 1 << 28, /* of a layer's output */
};

/* ---- failing ---- */

bool cwi_build_failed(const cw_model_builder *b)
{
    return !b || b->status != CW_OK;
}

void cwi_build_fail(cw_model_builder *b, cw_status status, const char *fmt, ...)
{
    char text[sizeof b->error.message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    b->status = cwi_fail(&b->error, status, "model %s: %.300s", b->model->name, text);
}

/* "layer NAME (kind) takes this, what comes is CxHxW: do that". */
static void fail_shape(cw_model_builder *b, const cwi_layer *l, const char *takes, const char *hint)
{
    char text[64];
    cwi_build_fail(b, CW_ERR_INVALID, "layer %s (%s) takes %s, what comes is %s%s", l->name, cwi_layer_kind_name(l),
                   takes, cw_shape_format(&l->in, text, sizeof text), hint);
}

static void check_range(cw_model_builder *b, const cwi_layer *l, const char *what, int value, int low, int high)
{
    if (b->status == CW_OK && (value < low || value > high))
        cwi_build_fail(b, CW_ERR_INVALID, "layer %s: %s %d: give %d to %d", l->name, what, value, low, high);
}

static void check_size(cw_model_builder *b, const cwi_layer *l)
{
    size_t count;
    if (b->status == CW_OK && (cw_shape_count(&l->out, &count) != CW_OK || count > MAX_ELEMENTS))
        cwi_build_fail(b, CW_ERR_INVALID, "layer %s: its output has more than %d elements a sample", l->name,
                       MAX_ELEMENTS);
}

/* ---- names and places ---- */

bool cwi_name_valid(const char *name, size_t longest)
{
    size_t length = 0;
    for (; name && name[length]; length++) {
        const unsigned char c = (unsigned char)name[length];
        if (c >= 0x80 || (!isalnum(c) && !strchr("._-", c)))
            return false;
    }
    return length >= 1 && length <= longest;
}

static bool check_name(cw_model_builder *b, const char *name)
{
    if (!cwi_name_valid(name, CWI_NAME_MAX - 1))
        cwi_build_fail(b, CW_ERR_INVALID,
                       "layer '%.80s': a name is 1 to %d letters, digits, dots, hyphens and underscores",
                       name ? name : "(null)", CWI_NAME_MAX - 1);
    for (size_t i = 0; b->status == CW_OK && i < b->model->layer_count; i++) {
        if (strcmp(b->model->layers[i].name, name) == 0)
            cwi_build_fail(b, CW_ERR_INVALID, "layer %s: there is one of this name already", name);
    }
    return b->status == CW_OK;
}

/* Room for one more item; false (and a recorded failure) when there is no memory. */
static bool grow(cw_model_builder *b, void **items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? 2 * *capacity : 32;
    void *bigger = cwi_realloc(*items, count * size, wanted * size);
    if (!bigger) {
        b->status = cwi_fail_memory(&b->error, wanted * size);
        return false;
    }
    *items = bigger;
    *capacity = wanted;
    return true;
}

cw_shape cw_build_shape(const cw_model_builder *b)
{
    if (!b)
        return (cw_shape){0};
    return b->last == CW_MODEL_INPUT ? b->model->options.sample : b->model->layers[b->last].out;
}

/* A new layer that reads b->last and keeps its shape; NULL after a failure. */
static cwi_layer *append(cw_model_builder *b, cwi_layer_kind kind, const char *name)
{
    if (cwi_build_failed(b) || !check_name(b, name))
        return NULL;
    cw_model *m = b->model;
    void *items = m->layers;
    if (!grow(b, &items, m->layer_count, &m->layer_capacity, sizeof(cwi_layer)))
        return NULL;
    m->layers = items;
    cwi_layer *l = &m->layers[m->layer_count];
    *l = (cwi_layer){.kind = kind, .from = b->last, .skip = CW_NO_LAYER, .in = cw_build_shape(b)};
    l->out = l->in;
    snprintf(l->name, sizeof l->name, "%s", name);
    b->last = (int)m->layer_count++;
    return l;
}

static cwi_layer *append_on_map(cw_model_builder *b, cwi_layer_kind kind, const char *name)
{
    cwi_layer *l = append(b, kind, name);
    if (l && l->in.ndim != 3)
        fail_shape(b, l, "a map of C,H,W", "");
    return b && b->status == CW_OK ? l : NULL;
}

static cwi_layer *append_on_vector(cw_model_builder *b, cwi_layer_kind kind, const char *name)
{
    cwi_layer *l = append(b, kind, name);
    if (l && l->in.ndim != 1)
        fail_shape(b, l, "a vector", ": put cw_build_flatten before it");
    return b && b->status == CW_OK ? l : NULL;
}

int cw_build_last(const cw_model_builder *b)
{
    return cwi_build_failed(b) ? CW_MODEL_INPUT : b->last;
}

static bool is_layer(const cw_model_builder *b, int layer)
{
    return layer == CW_MODEL_INPUT || (layer >= 0 && (size_t)layer < b->model->layer_count);
}

/* ---- windows ---- */

static int64_t pooled(int64_t side, const cwi_layer *l)
{
    return (side + 2 * l->pad - l->kernel) / l->stride + 1;
}

static void window(cw_model_builder *b, cwi_layer *l, int channels, int kernel, int stride, int pad)
{
    l->kernel = kernel;
    l->stride = stride;
    l->pad = pad;
    check_range(b, l, "kernel", kernel, 1, MAX_WINDOW);
    check_range(b, l, "stride", stride, 1, MAX_WINDOW);
    check_range(b, l, "pad", pad, 0, kernel - 1);
    check_range(b, l, "channels", channels, 1, MAX_CHANNELS);
    int64_t height = l->in.dim[1], width = l->in.dim[2], narrow = l->time ? width : CWI_MIN(height, width);
    if (b->status == CW_OK && narrow + 2 * (int64_t)pad < kernel)
        fail_shape(b, l, "maps that its window fits into", ": the sample is too small for it");
    if (b->status == CW_OK)
        l->out = cw_shape_of(3, (int64_t[]){channels, l->time ? 1 : pooled(height, l), pooled(width, l)});
    check_size(b, l);
}

int cw_build_conv(cw_model_builder *b, const char *name, int channels, int kernel, int stride, int pad, bool bias)
{
    cwi_layer *l = append_on_map(b, CWI_CONV, name);
    if (l) {
        l->bias = bias;
        window(b, l, channels, kernel, stride, pad);
    }
    return cw_build_last(b);
}

int cw_build_maxpool(cw_model_builder *b, const char *name, int kernel, int stride, int pad)
{
    cwi_layer *l = append_on_map(b, CWI_MAXPOOL, name);
    if (l)
        window(b, l, (int)l->in.dim[0], kernel, stride, pad);
    return cw_build_last(b);
}

/* A layer over the last axis of maps of height 1. */
static cwi_layer *append_on_time(cw_model_builder *b, cwi_layer_kind kind, const char *name)
{
    cwi_layer *l = append_on_map(b, kind, name);
    if (l && l->in.dim[1] != 1)
        fail_shape(b, l, "a map of C,1,L over time", "");
    if (!l || b->status != CW_OK)
        return NULL;
    l->time = true;
    return l;
}

int cw_build_conv_time(cw_model_builder *b, const char *name, int channels, int kernel)
{
    cwi_layer *l = append_on_time(b, CWI_CONV, name);
    if (l && kernel % 2 == 0)
        cwi_build_fail(b, CW_ERR_INVALID, "layer %s: kernel %d: give an odd one, which has a middle", l->name, kernel);
    else if (l)
        window(b, l, channels, kernel, 1, kernel / 2);
    return cw_build_last(b);
}

int cw_build_max_time(cw_model_builder *b, const char *name)
{
    cwi_layer *l = append_on_time(b, CWI_MAXPOOL, name);
    if (l)
        window(b, l, (int)l->in.dim[0], (int)l->in.dim[2], 1, 0);
    return cw_build_last(b);
}

/* ---- the other layers ---- */

int cw_build_batchnorm(cw_model_builder *b, const char *name)
{
    append(b, CWI_BATCHNORM, name);
    return cw_build_last(b);
}

int cw_build_activation(cw_model_builder *b, const char *name, const char *which)
{
    cwi_layer *l = append(b, CWI_ACTIVATION, name);
    cw_error err;
    if (!l)
        return cw_build_last(b);
    l->activation = b->model->activation;
    if (which && cwi_activation_parse(which, &l->activation, &err) != CW_OK)
        cwi_build_fail(b, CW_ERR_SPEC, "layer %s: %s", l->name, err.message);
    return cw_build_last(b);
}

int cw_build_avgpool(cw_model_builder *b, const char *name)
{
    cwi_layer *l = append_on_map(b, CWI_AVGPOOL, name);
    if (l)
        l->out = cw_shape_of(3, (int64_t[]){l->in.dim[0], 1, 1});
    return cw_build_last(b);
}

int cw_build_add(cw_model_builder *b, const char *name, int skip)
{
    cwi_layer *l = append(b, CWI_ADD, name);
    if (!l)
        return cw_build_last(b);
    if (!is_layer(b, skip) || skip == b->last) {
        cwi_build_fail(b, CW_ERR_INVALID, "layer %s: there is no layer %d to add", l->name, skip);
        return cw_build_last(b);
    }
    const cw_shape other = skip == CW_MODEL_INPUT ? b->model->options.sample : b->model->layers[skip].out;
    char mine[64], its[64];
    l->skip = skip;
    if (!cw_shape_equal(&other, &l->in))
        cwi_build_fail(b, CW_ERR_INVALID, "layer %s: %s cannot be added to %s: the skip needs a layer that fits it",
                       l->name, cw_shape_format(&other, its, sizeof its), cw_shape_format(&l->in, mine, sizeof mine));
    return cw_build_last(b);
}

int cw_build_resize(cw_model_builder *b, const char *name, int height, int width)
{
    cwi_layer *l = append_on_map(b, CWI_RESIZE, name);
    if (!l)
        return cw_build_last(b);
    check_range(b, l, "height", height, 1, MAX_WINDOW);
    check_range(b, l, "width", width, 1, MAX_WINDOW);
    if (b->status == CW_OK)
        l->out = cw_shape_of(3, (int64_t[]){l->in.dim[0], height, width});
    check_size(b, l);
    return cw_build_last(b);
}

int cw_build_flatten(cw_model_builder *b, const char *name)
{
    cwi_layer *l = append_on_map(b, CWI_FLATTEN, name);
    if (l)
        l->out = cw_shape_of(1, (int64_t[]){l->in.dim[0] * l->in.dim[1] * l->in.dim[2]});
    return cw_build_last(b);
}

static void linear(cw_model_builder *b, const char *name, int features, bool output)
{
    cwi_layer *l = append_on_vector(b, CWI_LINEAR, name);
    if (!l)
        return;
    check_range(b, l, "features", features, 1, MAX_FEATURES);
    l->bias = true;
    l->output = output;
    l->deviation = b->linear_deviation;
    l->out = cw_shape_of(1, (int64_t[]){features});
}

int cw_build_linear(cw_model_builder *b, const char *name, int features)
{
    linear(b, name, features, false);
    return cw_build_last(b);
}

int cw_build_classifier(cw_model_builder *b, const char *name)
{
    if (b)
        linear(b, name, b->model->options.classes, true);
    return cw_build_last(b);
}

int cw_build_dropout(cw_model_builder *b, const char *name, float rate)
{
    cwi_layer *l = append_on_vector(b, CWI_DROPOUT, name);
    if (l && !(rate >= 0 && rate < 1))
        cwi_build_fail(b, CW_ERR_INVALID, "layer %s: rate %g: give 0 or more, below 1", l->name, (double)rate);
    if (l)
        l->rate = rate;
    return cw_build_last(b);
}

/* ---- embeddings ---- */

static int64_t table_rows(const cwi_input *in)
{
    int64_t rows = in->vocabulary;
    for (int f = 0; f < in->field_count; f++)
        rows += in->fields[f];
    return rows;
}

static bool check_embedding(cw_model_builder *b, const cwi_layer *l)
{
    const cwi_input *in = &b->model->input;
    const int64_t columns = in->numeric + in->field_count;
    if (l->from != CW_MODEL_INPUT || in->kind == CWI_IMAGE)
        cwi_build_fail(b, CW_ERR_INVALID,
                       "layer %s: an embedding takes the model's input, texts or tables: say so by the option input "
                       "(tokens:V, table:N/C1/...)",
                       l->name);
    else if (l->in.ndim != 1 || (in->kind == CWI_TABLE && l->in.dim[0] != columns))
        fail_shape(b, l, in->kind == CWI_TABLE ? "a row of the table's columns" : "a text of L words", "");
    return b->status == CW_OK;
}

int cw_build_embedding(cw_model_builder *b, const char *name, int dim)
{
    cwi_layer *l = append(b, CWI_EMBED, name);
    if (!l || !check_embedding(b, l))
        return cw_build_last(b);
    const cwi_input *in = &b->model->input;
    check_range(b, l, "dim", dim, 1, MAX_CHANNELS);
    l->kernel = dim;
    l->deviation = 0.1f;
    l->rows = table_rows(in);
    if (in->kind == CWI_TOKENS)
        l->out = cw_shape_of(3, (int64_t[]){dim, 1, l->in.dim[0]});
    else
        l->out = cw_shape_of(1, (int64_t[]){in->numeric + (int64_t)in->field_count * dim});
    check_size(b, l);
    return cw_build_last(b);
}

/* ---- what is no layer ---- */

void cw_build_from(cw_model_builder *b, int layer)
{
    if (cwi_build_failed(b))
        return;
    if (is_layer(b, layer))
        b->last = layer;
    else
        cwi_build_fail(b, CW_ERR_INVALID, "there is no layer %d to go on from", layer);
}

void cw_build_linear_deviation(cw_model_builder *b, float deviation)
{
    if (cwi_build_failed(b))
        return;
    b->linear_deviation = deviation;
    if (!(deviation >= 0 && deviation < 1e6f))
        cwi_build_fail(b, CW_ERR_INVALID, "linear layers of deviation %g: give 0 or more", (double)deviation);
}

static bool check_cut(cw_model_builder *b, int number, const char *alias)
{
    const cw_model *m = b->model;
    const cwi_cut_point *before = m->cut_count ? &m->cuts[m->cut_count - 1] : NULL;
    if (number < 1 || (before && number <= before->number))
        cwi_build_fail(b, CW_ERR_INVALID, "cut %d: numbers begin at 1 and grow from cut to cut", number);
    else if (b->last < 0 || (before && (size_t)b->last + 1 < before->layer))
        cwi_build_fail(b, CW_ERR_INVALID, "cut %d: it lies behind a layer, in the order of the layers", number);
    else if (alias && (!cwi_name_valid(alias, CWI_ALIAS_MAX - 1) || !isalpha((unsigned char)alias[0])))
        cwi_build_fail(b, CW_ERR_INVALID,
                       "cut %d: alias '%.40s': a letter, then letters, digits, dots, hyphens and "
                       "underscores, at most %d",
                       number, alias, CWI_ALIAS_MAX - 1);
    for (size_t i = 0; b->status == CW_OK && alias && i < m->cut_count; i++) {
        if (strcmp(m->cuts[i].alias, alias) == 0)
            cwi_build_fail(b, CW_ERR_INVALID, "cut %d: cut %d is called %s already", number, m->cuts[i].number, alias);
    }
    return b->status == CW_OK;
}

void cw_build_cut(cw_model_builder *b, int number, const char *alias)
{
    if (cwi_build_failed(b) || !check_cut(b, number, alias))
        return;
    cw_model *m = b->model;
    void *items = m->cuts;
    if (!grow(b, &items, m->cut_count, &m->cut_capacity, sizeof(cwi_cut_point)))
        return;
    m->cuts = items;
    cwi_cut_point *c = &m->cuts[m->cut_count++];
    *c = (cwi_cut_point){.number = number, .layer = (size_t)b->last + 1};
    snprintf(c->alias, sizeof c->alias, "%s", alias ? alias : "");
}

bool cwi_build_needs_image(cw_model_builder *b, int64_t side)
{
    const cw_shape *s = &b->model->options.sample;
    if (b->model->input.kind == CWI_IMAGE && s->ndim == 3 && s->dim[1] >= side && s->dim[2] >= side)
        return true;
    char text[64];
    cwi_build_fail(b, CW_ERR_INVALID,
                   "takes images of C,H,W with sides of at least %d, the sample is %s (%s): choose data of images, or "
                   "say --input image --sample CxHxW",
                   (int)side, cw_shape_format(s, text, sizeof text), cwi_input_name(&b->model->input));
    return false;
}
