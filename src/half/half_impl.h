/* half_impl.h - what a half is inside: shapes and counts, and a table of functions. Internal.
 *
 * half.c            arguments checked, then the table's function; state as one safetensors image
 * half_nn.c         our engine's parts and optimizers
 * half_callbacks.c  anybody's engine: tensors in its memory, functions of its own
 * half_remote.c     the clients' half at a server that knows nothing of it but what one of them last gave
 */
#ifndef CWI_HALF_IMPL_H
#define CWI_HALF_IMPL_H

#include "base/base.h"
#include "half/half_state.h"

typedef struct cwi_half_ops {
    cw_status (*forward)(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err);
    cw_status (*loss)(cw_half *half, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err);
    cw_status (*backward)(cw_half *half, const cw_half_call *call, const float *dy, float *dx, cw_error *err);
    void (*release)(cw_half *half, size_t ticket);
    cw_status (*step)(cw_half *half, float lr, cw_error *err);
    /* Weights, gradients or buffers as one vector. */
    cw_status (*get)(cw_half *half, cw_half_kind kind, float *flat, cw_error *err);
    cw_status (*put)(cw_half *half, cw_half_kind kind, const float *flat, cw_error *err);
    /* NULL where all weights learn. A vector of all to one of those that learn alone, in its place; and back, with 0
     * for the others. */
    void (*gather)(const cw_half *half, float *flat);
    void (*spread)(const cw_half *half, float *flat);
    /* The weighted sum of the gradients of several backwards, and back into their place. */
    cw_status (*sum_clear)(cw_half *half, cw_error *err);
    cw_status (*sum_add)(cw_half *half, float weight, cw_error *err);
    cw_status (*sum_replace)(cw_half *half, float scale, cw_error *err);
    cw_status (*check_finite)(cw_half *half, cw_error *err);
    cw_status (*gradient_peak)(cw_half *half, float *peak, cw_error *err);
    cw_status (*check_buffers)(const cw_half *half, const float *flat, float limit, cw_error *err);
    /* Appends named tensors; `what` is a set of cwi_state_part. */
    cw_status (*export_state)(cw_half *half, unsigned what, cwi_state *state, cw_error *err);
    cw_status (*import_state)(cw_half *half, const cw_tensor_set *set, cw_error *err);
    cw_status (*import_weights)(cw_half *half, const cw_tensor_set *set, bool *kept, cw_error *err);
    void (*destroy)(cw_half *half);
    /* NULL: outputs have one shape; the schedule decides. */
    cw_status (*output)(cw_half *half, const cw_half_call *call, cw_tensor *y, cw_error *err);
    float (*rate)(cw_half *half, float lr);
} cwi_half_ops;

struct cw_half {
    const cwi_half_ops *ops;
    cw_shape in, out;           /* of one sample */
    size_t in_count, out_count; /* its elements; in_count is 0 where x is whatever the feed gave */
    const char *state_prefix;   /* of the names of its optimizer's state */
    bool any_targets, engine, remote;
    size_t tickets;
    size_t max_batch; /* 0: any */
    bool behind_relu, input_grad;
    size_t weights, buffers; /* floats */
    size_t frozen;           /* of the weights: those that learn nothing */
    size_t first;            /* layer of the model; 0 where there is none */
    uint64_t fingerprint;
};

/* Counts and checks the shapes that a constructor has filled in. CW_ERR_INVALID. */
cw_status cwi_half_settle(cw_half *half, cw_error *err);
/* The fingerprint so far, and one tensor more. */
uint64_t cwi_half_fingerprint_add(uint64_t hash, cw_half_kind kind, const char *name, cw_dtype dtype,
                                  const cw_shape *shape);

#endif
