/* build.c - a builder's life: from options to an empty model, and from its layers to a model whose layers all lead to
 * the classifier and whose cuts all part it. */
#include <stdio.h>
#include <string.h>

#include "cutwire/model.h"
#include "nn/graph.h"
#include "nn/plan.h"

/* ---- the empty model ---- */

static cw_status check_options(const char *name, const cw_model_options *o, cw_error *err)
{
    size_t count;
    if (!cwi_name_valid(name, CWI_NAME_MAX - 1))
        return cwi_fail(err, CW_ERR_INVALID,
                        "model '%.80s': a name is 1 to %d letters, digits, dots, hyphens and underscores", name,
                        CWI_NAME_MAX - 1);
    if (cw_shape_count(&o->sample, &count) != CW_OK || count == 0 || o->sample.ndim < 1)
        return cwi_fail(err, CW_ERR_INVALID, "model %.40s: the sample's shape is empty or out of range", name);
    if (count > (size_t)1 << 24)
        return cwi_fail(err, CW_ERR_INVALID, "model %.40s: a sample of %zu elements is too large", name, count);
    if (o->classes < 2 || o->classes > 1 << 20)
        return cwi_fail(err, CW_ERR_INVALID, "model %.40s: %d classes: give 2 to %d", name, o->classes, 1 << 20);
    return CW_OK;
}

static cw_status create_model(const char *name, const cw_model_options *options, cw_model **out, cw_error *err)
{
    cwi_activation activation = CWI_RELU;
    cwi_input input;
    if (options->activation)
        CWI_TRY(cwi_activation_parse(options->activation, &activation, err));
    CWI_TRY(cwi_input_parse(options->input, &input, err));
    CWI_TRY(check_options(name, options, err));
    cw_model *m = cwi_calloc(1, sizeof *m);
    if (!m)
        return cwi_fail_memory(err, sizeof *m);
    atomic_init(&m->references, 1);
    snprintf(m->name, sizeof m->name, "%s", name);
    m->options = *options;
    m->activation = activation;
    m->options.activation = cwi_activation_name(activation);
    m->options.input = m->options.bottleneck = NULL; /* the caller's strings; model and builder hold what they say */
    m->input = input;
    *out = m;
    return CW_OK;
}

static void take_bottleneck(cw_model_builder *b, const cw_model_options *options)
{
    const char *text = options->bottleneck ? options->bottleneck : "";
    if (strlen(text) >= sizeof b->bottleneck)
        cwi_build_fail(b, CW_ERR_SPEC, "bottleneck '%.40s...': too long", text);
    else if (options->freeze && !*text)
        cwi_build_fail(b, CW_ERR_SPEC, "freeze: nothing would learn: it goes with a bottleneck");
    snprintf(b->bottleneck, sizeof b->bottleneck, "%s", text);
}

cw_status cw_model_builder_create(const char *name, const cw_model_options *options, cw_model_builder **out,
                                  cw_error *err)
{
    if (out)
        *out = NULL;
    if (!name || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_model_builder_create: NULL argument");
    cw_model *model;
    CWI_TRY(create_model(name, options, &model, err));
    cw_model_builder *b = cwi_calloc(1, sizeof *b);
    if (!b) {
        cw_model_close(&model);
        return cwi_fail_memory(err, sizeof *b);
    }
    *b = (cw_model_builder){.model = model, .last = CW_MODEL_INPUT, .status = CW_OK, .freeze = options->freeze};
    take_bottleneck(b, options);
    *out = b;
    return CW_OK;
}

void cw_model_builder_destroy(cw_model_builder **builder)
{
    if (!builder || !*builder)
        return;
    cw_model_close(&(*builder)->model);
    cwi_free(*builder);
    *builder = NULL;
}

/* ---- the whole ---- */

static void check_layers(cw_model_builder *b)
{
    const cw_model *m = b->model;
    const size_t end = m->layer_count;
    if (end == 0 || !m->layers[end - 1].output) {
        cwi_build_fail(b, CW_ERR_INVALID, "it ends with %s: the last layer must be cw_build_classifier",
                       end ? m->layers[end - 1].name : "its input");
        return;
    }
    for (size_t i = 0; i + 1 < end && b->status == CW_OK; i++) {
        if (m->layers[i].output)
            cwi_build_fail(b, CW_ERR_INVALID, "layer %s: a classifier can only be the last layer", m->layers[i].name);
        else if (cwi_model_readers(m, (int)i) == 0)
            cwi_build_fail(b, CW_ERR_INVALID, "layer %s: no other layer reads its output", m->layers[i].name);
    }
}

static const char *name_of(const cw_model *m, int layer)
{
    return layer == CW_MODEL_INPUT ? "the model's input" : m->layers[layer].name;
}

/* Says which layer reaches back over the cut. */
static void fail_within_skip(cw_model_builder *b, const cwi_cut_point *c)
{
    const cw_model *m = b->model;
    for (size_t i = c->layer; i < m->layer_count; i++) {
        const cwi_layer *l = &m->layers[i];
        const int back = l->kind == CWI_ADD ? CWI_MIN(l->from, l->skip) : l->from;
        if (back < (int)c->layer - 1) {
            cwi_build_fail(b, CW_ERR_INVALID,
                           "cut %d behind layer %s: inside a skip connection: layer %s reads %s: cut before or after "
                           "all of it",
                           c->number, name_of(m, (int)c->layer - 1), l->name, name_of(m, back));
            return;
        }
    }
}

static void check_cuts(cw_model_builder *b)
{
    const cw_model *m = b->model;
    for (size_t i = 0; i < m->cut_count && b->status == CW_OK; i++) {
        const cwi_cut_point *c = &m->cuts[i];
        if (c->layer == m->layer_count)
            cwi_build_fail(b, CW_ERR_INVALID, "cut %d: nothing comes behind it", c->number);
        else if (!cwi_model_separable(m, c->layer))
            fail_within_skip(b, c);
        else if (!cwi_plan_can_part(m, c->layer))
            cwi_build_fail(b, CW_ERR_INVALID,
                           "cut %d behind layer %s: it and its activation %s are computed together: cut behind both",
                           c->number, name_of(m, (int)c->layer - 1), m->layers[c->layer].name);
    }
}

cw_status cw_model_build(cw_model_builder **builder, cw_model **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!builder || !*builder || !out) {
        cw_model_builder_destroy(builder);
        return cwi_fail(err, CW_ERR_INVALID, "cw_model_build: NULL argument");
    }
    cw_model_builder *b = *builder;
    if (b->status == CW_OK)
        check_layers(b);
    if (b->status == CW_OK)
        check_cuts(b);
    cwi_build_bottleneck(b);
    const cw_status status = b->status;
    if (status == CW_OK) {
        *out = b->model;
        b->model = NULL;
    } else if (err) {
        *err = b->error;
    }
    cw_model_builder_destroy(builder);
    return status;
}

cw_status cwi_model_build(const cwi_model_family *family, const cw_model_options *options, cw_model **out,
                          cw_error *err)
{
    cw_model_builder *b;
    *out = NULL;
    CWI_TRY(cw_model_builder_create(family->known.name, options, &b, err));
    const cwi_own_family *own = (const cwi_own_family *)(const void *)family;
    if (family->build)
        family->build(b);
    else
        own->build(b, own->ctx);
    return cw_model_build(&b, out, err);
}
