/* program.h - a part of a network, for one batch size, as a straight sequence of steps over planned buffers. Internal.
 *
 * Layers append steps: oneDNN primitives or small functions of our own, which name their arguments by buffer. When all
 * is appended, the first and last step that uses a buffer are known, and buffers whose lives do not overlap share
 * memory: cwi_program_plan lays them out in one arena. Running a program allocates nothing.
 */
#ifndef CWI_PROGRAM_H
#define CWI_PROGRAM_H

#include "nn/onednn.h"

/* What a step spends its time on; `bench engine` reports by it. */
typedef enum cwi_work {
    CWI_WORK_CONV,
    CWI_WORK_MATMUL,
    CWI_WORK_NORM,
    CWI_WORK_POOL,
    CWI_WORK_ELEMENTWISE,
    CWI_WORK_REORDER,
    CWI_WORK_OTHER,
    CWI_WORKS
} cwi_work;

enum { CWI_MAX_ARGS = 12, CWI_NO_BUFFER = -1, CWI_CALL_BYTES = 96 };

/* A described piece of memory. */
typedef struct cwi_mem {
    cwi_md md;
    int buffer;
} cwi_mem;

typedef struct cwi_arg {
    int id; /* DNNL_ARG_... */
    cwi_mem mem;
} cwi_arg;

/* Where data lives: in the arena at `offset`, or wherever *slot points when the program is bound or run. */
typedef struct cwi_buffer {
    size_t bytes;
    int first, last; /* steps that use it */
    size_t offset;
    void **slot;
} cwi_buffer;

/* A function of ours: pointers are the buffers, in the order they were named; `what` is its own copied arguments. */
typedef void (*cwi_call)(void *const *pointers, const void *what);

typedef struct cwi_step {
    cwi_work work;
    int layer;
    dnnl_primitive_t primitive; /* NULL: call */
    cwi_call call;
    _Alignas(16) unsigned char what[CWI_CALL_BYTES];
    int arg_count;
    int buffers[CWI_MAX_ARGS];
    dnnl_exec_arg_t args[CWI_MAX_ARGS];
} cwi_step;

typedef struct cwi_program {
    dnnl_engine_t engine; /* the part's */
    dnnl_stream_t stream;
    cwi_buffer *buffers;
    size_t buffer_count, buffer_capacity;
    cwi_step *steps;
    size_t step_count, step_capacity;
    size_t arena_bytes;
    double *seconds; /* per cwi_work; NULL: not measured */
} cwi_program;

void cwi_program_init(cwi_program *p, dnnl_engine_t engine, dnnl_stream_t stream);
void cwi_program_clear(cwi_program *p);

/* A new arena buffer described by md. */
cw_status cwi_program_mem(cwi_program *p, const cwi_md *md, cwi_mem *out, cw_error *err);
/* Memory that lives elsewhere: *slot is read when the program is bound (cwi_program_bind, cwi_program_rebind). */
cw_status cwi_program_slot(cwi_program *p, const cwi_md *md, void **slot, cwi_mem *out, cw_error *err);

/* Appends pd's primitive with its arguments; those without a buffer are left out. A scratchpad is added by itself. */
cw_status cwi_program_primitive(cwi_program *p, cwi_work work, int layer, const_dnnl_primitive_desc_t pd, int count,
                                const cwi_arg *args, cw_error *err);
cw_status cwi_program_reorder(cwi_program *p, int layer, const cwi_mem *from, const cwi_mem *to, cw_error *err);
cw_status cwi_program_call(cwi_program *p, cwi_work work, int layer, cwi_call call, const void *what, size_t size,
                           int count, const int *buffers, cw_error *err);
/* to = a + b, elementwise, and `post` of that (NULL: nothing); `to` may be one of them. */
cw_status cwi_program_add(cwi_program *p, int layer, const cwi_mem *a, const cwi_mem *b, const cwi_mem *to,
                          const cwi_eltwise *post, cw_error *err);

/* After the last step: lays out the arena and makes the memory objects. */
cw_status cwi_program_plan(cwi_program *p, cw_error *err);
/* Points every buffer to its place in `arena` (arena_bytes, 64-byte aligned) or to its slot's target. */
cw_status cwi_program_bind(cwi_program *p, void *arena, cw_error *err);
/* After *slot has changed. */
cw_status cwi_program_rebind(cwi_program *p, void **slot, cw_error *err);

/* Runs steps [first, last) in order. */
cw_status cwi_program_run(cwi_program *p, size_t first, size_t last, void *arena, cw_error *err);

/* arena.c: offsets for buffers that have no slot, such that those whose [first, last] overlap do not; returns the
 * arena's size. `order` is scratch of `count` ints. */
size_t cwi_arena_layout(cwi_buffer *buffers, size_t count, int *order);

#endif
