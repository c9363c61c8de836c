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

/* ---- planned batch sizes ---- */

static cw_status build_net(cw_part *part, cwi_net *net, size_t n, cw_mode mode, cw_error *err)
{
    cwi_plan plan = {.model = part->model,
                     .params = &part->params,
                     .borders = &part->borders,
                     .first = part->first,
                     .last = part->last,
                     .n = n,
                     .mode = mode,
                     .input_grad = part->options.input_grad,
                     .seed = part->options.seed,
                     .type = part->precision == CW_PRECISION_BF16 ? dnnl_bf16 : dnnl_f32};
    CWI_TRY(cwi_plan_net(&plan, net, err));
    cw_status s = cwi_params_settle(&part->params, err);
    if (s != CW_OK)
        cwi_net_clear(net);
    return s;
}

/* The arena serves whichever program runs; the largest decides its size, and a new one means new addresses. */
static cw_status bind_all(cw_part *part, cwi_net *added, cw_error *err)
{
    if (added->program.arena_bytes > part->arena_bytes) {
        void *bigger = cwi_alloc(1, added->program.arena_bytes);
        if (!bigger)
            return cwi_fail_memory(err, added->program.arena_bytes);
        cwi_free(part->arena);
        part->arena = bigger;
        part->arena_bytes = added->program.arena_bytes;
        part->trained = NULL;
        for (size_t i = 0; i < part->net_count; i++)
            CWI_TRY(cwi_program_bind(&part->nets[i]->program, part->arena, err));
    }
    return cwi_program_bind(&added->program, part->arena, err);
}

static void drop_net(cwi_net *net)
{
    if (net) {
        cwi_net_clear(net);
        cwi_free(net);
    }
}

static void keep_net(cw_part *part, cwi_net *net)
{
    if (part->net_count < CWI_MAX_NETS) {
        part->nets[part->net_count++] = net;
        return;
    }
    part->next_victim = part->next_victim % (CWI_MAX_NETS - 1) + 1;
    drop_net(part->nets[part->next_victim]);
    part->nets[part->next_victim] = net;
}

static cw_status find_net(cw_part *part, size_t n, cw_mode mode, cwi_net **out, cw_error *err)
{
    for (size_t i = 0; i < part->net_count; i++) {
        if (part->nets[i]->n == n && part->nets[i]->mode == mode) {
            *out = part->nets[i];
            return CW_OK;
        }
    }
    cwi_net *net = cwi_calloc(1, sizeof *net);
    if (!net)
        return cwi_fail_memory(err, sizeof *net);
    cw_status s = build_net(part, net, n, mode, err);
    if (s == CW_OK)
        s = bind_all(part, net, err);
    if (s != CW_OK) {
        drop_net(net);
        return s;
    }
    keep_net(part, net);
    *out = net;
    return CW_OK;
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

static cw_status create_logits(cw_part *part, cw_error *err)
{
    if (part->last != part->model->layer_count)
        return CW_OK;
    size_t per_sample, count;
    CWI_TRY(cw_shape_count(&part->model->layers[part->last - 1].out, &per_sample));
    if (!cwi_mul_size(per_sample, part->options.max_batch, &count))
        return cwi_fail(err, CW_ERR_INVALID, "the output of max_batch samples is too large");
    part->logits = cwi_calloc(count, sizeof(float));
    part->dlogits = cwi_calloc(count, sizeof(float));
    part->borders.logits = part->logits;
    return part->logits && part->dlogits ? CW_OK : cwi_fail_memory(err, count * sizeof(float));
}

static cw_status fill_part(cw_part *part, cw_error *err)
{
    CWI_DNNL(dnnl_engine_create(&part->engine, dnnl_cpu, 0), err);
    CWI_DNNL(dnnl_stream_create(&part->stream, part->engine, dnnl_stream_default_flags), err);
    CWI_TRY(cwi_params_create(&part->params, part->model, part->first, part->last, !part->options.inference,
                              part->engine, part->stream, err));
    CWI_TRY(create_logits(part, err));
    cwi_net *net;
    CWI_TRY(find_net(part, part->options.max_batch, part->options.inference ? CW_EVAL : CW_TRAIN, &net, err));
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
    part->borders.position = &part->position;
    part->borders.diverged = &part->diverged;
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
    for (size_t i = 0; i < p->net_count; i++)
        drop_net(p->nets[i]);
    cwi_params_destroy(&p->params);
    if (p->stream)
        dnnl_stream_destroy(p->stream);
    if (p->engine)
        dnnl_engine_destroy(p->engine);
    cwi_free(p->arena);
    cwi_free(p->logits);
    cwi_free(p->dlogits);
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

static cw_status forward(cw_part *part, cw_mode mode, const float *x, size_t n, float *y, cw_error *err)
{
    cwi_net *net = NULL;
    part->trained = NULL;
    part->forward_n = 0;
    part->loss_ready = false;
    CWI_TRY(find_net(part, n, mode, &net, err));
    if (mode == CW_TRAIN)
        part->position++;
    CWI_TRY(refresh(part, net, 0, net->forward_copies, err));
    CWI_TRY(set_border(net, &part->borders.x, x, err));
    if (y)
        CWI_TRY(set_border(net, &part->borders.y, y, err));
    net->program.seconds = part->profiling ? part->seconds : NULL;
    part->diverged = -1;
    CWI_TRY(cwi_program_run(&net->program, 0, y ? net->output : net->forward, part->arena, err));
    if (part->diverged >= 0)
        return cwi_fail(err, CW_ERR_DIVERGED,
                        "layer %s: its input holds NaN or infinity: training has diverged: lower the learning rate, or "
                        "look for bad input",
                        part->model->layers[part->diverged].name);
    part->forward_n = n;
    part->forward_mode = mode;
    part->trained = mode == CW_TRAIN ? net : NULL;
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
    cwi_net *net = part->trained;
    CWI_TRY(refresh(part, net, net->forward_copies, net->copy_count, err));
    CWI_TRY(set_border(net, &part->borders.dy, dy, err));
    if (dx)
        CWI_TRY(set_border(net, &part->borders.dx, dx, err));
    return cwi_program_run(&net->program, net->output, dx ? net->input : net->backward, part->arena, err);
}

cw_status cw_part_backward(cw_part *part, const float *dy, float *dx, cw_error *err)
{
    if (!part)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: NULL argument");
    if (!part->trained)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: needs a training forward before it, once each");
    if (!dy && !part->loss_ready)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: give dy, or call cw_part_loss first");
    if (dx && !part->options.input_grad)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_backward: dx needs the option input_grad at creation");
    int before = cwi_threads_enter(part->threads);
    cw_status s = backward(part, dy ? dy : part->dlogits, dx, err);
    cwi_threads_leave(before);
    /* The way back reuses memory of the way forward: it can be gone only once. */
    part->trained = NULL;
    part->loss_ready = false;
    return s;
}
