/* part.c - parts: creation, and the way forward and back. */
#include <omp.h>
#include <string.h>

#include "nn/part.h"

int cwi_threads_enter(int threads)
{
    int before = omp_get_max_threads();
    if (before != threads)
        omp_set_num_threads(threads);
    return before;
}

void cwi_threads_leave(int before)
{
    if (before != omp_get_max_threads())
        omp_set_num_threads(before);
}

/* ---- creation ---- */

static cw_status check_range(const cw_model *model, size_t first, size_t last, const cw_part_options *o, cw_error *err)
{
    if (first >= last || last > model->layer_count)
        return cwi_fail(err, CW_ERR_INVALID, "part of model %s: layers [%zu, %zu) are not in [0, %zu)", model->name,
                        first, last, model->layer_count);
    if (o->max_batch < 1 || o->max_batch > 1 << 20)
        return cwi_fail(err, CW_ERR_INVALID, "part of model %s: max_batch %zu is not in 1..%d", model->name,
                        o->max_batch, 1 << 20);
    if (o->in_flight > CWI_MAX_IN_FLIGHT)
        return cwi_fail(err, CW_ERR_INVALID, "part of model %s: in_flight %zu is not in 0..%d", model->name,
                        o->in_flight, CWI_MAX_IN_FLIGHT);
    if (o->inference && o->input_grad)
        return cwi_fail(err, CW_ERR_INVALID, "part of model %s: an inference part has no input gradient", model->name);
    size_t border[] = {first, last};
    for (int i = 0; i < 2; i++) {
        if (!cwi_plan_can_part(model, border[i]))
            return cwi_fail(err, CW_ERR_INVALID,
                            "part of model %s: before layer %zu (%s) it cannot be taken apart: use cw_model_cut",
                            model->name, border[i], model->layers[border[i]].name);
    }
    return CW_OK;
}

static cw_status create_tickets(cw_part *part, cw_error *err)
{
    part->ticket_count = CWI_MAX(part->options.in_flight, (size_t)1);
    part->tickets = cwi_calloc(part->ticket_count, sizeof *part->tickets);
    if (!part->tickets)
        return cwi_fail_memory(err, part->ticket_count * sizeof *part->tickets);
    part->ticket = part->tickets;
    for (size_t i = 0; i < part->ticket_count; i++)
        CWI_TRY(cwi_ticket_create(part, &part->tickets[i], err));
    return CW_OK;
}

static cw_status fill_part(cw_part *part, cw_error *err)
{
    CWI_DNNL(dnnl_engine_create(&part->engine, dnnl_cpu, 0), err);
    CWI_DNNL(dnnl_stream_create(&part->stream, part->engine, dnnl_stream_default_flags), err);
    CWI_TRY(cwi_params_create(&part->params, part->model, part->first, part->last, !part->options.inference,
                              part->engine, part->stream, err));
    CWI_TRY(create_tickets(part, err));
    return cwi_params_init(&part->params, part->options.seed, part->options.init, err);
}

cw_status cw_part_create(const cw_model *model, size_t first, size_t last, const cw_part_options *options,
                         cw_part **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!model || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_create: NULL argument");
    CWI_TRY(check_range(model, first, last, options, err));
    cw_precision precision;
    CWI_TRY(cw_precision_resolve(options->precision, &precision, err));
    cw_part *part = cwi_calloc(1, sizeof *part);
    if (!part)
        return cwi_fail_memory(err, sizeof *part);
    part->model = cwi_model_retain(model);
    part->first = first;
    part->last = last;
    part->options = *options;
    part->threads = options->threads > 0 ? options->threads : omp_get_max_threads();
    part->precision = precision;
    int before = cwi_threads_enter(part->threads);
    cw_status s = fill_part(part, err);
    cwi_threads_leave(before);
    if (s != CW_OK) {
        cw_part_destroy(&part);
        return cwi_fail_prefix(err, s, "model %s", model->name);
    }
    *out = part;
    return CW_OK;
}

void cw_part_destroy(cw_part **part)
{
    if (!part || !*part)
        return;
    cw_part *p = *part;
    *part = NULL;
    for (size_t i = 0; p->tickets && i < p->ticket_count; i++)
        cwi_ticket_destroy(&p->tickets[i]);
    cwi_free(p->tickets);
    cwi_params_destroy(&p->params);
    if (p->stream)
        dnnl_stream_destroy(p->stream);
    if (p->engine)
        dnnl_engine_destroy(p->engine);
    cw_model_close(&p->model);
    cwi_free(p);
}

cw_precision cw_part_precision(const cw_part *part)
{
    return part->precision;
}

cw_shape cw_part_in_shape(const cw_part *part)
{
    return part->first ? part->model->layers[part->first - 1].out : part->model->options.sample;
}

cw_shape cw_part_out_shape(const cw_part *part)
{
    return part->model->layers[part->last - 1].out;
}

uint64_t cw_part_position(const cw_part *part)
{
    return part->position;
}

void cw_part_set_position(cw_part *part, uint64_t position)
{
    part->position = position;
}

/* ---- tickets ---- */

size_t cw_part_in_flight(const cw_part *part)
{
    return part->ticket_count;
}

cw_status cw_part_select(cw_part *part, size_t ticket, cw_error *err)
{
    if (!part)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_select: NULL argument");
    if (ticket >= part->ticket_count)
        return cwi_fail(err, CW_ERR_INVALID,
                        "cw_part_select: ticket %zu is not in 0..%zu: ask for more by the option in_flight", ticket,
                        part->ticket_count - 1);
    part->ticket = &part->tickets[ticket];
    return CW_OK;
}

void cw_part_release(cw_part *part)
{
    if (part)
        cwi_ticket_close(part->ticket);
}

/* ---- running ---- */

/* oneDNN takes every handle as writable; what is input stays unwritten. */
static void *writable(const void *p)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p};
    return u.out;
}

static cw_status set_border(cwi_net *net, void **slot, const void *value, cw_error *err)
{
    *slot = writable(value);
    return cwi_program_rebind(&net->program, slot, err);
}

static cw_status refresh(cw_part *part, const cwi_net *net, size_t first, size_t last, cw_error *err)
{
    for (size_t i = first; i < last; i++)
        CWI_TRY(cwi_copy_refresh(net->copies[i], part->stream, err));
    return CW_OK;
}

static cw_status fail_diverged(const cw_part *part, int layer, cw_error *err)
{
    return cwi_fail(err, CW_ERR_DIVERGED,
                    "layer %s: its input holds NaN or infinity: training has diverged: lower the learning rate, or "
                    "look for bad input",
                    part->model->layers[layer].name);
}

static cw_status forward(cw_part *part, cw_mode mode, const float *x, size_t n, float *y, cw_error *err)
{
    cwi_ticket *t = part->ticket;
    cwi_net *net = NULL;
    CWI_TRY(cwi_ticket_net(part, t, n, mode, &net, err));
    if (mode == CW_TRAIN)
        t->position = ++part->position;
    CWI_TRY(refresh(part, net, 0, net->forward_copies, err));
    CWI_TRY(set_border(net, &t->borders.x, x, err));
    if (y)
        CWI_TRY(set_border(net, &t->borders.y, y, err));
    net->program.seconds = part->profiling ? part->seconds : NULL;
    t->diverged = -1;
    CWI_TRY(cwi_program_run(&net->program, 0, y ? net->output : net->forward, t->arena, err));
    if (t->diverged >= 0)
        return fail_diverged(part, t->diverged, err);
    t->forward_n = n;
    t->forward_mode = mode;
    t->trained = mode == CW_TRAIN ? net : NULL;
    return CW_OK;
}

cw_status cw_part_forward(cw_part *part, cw_mode mode, const float *x, size_t n, float *y, cw_error *err)
{
    if (!part || !x)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_forward: NULL argument");
    if (n < 1 || n > part->options.max_batch)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_forward: %zu samples are not in 1..%zu (max_batch)", n,
                        part->options.max_batch);
    if (mode == CW_TRAIN && part->options.inference)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_forward: this part was created for inference");
    int before = cwi_threads_enter(part->threads);
    cw_status s = forward(part, mode, x, n, y, err);
    cwi_threads_leave(before);
    return s;
}

static cw_status backward(cw_part *part, const float *dy, float *dx, cw_error *err)
{
    cwi_ticket *t = part->ticket;
    cwi_net *net = t->trained;
    CWI_TRY(refresh(part, net, net->forward_copies, net->copy_count, err));
    CWI_TRY(set_border(net, &t->borders.dy, dy, err));
    if (dx)
        CWI_TRY(set_border(net, &t->borders.dx, dx, err));
    return cwi_program_run(&net->program, net->output, dx ? net->input : net->backward, t->arena, err);
}

cw_status cw_part_backward(cw_part *part, const float *dy, float *dx, cw_error *err)
{
    if (!part)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: NULL argument");
    cwi_ticket *t = part->ticket;
    if (!t->trained)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: needs a training forward before it, once each");
    if (!dy && !t->loss_ready)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: give dy, or call cw_part_loss first");
    if (dx && !part->options.input_grad)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: dx needs the option input_grad at creation");
    int before = cwi_threads_enter(part->threads);
    cw_status s = backward(part, dy ? dy : t->dlogits, dx, err);
    cwi_threads_leave(before);
    /* The way back reuses memory of the way forward: it can be gone only once. */
    t->trained = NULL;
    t->loss_ready = false;
    return s;
}
