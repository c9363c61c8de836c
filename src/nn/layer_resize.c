/* layer_resize.c - maps to another height and width, each element the nearest of what comes. */
#include "nn/plan.h"

static cw_status resize_layout(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    const cwi_md src = cwi_node_of(p, l->from)->out.md;
    const cwi_pool what = {.src = src, .dst = cwi_md_any(&l->out, p->n, src.data_type), .train = p->mode == CW_TRAIN};
    CWI_TRY(cwi_pd_resize(p->params->engine, CWI_FORWARD, &what, NULL, &node->pd, err));
    node->out.md = cwi_pd_md(node->pd, dnnl_query_dst_md, 0);
    return CW_OK;
}

static cw_status resize_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    node->src = cwi_node_of(p, cwi_layer_of(p, i)->from)->out;
    CWI_TRY(cwi_plan_output(p, i, err));
    cwi_arg args[] = {{DNNL_ARG_SRC, node->src}, {DNNL_ARG_DST, node->out}};
    return cwi_program_primitive(&p->net->program, CWI_WORK_POOL, i, node->pd, 2, args, err);
}

/* An element's gradient is the sum over those that it became. */
static cw_status resize_backward(cwi_plan *p, int i, cw_error *err)
{
    const int from = cwi_layer_of(p, i)->from;
    cwi_node *node = cwi_node_of(p, i);
    cwi_mem dy, dx;
    cwi_pd pd;
    if (!cwi_plan_wants_grad(p, from))
        return CW_OK;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    CWI_TRY(cwi_program_mem(&p->net->program, &node->src.md, &dx, err));
    const cwi_pool what = {.src = node->src.md, .dst = node->out.md, .train = true};
    CWI_TRY(cwi_pd_resize(p->params->engine, CWI_BACK_TO_INPUT, &what, node->pd, &pd, err));
    cwi_arg args[] = {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DIFF_SRC, dx}};
    const cw_status s = cwi_program_primitive(&p->net->program, CWI_WORK_POOL, i, pd, 2, args, err);
    cwi_pd_destroy(pd);
    return s == CW_OK ? cwi_plan_give_grad(p, i, from, &dx, err) : s;
}

const cwi_layer_class cwi_resize_class = {resize_layout, resize_forward, resize_backward};
