/* plan.h - turning layers into the steps of a program. Internal.
 *
 * Planning has three passes. `layout` walks the model from its first layer, whatever layers the part holds, and fixes
 * the memory layout of every layer's output: so the halves of a cut network choose the same implementations as the
 * whole, and give the same bits. `forward` and `backward` then append the steps of the part's own layers.
 */
#ifndef CWI_PLAN_H
#define CWI_PLAN_H

#include "nn/graph.h"
#include "nn/param.h"
#include "nn/program.h"

/* Where the caller's data and the loss's come and go: read when a program is bound. */
typedef struct cwi_borders {
    void *x, *y, *dy, *dx;
    void *logits;   /* plain fp32 output of a part that ends the model */
    void *position; /* uint64_t: training steps so far, for dropout */
    void *diverged; /* int: the first layer whose batch statistics are not finite; -1 */
} cwi_borders;

/* A program and the copies of parameters that must be fresh before it runs. */
typedef struct cwi_net {
    cwi_program program;
    size_t n;
    cw_mode mode;
    /* steps: [0, forward) always, [forward, output) when y is wanted, [output, backward) the way back,
     * [backward, input) when dx is wanted */
    size_t forward, output, backward, input;
    cwi_copy **copies;
    size_t copy_count, copy_capacity, forward_copies;
} cwi_net;

/* What the planner knows of the output of one layer. */
typedef struct cwi_node {
    cwi_mem out;
    cwi_mem src;           /* the layer's input as its primitive took it, for the way back */
    cwi_pd pd;             /* forward */
    bool fused;            /* an activation that the layer before computes */
    const cwi_layer *post; /* the activation that this layer computes for the next */
    cwi_mem saved[3];      /* workspace, statistics: whatever the way back needs */
    cwi_mem grads[2];      /* contributions to the gradient of `out`, in its layout */
    int grad_count;
} cwi_node;

typedef struct cwi_plan {
    const cw_model *model;
    cwi_params *params;
    cwi_borders *borders;
    cwi_net *net;
    size_t first, last, n;
    cw_mode mode;
    bool input_grad;
    uint64_t seed;
    dnnl_data_type_t type; /* of what flows between layers */
    cwi_node *nodes;       /* layer_count + 1: the model's input, then each layer */
} cwi_plan;

typedef struct cwi_layer_class {
    cw_status (*layout)(cwi_plan *p, int i, cw_error *err);
    cw_status (*forward)(cwi_plan *p, int i, cw_error *err);
    cw_status (*backward)(cwi_plan *p, int i, cw_error *err);
} cwi_layer_class;

extern const cwi_layer_class cwi_conv_class, cwi_batchnorm_class, cwi_activation_class, cwi_maxpool_class,
    cwi_avgpool_class, cwi_resize_class, cwi_add_class, cwi_flatten_class, cwi_linear_class, cwi_dropout_class,
    cwi_embed_class;

/* Plans a program of layers [first, last) for n samples. All fields of *p but net and nodes are set by the caller;
 * *net is cleared first and holds the program, not yet bound, on success. */
cw_status cwi_plan_net(cwi_plan *p, cwi_net *net, cw_error *err);
void cwi_net_clear(cwi_net *net);

/* False for a border between a layer and the activation it computes, or under an open skip connection. */
bool cwi_plan_can_part(const cw_model *model, size_t at);

/* ---- for layers ---- */

static inline cwi_node *cwi_node_of(cwi_plan *p, int layer)
{
    return &p->nodes[layer + 1];
}

static inline const cwi_layer *cwi_layer_of(const cwi_plan *p, int layer)
{
    return &p->model->layers[layer];
}

/* `from` in layout (and type) md; reordered into a new buffer when it is in another. */
cw_status cwi_plan_as(cwi_plan *p, int layer, const cwi_mem *from, const cwi_md *md, cwi_mem *out, cw_error *err);
/* The output of layer `from` likewise. */
cw_status cwi_plan_input(cwi_plan *p, int layer, int from, const cwi_md *md, cwi_mem *out, cw_error *err);
/* A new buffer for the output of `layer`. */
cw_status cwi_plan_output(cwi_plan *p, int layer, cw_error *err);
/* Whether anybody wants the gradient of the output of layer `from`. */
bool cwi_plan_wants_grad(const cwi_plan *p, int from);
/* Contributes to the gradient of the output of layer `from`. */
cw_status cwi_plan_give_grad(cwi_plan *p, int layer, int from, const cwi_mem *grad, cw_error *err);
/* The gradient of the output of `layer`, all contributions summed, in the output's layout. */
cw_status cwi_plan_take_grad(cwi_plan *p, int layer, cwi_mem *out, cw_error *err);

/* The parameter in this layout, fresh whenever the steps appended now run. No buffer when the layer has
 * no such parameter. */
cw_status cwi_plan_param(cwi_plan *p, int layer, cwi_role role, const cwi_md *md, cwi_mem *out, cw_error *err);
/* Where a primitive may write a parameter's gradient in layout md; proposes md as the home of parameters without one.
 * cwi_plan_grad_done moves it home where that is needed. */
cw_status cwi_plan_param_grad(cwi_plan *p, int layer, cwi_role role, const cwi_md *md, cwi_mem *out, cw_error *err);
cw_status cwi_plan_param_grad_done(cwi_plan *p, int layer, cwi_role role, const cwi_mem *grad, cw_error *err);

/* An activation's function, and its form that looks at the output on the way back (dnnl_alg_kind_undef: there is
 * none). */
cwi_eltwise cwi_eltwise_of(const cwi_layer *activation);
cwi_eltwise cwi_eltwise_from_output(const cwi_layer *activation);
/* What the layer's operation computes behind itself: the activation after it, or nothing. */
cwi_eltwise cwi_plan_post(const cwi_node *node);

#endif
