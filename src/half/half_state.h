/* half_state.h - what training does with halves beyond half.h: sums over clients, state as named tensors. Internal. */
#ifndef CWI_HALF_STATE_H
#define CWI_HALF_STATE_H

#include "cutwire/half.h"

/* ---- sums of gradients over clients ---- */

/* clear, then add(weight) after each backward, then replace: the gradients become the sum times scale. One add with
 * weight 1 and replace with scale 1 give back the same bits. */
cw_status cwi_half_sum_clear(cw_half *half, cw_error *err);
cw_status cwi_half_sum_add(cw_half *half, float weight, cw_error *err);
cw_status cwi_half_sum_replace(cw_half *half, float scale, cw_error *err);

/* ---- nothing absurd ---- */

/* CW_ERR_DIVERGED names a weight or buffer that holds NaN or infinity. */
cw_status cwi_half_check_finite(cw_half *half, cw_error *err);
/* The largest magnitude of the last backward's gradients; infinity when one is infinite or NaN. */
cw_status cwi_half_gradient_peak(cw_half *half, float *peak, cw_error *err);
/* Buffers as one vector, before they are put. CW_ERR_DIVERGED names one that is NaN, beyond +-limit, or a variance
 * below 0 (its name ends in "running_var"). */
cw_status cwi_half_check_buffers(const cw_half *half, const float *flat, float limit, cw_error *err);

/* ---- gradients as they travel: those of weights that learn alone ---- */

size_t cwi_half_learned_count(const cw_half *half);
/* `data` as one vector of so many floats: one sample to a codec. */
cw_tensor cwi_half_vector(const cw_half *half, float *data);
/* As cw_half_get and cw_half_put of CW_HALF_GRADIENT, for such a vector; in both `flat` has room for all weights, and
 * put spoils it. */
cw_status cwi_half_get_learned(cw_half *half, float *flat, cw_error *err);
cw_status cwi_half_put_learned(cw_half *half, float *flat, cw_error *err);

/* The kind of our engine's optimizers by its name. CW_ERR_SPEC: err lists them. */
cw_status cwi_half_optimizer(const char *name, cw_optimizer_options *options, cw_error *err);

bool cwi_half_is_engine(const cw_half *half);
/* The model's layer that the half begins with; 0 where there is none. */
size_t cwi_half_first_layer(const cw_half *half);

/* ---- what only some halves have ---- */

/* Last half: targets may be any tensor. */
bool cwi_half_takes_targets(const cw_half *half);
/* The rate of the next step where the schedule says `lr`. */
float cwi_half_rate(cw_half *half, float lr);
/* What the last forward has made, where cw_half_out_shape is open (ndim 0). CW_ERR_INVALID: not n samples of CW_F32. */
cw_status cwi_half_output(cw_half *half, const cw_half_call *call, cw_tensor *y, cw_error *err);

/* ---- the clients' half, at a server that does not know it ---- */

/* Nothing at first; cwi_half_import takes whatever tensors there are, cwi_half_save gives them back, and steps do
 * nothing: it stands for the clients' weights as one of them last gave them. CW_ERR_NO_MEMORY. */
cw_status cwi_half_remote_create(cw_half **out, cw_error *err);
bool cwi_half_is_remote(const cw_half *half);
/* How many floats of weights and buffers the clients' halves have. */
void cwi_half_remote_describe(cw_half *half, size_t weights, size_t buffers);
/* Whether it holds anything yet. */
bool cwi_half_remote_holds(const cw_half *half);

/* ---- state ---- */

typedef enum cwi_state_part {
    CWI_STATE_MODEL = 1,     /* weights and buffers, under their own names */
    CWI_STATE_OPTIMIZER = 2, /* of our engine: "optimizer.SLOT.FIRST-LAST", by layers, one flat vector a half and slot,
                                and "optimizer.steps.FIRST-LAST", one number; of others: "state.NAME" */
    CWI_STATE_ALL = CWI_STATE_MODEL | CWI_STATE_OPTIMIZER,
} cwi_state_part;

typedef struct cwi_state {
    cw_named_tensor *items;
    size_t count;
} cwi_state;

/* Those of several halves after each other; `what`: a set of cwi_state_part. */
cw_status cwi_halves_export(cw_half *const *halves, size_t count, unsigned what, cwi_state *state, cw_error *err);
/* The same behind what is there. */
cw_status cwi_halves_append(cw_half *const *halves, size_t count, unsigned what, cwi_state *state, cw_error *err);
void cwi_state_free(cwi_state *state);
/* Room for `count` more items, zeroed, at the end; the caller fills them and counts them. */
cw_status cwi_state_grow(cwi_state *state, size_t count, cw_error *err);
/* Appends a tensor of its own memory; its data, uninitialized, is the caller's to write. */
cw_status cwi_state_add(cwi_state *state, const char *name, cw_dtype dtype, const cw_shape *shape, void **data,
                        cw_error *err);

/* Weights, buffers and optimizer, of a set that may hold more. CW_ERR_MISMATCH, CW_ERR_NOT_FOUND: something of this
 * half is missing or unlike. */
cw_status cwi_half_import(cw_half *half, const cw_tensor_set *set, cw_error *err);
/* Weights and buffers to begin a training with; *kept: a classifier for other classes stays as it was. */
cw_status cwi_half_import_weights(cw_half *half, const cw_tensor_set *set, bool *kept, cw_error *err);

/* All of one half as one safetensors image (owned by the caller, cw_bytes_free), and back. An image without an
 * optimizer's state that this half's could be, from another engine, leaves its own as it is. */
cw_status cwi_half_save(cw_half *half, uint8_t **bytes, size_t *size, cw_error *err);
cw_status cwi_half_load(cw_half *half, const void *bytes, size_t size, cw_error *err);

#endif
