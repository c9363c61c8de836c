/* model.c - the models known by name, and questions about one: layers, costs, cuts. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/graph.h"

/* What a model's data look like where nothing else is said: CIFAR-10; AG News with a full vocabulary (20,000 words,
 * padding and the unknown one); Adult. */
#define IMAGES "3x32x32", "image", 10
#define TEXTS  "64", "tokens:20002", 4
#define TABLES "14", "table:6/10/17/8/16/7/6/3/43", 2

static const cwi_model_family families[] = {
    {{"cnn", "six 3x3 convolutions with batch norm, for small images; cuts 1..6", IMAGES}, cwi_build_cnn},
    {{"vgg19", "VGG19 with batch norm, classifier 512-4096-4096; cuts 1..16", IMAGES}, cwi_build_vgg19},
    {{"resnet18", "18-layer residual network, CIFAR or ImageNet stem by image size", IMAGES}, cwi_build_resnet18},
    {{"resnet34", "34-layer residual network, CIFAR or ImageNet stem by image size", IMAGES}, cwi_build_resnet34},
    {{"resnet20", "20-layer residual network for small images, 16 to 64 channels", IMAGES}, cwi_build_resnet20},
    {{"resnet56", "56-layer residual network for small images, 16 to 64 channels", IMAGES}, cwi_build_resnet56},
    {{"resnet110", "110-layer residual network for small images, 16 to 64 channels", IMAGES}, cwi_build_resnet110},
    {{"resnet9", "9-layer residual network that learns fast, for small images, 64 to 512 channels", IMAGES},
     cwi_build_resnet9},
    {{"resnet9s", "resnet9 with three quarters of the channels", IMAGES}, cwi_build_resnet9s},
    {{"textcnn", "words embedded, three convolutions over time, maximum over time; cuts 1..3", TEXTS},
     cwi_build_textcnn},
    {{"mlp", "tables (categories embedded) or small images, three hidden layers; cuts 1..3", TABLES}, cwi_build_mlp},
};

static const char *const activation_names[CWI_ACTIVATIONS] = {"relu", "leaky_relu", "gelu", "silu", "tanh"};

/* Models of the program's own. Entries are written once, before the count that shows them. */
static struct {
    cwi_own_family families[32];
    atomic_size_t count;
    pthread_mutex_t mutex;
} registered = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static const cwi_model_family *family_at(size_t i)
{
    if (i < CWI_COUNT(families))
        return &families[i];
    i -= CWI_COUNT(families);
    return i < atomic_load(&registered.count) ? &registered.families[i].family : NULL;
}

size_t cw_model_known_count(void)
{
    return CWI_COUNT(families) + atomic_load(&registered.count);
}

const cw_model_known *cw_model_known_at(size_t i)
{
    const cwi_model_family *family = family_at(i);
    return family ? &family->known : NULL;
}

static cw_status add_family(const cw_model_known *known, void (*build)(cw_model_builder *, void *), void *ctx,
                            cw_error *err)
{
    const size_t count = atomic_load(&registered.count);
    for (size_t i = 0; i < cw_model_known_count(); i++)
        if (strcmp(cw_model_known_at(i)->name, known->name) == 0)
            return cwi_fail(err, CW_ERR_INVALID, "model '%.40s': there is one of that name already", known->name);
    if (count == CWI_COUNT(registered.families))
        return cwi_fail(err, CW_ERR_INVALID, "model '%.40s': a program may have %zu models of its own", known->name,
                        CWI_COUNT(registered.families));
    registered.families[count] = (cwi_own_family){.family = {.known = *known}, .build = build, .ctx = ctx};
    atomic_store(&registered.count, count + 1);
    return CW_OK;
}

cw_status cw_model_register(const cw_model_known *known, void (*build)(cw_model_builder *b, void *ctx), void *ctx,
                            cw_error *err)
{
    if (!known || !known->name || !known->summary || !known->sample || !known->input || !build)
        return cwi_fail(err, CW_ERR_INVALID, "cw_model_register: NULL argument");
    if (!cwi_name_valid(known->name, CWI_NAME_MAX - 1) || strcmp(known->name, "own") == 0)
        return cwi_fail(
            err, CW_ERR_INVALID,
            "model '%.80s': a name is 1 to %d letters, digits, dots, hyphens and underscores, and not 'own'",
            known->name, CWI_NAME_MAX - 1);
    pthread_mutex_lock(&registered.mutex);
    const cw_status status = add_family(known, build, ctx, err);
    pthread_mutex_unlock(&registered.mutex);
    return status;
}

const char *cwi_activation_name(cwi_activation a)
{
    return activation_names[a];
}

/* ---- opening ---- */

static cw_status find_family(const char *name, const cwi_model_family **out, cw_error *err)
{
    cwi_list list = {""};
    for (size_t i = 0; i < cw_model_known_count(); i++) {
        if (strcmp(cw_model_known_at(i)->name, name) == 0) {
            *out = family_at(i);
            return CW_OK;
        }
        cwi_list_add(&list, cw_model_known_at(i)->name);
    }
    return cwi_fail(err, CW_ERR_SPEC, "model '%.40s': no such model: known are %s", name, list.text);
}

cw_status cwi_activation_parse(const char *name, cwi_activation *out, cw_error *err)
{
    cwi_list list = {""};
    for (int i = 0; i < CWI_ACTIVATIONS; i++) {
        if (strcmp(activation_names[i], name) == 0) {
            *out = (cwi_activation)i;
            return CW_OK;
        }
        cwi_list_add(&list, activation_names[i]);
    }
    return cwi_fail(err, CW_ERR_SPEC, "activation '%.40s': no such activation: known are %s", name, list.text);
}

cw_status cw_model_open(const char *name, const cw_model_options *options, cw_model **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!name || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_model_open: NULL argument");
    const cwi_model_family *family = NULL;
    CWI_TRY(find_family(name, &family, err));
    return cwi_model_build(family, options, out, err);
}

void cw_model_close(cw_model **model)
{
    if (!model || !*model)
        return;
    cw_model *m = *model;
    *model = NULL;
    if (atomic_fetch_sub(&m->references, 1) > 1)
        return;
    cwi_free(m->layers);
    cwi_free(m->cuts);
    cwi_free(m);
}

cw_model *cwi_model_retain(const cw_model *model)
{
    /* The count is the one thing that changes in a model; the cast keeps it immutable for everybody else. */
    union {
        const cw_model *in;
        cw_model *out;
    } u = {.in = model};
    atomic_fetch_add(&u.out->references, 1);
    return u.out;
}

/* ---- layers ---- */

const char *cw_model_name(const cw_model *model)
{
    return model->name;
}

size_t cw_model_layer_count(const cw_model *model)
{
    return model->layer_count;
}

const char *cwi_layer_kind_name(const cwi_layer *layer)
{
    static const char *const names[CWI_LAYER_KINDS] = {"conv",    "batchnorm", "activation", "maxpool",
                                                       "avgpool", "add",       "flatten",    "linear",
                                                       "dropout", "embedding", "resize"};
    return layer->kind == CWI_ACTIVATION ? activation_names[layer->activation] : names[layer->kind];
}

static size_t elements(const cw_shape *s)
{
    size_t count = 0;
    (void)cw_shape_count(s, &count);
    return count;
}

static size_t window_size(const cwi_layer *l)
{
    return (size_t)l->kernel * (size_t)(l->time ? 1 : l->kernel);
}

static size_t layer_parameters(const cwi_layer *l)
{
    size_t in = (size_t)l->in.dim[0], out = (size_t)l->out.dim[0], bias = l->bias ? out : 0;
    switch (l->kind) {
    case CWI_CONV:
        return out * in * window_size(l) + bias;
    case CWI_EMBED:
        return (size_t)l->rows * (size_t)l->kernel;
    case CWI_LINEAR:
        return out * in + bias;
    case CWI_BATCHNORM:
        return 2 * in;
    default:
        return 0;
    }
}

static double layer_flops(const cwi_layer *l)
{
    double out = (double)elements(&l->out), in = (double)elements(&l->in), window = (double)window_size(l);
    switch (l->kind) {
    case CWI_CONV:
        return out * (2.0 * (double)l->in.dim[0] * window + (l->bias ? 1 : 0));
    case CWI_LINEAR:
        return out * (2.0 * in + 1);
    case CWI_BATCHNORM:
        return 2.0 * out;
    case CWI_MAXPOOL:
        return out * window;
    case CWI_AVGPOOL:
        return in;
    case CWI_FLATTEN:
    case CWI_EMBED:
    case CWI_RESIZE:
        return 0.0;
    default:
        return out;
    }
}

cw_layer_info cw_model_layer(const cw_model *model, size_t i)
{
    if (i >= model->layer_count)
        return (cw_layer_info){0};
    const cwi_layer *l = &model->layers[i];
    return (cw_layer_info){.kind = cwi_layer_kind_name(l),
                           .name = l->name,
                           .out = l->out,
                           .parameters = layer_parameters(l),
                           .flops = layer_flops(l),
                           .from = l->from,
                           .skip = l->skip,
                           .kernel = l->kind == CWI_EMBED ? 0 : l->kernel,
                           .stride = l->stride,
                           .pad = l->pad,
                           .bias = l->bias,
                           .rate = l->rate};
}

int cwi_model_readers(const cw_model *model, int i)
{
    int readers = 0;
    for (size_t j = (size_t)(i + 1); j < model->layer_count; j++) {
        readers += model->layers[j].from == i;
        readers += model->layers[j].kind == CWI_ADD && model->layers[j].skip == i;
    }
    return readers;
}

bool cwi_model_separable(const cw_model *model, size_t at)
{
    for (size_t j = at; j < model->layer_count; j++) {
        const cwi_layer *l = &model->layers[j];
        if (l->from < (int)at - 1 || (l->kind == CWI_ADD && l->skip < (int)at - 1))
            return false;
    }
    return true;
}

/* ---- cuts ---- */

size_t cw_model_cut_count(const cw_model *model)
{
    return model->cut_count;
}

/* Whether layer i is a ReLU, or one of the kinds in `through` with such a layer before it. */
static bool leads_to_relu(const cw_model *m, int i, const bool through[CWI_LAYER_KINDS])
{
    while (i != CW_MODEL_INPUT && through[m->layers[i].kind])
        i = m->layers[i].from;
    return i != CW_MODEL_INPUT && m->layers[i].kind == CWI_ACTIVATION && m->layers[i].activation == CWI_RELU;
}

cw_cut cw_model_cut_at(const cw_model *model, size_t i)
{
    static const bool keep_sign[CWI_LAYER_KINDS] = {[CWI_MAXPOOL] = true};
    static const bool keep_zeros[CWI_LAYER_KINDS] = {
        [CWI_MAXPOOL] = true, [CWI_AVGPOOL] = true, [CWI_DROPOUT] = true, [CWI_FLATTEN] = true};
    if (i >= model->cut_count)
        return (cw_cut){0};
    const cwi_cut_point *c = &model->cuts[i];
    const int last = (int)c->layer - 1;
    return (cw_cut){.number = c->number,
                    .alias = c->alias[0] ? c->alias : NULL,
                    .layer = c->layer,
                    .smashed = model->layers[last].out,
                    .non_negative = leads_to_relu(model, last, keep_sign),
                    .behind_relu = leads_to_relu(model, last, keep_zeros)};
}

/* "1, 2 (shallow), 4": long lists keep their first and last numbers in runs, "1-15". */
static void list_cuts(const cw_model *m, cwi_list *list)
{
    for (size_t i = 0; i < m->cut_count; i++) {
        size_t j = i;
        while (j + 1 < m->cut_count && !m->cuts[i].alias[0] && !m->cuts[j + 1].alias[0] &&
               m->cuts[j + 1].number - m->cuts[j].number == m->cuts[i + 1].number - m->cuts[i].number)
            j++;
        char item[64];
        if (m->cuts[i].alias[0])
            snprintf(item, sizeof item, "%d (%s)", m->cuts[i].number, m->cuts[i].alias);
        else if (j < i + 2)
            snprintf(item, sizeof item, "%d", m->cuts[i].number);
        else if (m->cuts[i + 1].number - m->cuts[i].number == 1)
            snprintf(item, sizeof item, "%d-%d", m->cuts[i].number, m->cuts[j].number);
        else
            snprintf(item, sizeof item, "%d, %d, ... %d", m->cuts[i].number, m->cuts[i + 1].number, m->cuts[j].number);
        cwi_list_add(list, item);
        if (j >= i + 2)
            i = j;
    }
}

cw_status cw_model_cut(const cw_model *model, const char *which, cw_cut *out, cw_error *err)
{
    if (!model || !which || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_model_cut: NULL argument");
    char *end;
    long number = strtol(which, &end, 10);
    bool numeric = which[0] != '\0' && *end == '\0';
    for (size_t i = 0; i < model->cut_count; i++) {
        const cwi_cut_point *c = &model->cuts[i];
        if (numeric ? number == c->number : (which[0] && strcmp(c->alias, which) == 0)) {
            *out = cw_model_cut_at(model, i);
            return CW_OK;
        }
    }
    cwi_list list = {""};
    list_cuts(model, &list);
    bool inside = numeric && number >= 1 && model->cut_count && number < model->cuts[model->cut_count - 1].number;
    return cwi_fail(err, CW_ERR_SPEC, "cut '%.20s': model %s %s: valid cuts are %s", which, model->name,
                    inside ? "cannot be cut there, a skip connection is open" : "has no such cut", list.text);
}
