/* cutwire/nn.h - models as lists of layers with numbered cut points, and the parts of them that run. Models of one's
 * own: cutwire/model.h.
 *
 *     cw_model *model;                       a description: layers, shapes, cut points; no weights
 *     cw_part *client, *server;              the layers before / after a cut, with weights, ready to run
 *     cw_model_open("cnn", &options, &model, &err);
 *     cw_model_cut(model, "2", &cut, &err);
 *     cw_part_create(model, 0, cut.layer, &part_options, &client, &err);
 *     cw_part_create(model, cut.layer, cw_model_layer_count(model), &part_options, &server, &err);
 *
 * A part's initial weights depend on (seed, init, parameter name) alone, so two halves are initialized exactly as the
 * whole is. Data at a part's border is row-major fp32 (NCHW, NLC or NC); inside, layouts are oneDNN's choice. Losses
 * are means over the batch, gradients are of that mean.
 *
 * Thread-safety: a cw_model is immutable; a cw_part belongs to one thread at a time. Results are the same bit for bit
 * for the same seed at the same number of threads.
 */
#ifndef CUTWIRE_NN_H
#define CUTWIRE_NN_H

#include "cutwire/io.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- models ---- */

typedef struct cw_model cw_model;

typedef struct cw_model_options {
    cw_shape sample; /* shape of one input without the batch: C,H,W for images, L for texts, D for tables */
    int classes;
    const char *activation; /* NULL: "relu" */
    const char *input;      /* what the sample's floats are, as cw_dataset_info.input; NULL: "image" */
    /* NULL, "", or "C[:K[/S]]@CUT": a convolution K x K (odd; 1 where it is not said) of stride S (1; at most K) to C
     * channels, batch norm and ReLU put in before this cut, and one back after it, with what resizes the map. Of
     * vectors linear layers. Their names begin with "bottleneck.". */
    const char *bottleneck;
    bool freeze; /* nothing learns but the bottleneck, and all other batch norms keep their statistics */
} cw_model_options;

/* The models known by name: 0 <= i < cw_model_known_count(). Static storage. */
typedef struct cw_model_known {
    const char *name;
    const char *summary;
    const char *sample, *input; /* of data it is meant for, as texts: "3x32x32" and "image" */
    int classes;                /* likewise */
} cw_model_known;
size_t cw_model_known_count(void);
const cw_model_known *cw_model_known_at(size_t i);

/* On failure *out is NULL. CW_ERR_SPEC (unknown model or activation: err lists the known ones; a bottleneck that is
 * none), CW_ERR_INVALID (a sample shape the model cannot take), CW_ERR_NO_MEMORY. */
cw_status cw_model_open(const char *name, const cw_model_options *options, cw_model **out, cw_error *err);
void cw_model_close(cw_model **model);
const char *cw_model_name(const cw_model *model);
size_t cw_model_layer_count(const cw_model *model);

enum { CW_MODEL_INPUT = -1, CW_NO_LAYER = -2 }; /* instead of a layer's number */

typedef struct cw_layer_info {
    const char *kind;        /* "conv", "batchnorm", "relu", ... */
    const char *name;        /* "features.0" */
    cw_shape out;            /* of one sample */
    size_t parameters;       /* trainable scalars */
    double flops;            /* of one sample's forward pass (a multiply-add counts 2) */
    int from, skip;          /* the layer that it reads; that an "add" adds, CW_NO_LAYER of others */
    int kernel, stride, pad; /* of convolutions and max pooling, else 0; over time they have one dimension */
    bool bias;
    float rate; /* of dropout */
} cw_layer_info;
/* i beyond the last layer gives zeros. Texts live as long as the model. */
cw_layer_info cw_model_layer(const cw_model *model, size_t i);

/* A place where the network may be cut: layers [0, layer) run on the client, [layer, layer_count) on the server. */
typedef struct cw_cut {
    int number;        /* what the user says: --cut NUMBER (paper: counts convolutions) */
    const char *alias; /* "shallow", "medium", "deep" or NULL; lives as long as the model */
    size_t layer;
    cw_shape smashed; /* of one sample */
    /* No value that crosses is below 0: straight out of a ReLU, or of max pooling behind one. (false: there may be.) */
    bool non_negative;
    /* What crosses is 0 exactly where nothing before the cut learns from there: behind a ReLU, with nothing but
     * pooling, dropout and flattening between, which hand on no gradient where they give 0. So a gradient may be left
     * out where the activation was 0: the ReLU would multiply it by 0. Says more than non_negative, which is about
     * signs alone. */
    bool behind_relu;
} cw_cut;
size_t cw_model_cut_count(const cw_model *model);
cw_cut cw_model_cut_at(const cw_model *model, size_t i);
/* By number or alias. CW_ERR_SPEC: no such cut, or one inside a skip connection; err lists the valid ones. */
cw_status cw_model_cut(const cw_model *model, const char *which, cw_cut *out, cw_error *err);

/* ---- parts ---- */

typedef struct cw_part cw_part;

/* What flows between layers, and what convolutions and matrix products multiply. Master weights, statistics, sums, the
 * loss and the optimizer are fp32 throughout, and so is the data at a part's borders. */
typedef enum cw_precision {
    CW_PRECISION_FP32,
    CW_PRECISION_BF16,
    CW_PRECISION_AUTO, /* bf16 where the CPU multiplies it in hardware, else fp32 */
} cw_precision;

/* "fp32", "bf16", "auto". CW_ERR_SPEC: err lists them. */
cw_status cw_precision_parse(const char *name, cw_precision *out, cw_error *err);
const char *cw_precision_name(cw_precision precision);
/* *out: AUTO decided by what this CPU has, the others as they are. CW_ERR_UNSUPPORTED: bf16 where there is no AVX-512;
 * err says what to do. From any thread. oneDNN's environment variable ONEDNN_MAX_CPU_ISA counts here, too. */
cw_status cw_precision_resolve(cw_precision asked, cw_precision *out, cw_error *err);
/* Whether this CPU, one with AVX-512 but without its bf16 instructions, computes bf16 by way of fp32: right results at
 * about half of fp32's speed. */
bool cw_precision_is_emulated(cw_precision precision);

/* How convolutions begin. */
typedef enum cw_init {
    CW_INIT_KAIMING, /* normal (He et al. 2015) */
    CW_INIT_DIRAC,   /* letting through what they get, the first one whitening patches of the image: short schedules get
                        further with it. No data is looked at. Inputs of more than 64 channels are not whitened: there
                        the first convolution is as with Kaiming */
} cw_init;

/* "kaiming", "dirac". CW_ERR_SPEC: err lists them. */
cw_status cw_init_parse(const char *name, cw_init *out, cw_error *err);
const char *cw_init_name(cw_init init);

typedef struct cw_part_options {
    size_t max_batch; /* buffers are planned for it; smaller batches run too */
    uint64_t seed;    /* of the initial weights and of dropout */
    cw_init init;
    int threads;     /* 0: as OpenMP decides */
    bool inference;  /* no gradients will be asked for: less memory */
    bool input_grad; /* cw_part_backward will be asked for dx */
    cw_precision precision;
    float
        label_smoothing; /* of the training loss: this share of the target is spread evenly over all classes, [0, 1) */
    size_t in_flight;    /* how many forwards may be open at once, 0..256; 0 counts as 1. See cw_part_select */
} cw_part_options;

/* Layers [first, last) of the model. CW_ERR_INVALID, CW_ERR_NO_MEMORY, CW_ERR_UNSUPPORTED (bf16, as above),
 * CW_ERR_BACKEND (oneDNN, with the layer's name). */
cw_status cw_part_create(const cw_model *model, size_t first, size_t last, const cw_part_options *options,
                         cw_part **out, cw_error *err);
void cw_part_destroy(cw_part **part);

/* CW_PRECISION_FP32 or CW_PRECISION_BF16: what the option came to. */
cw_precision cw_part_precision(const cw_part *part);
/* Shapes of one sample at the borders. */
cw_shape cw_part_in_shape(const cw_part *part);
cw_shape cw_part_out_shape(const cw_part *part);

typedef enum cw_mode { CW_TRAIN, CW_EVAL } cw_mode;

/* Several forwards at once: each open one has a ticket, 0 <= ticket < cw_part_in_flight(). cw_part_select says which
 * one cw_part_forward, cw_part_loss, cw_part_backward and cw_part_release are about; it costs nothing, and a new part
 * has 0 selected. What a forward leaves for its way back (x, activations, batch statistics, dropout's mask, the loss's
 * gradient) belongs to its ticket: other tickets' forwards, in either mode, their losses and their ways back leave it
 * alone. Weights, gradients, running statistics and the position are the part's: running statistics and position move
 * in the order of the forwards, and a way back uses the weights as they are by then. Each ticket takes the memory of
 * one set of activations. CW_ERR_INVALID: no such ticket (the selection stays as it was). */
size_t cw_part_in_flight(const cw_part *part);
cw_status cw_part_select(cw_part *part, size_t ticket, cw_error *err);
/* Gives up the selected ticket's open forward, if there is one: x is no longer looked at, loss and backward need a new
 * forward. A new forward does so, too. NULL is allowed. */
void cw_part_release(cw_part *part);

/* x: n x in_shape, 1 <= n <= max_batch, kept by reference until backward is done (or cw_part_release). y: n x
 * out_shape, written when not NULL. CW_TRAIN uses batch statistics and updates the running ones; CW_EVAL uses the
 * running ones.
 * CW_ERR_DIVERGED: a batch norm met NaN or infinity (the running statistics keep their last good values). */
cw_status cw_part_forward(cw_part *part, cw_mode mode, const float *x, size_t n, float *y, cw_error *err);

typedef struct cw_loss {
    double mean;    /* cross-entropy, natural logarithm, mean over the batch; in CW_TRAIN with label smoothing */
    size_t correct; /* samples whose arg-max is the label (ties: the lowest index) */
} cw_loss;
/* Softmax cross-entropy of the last forward's output (n x classes) against labels; prepares backward in CW_TRAIN.
 * CW_ERR_INVALID: a label out of range. CW_ERR_DIVERGED: the loss is not finite. */
cw_status cw_part_loss(cw_part *part, const int32_t *labels, size_t n, cw_loss *out, cw_error *err);

/* Back through the last forward, which must have been CW_TRAIN; once per forward. dy: n x out_shape, or NULL after
 * cw_part_loss. dx: n x in_shape, written when not NULL (needs options.input_grad). The parameters' gradients are
 * overwritten, not accumulated. */
cw_status cw_part_backward(cw_part *part, const float *dy, float *dx, cw_error *err);

/* How many training forwards there have been: with the seed, this is all the random state a part has (dropout). Saved
 * and set again by checkpoints. */
uint64_t cw_part_position(const cw_part *part);
void cw_part_set_position(cw_part *part, uint64_t position);

/* ---- parameters ---- */

/* Parameters in a fixed order and with torchvision's names ("features.0.weight"). Trainable ones come with gradients;
 * buffers (running_mean, running_var, num_batches_tracked is not kept) do not. */
typedef struct cw_param {
    const char *name;
    cw_shape shape; /* canonical: OIHW, or as PyTorch has it */
    size_t count;
    bool trainable;
    bool frozen; /* trainable, but it learns nothing: its gradient is all 0 */
} cw_param;
size_t cw_part_param_count(const cw_part *part);
cw_param cw_part_param(const cw_part *part, size_t i);

/* Copies of all values or gradients as one flat vector in canonical row-major layout, parameter after parameter: the
 * trainable ones (cw_part_trainable_size floats) or the buffers (cw_part_buffer_size floats). Import is the inverse.
 * The caller owns `flat`. */
size_t cw_part_trainable_size(const cw_part *part);
size_t cw_part_buffer_size(const cw_part *part);
void cw_part_export_weights(const cw_part *part, float *flat);
void cw_part_import_weights(cw_part *part, const float *flat);
void cw_part_export_buffers(const cw_part *part, float *flat);
void cw_part_import_buffers(cw_part *part, const float *flat);
void cw_part_export_grads(const cw_part *part, float *flat);
void cw_part_import_grads(cw_part *part, const float *flat);

/* The largest magnitude of a part's gradients; infinity when one is infinite or NaN. */
float cw_part_grad_peak(const cw_part *part);
/* The same of any floats; 0 of none. */
float cw_peak(const float *x, size_t count);
/* CW_ERR_DIVERGED names a parameter or buffer that holds NaN or infinity. */
cw_status cw_part_check_finite(const cw_part *part, cw_error *err);
/* Buffers as cw_part_export_buffers gives them, before they are imported. CW_ERR_DIVERGED names one that is NaN, beyond
 * +-limit, or a variance below 0. */
cw_status cw_part_check_buffers(const cw_part *part, const float *flat, float limit, cw_error *err);

/* For a server that averages the gradients of several clients: the sum is kept in the engine's own layout.
 * clear, then add(weight) after each backward, then replace: the gradients become the accumulated sum times scale. The
 * first add after clear with weight 1 and replace with scale 1 gives the same bits as never having accumulated. Memory
 * of the gradients' size is taken by the first clear. CW_ERR_INVALID (NULL, a part for inference, add before any clear,
 * replace before any add), CW_ERR_NO_MEMORY (clear). */
cw_status cw_part_grad_sum_clear(cw_part *part);
cw_status cw_part_grad_sum_add(cw_part *part, float weight);
cw_status cw_part_grad_sum_replace(cw_part *part, float scale);

/* Parameters and buffers as named tensors (safetensors). Export: *items (owned, free with cw_named_tensors_free).
 * Import: every parameter must be present with its shape; others are ignored (so a whole model's file loads into a
 * part). CW_ERR_NOT_FOUND, CW_ERR_MISMATCH name the tensor. */
cw_status cw_part_state_export(const cw_part *part, cw_named_tensor **items, size_t *count, cw_error *err);
cw_status cw_part_state_import(cw_part *part, const cw_tensor_set *set, cw_error *err);

/* The same to begin a training with: a classifier (the model's last layer) of another number of classes stays as it
 * was, *kept tells. */
cw_status cw_part_weights_import(cw_part *part, const cw_tensor_set *set, bool *kept, cw_error *err);

/* ---- measuring ---- */

/* Seconds that forward and backward spent by kind of operation since cw_part_profile_start. */
typedef struct cw_profile {
    double conv, matmul, norm, pool, elementwise, reorder, other;
} cw_profile;
void cw_part_profile_start(cw_part *part);
cw_profile cw_part_profile_stop(cw_part *part);
/* Runs nothing but the convolutions and matrix products of a step with max_batch samples (forward, and backward unless
 * the part is for inference), on whatever numbers are in memory: the time below which no step can come. The selected
 * ticket's open forward and the gradients are lost. */
cw_status cw_part_bare_seconds(cw_part *part, double *seconds, cw_error *err);
/* Bytes held: weights, gradients, copies in other layouts, and the memory that activations share. */
size_t cw_part_memory(const cw_part *part);

/* ---- optimizer and schedules ---- */

typedef enum cw_optimizer_kind { CW_SGD, CW_ADAM, CW_ADAMW } cw_optimizer_kind;

/* PyTorch's definitions; d = g + weight_decay * w, but for adamw d = g and w *= 1 - lr * weight_decay.
 * sgd: v = momentum * v + d;  w -= lr * v, or with nesterov lr * (d + momentum * v).
 * adam: m = momentum * m + (1 - momentum) d;  v = beta2 * v + (1 - beta2) d^2;  in step t
 *       w -= lr * m / (1 - momentum^t) / (sqrt(v / (1 - beta2^t)) + epsilon). */
typedef struct cw_optimizer_options {
    cw_optimizer_kind kind;
    float momentum; /* of sgd; adam's first beta */
    float weight_decay;
    bool nesterov; /* sgd */
    float beta2;   /* adam; 0.999 if 0 */
    float epsilon; /* adam; 1e-8 if 0 */
    float bias_lr; /* batch norm's biases: lr times this, weight_decay divided by it, 0.01 .. 1000; 1 if 0 (Jordan,
                      arXiv 2404.00498, section 3.4: 64) */
} cw_optimizer_options;

/* "sgd", "adam", "adamw". CW_ERR_SPEC. */
cw_status cw_optimizer_parse(const char *name, cw_optimizer_kind *out, cw_error *err);

typedef struct cw_optimizer cw_optimizer;
/* The part must outlive the optimizer. CW_ERR_INVALID, CW_ERR_NO_MEMORY. */
cw_status cw_optimizer_create(cw_part *part, const cw_optimizer_options *options, cw_optimizer **out, cw_error *err);
void cw_optimizer_destroy(cw_optimizer **optimizer);
/* One update of every trainable parameter from its gradient. */
cw_status cw_optimizer_step(cw_optimizer *optimizer, float lr);
/* The state: vectors, flat as cw_part_export_weights, each with a name ("momentum"; "mean", "square"), 0 <= slot <
 * cw_optimizer_slots(); and the number of steps taken. */
size_t cw_optimizer_slots(const cw_optimizer *optimizer);
const char *cw_optimizer_slot_name(const cw_optimizer *optimizer, size_t slot);
void cw_optimizer_export(const cw_optimizer *optimizer, size_t slot, float *flat);
void cw_optimizer_import(cw_optimizer *optimizer, size_t slot, const float *flat);
uint64_t cw_optimizer_steps(const cw_optimizer *optimizer);
void cw_optimizer_set_steps(cw_optimizer *optimizer, uint64_t steps);

/* Learning rate as a function of progress: a pure value, safe to copy and share. */
typedef struct cw_schedule {
    enum { CW_SCHED_CONSTANT, CW_SCHED_COSINE, CW_SCHED_MULTISTEP, CW_SCHED_ONECYCLE } kind;
    double base_lr;
    double final_lr;     /* cosine, onecycle */
    double warmup;       /* onecycle: fraction of the run that rises, linearly; 0.3 if 0, none if negative */
    double gamma;        /* multistep: factor */
    int milestone_count; /* multistep: epochs, increasing */
    double milestones[16];
} cw_schedule;

/* Parses "constant", "cosine[:final=0]", "multistep:at=60/120/160,gamma=0.2", "onecycle[:warmup=0.3,final=0]"; base_lr
 * is left 0. CW_ERR_SPEC. */
cw_status cw_schedule_parse(const char *spec, cw_schedule *out, cw_error *err);
/* The rate at `epoch` (fractional: epoch + step / steps_per_epoch) of `epochs`. Cosine and multistep of the paper
 * change per epoch in PyTorch; here they follow the fraction, cosine continuously, multistep at whole milestones. */
float cw_schedule_lr(const cw_schedule *s, double epoch, double epochs);

#ifdef __cplusplus
}
#endif
#endif
