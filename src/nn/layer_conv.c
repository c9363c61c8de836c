/* layer_conv.c - two-dimensional convolution.
 *
 * x is (N,C,H,W), the weight (O,C,K,K), y (N,O,H',W'). All layouts are oneDNN's choice. An activation that looks only
 * at its output on the way back is computed inside.
 */
#include "nn/plan.h"
#include "nn/tile.h"

static cwi_conv geometry(const cwi_plan *p, const cwi_layer *l)
{
    cw_shape weight = {.ndim = 4, .dim = {l->out.dim[0], l->in.dim[0], l->time ? 1 : l->kernel, l->kernel}};
    cw_shape bias = {.ndim = 1, .dim = {l->out.dim[0]}};
    cwi_conv g = {.strides = {l->stride, l->stride}, .pad = {l->time ? 0 : l->pad, l->pad}};
    g.src = cwi_md_any(&l->in, p->n, p->type);
    g.weights = cwi_md_any(&weight, 0, p->type);
    if (l->bias)
        g.bias = cwi_md_plain(&bias, 0, dnnl_f32);
    g.dst = cwi_md_any(&l->out, p->n, p->type);
    return g;
}

static cw_status conv_layout(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    const cwi_conv g = geometry(p, cwi_layer_of(p, i));
    const cwi_eltwise post = cwi_plan_post(node);
    CWI_TRY(cwi_pd_conv(p->params->engine, CWI_FORWARD, &g, &post, NULL, &node->pd, err));
    node->out.md = cwi_pd_md(node->pd, dnnl_query_dst_md, 0);
    return CW_OK;
}

static cw_status conv_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_md src = cwi_pd_md(node->pd, dnnl_query_src_md, 0);
    cwi_md weights = cwi_pd_md(node->pd, dnnl_query_weights_md, 0);
    cwi_md bias = cwi_pd_md(node->pd, dnnl_query_weights_md, 1);
    cwi_mem w, b;
    CWI_TRY(cwi_plan_input(p, i, cwi_layer_of(p, i)->from, &src, &node->src, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_WEIGHT, &weights, &w, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_BIAS, &bias, &b, err));
    CWI_TRY(cwi_plan_output(p, i, err));
    cwi_arg args[] = {{DNNL_ARG_SRC, node->src}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_BIAS, b}, {DNNL_ARG_DST, node->out}};
    return cwi_program_primitive(&p->net->program, CWI_WORK_CONV, i, node->pd, 4, args, err);
}

static cw_status backward_pd(cwi_plan *p, int i, cwi_way way, bool open, cwi_pd *pd, cw_error *err)
{
    const cwi_node *node = cwi_node_of(p, i);
    cwi_conv g = geometry(p, cwi_layer_of(p, i));
    if (way == CWI_BACK_TO_WEIGHTS)
        g.weights.data_type = dnnl_f32;
    if (!open) {
        g.src = node->src.md;
        g.dst = node->out.md;
    }
    return cwi_pd_conv(p->params->engine, way, &g, NULL, node->pd, pd, err);
}

/* The way back prefers the layouts of the way forward; where those lead to a slow implementation, oneDNN's own. */
static cw_status better_pd(cwi_plan *p, int i, cwi_way way, cwi_pd *pd, cw_error *err)
{
    if (backward_pd(p, i, way, false, pd, NULL) != CW_OK)
        return backward_pd(p, i, way, true, pd, err);
    cwi_pd free_choice;
    if (cwi_pd_is_slow(*pd) && backward_pd(p, i, way, true, &free_choice, NULL) == CW_OK) {
        cwi_pd_destroy(*pd);
        *pd = free_choice;
    }
    return CW_OK;
}

static cw_status weights_step(cwi_plan *p, int i, const cwi_mem *dy, cwi_pd pd, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_md src_md = cwi_pd_md(pd, dnnl_query_src_md, 0), dy_md = cwi_pd_md(pd, dnnl_query_diff_dst_md, 0);
    cwi_md dw_md = cwi_pd_md(pd, dnnl_query_diff_weights_md, 0), db_md = cwi_pd_md(pd, dnnl_query_diff_weights_md, 1);
    cwi_mem src, grad, dw, db;
    CWI_TRY(cwi_plan_as(p, i, &node->src, &src_md, &src, err));
    CWI_TRY(cwi_plan_as(p, i, dy, &dy_md, &grad, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_WEIGHT, &dw_md, &dw, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_BIAS, &db_md, &db, err));
    cwi_arg args[] = {
        {DNNL_ARG_SRC, src}, {DNNL_ARG_DIFF_DST, grad}, {DNNL_ARG_DIFF_WEIGHTS, dw}, {DNNL_ARG_DIFF_BIAS, db}};
    CWI_TRY(cwi_program_primitive(&p->net->program, CWI_WORK_CONV, i, pd, 4, args, err));
    return cwi_plan_param_grad_done(p, i, CWI_WEIGHT, &dw, err);
}

/* The same from small images side by side (tile.h). */
static cw_status tiled_pd(cwi_plan *p, int i, size_t per_row, cwi_pd *pd, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    const cwi_node *node = cwi_node_of(p, i);
    cwi_conv g = geometry(p, l);
    cwi_pd forward;
    g.src = cwi_tile_md(l, &l->in, &node->src.md, per_row);
    g.dst = cwi_tile_md(l, &l->out, &node->out.md, per_row);
    CWI_TRY(cwi_pd_conv(p->params->engine, CWI_FORWARD, &g, NULL, NULL, &forward, err));
    g.weights.data_type = dnnl_f32;
    cw_status s = cwi_pd_conv(p->params->engine, CWI_BACK_TO_WEIGHTS, &g, NULL, forward, pd, err);
    cwi_pd_destroy(forward);
    return s;
}

static cw_status tiled_step(cwi_plan *p, int i, const cwi_mem *dy, size_t per_row, cwi_pd pd, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_md src_md = cwi_pd_md(pd, dnnl_query_src_md, 0), dy_md = cwi_pd_md(pd, dnnl_query_diff_dst_md, 0);
    cwi_md dw_md = cwi_pd_md(pd, dnnl_query_diff_weights_md, 0), db_md = cwi_pd_md(pd, dnnl_query_diff_weights_md, 1);
    cwi_mem src, grad, dw, db;
    CWI_TRY(cwi_tile_step(p, i, &node->src, per_row, &src_md, &src, err));
    CWI_TRY(cwi_tile_step(p, i, dy, per_row, &dy_md, &grad, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_WEIGHT, &dw_md, &dw, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_BIAS, &db_md, &db, err));
    cwi_arg args[] = {
        {DNNL_ARG_SRC, src}, {DNNL_ARG_DIFF_DST, grad}, {DNNL_ARG_DIFF_WEIGHTS, dw}, {DNNL_ARG_DIFF_BIAS, db}};
    CWI_TRY(cwi_program_primitive(&p->net->program, CWI_WORK_CONV, i, pd, 4, args, err));
    return cwi_plan_param_grad_done(p, i, CWI_WEIGHT, &dw, err);
}

static cw_status weights_tiled(cwi_plan *p, int i, const cwi_mem *dy, bool *done, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    size_t per_row = cwi_tile_images(cwi_layer_of(p, i), &node->src.md, &node->out.md);
    cwi_pd pd;
    *done = false;
    if (per_row < 2 || tiled_pd(p, i, per_row, &pd, NULL) != CW_OK)
        return CW_OK;
    cwi_md src_md = cwi_pd_md(pd, dnnl_query_src_md, 0), dy_md = cwi_pd_md(pd, dnnl_query_diff_dst_md, 0);
    cw_status s = CW_OK;
    *done = !cwi_pd_is_slow(pd) && cwi_tile_fits(&node->src.md, &src_md) && cwi_tile_fits(&node->out.md, &dy_md);
    if (*done)
        s = tiled_step(p, i, dy, per_row, pd, err);
    cwi_pd_destroy(pd);
    return s;
}

static cw_status data_step(cwi_plan *p, int i, const cwi_mem *dy, cwi_pd pd, cw_error *err)
{
    cwi_md dx_md = cwi_pd_md(pd, dnnl_query_diff_src_md, 0), dy_md = cwi_pd_md(pd, dnnl_query_diff_dst_md, 0);
    cwi_md w_md = cwi_pd_md(pd, dnnl_query_weights_md, 0);
    cwi_mem grad, w, dx;
    CWI_TRY(cwi_plan_as(p, i, dy, &dy_md, &grad, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_WEIGHT, &w_md, &w, err));
    CWI_TRY(cwi_program_mem(&p->net->program, &dx_md, &dx, err));
    cwi_arg args[] = {{DNNL_ARG_DIFF_DST, grad}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DIFF_SRC, dx}};
    CWI_TRY(cwi_program_primitive(&p->net->program, CWI_WORK_CONV, i, pd, 3, args, err));
    return cwi_plan_give_grad(p, i, cwi_layer_of(p, i)->from, &dx, err);
}

static cw_status weights_backward(cwi_plan *p, int i, const cwi_mem *dy, cw_error *err)
{
    cwi_pd pd;
    bool tiled;
    CWI_TRY(weights_tiled(p, i, dy, &tiled, err));
    if (tiled)
        return CW_OK;
    CWI_TRY(better_pd(p, i, CWI_BACK_TO_WEIGHTS, &pd, err));
    const cw_status s = weights_step(p, i, dy, pd, err);
    cwi_pd_destroy(pd);
    return s;
}

static cw_status conv_backward(cwi_plan *p, int i, cw_error *err)
{
    cwi_mem dy;
    cwi_pd pd;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    if (!cwi_layer_of(p, i)->frozen)
        CWI_TRY(weights_backward(p, i, &dy, err));
    if (!cwi_plan_wants_grad(p, cwi_layer_of(p, i)->from))
        return CW_OK;
    CWI_TRY(better_pd(p, i, CWI_BACK_TO_INPUT, &pd, err));
    const cw_status s = data_step(p, i, &dy, pd, err);
    cwi_pd_destroy(pd);
    return s;
}

const cwi_layer_class cwi_conv_class = {conv_layout, conv_forward, conv_backward};
