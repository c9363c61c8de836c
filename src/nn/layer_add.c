/* layer_add.c - the sum at the end of a residual block, with the activation after it where that can be fused. */
#include "nn/plan.h"

static cw_status add_layout(cwi_plan *p, int i, cw_error *err)
{
    (void)err;
    cwi_node_of(p, i)->out.md = cwi_node_of(p, cwi_layer_of(p, i)->from)->out.md;
    return CW_OK;
}

static cw_status add_forward(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    cwi_mem a = cwi_node_of(p, l->from)->out, b;
    const cwi_eltwise post = cwi_plan_post(node);
    CWI_TRY(cwi_plan_input(p, i, l->skip, &node->out.md, &b, err));
    CWI_TRY(cwi_plan_output(p, i, err));
    return cwi_program_add(&p->net->program, i, &a, &b, &node->out, &post, err);
}

static cw_status add_backward(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_mem dy;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    CWI_TRY(cwi_plan_give_grad(p, i, l->from, &dy, err));
    return cwi_plan_give_grad(p, i, l->skip, &dy, err);
}

const cwi_layer_class cwi_add_class = {add_layout, add_forward, add_backward};
