/* layer_act.c - activations, elementwise: those the layer before computes, and those that need a step of their own. */
#include "nn/plan.h"

cwi_eltwise cwi_eltwise_of(const cwi_layer *activation)
{
    switch (activation->activation) {
    case CWI_LEAKY_RELU:
        return (cwi_eltwise){dnnl_eltwise_relu, 0.01f}; /* PyTorch's default slope */
    case CWI_GELU:
        return (cwi_eltwise){dnnl_eltwise_gelu_erf, 0.0f};
    case CWI_SILU:
        return (cwi_eltwise){dnnl_eltwise_swish, 1.0f};
    case CWI_TANH:
        return (cwi_eltwise){dnnl_eltwise_tanh, 0.0f};
    default:
        return (cwi_eltwise){dnnl_eltwise_relu, 0.0f};
    }
}

cwi_eltwise cwi_eltwise_from_output(const cwi_layer *activation)
{
    cwi_eltwise e = cwi_eltwise_of(activation);
    switch (activation->activation) {
    case CWI_RELU:
    case CWI_LEAKY_RELU:
        e.algorithm = dnnl_eltwise_relu_use_dst_for_bwd;
        break;
    case CWI_TANH:
        e.algorithm = dnnl_eltwise_tanh_use_dst_for_bwd;
        break;
    default:
        e.algorithm = dnnl_alg_kind_undef;
    }
    return e;
}

cwi_eltwise cwi_plan_post(const cwi_node *node)
{
    return node->post ? cwi_eltwise_of(node->post) : (cwi_eltwise){dnnl_alg_kind_undef, 0.0f};
}

static cw_status activation_layout(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    const cwi_eltwise function = cwi_eltwise_of(l);
    node->out.md = cwi_node_of(p, l->from)->out.md;
    return cwi_pd_eltwise(p->params->engine, CWI_FORWARD, &function, &node->out.md, NULL, &node->pd, err);
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
    cwi_eltwise function = cwi_eltwise_from_output(l);
    const bool output = function.algorithm != dnnl_alg_kind_undef;
    if (!output)
        function = cwi_eltwise_of(l);
    cwi_pd pd;
    CWI_TRY(cwi_pd_eltwise(p->params->engine, CWI_BACK_TO_INPUT, &function, &node->out.md, output ? NULL : node->pd,
                           &pd, err));
    cwi_mem dx;
    cw_status s = cwi_program_mem(&p->net->program, &node->out.md, &dx, err);
    if (s == CW_OK) {
        cwi_arg args[] = {{output ? DNNL_ARG_DST : DNNL_ARG_SRC, output ? node->out : node->src},
                          {DNNL_ARG_DIFF_DST, *dy},
                          {DNNL_ARG_DIFF_SRC, dx}};
        s = cwi_program_primitive(&p->net->program, CWI_WORK_ELEMENTWISE, i, pd, 3, args, err);
    }
    cwi_pd_destroy(pd);
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
