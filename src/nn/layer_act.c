/* layer_act.c - activations, elementwise: those the layer before computes, and those that need a step of their own. */
#include "nn/plan.h"

dnnl_alg_kind_t cwi_eltwise(const cwi_layer *activation, float *alpha)
{
    *alpha = 0.0f;
    switch (activation->activation) {
    case CWI_LEAKY_RELU:
        *alpha = 0.01f; /* PyTorch's default slope */
        return dnnl_eltwise_relu;
    case CWI_GELU:
        return dnnl_eltwise_gelu_erf;
    case CWI_SILU:
        *alpha = 1.0f;
        return dnnl_eltwise_swish;
    case CWI_TANH:
        return dnnl_eltwise_tanh;
    default:
        return dnnl_eltwise_relu;
    }
}

dnnl_alg_kind_t cwi_eltwise_from_output(const cwi_layer *activation)
{
    switch (activation->activation) {
    case CWI_RELU:
    case CWI_LEAKY_RELU:
        return dnnl_eltwise_relu_use_dst_for_bwd;
    case CWI_TANH:
        return dnnl_eltwise_tanh_use_dst_for_bwd;
    default:
        return dnnl_alg_kind_undef;
    }
}

static cw_status activation_layout(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    float alpha;
    node->out.md = cwi_node_of(p, l->from)->out.md;
    dnnl_alg_kind_t algorithm = cwi_eltwise(l, &alpha);
    dnnl_eltwise_desc_t desc;
    CWI_DNNL(dnnl_eltwise_forward_desc_init(&desc, dnnl_forward_training, algorithm, &node->out.md, alpha, 0.0f), err);
    return cwi_plan_pd(p, &desc, NULL, NULL, &node->pd, err);
}

static cw_status activation_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    node->src = cwi_node_of(p, cwi_layer_of(p, i)->from)->out;
    if (node->fused) {
        node->out = node->src;
        return CW_OK;
    }
    CWI_TRY(cwi_plan_output(p, i, err));
    cwi_arg args[] = {{DNNL_ARG_SRC, node->src}, {DNNL_ARG_DST, node->out}};
    return cwi_program_primitive(&p->net->program, CWI_WORK_ELEMENTWISE, i, node->pd, 2, args, err);
}

static cw_status backward_step(cwi_plan *p, int i, const cwi_mem *dy, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    float alpha;
    dnnl_alg_kind_t forward = cwi_eltwise(l, &alpha), from_output = cwi_eltwise_from_output(l);
    bool output = from_output != dnnl_alg_kind_undef;
    dnnl_eltwise_desc_t desc;
    dnnl_primitive_desc_t pd;
    CWI_DNNL(dnnl_eltwise_backward_desc_init(&desc, output ? from_output : forward, &node->out.md, &node->out.md, alpha,
                                             0.0f),
             err);
    CWI_TRY(cwi_plan_pd(p, &desc, NULL, output ? NULL : node->pd, &pd, err));
    cwi_mem dx;
    cw_status s = cwi_program_mem(&p->net->program, &node->out.md, &dx, err);
    if (s == CW_OK) {
        cwi_arg args[] = {{output ? DNNL_ARG_DST : DNNL_ARG_SRC, output ? node->out : node->src},
                          {DNNL_ARG_DIFF_DST, *dy},
                          {DNNL_ARG_DIFF_SRC, dx}};
        s = cwi_program_primitive(&p->net->program, CWI_WORK_ELEMENTWISE, i, pd, 3, args, err);
    }
    dnnl_primitive_desc_destroy(pd);
    return s == CW_OK ? cwi_plan_give_grad(p, i, l->from, &dx, err) : s;
}

static cw_status activation_backward(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    if (!cwi_plan_wants_grad(p, l->from))
        return CW_OK;
    cwi_mem dy;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    bool inside = cwi_node_of(p, i)->fused && cwi_layer_of(p, l->from)->kind == CWI_BATCHNORM;
    if (inside) /* batch norm undoes the ReLU itself */
        return cwi_plan_give_grad(p, i, l->from, &dy, err);
    return backward_step(p, i, &dy, err);
}

const cwi_layer_class cwi_activation_class = {activation_layout, activation_forward, activation_backward};
