/* bottleneck.c - a narrow place put into a finished model at one of its cuts: fewer channels and, with a stride,
 * smaller maps cross there, and the layers around it learn to make do with them.
 *
 *     before the cut:  convolution K x K, stride S, to C channels; batch norm; ReLU
 *     after it:        back to the map's size; convolution K x K to its channels; batch norm; ReLU where there was one
 *
 * Of vectors the convolutions are linear layers. What was behind the cut reads the last of these layers now.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/graph.h"

enum { MAX_KERNEL = 15 };

typedef struct narrowing {
    int channels, kernel, stride;
    const char *cut;
} narrowing;

static bool take_number(const char **at, int highest, int *out)
{
    char *end;
    const long value = **at >= '0' && **at <= '9' ? strtol(*at, &end, 10) : 0;
    if (value < 1 || value > highest)
        return false;
    *out = (int)value;
    *at = end;
    return true;
}

/* "C[:K[/S]]@CUT" */
static bool parse(const char *text, narrowing *n)
{
    const char *at = text;
    *n = (narrowing){.kernel = 1, .stride = 1};
    if (!take_number(&at, 1 << 16, &n->channels))
        return false;
    if (*at == ':' && (at++, !take_number(&at, MAX_KERNEL, &n->kernel)))
        return false;
    if (*at == '/' && (at++, !take_number(&at, MAX_KERNEL, &n->stride)))
        return false;
    n->cut = at + 1;
    return *at == '@' && *n->cut && n->kernel % 2 == 1 && n->stride <= n->kernel;
}

static void narrow(cw_model_builder *b, const narrowing *n)
{
    if (cw_build_shape(b).ndim == 1)
        cw_build_linear(b, "bottleneck.encode", n->channels);
    else
        cw_build_conv(b, "bottleneck.encode", n->channels, n->kernel, n->stride, n->kernel / 2, false);
    cw_build_batchnorm(b, "bottleneck.encode_norm");
    cw_build_activation(b, "bottleneck.encode_relu", "relu");
}

static void widen(cw_model_builder *b, const narrowing *n, const cw_shape *to, bool relu)
{
    if (to->ndim == 1) {
        cw_build_linear(b, "bottleneck.decode", (int)to->dim[0]);
    } else {
        if (n->stride > 1)
            cw_build_resize(b, "bottleneck.resize", (int)to->dim[1], (int)to->dim[2]);
        cw_build_conv(b, "bottleneck.decode", (int)to->dim[0], n->kernel, 1, n->kernel / 2, false);
    }
    cw_build_batchnorm(b, "bottleneck.decode_norm");
    if (relu)
        cw_build_activation(b, "bottleneck.decode_relu", "relu");
}

/* Layers that came behind layer `at` - 1 come behind all there is now, by their new numbers. */
static void append_behind(cw_model_builder *b, const cwi_layer *behind, size_t count, size_t at)
{
    cw_model *m = b->model;
    const int last = (int)m->layer_count - 1, shift = (int)(m->layer_count - at);
    for (size_t i = 0; i < count; i++) {
        cwi_layer l = behind[i];
        l.from = l.from == (int)at - 1 ? last : l.from + shift;
        if (l.kind == CWI_ADD)
            l.skip = l.skip == (int)at - 1 ? last : l.skip + shift;
        m->layers[m->layer_count++] = l;
    }
    b->last = (int)m->layer_count - 1;
}

static void move_cuts(cw_model *m, size_t at, size_t cut, size_t behind)
{
    for (size_t i = 0; i < m->cut_count; i++)
        m->cuts[i].layer = m->cuts[i].layer < at    ? m->cuts[i].layer
                           : m->cuts[i].layer == at ? cut
                                                    : m->cuts[i].layer + behind - at;
}

static void mark(cw_model *m, size_t first, size_t end, bool freeze)
{
    for (size_t i = 0; i < m->layer_count; i++) {
        m->layers[i].inserted = i >= first && i < end;
        m->layers[i].frozen = freeze && !m->layers[i].inserted;
    }
    m->learns_from = freeze ? first : 0;
}

/* `behind`: the layers from `at` on, of which the model keeps no copy meanwhile. */
static void insert(cw_model_builder *b, const narrowing *n, const cw_cut *c, const cwi_layer *behind, size_t count)
{
    cw_model *m = b->model;
    const size_t at = c->layer;
    m->layer_count = at;
    b->last = (int)at - 1;
    narrow(b, n);
    const size_t cut = m->layer_count;
    widen(b, n, &c->smashed, c->non_negative);
    const size_t end = m->layer_count;
    /* Room for the layers behind: they were there before, beside those that are new. */
    cwi_layer *layers =
        b->status == CW_OK ? cwi_realloc(m->layers, end * sizeof *layers, (end + count) * sizeof *layers) : NULL;
    if (b->status == CW_OK && !layers)
        cwi_build_fail(b, CW_ERR_NO_MEMORY, "no memory for its bottleneck");
    if (b->status != CW_OK)
        return;
    m->layers = layers;
    m->layer_capacity = end + count;
    append_behind(b, behind, count, at);
    move_cuts(m, at, cut, end);
    mark(m, at, end, b->freeze);
}

static void insert_at(cw_model_builder *b, const narrowing *n, const cw_cut *c)
{
    const size_t count = b->model->layer_count - c->layer;
    cwi_layer *behind = cwi_alloc(count, sizeof *behind);
    if (!behind) {
        cwi_build_fail(b, CW_ERR_NO_MEMORY, "no memory for its bottleneck");
        return;
    }
    memcpy(behind, b->model->layers + c->layer, count * sizeof *behind);
    insert(b, n, c, behind, count);
    cwi_free(behind);
}

void cwi_build_bottleneck(cw_model_builder *b)
{
    narrowing n;
    cw_cut cut;
    cw_error err;
    if (cwi_build_failed(b) || !*b->bottleneck)
        return;
    if (!parse(b->bottleneck, &n))
        cwi_build_fail(
            b, CW_ERR_SPEC,
            "bottleneck '%s': give C[:K[/S]]@CUT: C channels; a window of K x K, odd, at most %d; a stride of S, "
            "at most K",
            b->bottleneck, MAX_KERNEL);
    else if (cw_model_cut(b->model, n.cut, &cut, &err) != CW_OK)
        cwi_build_fail(b, CW_ERR_SPEC, "bottleneck: %s", err.message);
    else
        insert_at(b, &n, &cut);
}
