/* layer_pool.c - max pooling over windows, average pooling over the whole map, and flattening. */
#include "nn/plan.h"

/* The mean's window is the whole map. Layouts as the caller has them. */
static cwi_pool description(const cwi_plan *p, const cwi_layer *l, cwi_md src, cwi_md dst)
{
    cwi_pool c = {.src = src, .dst = dst, .maximum = l->kind == CWI_MAXPOOL, .train = p->mode == CW_TRAIN};
    for (int d = 0; d < 2; d++) {
        c.window[d] = c.maximum ? l->kernel : l->in.dim[d + 1];
        c.strides[d] = c.maximum ? l->stride : 1;
        c.pad[d] = l->pad;
    }
    if (l->time)
        c.window[0] = 1;
    return c;
}

static cw_status pool_layout(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    cwi_md src = cwi_node_of(p, l->from)->out.md;
    const cwi_pool pool = description(p, l, src, cwi_md_any(&l->out, p->n, src.data_type));
    CWI_TRY(cwi_pd_pool(p->params->engine, CWI_FORWARD, &pool, NULL, &node->pd, err));
    node->out.md = cwi_pd_md(node->pd, dnnl_query_dst_md, 0);
    return CW_OK;
}

static cw_status pool_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_md workspace = cwi_pd_md(node->pd, dnnl_query_workspace_md, 0);
    node->src = cwi_node_of(p, cwi_layer_of(p, i)->from)->out;
    CWI_TRY(cwi_plan_output(p, i, err));
    if (!cwi_md_empty(&workspace))
        CWI_TRY(cwi_program_mem(&p->net->program, &workspace, &node->saved[0], err));
    cwi_arg args[] = {{DNNL_ARG_SRC, node->src}, {DNNL_ARG_DST, node->out}, {DNNL_ARG_WORKSPACE, node->saved[0]}};
    return cwi_program_primitive(&p->net->program, CWI_WORK_POOL, i, node->pd, 3, args, err);
}

static cw_status pool_backward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    int from = cwi_layer_of(p, i)->from;
    cwi_mem dy, dx;
    if (!cwi_plan_wants_grad(p, from))
        return CW_OK;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    CWI_TRY(cwi_program_mem(&p->net->program, &node->src.md, &dx, err));
    const cwi_pool pool = description(p, cwi_layer_of(p, i), node->src.md, node->out.md);
    cwi_pd pd;
    CWI_TRY(cwi_pd_pool(p->params->engine, CWI_BACK_TO_INPUT, &pool, node->pd, &pd, err));
    cwi_arg args[] = {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DIFF_SRC, dx}, {DNNL_ARG_WORKSPACE, node->saved[0]}};
    cw_status s = cwi_program_primitive(&p->net->program, CWI_WORK_POOL, i, pd, 3, args, err);
    cwi_pd_destroy(pd);
    return s == CW_OK ? cwi_plan_give_grad(p, i, from, &dx, err) : s;
}

const cwi_layer_class cwi_maxpool_class = {pool_layout, pool_forward, pool_backward};
const cwi_layer_class cwi_avgpool_class = {pool_layout, pool_forward, pool_backward};

/* ---- flatten: (N,C,H,W) to (N,CHW) in row-major order ---- */

static cw_status flatten_layout(cwi_plan *p, int i, cw_error *err)
{
    (void)err;
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node_of(p, i)->out.md = cwi_md_plain(&l->out, p->n, cwi_node_of(p, l->from)->out.md.data_type);
    return CW_OK;
}

/* The map in row-major order, whose bytes are the matrix's. */
static cwi_md unflattened(const cwi_plan *p, int i, const cwi_md *in)
{
    return cwi_md_plain(&cwi_layer_of(p, i)->in, p->n, in->data_type);
}

static bool same_bytes(const cwi_md *in, const cwi_md *plain)
{
    return cwi_md_equal(in, plain) || cwi_md_is_matrix(in);
}

static cw_status flatten_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    const cwi_mem *in = &cwi_node_of(p, cwi_layer_of(p, i)->from)->out;
    cwi_md plain = unflattened(p, i, &in->md);
    if (same_bytes(&in->md, &plain)) {
        node->out.buffer = in->buffer;
        return CW_OK;
    }
    CWI_TRY(cwi_plan_output(p, i, err));
    cwi_mem to = {.md = plain, .buffer = node->out.buffer};
    return cwi_program_reorder(&p->net->program, i, in, &to, err);
}

static cw_status flatten_backward(cwi_plan *p, int i, cw_error *err)
{
    int from = cwi_layer_of(p, i)->from;
    const cwi_mem *in = &cwi_node_of(p, from)->out;
    if (!cwi_plan_wants_grad(p, from))
        return CW_OK;
    cwi_mem dy;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    dy.md = unflattened(p, i, &in->md);
    if (same_bytes(&in->md, &dy.md))
        dy.md = in->md;
    return cwi_plan_give_grad(p, i, from, &dy, err);
}

const cwi_layer_class cwi_flatten_class = {flatten_layout, flatten_forward, flatten_backward};
