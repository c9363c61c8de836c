/* layer_linear.c - fully connected layer: x is (N,I), the weight (O,I), y (N,O).
 *
 * Logits are fp32 in every precision; their gradient is rounded to what the other operands are.
 */
#include "nn/plan.h"

static cwi_conv geometry(const cwi_plan *p, const cwi_layer *l)
{
    cw_shape weight = {.ndim = 2, .dim = {l->out.dim[0], l->in.dim[0]}};
    cwi_conv g = {.src = cwi_md_plain(&l->in, p->n, p->type),
                  .weights = cwi_md_any(&weight, 0, p->type),
                  .dst = cwi_md_plain(&l->out, p->n, p->type)};
    if (l->bias)
        g.bias = cwi_md_plain(&l->out, 0, dnnl_f32);
    return g;
}

static cw_status linear_layout(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    const cwi_eltwise post = cwi_plan_post(node);
    cwi_conv g = geometry(p, l);
    g.dst = cwi_md_plain(&l->out, p->n, l->output ? dnnl_f32 : p->type);
    CWI_TRY(cwi_pd_linear(p->params->engine, CWI_FORWARD, &g, &post, NULL, &node->pd, err));
    node->out.md = g.dst;
    return CW_OK;
}

static cw_status linear_forward(cwi_plan *p, int i, cw_error *err)
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
    return cwi_program_primitive(&p->net->program, CWI_WORK_MATMUL, i, node->pd, 4, args, err);
}

static cw_status weights_step(cwi_plan *p, int i, const cwi_mem *dy, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_conv g = geometry(p, cwi_layer_of(p, i));
    g.weights.data_type = dnnl_f32;
    cwi_pd pd;
    CWI_TRY(cwi_pd_linear(p->params->engine, CWI_BACK_TO_WEIGHTS, &g, NULL, node->pd, &pd, err));
    cwi_md dw_md = cwi_pd_md(pd, dnnl_query_diff_weights_md, 0), db_md = cwi_pd_md(pd, dnnl_query_diff_weights_md, 1);
    cwi_mem dw, db;
    cw_status s = cwi_plan_param_grad(p, i, CWI_WEIGHT, &dw_md, &dw, err);
    if (s == CW_OK)
        s = cwi_plan_param_grad(p, i, CWI_BIAS, &db_md, &db, err);
    if (s == CW_OK) {
        cwi_arg args[] = {
            {DNNL_ARG_SRC, node->src}, {DNNL_ARG_DIFF_DST, *dy}, {DNNL_ARG_DIFF_WEIGHTS, dw}, {DNNL_ARG_DIFF_BIAS, db}};
        s = cwi_program_primitive(&p->net->program, CWI_WORK_MATMUL, i, pd, 4, args, err);
    }
    cwi_pd_destroy(pd);
    return s == CW_OK ? cwi_plan_param_grad_done(p, i, CWI_WEIGHT, &dw, err) : s;
}

static cw_status data_step(cwi_plan *p, int i, const cwi_mem *dy, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    const cwi_conv g = geometry(p, cwi_layer_of(p, i));
    cwi_pd pd;
    CWI_TRY(cwi_pd_linear(p->params->engine, CWI_BACK_TO_INPUT, &g, NULL, node->pd, &pd, err));
    cwi_md w_md = cwi_pd_md(pd, dnnl_query_weights_md, 0);
    cwi_mem w, dx;
    cw_status s = cwi_plan_param(p, i, CWI_WEIGHT, &w_md, &w, err);
    if (s == CW_OK)
        s = cwi_program_mem(&p->net->program, &g.src, &dx, err);
    if (s == CW_OK) {
        cwi_arg args[] = {{DNNL_ARG_DIFF_DST, *dy}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DIFF_SRC, dx}};
        s = cwi_program_primitive(&p->net->program, CWI_WORK_MATMUL, i, pd, 3, args, err);
    }
    cwi_pd_destroy(pd);
    return s == CW_OK ? cwi_plan_give_grad(p, i, cwi_layer_of(p, i)->from, &dx, err) : s;
}

static cw_status linear_backward(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_md rounded = cwi_md_plain(&l->out, p->n, p->type);
    cwi_mem grad, dy;
    CWI_TRY(cwi_plan_take_grad(p, i, &grad, err));
    CWI_TRY(cwi_plan_as(p, i, &grad, &rounded, &dy, err));
    if (!l->frozen)
        CWI_TRY(weights_step(p, i, &dy, err));
    return cwi_plan_wants_grad(p, l->from) ? data_step(p, i, &dy, err) : CW_OK;
}

const cwi_layer_class cwi_linear_class = {linear_layout, linear_forward, linear_backward};
