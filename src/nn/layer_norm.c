/* layer_norm.c - batch normalization over (N,H,W), with the ReLU after it computed inside.
 *
 * PyTorch's conventions: epsilon 1e-5, running = 0.9 running + 0.1 batch, the running variance unbiased. A frozen layer
 * takes its running statistics while training, too, and leaves them as they are.
 */
#include <math.h>

#include "nn/plan.h"

static const float epsilon = 1e-5f;
static const float momentum = 0.1f;

static cwi_batchnorm description(const cwi_plan *p, int i, const cwi_node *node)
{
    return (cwi_batchnorm){.md = node->out.md,
                           .epsilon = epsilon,
                           .train = p->mode == CW_TRAIN,
                           .relu = node->post != NULL,
                           .given = cwi_layer_of(p, i)->frozen};
}

static cw_status batchnorm_layout(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    node->out.md = cwi_node_of(p, cwi_layer_of(p, i)->from)->out.md;
    const cwi_batchnorm norm = description(p, i, node);
    return cwi_pd_batchnorm(p->params->engine, CWI_FORWARD, &norm, NULL, &node->pd, err);
}

typedef struct cwi_running {
    size_t channels;
    int layer;
    float unbias; /* m / (m - 1) over m values a channel */
} cwi_running;

/* mean, var (of the batch); running_mean, running_var; where the first layer with bad statistics is noted. The ReLU
 * inside turns NaN into 0, so that the loss need not show that training has diverged: the statistics do. */
static void update_running(void *const *pointers, const void *what)
{
    const cwi_running *r = what;
    const float *mean = pointers[0], *var = pointers[1];
    float *running_mean = pointers[2], *running_var = pointers[3];
    int *diverged = pointers[4];
    bool finite = true;
    for (size_t c = 0; c < r->channels; c++)
        finite = finite && isfinite(mean[c]) && isfinite(var[c]);
    if (!finite) {
        *diverged = *diverged < 0 ? r->layer : *diverged;
        return; /* the running statistics stay good */
    }
    for (size_t c = 0; c < r->channels; c++) {
        running_mean[c] = (1.0f - momentum) * running_mean[c] + momentum * mean[c];
        running_var[c] = (1.0f - momentum) * running_var[c] + momentum * (var[c] * r->unbias);
    }
}

static cw_status update_step(cwi_plan *p, int i, const cwi_mem *running_mean, const cwi_mem *running_var, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    double m = (double)p->n;
    for (int d = 1; d < l->out.ndim; d++)
        m *= (double)l->out.dim[d];
    cw_shape one = {.ndim = 1, .dim = {1}};
    cwi_md flag = cwi_md_plain(&one, 0, dnnl_s32);
    cwi_mem diverged;
    CWI_TRY(cwi_program_slot(&p->net->program, &flag, &p->borders->diverged, &diverged, err));
    cwi_running what = {.channels = (size_t)l->out.dim[0], .layer = i, .unbias = (float)(m > 1 ? m / (m - 1) : 1.0)};
    int buffers[] = {node->saved[1].buffer, node->saved[2].buffer, running_mean->buffer, running_var->buffer,
                     diverged.buffer};
    return cwi_program_call(&p->net->program, CWI_WORK_NORM, i, update_running, &what, sizeof what, 5, buffers, err);
}

static cw_status batchnorm_forward(cwi_plan *p, int i, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    cwi_program *prog = &p->net->program;
    cw_shape channels = {.ndim = 1, .dim = {l->out.dim[0]}};
    cwi_md vector = cwi_md_plain(&channels, 0, dnnl_f32), workspace = cwi_pd_md(node->pd, dnnl_query_workspace_md, 0);
    cwi_mem scale, shift, running_mean, running_var;
    CWI_TRY(cwi_plan_input(p, i, l->from, &node->out.md, &node->src, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_WEIGHT, &vector, &scale, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_BIAS, &vector, &shift, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_RUNNING_MEAN, &vector, &running_mean, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_RUNNING_VAR, &vector, &running_var, err));
    CWI_TRY(cwi_plan_output(p, i, err));
    const bool measured = p->mode == CW_TRAIN && !l->frozen;
    node->saved[1] = running_mean;
    node->saved[2] = running_var;
    if (measured) {
        CWI_TRY(cwi_program_mem(prog, &vector, &node->saved[1], err));
        CWI_TRY(cwi_program_mem(prog, &vector, &node->saved[2], err));
    }
    if (p->mode == CW_TRAIN && node->post)
        CWI_TRY(cwi_program_mem(prog, &workspace, &node->saved[0], err));
    cwi_arg args[] = {{DNNL_ARG_SRC, node->src},
                      {DNNL_ARG_SCALE, scale},
                      {DNNL_ARG_SHIFT, shift},
                      {DNNL_ARG_MEAN, node->saved[1]},
                      {DNNL_ARG_VARIANCE, node->saved[2]},
                      {DNNL_ARG_DST, node->out},
                      {DNNL_ARG_WORKSPACE, node->saved[0]}};
    CWI_TRY(cwi_program_primitive(prog, CWI_WORK_NORM, i, node->pd, 7, args, err));
    return measured ? update_step(p, i, &running_mean, &running_var, err) : CW_OK;
}

static cw_status backward_step(cwi_plan *p, int i, const cwi_mem *dy, cwi_pd pd, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cwi_node *node = cwi_node_of(p, i);
    cw_shape channels = {.ndim = 1, .dim = {l->out.dim[0]}};
    cwi_md vector = cwi_md_plain(&channels, 0, dnnl_f32);
    cwi_mem scale, shift, dx, dscale, dshift;
    CWI_TRY(cwi_plan_param(p, i, CWI_WEIGHT, &vector, &scale, err));
    CWI_TRY(cwi_plan_param(p, i, CWI_BIAS, &vector, &shift, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_WEIGHT, &vector, &dscale, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_BIAS, &vector, &dshift, err));
    CWI_TRY(cwi_program_mem(&p->net->program, &node->out.md, &dx, err));
    cwi_arg args[] = {{DNNL_ARG_SRC, node->src},
                      {DNNL_ARG_MEAN, node->saved[1]},
                      {DNNL_ARG_VARIANCE, node->saved[2]},
                      {DNNL_ARG_DIFF_DST, *dy},
                      {DNNL_ARG_SCALE, scale},
                      {DNNL_ARG_SHIFT, shift},
                      {DNNL_ARG_WORKSPACE, node->saved[0]},
                      {DNNL_ARG_DIFF_SRC, dx},
                      {DNNL_ARG_DIFF_SCALE, dscale},
                      {DNNL_ARG_DIFF_SHIFT, dshift}};
    CWI_TRY(cwi_program_primitive(&p->net->program, CWI_WORK_NORM, i, pd, 10, args, err));
    return cwi_plan_give_grad(p, i, l->from, &dx, err);
}

static cw_status batchnorm_backward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_mem dy;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    const cwi_batchnorm norm = description(p, i, node);
    cwi_pd pd;
    CWI_TRY(cwi_pd_batchnorm(p->params->engine, CWI_BACK_TO_INPUT, &norm, node->pd, &pd, err));
    cw_status s = backward_step(p, i, &dy, pd, err);
    cwi_pd_destroy(pd);
    return s;
}

const cwi_layer_class cwi_batchnorm_class = {batchnorm_layout, batchnorm_forward, batchnorm_backward};
