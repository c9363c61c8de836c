/* setup.h - what every role derives from a configuration. Internal.
 *
 * setup.c       model, cut, codecs, schedule
 * run_recipe.c  how texts and tables become numbers: kept with the run, sent to clients
 * half.c        the parts that train, and their state
 * feed.c        a client's data
 */
#ifndef CWI_TRAIN_SETUP_H
#define CWI_TRAIN_SETUP_H

#include <string.h>

#include "base/base.h"
#include "cutwire/train.h"

typedef struct cwi_setup {
    cw_config config;       /* with sample, classes and input filled in, and precision decided */
    cw_precision precision; /* never CW_PRECISION_AUTO */
    char *recipe;           /* of a text or a table (cw_dataset_recipe); else NULL */
    cw_model *model;
    cw_cut cut;
    cw_codec *up;       /* codec of the activations */
    cw_codec *eval_up;  /* of those of evaluations */
    cw_codec *down;     /* of the gradients at the cut */
    cw_codec *update;   /* of the client half's gradients */
    bool mask_gradient; /* as configured, "auto" decided */
    cw_schedule schedule;
    cw_shape sample;      /* of one input */
    size_t sample_count;  /* its elements */
    size_t smashed_count; /* elements of one sample at the cut */
} cwi_setup;

/* One split of the configured data set as this machine has it (--data-dir comes before NAME:DIR), by the setup's
 * recipe. */
cw_status cwi_dataset_open_local(const cwi_setup *setup, cw_split split, cw_dataset **ds, cw_error *err);

/* Data shape, classes and recipe come from the configuration, or where it leaves them open from the data set's test
 * split. */
cw_status cwi_setup_open(const cw_config *config, cwi_setup *setup, cw_error *err);
/* The same with the server's recipe (or NULL), which the setup takes over, also on failure. */
cw_status cwi_setup_open_with(const cw_config *config, char *recipe, cwi_setup *setup, cw_error *err);
void cwi_setup_close(cwi_setup *setup);

static inline bool cwi_is_coded(const cw_codec *codec)
{
    return strcmp(cw_codec_spec(codec), "none") != 0;
}

/* The configuration that travels to clients, as JSON (freed with cwi_free). */
cw_status cwi_setup_shared_json(const cwi_setup *setup, char **json, cw_error *err);

/* The way back at a client: only shared keys, and a data set by its name alone. CW_ERR_SPEC, CW_ERR_PROTOCOL. */
cw_status cwi_config_from_shared_json(cw_config *config, const char *json, size_t size, cw_error *err);

/* Identifies what client and server must agree on: the shared configuration, the recipe and the layers of the client's
 * half. */
cw_status cwi_setup_hash(const cwi_setup *setup, uint64_t *hash, cw_error *err);

#define CWI_RECIPE_FILE "recipe.txt" /* in a run's folder */

/* Whether samples of this configuration need a recipe; false also while its input is not known. */
bool cwi_recipe_needed(const cw_config *config);
/* The recipe of the run to be resumed, else of the file that the configuration names, else the one beside the weights
 * to begin with, else NULL. Freed with cwi_free, as below. */
cw_status cwi_recipe_find(const cw_config *config, char **recipe, cw_error *err);
/* A terminated copy; CW_ERR_CORRUPT when the bytes are no text. */
cw_status cwi_recipe_take(const void *bytes, size_t size, char **recipe, cw_error *err);

/* WELCOME's blob: the shared configuration and the recipe (docs/PROTOCOL.md). */
cw_status cwi_welcome_write(const cwi_setup *setup, uint8_t **blob, size_t *size, cw_error *err);
/* CW_ERR_PROTOCOL: it sets what is the client's own business. */
cw_status cwi_welcome_read(const uint8_t *blob, size_t size, cw_config *config, char **recipe, cw_error *err);

/* One half with its optimizer, or the whole network. */
typedef struct cwi_half {
    cw_part *part;
    cw_optimizer *optimizer;
    float *flat; /* room for the trainable parameters or the buffers, whichever is larger */
    size_t trainable, buffers;
    size_t first, last; /* layers */
} cwi_half;

/* Layers [first, last) of the model for batches of up to max_batch samples. */
cw_status cwi_half_open(const cwi_setup *setup, size_t first, size_t last, size_t max_batch, cwi_half *half,
                        cw_error *err);
void cwi_half_close(cwi_half *half);
/* `data` as one vector of as many floats as the half has trainable parameters: one sample to a codec. */
cw_tensor cwi_half_vector(const cwi_half *half, float *data);

/* Weights, buffers and optimizers of several halves as named tensors. */
typedef struct cwi_state {
    cw_named_tensor *items; /* an optimizer's are "optimizer.SLOT.FIRST-LAST", by layers, one flat vector a half and
                               slot, and "optimizer.steps.FIRST-LAST", one number */
    size_t count;
} cwi_state;
cw_status cwi_halves_export(cwi_half *const *halves, size_t count, cwi_state *state, cw_error *err);
void cwi_state_free(cwi_state *state);
/* Of a set that may hold more. CW_ERR_MISMATCH: something of this half or of its optimizer is missing or unlike. */
cw_status cwi_half_import(cwi_half *half, const cw_tensor_set *set, cw_error *err);

/* The same as one safetensors image (owned by the caller, cw_bytes_free), and back. */
cw_status cwi_half_save(cwi_half *half, uint8_t **bytes, size_t *size, cw_error *err);
cw_status cwi_half_load(cwi_half *half, const void *bytes, size_t size, cw_error *err);

/* A client's share of the data set: loaders over its shard and its part of the test split. */
typedef struct cwi_feed {
    cw_dataset *train, *test;
    cw_loader *train_loader, *test_loader;
    size_t train_count, test_count;
} cwi_feed;

cw_status cwi_feed_open(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err);
void cwi_feed_close(cwi_feed *feed);

/* Whether this epoch (0-based) is followed by an evaluation. */
bool cwi_eval_due(const cw_config *config, int epoch);

/* Threads the engine uses under this configuration. */
int cwi_engine_threads(const cw_config *config);

/* What is coded on its way between a client and the server. */
typedef enum cwi_flow { CWI_FLOW_UPLINK, CWI_FLOW_DOWNLINK, CWI_FLOW_CLIENT_GRAD, CWI_FLOW_UPDATE, CWI_FLOWS } cwi_flow;

/* Seed of a codec call, different for every batch of every client and flow. */
uint64_t cwi_codec_seed(uint64_t seed, cwi_flow flow, size_t client, uint32_t epoch, uint32_t step);

/* The status of a codec call on this flow: a tensor that is not finite means here that training has diverged. */
cw_status cwi_encode_status(cw_status status, cwi_flow flow, cw_error *err);

/* sum = weight * x, or sum += weight * x: the average of what clients send, kept behind this one function. */
void cwi_average_add(float *sum, const float *x, size_t count, float weight, bool first);

/* Position of the random streams of a part (dropout) at a batch: different for each client, the same after a resume. */
uint64_t cwi_part_position(size_t client, uint64_t epoch, size_t batches, size_t step);

/* The share of a batch in its step's average. */
static inline float cwi_batch_weight(uint64_t samples, uint64_t total)
{
    return (float)((double)samples / (double)total);
}

#endif
