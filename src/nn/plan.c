/* plan.c - the three passes of planning, and what layers use in them. */
#include <string.h>

#include "nn/plan.h"

static const cwi_layer_class *class_of(const cwi_layer *l)
{
    static const cwi_layer_class *const classes[CWI_LAYER_KINDS] = {
        [CWI_CONV] = &cwi_conv_class,       [CWI_BATCHNORM] = &cwi_batchnorm_class,
        [CWI_MAXPOOL] = &cwi_maxpool_class, [CWI_ACTIVATION] = &cwi_activation_class,
        [CWI_ADD] = &cwi_add_class,         [CWI_AVGPOOL] = &cwi_avgpool_class,
        [CWI_LINEAR] = &cwi_linear_class,   [CWI_FLATTEN] = &cwi_flatten_class,
        [CWI_DROPOUT] = &cwi_dropout_class, [CWI_EMBED] = &cwi_embed_class,
        [CWI_RESIZE] = &cwi_resize_class};
    return classes[l->kind];
}

/* ---- which activations are computed by the layer before them ---- */

static bool computes_activation(const cwi_layer *before, const cwi_layer *activation)
{
    if (before->kind == CWI_BATCHNORM)
        return activation->activation == CWI_RELU;
    return (before->kind == CWI_CONV || before->kind == CWI_LINEAR || before->kind == CWI_ADD) &&
           cwi_eltwise_from_output(activation).algorithm != dnnl_alg_kind_undef;
}

static bool fuses(const cw_model *m, int i)
{
    const cwi_layer *l = &m->layers[i];
    return l->kind == CWI_ACTIVATION && l->from == i - 1 && l->from != CW_MODEL_INPUT &&
           computes_activation(&m->layers[l->from], l) && cwi_model_readers(m, l->from) == 1;
}

bool cwi_plan_can_part(const cw_model *model, size_t at)
{
    if (at == 0 || at == model->layer_count)
        return true;
    return at < model->layer_count && !fuses(model, (int)at) && cwi_model_separable(model, at);
}

/* ---- passes ---- */

static cw_status layout_all(cwi_plan *p, cw_error *err)
{
    p->nodes[0].out.md = cwi_md_plain(&p->model->options.sample, p->n, dnnl_f32);
    for (int i = 0; i < (int)p->last; i++) {
        if (fuses(p->model, i)) {
            cwi_node_of(p, i)->fused = true;
            cwi_node_of(p, i - 1)->post = cwi_layer_of(p, i);
        }
    }
    for (int i = 0; i < (int)p->last; i++) {
        cw_status s = class_of(cwi_layer_of(p, i))->layout(p, i, err);
        if (s != CW_OK)
            return cwi_fail_prefix(err, s, "layer %s", cwi_layer_of(p, i)->name);
    }
    return CW_OK;
}

/* The part's input: the caller's memory where the layout allows, else a buffer that is filled from it. */
static cw_status plan_input_border(cwi_plan *p, cw_error *err)
{
    cwi_node *in = cwi_node_of(p, (int)p->first - 1);
    const cw_shape *shape = p->first ? &cwi_layer_of(p, (int)p->first - 1)->out : &p->model->options.sample;
    cwi_md plain = cwi_md_plain(shape, p->n, dnnl_f32);
    cwi_mem x;
    CWI_TRY(cwi_program_slot(&p->net->program, &plain, &p->borders->x, &x, err));
    if (cwi_md_equal(&plain, &in->out.md)) {
        in->out = x;
        return CW_OK;
    }
    CWI_TRY(cwi_program_mem(&p->net->program, &in->out.md, &in->out, err));
    return cwi_program_reorder(&p->net->program, (int)p->first, &x, &in->out, err);
}

static cw_status plan_forward(cwi_plan *p, cw_error *err)
{
    cwi_program *prog = &p->net->program;
    CWI_TRY(plan_input_border(p, err));
    for (int i = (int)p->first; i < (int)p->last; i++) {
        cw_status s = class_of(cwi_layer_of(p, i))->forward(p, i, err);
        if (s != CW_OK)
            return cwi_fail_prefix(err, s, "layer %s", cwi_layer_of(p, i)->name);
    }
    int end = (int)p->last - 1;
    cwi_md plain = cwi_md_plain(&cwi_layer_of(p, end)->out, p->n, dnnl_f32);
    cwi_mem from = cwi_node_of(p, end)->out, y;
    if (p->last == p->model->layer_count) {
        cwi_mem logits;
        CWI_TRY(cwi_program_slot(prog, &plain, &p->borders->logits, &logits, err));
        CWI_TRY(cwi_program_reorder(prog, end, &from, &logits, err));
        from = logits;
    }
    p->net->forward = prog->step_count;
    p->net->forward_copies = p->net->copy_count;
    CWI_TRY(cwi_program_slot(prog, &plain, &p->borders->y, &y, err));
    CWI_TRY(cwi_program_reorder(prog, end, &from, &y, err));
    p->net->output = prog->step_count;
    return CW_OK;
}

/* The cut of the bottleneck: the first with a layer before it that learns. */
static int first_learning_cut(const cw_model *m)
{
    size_t found = m->cut_count;
    for (size_t i = 0; i < m->cut_count; i++)
        if (m->cuts[i].layer > m->learns_from && (found == m->cut_count || m->cuts[i].layer < m->cuts[found].layer))
            found = i;
    return found < m->cut_count ? m->cuts[found].number : 0;
}

/* Nothing in this part learns, and it has no input that wants a gradient. */
static cw_status fail_frozen(const cwi_plan *p, cw_error *err)
{
    const cw_model *m = p->model;
    const int cut = first_learning_cut(m);
    if (m->learns_from < p->last)
        return cwi_fail(err, CW_ERR_INVALID, "nothing from layer %s on learns", m->layers[p->first].name);
    return cwi_fail(
        err, CW_ERR_INVALID,
        "all %zu layers before this cut, %s to %s, are frozen: the bottleneck, which alone learns, is at cut "
        "%d: cut there or behind it (--cut %d), or train without --freeze",
        p->last - p->first, m->layers[p->first].name, m->layers[p->last - 1].name, cut, cut);
}

static cw_status plan_output_grad(cwi_plan *p, cw_error *err)
{
    int end = (int)p->last - 1;
    cwi_node *node = cwi_node_of(p, end);
    cwi_md plain = cwi_md_plain(&cwi_layer_of(p, end)->out, p->n, dnnl_f32);
    cwi_mem dy;
    CWI_TRY(cwi_program_slot(&p->net->program, &plain, &p->borders->dy, &dy, err));
    cw_status s = cwi_plan_give_grad(p, end, end, &dy, err);
    return s == CW_OK && node->grad_count == 0 ? fail_frozen(p, err) : s;
}

static cw_status plan_input_grad(cwi_plan *p, cw_error *err)
{
    int before = (int)p->first - 1;
    const cw_shape *shape = p->first ? &cwi_layer_of(p, before)->out : &p->model->options.sample;
    cwi_md plain = cwi_md_plain(shape, p->n, dnnl_f32);
    cwi_mem grad, dx;
    CWI_TRY(cwi_plan_take_grad(p, before, &grad, err));
    p->net->backward = p->net->program.step_count;
    CWI_TRY(cwi_program_slot(&p->net->program, &plain, &p->borders->dx, &dx, err));
    return cwi_program_reorder(&p->net->program, (int)p->first, &grad, &dx, err);
}

/* Nothing before it learns, and nobody asks for the input's gradient. */
static int first_on_the_way_back(const cwi_plan *p)
{
    return p->input_grad ? (int)p->first : (int)CWI_MAX(p->first, p->model->learns_from);
}

static cw_status plan_backward(cwi_plan *p, cw_error *err)
{
    CWI_TRY(plan_output_grad(p, err));
    for (int i = (int)p->last - 1; i >= first_on_the_way_back(p); i--) {
        cw_status s = class_of(cwi_layer_of(p, i))->backward(p, i, err);
        if (s != CW_OK)
            return cwi_fail_prefix(err, s, "layer %s, backward", cwi_layer_of(p, i)->name);
    }
    p->net->backward = p->net->program.step_count;
    if (p->input_grad)
        CWI_TRY(plan_input_grad(p, err));
    p->net->input = p->net->program.step_count;
    return CW_OK;
}

static cw_status plan_passes(cwi_plan *p, cw_error *err)
{
    CWI_TRY(layout_all(p, err));
    CWI_TRY(plan_forward(p, err));
    if (p->mode == CW_TRAIN)
        CWI_TRY(plan_backward(p, err));
    return cwi_program_plan(&p->net->program, err);
}

cw_status cwi_plan_net(cwi_plan *p, cwi_net *net, cw_error *err)
{
    *net = (cwi_net){.n = p->n, .mode = p->mode};
    cwi_program_init(&net->program, p->params->engine, p->params->stream);
    p->net = net;
    size_t count = p->model->layer_count + 1;
    p->nodes = cwi_calloc(count, sizeof *p->nodes);
    if (!p->nodes)
        return cwi_fail_memory(err, count * sizeof *p->nodes);
    for (size_t i = 0; i < count; i++) {
        p->nodes[i].out.buffer = p->nodes[i].src.buffer = CWI_NO_BUFFER;
        for (size_t j = 0; j < CWI_COUNT(p->nodes[i].saved); j++)
            p->nodes[i].saved[j].buffer = CWI_NO_BUFFER;
    }
    cw_status s = plan_passes(p, err);
    for (size_t i = 0; i < count; i++) {
        cwi_pd_destroy(p->nodes[i].pd);
    }
    cwi_free(p->nodes);
    p->nodes = NULL;
    if (s != CW_OK)
        cwi_net_clear(net);
    return s;
}

void cwi_net_clear(cwi_net *net)
{
    cwi_program_clear(&net->program);
    cwi_free(net->copies);
    *net = (cwi_net){0};
}

/* ---- values ---- */

cw_status cwi_plan_as(cwi_plan *p, int layer, const cwi_mem *from, const cwi_md *md, cwi_mem *out, cw_error *err)
{
    *out = *from;
    if (cwi_md_equal(&from->md, md))
        return CW_OK;
    CWI_TRY(cwi_program_mem(&p->net->program, md, out, err));
    return cwi_program_reorder(&p->net->program, layer, from, out, err);
}

cw_status cwi_plan_input(cwi_plan *p, int layer, int from, const cwi_md *md, cwi_mem *out, cw_error *err)
{
    return cwi_plan_as(p, layer, &cwi_node_of(p, from)->out, md, out, err);
}

cw_status cwi_plan_output(cwi_plan *p, int layer, cw_error *err)
{
    cwi_mem *out = &cwi_node_of(p, layer)->out;
    cwi_md md = out->md;
    return cwi_program_mem(&p->net->program, &md, out, err);
}

bool cwi_plan_wants_grad(const cwi_plan *p, int from)
{
    return from >= first_on_the_way_back(p) || (from == (int)p->first - 1 && p->input_grad);
}

cw_status cwi_plan_give_grad(cwi_plan *p, int layer, int from, const cwi_mem *grad, cw_error *err)
{
    if (!cwi_plan_wants_grad(p, from))
        return CW_OK;
    cwi_node *node = cwi_node_of(p, from);
    cwi_mem mine;
    CWI_TRY(cwi_plan_as(p, layer, grad, &node->out.md, &mine, err));
    if (node->grad_count == (int)CWI_COUNT(node->grads)) {
        cwi_mem sum;
        CWI_TRY(cwi_program_mem(&p->net->program, &node->out.md, &sum, err));
        CWI_TRY(cwi_program_add(&p->net->program, layer, &node->grads[0], &node->grads[1], &sum, NULL, err));
        node->grads[0] = sum;
        node->grad_count = 1;
    }
    node->grads[node->grad_count++] = mine;
    return CW_OK;
}

cw_status cwi_plan_take_grad(cwi_plan *p, int layer, cwi_mem *out, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, layer);
    if (node->grad_count == 0)
        return cwi_fail(err, CW_ERR_INVALID, "nothing reads its output");
    if (node->grad_count == 2) {
        /* A fresh buffer: either contribution may also be another value's gradient (an addition hands on its own). */
        cwi_mem sum;
        CWI_TRY(cwi_program_mem(&p->net->program, &node->out.md, &sum, err));
        CWI_TRY(cwi_program_add(&p->net->program, layer, &node->grads[0], &node->grads[1], &sum, NULL, err));
        node->grads[0] = sum;
        node->grad_count = 1;
    }
    *out = node->grads[0];
    return CW_OK;
}

/* ---- parameters ---- */

static cw_status note_copy(cwi_net *net, cwi_copy *copy, cw_error *err)
{
    for (size_t i = 0; i < net->copy_count; i++) {
        if (net->copies[i] == copy)
            return CW_OK;
    }
    if (net->copy_count == net->copy_capacity) {
        size_t capacity = net->copy_capacity ? 2 * net->copy_capacity : 32;
        cwi_copy **bigger = cwi_realloc(net->copies, net->copy_count * sizeof *bigger, capacity * sizeof *bigger);
        if (!bigger)
            return cwi_fail_memory(err, capacity * sizeof *bigger);
        net->copies = bigger;
        net->copy_capacity = capacity;
    }
    net->copies[net->copy_count++] = copy;
    return CW_OK;
}

cw_status cwi_plan_param(cwi_plan *p, int layer, cwi_role role, const cwi_md *md, cwi_mem *out, cw_error *err)
{
    *out = (cwi_mem){.buffer = CWI_NO_BUFFER};
    cwi_param *param = cwi_params_find(p->params, cwi_layer_of(p, layer), role);
    if (!param)
        return CW_OK;
    cwi_copy *copy;
    CWI_TRY(cwi_param_use(param, md, &copy, err));
    CWI_TRY(note_copy(p->net, copy, err));
    return cwi_program_slot(&p->net->program, md, &copy->data, out, err);
}

cw_status cwi_plan_param_grad(cwi_plan *p, int layer, cwi_role role, const cwi_md *md, cwi_mem *out, cw_error *err)
{
    *out = (cwi_mem){.buffer = CWI_NO_BUFFER};
    cwi_param *param = cwi_params_find(p->params, cwi_layer_of(p, layer), role);
    if (!param)
        return CW_OK;
    if (cwi_md_empty(&param->home))
        param->home = *md;
    if (!param->layer->frozen && cwi_md_equal(&param->home, md))
        return cwi_program_slot(&p->net->program, md, &param->grad, out, err);
    return cwi_program_mem(&p->net->program, md, out, err);
}

cw_status cwi_plan_param_grad_done(cwi_plan *p, int layer, cwi_role role, const cwi_mem *grad, cw_error *err)
{
    cwi_param *param = cwi_params_find(p->params, cwi_layer_of(p, layer), role);
    if (!param || param->layer->frozen || cwi_md_equal(&param->home, &grad->md))
        return CW_OK;
    cwi_mem home;
    CWI_TRY(cwi_program_slot(&p->net->program, &param->home, &param->grad, &home, err));
    return cwi_program_reorder(&p->net->program, layer, grad, &home, err);
}
