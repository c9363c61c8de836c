/* cutwire/half.h - one side of the cut as training sees it: where an engine plugs in.
 *
 * A half is the layers before the cut (the client's), those after it (the server's), or the whole network. cutwire's
 * own engine makes one from a model (cw_half_of_model); any other engine makes one from callbacks (cw_half_create):
 * it runs its layers forward and back, and shows its weights, gradients and statistics as named tensors in its own
 * memory. Everything else, averaging over clients, codecs, messages, checkpoints, is done with what is declared here.
 *
 *     first half:  x -> forward -> z (to the codec) ... dz (from the codec) -> backward
 *     last half:   z -> forward -> loss -> backward -> dz
 *
 * Tickets: a training batch may be cut into several micro-batches whose forwards are open at once. A call names its
 * forward by a ticket, 0 <= ticket < tickets; backward or release closes it. Forwards come in the order of the tickets,
 * and so do backwards. Evaluation forwards are closed when they return.
 *
 * Thread-safety: a half belongs to one thread at a time, but need not stay with the one that made it.
 */
#ifndef CUTWIRE_HALF_H
#define CUTWIRE_HALF_H

#include "cutwire/io.h"
#include "cutwire/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cw_half cw_half;

/* One batch, or micro-batch, on its way through a half. */
typedef struct cw_half_call {
    cw_mode mode;
    size_t ticket;
    size_t first, n;   /* samples [first, first + n) of the batch at x; the same at y, dx, dy begin at 0 */
    uint64_t position; /* of the half's random numbers (dropout): the same for the same batch of the same epoch */
    cw_shape shape;    /* last half of a server: of x, the n samples included; else ndim 0 */
} cw_half_call;

/* What the n samples of a call are to become: labels, or a tensor (its first dimension is n), or neither. */
typedef struct cw_targets {
    const int32_t *labels;
    const cw_tensor *tensor; /* only to halves that take any targets; data is aligned for its dtype */
    cw_dtype tensor_as;      /* the dtype that its elements stand for: wider, where whole numbers came narrow */
} cw_targets;

/* ---- halves of one's own ---- */

typedef enum cw_half_kind {
    CW_HALF_WEIGHT,   /* learns by gradients */
    CW_HALF_GRADIENT, /* of the weight with the same name, shape and place in the order; of the last backward alone */
    CW_HALF_BUFFER,   /* statistics (batch norm's): averaged over clients after an epoch */
    CW_HALF_STATE,    /* the optimizer's: saved and restored with the run, and given to clients that join */
    CW_HALF_FIXED,    /* neither learned nor averaged (a frozen weight, a counter): given to clients where the giver has
                         it, saved with the model */
} cw_half_kind;

/* A tensor of a half, a view into its own memory that stays where it is while the half lives. CW_F32; of a state also
 * CW_I64; FIXED of any dtype. */
typedef struct cw_half_tensor {
    cw_half_kind kind;
    const char *name; /* unique among its kind, at most 127 characters; copied */
    cw_tensor tensor;
} cw_half_tensor;

/* What an engine does. Every function gets the `ctx` of cw_half_create. A failure is any status but CW_OK, with a
 * sentence in err; it ends the run of this peer (CW_ERR_DIVERGED: what came in or out is not finite). */
typedef struct cw_half_callbacks {
    cw_shape in;      /* of one sample; ndim 0: x is whatever the feed gave (feed.h), of which the half takes the
                         samples [first, first + n) itself; or of a last half any shape that call->shape says */
    cw_shape out;     /* of one sample; ndim 0: as `output` says, batch by batch */
    size_t tickets;   /* forwards that may be open at once; 0: 1 */
    bool behind_relu; /* first half: its output comes out of a ReLU, and nothing before learns from where it is 0 */
    const cw_half_tensor *tensors; /* copied; weights and gradients in the same order */
    size_t tensor_count;
    /* x: (first + n) x in at least. y: n x out, to be written; NULL when the loss follows. */
    cw_status (*forward)(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err);
    /* Of the forward of this ticket: the mean over its n samples. Needed in a last half. */
    cw_status (*loss)(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err);
    /* Back through the forward of this ticket. dy: n x out, the gradient of a mean over the batch; NULL after loss. dx:
     * n x in, to be written; NULL in a first half. The gradients (CW_HALF_GRADIENT) are overwritten. */
    cw_status (*backward)(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err);
    /* One step of the optimizer from the gradients, which cutwire has averaged in place. */
    cw_status (*step)(void *ctx, float lr, cw_error *err);
    /* NULL, or forgets the forward of a ticket whose way back will never come. */
    void (*release)(void *ctx, size_t ticket);
    /* NULL, or called before tensors of a kind are read, and after they were written: for engines whose memory is
     * elsewhere (a GPU's). */
    cw_status (*fetch)(void *ctx, cw_half_kind kind, cw_error *err);
    cw_status (*store)(void *ctx, cw_half_kind kind, cw_error *err);
    /* NULL, or frees ctx; called by cw_half_destroy. */
    void (*destroy)(void *ctx);
    /* First half with an open `out`: what the last forward, which had NULL for y, has made. CW_F32, the n samples
     * first, in the half's memory until its next forward. */
    cw_status (*output)(void *ctx, const cw_half_call *call, cw_tensor *y, cw_error *err);
    /* Last half: targets may be any tensor; else they are labels. */
    bool any_targets;
    /* NULL, or the rate of the next step in place of the schedule's `lr`: a server's last half tells it to all. */
    float (*rate)(void *ctx, float lr);
    /* NULL, or more of the optimizer's state than there is in `tensors`: for what comes into being as training goes on.
     * list: tensors of any dtype, valid until the next call of this half; their kind does not count. take: those of an
     * earlier list, whoever made it, in any order; nothing of them is kept. Both or none. */
    cw_status (*list_state)(void *ctx, const cw_half_tensor **tensors, size_t *count, cw_error *err);
    cw_status (*take_state)(void *ctx, const cw_named_tensor *items, size_t count, cw_error *err);
} cw_half_callbacks;

/* On failure *out is NULL and ctx stays the caller's. CW_ERR_INVALID (err says what is missing or does not fit),
 * CW_ERR_NO_MEMORY. */
cw_status cw_half_create(const cw_half_callbacks *callbacks, void *ctx, cw_half **out, cw_error *err);

/* ---- halves of cutwire's engine ---- */

/* Layers [first, last) of a model, with an optimizer; with options.inference without one, which may then be NULL: such
 * a half runs forward only. The half keeps the model alive. The errors of cw_part_create and cw_optimizer_create. */
cw_status cw_half_of_model(const cw_model *model, size_t first, size_t last, const cw_part_options *options,
                           const cw_optimizer_options *optimizer, cw_half **out, cw_error *err);

/* NULL and pointer to NULL allowed; *half becomes NULL. */
void cw_half_destroy(cw_half **half);

/* ---- using a half ---- */

/* As the callbacks of the same names; the arguments are checked first (CW_ERR_INVALID). */
cw_status cw_half_forward(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err);
cw_status cw_half_loss(cw_half *half, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err);
cw_status cw_half_backward(cw_half *half, const cw_half_call *call, const float *dy, float *dx, cw_error *err);
void cw_half_release(cw_half *half, size_t ticket);
cw_status cw_half_step(cw_half *half, float lr, cw_error *err);

/* Shapes of one sample at the borders, and how many forwards may be open. */
cw_shape cw_half_in_shape(const cw_half *half);
cw_shape cw_half_out_shape(const cw_half *half);
size_t cw_half_tickets(const cw_half *half);
bool cw_half_behind_relu(const cw_half *half);

/* Floats of all weights (and of all gradients), and of all buffers, in the half's order as one vector. */
size_t cw_half_weight_count(const cw_half *half);
size_t cw_half_buffer_count(const cw_half *half);
cw_status cw_half_get(cw_half *half, cw_half_kind kind, float *flat, cw_error *err);
cw_status cw_half_put(cw_half *half, cw_half_kind kind, const float *flat, cw_error *err);

/* A number that two halves share when their weights and buffers have the same names, shapes and dtypes in the same
 * order: what both ends of a run must agree on of the client's half. */
uint64_t cw_half_fingerprint(const cw_half *half);

#ifdef __cplusplus
}
#endif
#endif
