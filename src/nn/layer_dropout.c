/* layer_dropout.c - dropout on a matrix: y = x * mask / (1 - rate) while training, y = x else.
 *
 * The mask is a function of (seed, layer name, training step, element), so nothing is stored: the way back draws it
 * again, and a resumed run draws what the interrupted one would have.
 */
#include <string.h>

#include "nn/plan.h"

typedef struct cwi_dropout {
    uint64_t seed, name;
    size_t count;
    float rate;
    bool bf16;
} cwi_dropout;

enum { LANES = 4 }; /* 16-bit draws from one 64-bit number */

static float widen(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t narrow(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* from, to, and the training step. */
static void drop(void *const *pointers, const void *what)
{
    const cwi_dropout *d = what;
    uint64_t step;
    memcpy(&step, pointers[2], sizeof step);
    const cwi_rng stream = cwi_rng_make(d->seed, CWI_STREAM_DROPOUT, d->name, step);
    const uint32_t threshold = (uint32_t)(d->rate * 65536.0f);
    const float scale = 1.0f / (1.0f - d->rate);
    const float *from = pointers[0];
    float *to = pointers[1];
    const uint16_t *from16 = pointers[0];
    uint16_t *to16 = pointers[1];
#pragma omp parallel for schedule(static)
    for (size_t group = 0; group < (d->count + LANES - 1) / LANES; group++) {
        uint64_t draw = cwi_rng_at(&stream, group);
        size_t end = CWI_MIN(d->count, (group + 1) * LANES);
        for (size_t i = group * LANES; i < end; i++, draw >>= 16) {
            float keep = (draw & 0xffff) >= threshold ? scale : 0.0f;
            if (d->bf16)
                to16[i] = narrow(widen(from16[i]) * keep);
            else
                to[i] = from[i] * keep;
        }
    }
}

static cw_status dropout_layout(cwi_plan *p, int i, cw_error *err)
{
    (void)err;
    cwi_node_of(p, i)->out.md = cwi_node_of(p, cwi_layer_of(p, i)->from)->out.md;
    return CW_OK;
}

static cw_status drop_step(cwi_plan *p, int i, const cwi_mem *from, const cwi_mem *to, cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    cw_shape counter = {.ndim = 1, .dim = {2}}; /* a uint64_t as two floats: only its address matters */
    cwi_md counter_md = cwi_md_plain(&counter, 0, dnnl_f32);
    cwi_mem position;
    CWI_TRY(cwi_program_slot(&p->net->program, &counter_md, &p->borders->position, &position, err));
    cwi_dropout what = {.seed = p->seed,
                        .name = cwi_hash_string(l->name),
                        .count = p->n * (size_t)l->out.dim[0],
                        .rate = l->rate,
                        .bf16 = from->md.data_type == dnnl_bf16};
    int buffers[] = {from->buffer, to->buffer, position.buffer};
    return cwi_program_call(&p->net->program, CWI_WORK_ELEMENTWISE, i, drop, &what, sizeof what, 3, buffers, err);
}

static cw_status dropout_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    const cwi_mem *in = &cwi_node_of(p, cwi_layer_of(p, i)->from)->out;
    if (p->mode == CW_EVAL) {
        node->out = *in;
        return CW_OK;
    }
    CWI_TRY(cwi_plan_output(p, i, err));
    return drop_step(p, i, in, &node->out, err);
}

static cw_status dropout_backward(cwi_plan *p, int i, cw_error *err)
{
    int from = cwi_layer_of(p, i)->from;
    cwi_mem dy, dx;
    if (!cwi_plan_wants_grad(p, from))
        return CW_OK;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    CWI_TRY(cwi_program_mem(&p->net->program, &dy.md, &dx, err));
    CWI_TRY(drop_step(p, i, &dy, &dx, err));
    return cwi_plan_give_grad(p, i, from, &dx, err);
}

const cwi_layer_class cwi_dropout_class = {dropout_layout, dropout_forward, dropout_backward};
