/* program.c - building, binding and running programs. */
#include <string.h>

#include "nn/program.h"

void cwi_program_init(cwi_program *p, dnnl_engine_t engine, dnnl_stream_t stream)
{
    *p = (cwi_program){.engine = engine, .stream = stream};
}

void cwi_program_clear(cwi_program *p)
{
    for (size_t i = 0; i < p->step_count; i++) {
        cwi_step *s = &p->steps[i];
        for (int a = 0; s->primitive && a < s->arg_count; a++) {
            if (s->args[a].memory)
                dnnl_memory_destroy(s->args[a].memory);
        }
        if (s->primitive)
            dnnl_primitive_destroy(s->primitive);
    }
    cwi_free(p->steps);
    cwi_free(p->buffers);
    *p = (cwi_program){0};
}

/* ---- buffers ---- */

static cw_status new_buffer(cwi_program *p, const cwi_md *md, void **slot, cwi_mem *out, cw_error *err)
{
    if (p->buffer_count == p->buffer_capacity) {
        size_t capacity = p->buffer_capacity ? 2 * p->buffer_capacity : 64;
        cwi_buffer *bigger = cwi_realloc(p->buffers, p->buffer_count * sizeof *bigger, capacity * sizeof *bigger);
        if (!bigger)
            return cwi_fail_memory(err, capacity * sizeof *bigger);
        p->buffers = bigger;
        p->buffer_capacity = capacity;
    }
    p->buffers[p->buffer_count] = (cwi_buffer){.bytes = cwi_md_bytes(md), .first = -1, .last = -1, .slot = slot};
    out->md = *md;
    out->buffer = (int)p->buffer_count++;
    return CW_OK;
}

cw_status cwi_program_mem(cwi_program *p, const cwi_md *md, cwi_mem *out, cw_error *err)
{
    return new_buffer(p, md, NULL, out, err);
}

cw_status cwi_program_slot(cwi_program *p, const cwi_md *md, void **slot, cwi_mem *out, cw_error *err)
{
    return new_buffer(p, md, slot, out, err);
}

static void touch(cwi_program *p, int buffer, int step)
{
    cwi_buffer *b = &p->buffers[buffer];
    if (b->first < 0)
        b->first = step;
    b->last = step;
}

/* ---- steps ---- */

static cw_status new_step(cwi_program *p, cwi_work work, int layer, cwi_step **out, cw_error *err)
{
    if (p->step_count == p->step_capacity) {
        size_t capacity = p->step_capacity ? 2 * p->step_capacity : 64;
        cwi_step *bigger = cwi_realloc(p->steps, p->step_count * sizeof *bigger, capacity * sizeof *bigger);
        if (!bigger)
            return cwi_fail_memory(err, capacity * sizeof *bigger);
        p->steps = bigger;
        p->step_capacity = capacity;
    }
    *out = &p->steps[p->step_count];
    memset(*out, 0, sizeof **out);
    (*out)->work = work;
    (*out)->layer = layer;
    return CW_OK;
}

/* The memory object is made at once, without a place: binding gives it one. */
static cw_status add_arg(cwi_program *p, cwi_step *s, int id, const cwi_mem *mem, cw_error *err)
{
    dnnl_memory_t memory;
    CWI_DNNL(dnnl_memory_create(&memory, &mem->md, p->engine, DNNL_MEMORY_NONE), err);
    s->args[s->arg_count] = (dnnl_exec_arg_t){.arg = id, .memory = memory};
    s->buffers[s->arg_count++] = mem->buffer;
    touch(p, mem->buffer, (int)(s - p->steps));
    return CW_OK;
}

cw_status cwi_program_primitive(cwi_program *p, cwi_work work, int layer, const_dnnl_primitive_desc_t pd, int count,
                                const cwi_arg *args, cw_error *err)
{
    cwi_mem scratch = {.buffer = CWI_NO_BUFFER};
    cwi_md scratch_md = cwi_pd_md(pd, dnnl_query_scratchpad_md, 0);
    if (cwi_md_bytes(&scratch_md) > 0)
        CWI_TRY(cwi_program_mem(p, &scratch_md, &scratch, err));
    cwi_step *s;
    CWI_TRY(new_step(p, work, layer, &s, err));
    CWI_DNNL(dnnl_primitive_create(&s->primitive, pd), err);
    p->step_count++; /* from here on cwi_program_clear frees it */
    for (int i = 0; i < count; i++) {
        if (args[i].mem.buffer != CWI_NO_BUFFER)
            CWI_TRY(add_arg(p, s, args[i].id, &args[i].mem, err));
    }
    if (scratch.buffer != CWI_NO_BUFFER)
        CWI_TRY(add_arg(p, s, DNNL_ARG_SCRATCHPAD, &scratch, err));
    return CW_OK;
}

cw_status cwi_program_call(cwi_program *p, cwi_work work, int layer, cwi_call call, const void *what, size_t size,
                           int count, const int *buffers, cw_error *err)
{
    cwi_step *s;
    CWI_TRY(new_step(p, work, layer, &s, err));
    s->call = call;
    memcpy(s->what, what, CWI_MIN(size, sizeof s->what));
    for (int i = 0; i < count; i++) {
        s->buffers[i] = buffers[i];
        touch(p, buffers[i], (int)p->step_count);
    }
    s->arg_count = count;
    p->step_count++;
    return CW_OK;
}

cw_status cwi_program_reorder(cwi_program *p, int layer, const cwi_mem *from, const cwi_mem *to, cw_error *err)
{
    cwi_pd pd;
    CWI_TRY(cwi_pd_reorder(p->engine, &from->md, &to->md, &pd, err));
    cwi_arg args[] = {{DNNL_ARG_FROM, *from}, {DNNL_ARG_TO, *to}};
    cw_status s = cwi_program_primitive(p, CWI_WORK_REORDER, layer, pd, 2, args, err);
    cwi_pd_destroy(pd);
    return s;
}

cw_status cwi_program_add(cwi_program *p, int layer, const cwi_mem *a, const cwi_mem *b, const cwi_mem *to,
                          const cwi_eltwise *post, cw_error *err)
{
    cwi_pd pd;
    CWI_TRY(cwi_pd_add(p->engine, &a->md, &b->md, &to->md, post, &pd, err));
    cwi_arg args[] = {{DNNL_ARG_SRC_0, *a}, {DNNL_ARG_SRC_1, *b}, {DNNL_ARG_DST, *to}};
    cw_status s = cwi_program_primitive(p, CWI_WORK_ELEMENTWISE, layer, pd, 3, args, err);
    cwi_pd_destroy(pd);
    return s;
}

/* ---- planning and running ---- */

cw_status cwi_program_plan(cwi_program *p, cw_error *err)
{
    int *order = cwi_alloc(p->buffer_count, sizeof *order);
    if (!order)
        return cwi_fail_memory(err, p->buffer_count * sizeof *order);
    p->arena_bytes = cwi_arena_layout(p->buffers, p->buffer_count, order);
    cwi_free(order);
    return CW_OK;
}

static void *place_of(const cwi_program *p, int buffer, void *arena)
{
    const cwi_buffer *b = &p->buffers[buffer];
    return b->slot ? *b->slot : (unsigned char *)arena + b->offset;
}

cw_status cwi_program_bind(cwi_program *p, void *arena, cw_error *err)
{
    for (size_t i = 0; i < p->step_count; i++) {
        cwi_step *s = &p->steps[i];
        for (int a = 0; s->primitive && a < s->arg_count; a++) {
            void *place = place_of(p, s->buffers[a], arena);
            if (place)
                CWI_DNNL(dnnl_memory_set_data_handle(s->args[a].memory, place), err);
        }
    }
    return CW_OK;
}

cw_status cwi_program_rebind(cwi_program *p, void **slot, cw_error *err)
{
    for (size_t i = 0; i < p->step_count; i++) {
        cwi_step *s = &p->steps[i];
        for (int a = 0; s->primitive && a < s->arg_count; a++) {
            if (p->buffers[s->buffers[a]].slot == slot)
                CWI_DNNL(dnnl_memory_set_data_handle(s->args[a].memory, *slot), err);
        }
    }
    return CW_OK;
}

static cw_status run_step(cwi_program *p, const cwi_step *s, void *arena, cw_error *err)
{
    if (s->primitive) {
        CWI_DNNL(dnnl_primitive_execute(s->primitive, p->stream, s->arg_count, s->args), err);
        return CW_OK;
    }
    void *pointers[CWI_MAX_ARGS];
    for (int a = 0; a < s->arg_count; a++)
        pointers[a] = place_of(p, s->buffers[a], arena);
    s->call(pointers, s->what);
    return CW_OK;
}

cw_status cwi_program_run(cwi_program *p, size_t first, size_t last, void *arena, cw_error *err)
{
    for (size_t i = first; i < last; i++) {
        const cwi_step *s = &p->steps[i];
        double start = p->seconds ? cwi_seconds() : 0.0;
        CWI_TRY(run_step(p, s, arena, err));
        if (p->seconds)
            p->seconds[s->work] += cwi_seconds() - start;
    }
    CWI_DNNL(dnnl_stream_wait(p->stream), err);
    return CW_OK;
}
