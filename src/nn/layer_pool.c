/* layer_pool.c - max pooling over windows, average pooling over the whole map, and flattening. */
#include "nn/plan.h"

static cw_status pool_layout(cwi_plan *p, int i, dnnl_alg_kind_t algorithm, const int64_t kernel[2], int stride,
                             int pad, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    cwi_md src = cwi_node_of(p, l->from)->out.md, dst = cwi_md_any(&l->out, p->n, src.data_type);
    dnnl_dims_t strides = {stride, stride}, window = {kernel[0], kernel[1]}, around = {pad, pad};
    dnnl_prop_kind_t prop = p->mode == CW_EVAL ? dnnl_forward_inference : dnnl_forward_training;
    dnnl_pooling_desc_t desc;
    CWI_DNNL(dnnl_pooling_forward_desc_init(&desc, prop, algorithm, &src, &dst, strides, window, around, around), err);
    CWI_TRY(cwi_plan_pd(p, &desc, NULL, NULL, &node->pd, err));
    node->out.md = cwi_pd_md(node->pd, dnnl_query_dst_md, 0);
    return CW_OK;
}

static cw_status maxpool_layout(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    return pool_layout(p, i, dnnl_pooling_max, (int64_t[]){l->time ? 1 : l->kernel, l->kernel}, l->stride, l->pad, err);
}

static cw_status avgpool_layout(cwi_plan *p, int i, cw_error *err)
{
    return pool_layout(p, i, dnnl_pooling_avg_exclude_padding, cwi_layer_of(p, i)->in.dim + 1, 1, 0, err);
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

/* The backward descriptor repeats the forward one's geometry. */
static cw_status backward_pd(cwi_plan *p, int i, dnnl_primitive_desc_t *pd, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    const dnnl_pooling_desc_t *f = NULL;
    CWI_DNNL(dnnl_primitive_desc_query(node->pd, dnnl_query_pooling_d, 0, &f), err);
    dnnl_pooling_desc_t desc;
    CWI_DNNL(dnnl_pooling_backward_desc_init(&desc, f->alg_kind, &node->src.md, &node->out.md, f->strides, f->kernel,
                                             f->padding[0], f->padding[1]),
             err);
    return cwi_plan_pd(p, &desc, NULL, node->pd, pd, err);
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
    dnnl_primitive_desc_t pd;
    CWI_TRY(backward_pd(p, i, &pd, err));
    cwi_arg args[] = {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DIFF_SRC, dx}, {DNNL_ARG_WORKSPACE, node->saved[0]}};
    cw_status s = cwi_program_primitive(&p->net->program, CWI_WORK_POOL, i, pd, 3, args, err);
    dnnl_primitive_desc_destroy(pd);
    return s == CW_OK ? cwi_plan_give_grad(p, i, from, &dx, err) : s;
}

const cwi_layer_class cwi_maxpool_class = {maxpool_layout, pool_forward, pool_backward};
const cwi_layer_class cwi_avgpool_class = {avgpool_layout, pool_forward, pool_backward};

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
