/* setup.h - what every role derives from a configuration. Internal.
 *
 * setup.c       shapes, the cut, codecs
 * engine.c      our engine: its names, the model, its halves (engine.h)
 * local_data.c  data sets of this machine (engine.h)
 * absent.c      in the place of these two where a build has neither
 * run_recipe.c  how texts and tables become numbers, and the names of classes: kept with the run, sent to clients
 * classes.c     names of classes: compared, mapped, and as text
 * feed.c        a client's data, whoever gives it
 */
#ifndef CWI_SETUP_H
#define CWI_SETUP_H

#include <string.h>

#include "base/base.h"
#include "config/classes.h"
#include "config/config.h"
#include "cutwire/codec.h"
#include "cutwire/feed.h"
#include "half/half_state.h"

/* The model of a run whose halves are the caller's own. */
#define CWI_MODEL_OWN "own"

typedef struct cwi_setup {
    cw_config config;       /* with sample, classes and input filled in, and precision decided */
    cw_precision precision; /* never CW_PRECISION_AUTO */
    char *recipe;           /* of a text or a table (cw_dataset_recipe); else NULL */
    cwi_classes classes;    /* by label; none: not known (yet) */
    cw_model *model;        /* NULL: halves of the caller's own */
    cw_cut cut;
    cw_codec *up;       /* codec of the activations */
    cw_codec *eval_up;  /* of those of evaluations */
    cw_codec *down;     /* of the gradients at the cut */
    cw_codec *update;   /* of the client half's gradients */
    bool behind_relu;   /* the cut: what crosses it is 0 exactly where nothing before it learns from there */
    bool mask_gradient; /* as configured, "auto" decided */
    bool client_state; /* the server knows no half like the clients': they bring its weights, and batches as they are */
    bool any_targets;  /* targets may be tensors */
    bool late_steps;   /* steps go on without clients that are late */
    bool ask_times;    /* clients say how long they work */
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
/* The same with halves of the caller's own, last and first, where they are not NULL: model "own" has nothing else, of
 * other models they must fit the cut. */
cw_status cwi_setup_open_halves(const cw_config *config, const cw_half *last, const cw_half *first, cwi_setup *setup,
                                cw_error *err);
/* The same with the server's recipe (or NULL), which the setup takes over, also on failure. */
cw_status cwi_setup_open_with(const cw_config *config, char *recipe, const cw_half *last, const cw_half *first,
                              cwi_setup *setup, cw_error *err);
void cwi_setup_close(cwi_setup *setup);

static inline bool cwi_is_coded(const cw_codec *codec)
{
    return !cw_codec_get_traits(codec).lossless;
}

/* Whether the only client of `clients` is not sent the averaged gradient: it is the client's own, as that was coded,
 * and not scaled down (--clip-norm). */
static inline bool cwi_keeps_own_gradient(const cwi_setup *setup, size_t clients)
{
    return clients == 1 && cwi_is_coded(setup->update) && setup->config.clip_norm == 0;
}

/* The configuration that travels to clients, as JSON (freed with cwi_free). */
cw_status cwi_setup_shared_json(const cwi_setup *setup, char **json, cw_error *err);

/* The way back at a client: only shared keys, and a data set by its name alone. CW_ERR_SPEC, CW_ERR_PROTOCOL. */
cw_status cwi_config_from_shared_json(cw_config *config, const char *json, size_t size, cw_error *err);

/* n samples at the cut, at `data`. */
cw_tensor cwi_setup_smashed(const cwi_setup *setup, float *data, uint64_t n);

#define CWI_RECIPE_FILE "recipe.txt" /* in a run's folder */

/* Whether samples of this configuration need a recipe; false also while its input is not known. */
bool cwi_recipe_needed(const cw_config *config);
/* The recipe of the run to be resumed, else of the file that the configuration names, else the one beside the weights
 * to begin with, else NULL. Freed with cwi_free, as below. */
cw_status cwi_recipe_find(const cw_config *config, char **recipe, cw_error *err);
/* A terminated copy; CW_ERR_CORRUPT when the bytes are no text. */
cw_status cwi_recipe_take(const void *bytes, size_t size, char **recipe, cw_error *err);

/* The names in the resumed run's folder, else those beside the weights to begin with, if there are as many as classes;
 * else none. */
cw_status cwi_classes_read(const cw_config *config, cwi_classes *classes, cw_error *err);

/* WELCOME's blob: mode, requirements, the shared configuration, the recipe and the names of classes
 * (docs/formats/protocol.md).
 */
cw_status cwi_welcome_write(const cwi_setup *setup, uint8_t **blob, size_t *size, cw_error *err);
/* What a client must be able to do, as far as that is not in the configuration. */
typedef struct cwi_required {
    bool client_state, any_targets, late_steps;
    bool ask_times; /* asked for, not required */
} cwi_required;
/* CW_ERR_PROTOCOL: it sets what is the client's own business. CW_ERR_UNSUPPORTED: it requires what this client does not
 * know; err names it. */
cw_status cwi_welcome_read(const uint8_t *blob, size_t size, cw_config *config, cwi_required *required, char **recipe,
                           cwi_classes *classes, cw_error *err);

/* Layers [first, last) of the model for batches of up to max_batch samples, with the configured optimizer. */
cw_status cwi_half_open(const cwi_setup *setup, size_t first, size_t last, size_t max_batch, cw_half **half,
                        cw_error *err);

/* One split of a client's data: batches from our loader, or from a feed of the caller's. */
typedef struct cwi_feed {
    cw_feed source;
    const char *name, *note; /* of our data set (cw_dataset_info); else NULL */
    size_t samples, batches, batch;
    bool any_targets;
    size_t next;         /* batch, counted to hold the source to its word */
    cwi_classes classes; /* of its data; none: they have no names */
} cwi_feed;

/* A client's shard, and its part of the test split; with `own` (NULL: our data set) the caller's. Every client has some
 * training samples. CW_ERR_MISMATCH: batches of another size than the run's, which does not allow it. */
cw_status cwi_feed_open(const cwi_setup *setup, cw_split split, size_t client, size_t clients, const cw_feed *own,
                        cwi_feed *feed, cw_error *err);
void cwi_feed_close(cwi_feed *feed);
/* At this batch of the epoch, or at its end where it has fewer. */
cw_status cwi_feed_seek(cwi_feed *feed, uint64_t epoch, size_t batch, cw_error *err);
/* CW_END after the epoch's last batch. */
cw_status cwi_feed_next(cwi_feed *feed, cw_batch *batch, cw_error *err);
/* Whether both splits name their classes alike, and the run can have all of them. CW_ERR_MISMATCH; *both, if not NULL,
 * is then a sentence with both lists that did not fit into err (freed by cwi_free). */
cw_status cwi_feeds_check_classes(const cwi_setup *setup, const cwi_feed *train, const cwi_feed *test, char **both,
                                  cw_error *err);

/* Whether this epoch (0-based) is followed by an evaluation. */
bool cwi_eval_due(const cw_config *config, int epoch);

/* Threads the engine uses under this configuration. */
int cwi_engine_threads(const cw_config *config);

/* What is coded on its way between a client and the server. */
typedef enum cwi_flow { CWI_FLOW_UPLINK, CWI_FLOW_DOWNLINK, CWI_FLOW_CLIENT_GRAD, CWI_FLOW_UPDATE, CWI_FLOWS } cwi_flow;

/* Seed of a codec call, different for every batch, or micro-batch, of every client and flow. */
uint64_t cwi_codec_seed(uint64_t seed, cwi_flow flow, size_t client, uint32_t epoch, uint32_t step, uint32_t ticket);

/* The status of a codec call on this flow: a tensor that is not finite means here that training has diverged. */
cw_status cwi_encode_status(cw_status status, cwi_flow flow, cw_error *err);

/* A gradient that reaches further, or statistics that do, are refused and their sender is lost: by far more than an
 * honest run knows, and by far too little for any number of steps, at the largest rate and momentum that there are, to
 * carry a weight to infinity. */
#define CWI_GRADIENT_MAX   1e6f
#define CWI_STATISTICS_MAX 1e18f

/* CW_ERR_DIVERGED: a gradient whose largest magnitude is `peak` is refused; `whose` begins the sentence. */
cw_status cwi_gradient_check(float peak, const char *whose, cw_error *err);

/* sum = weight * x, or sum += weight * x: the average of what clients send, kept behind this one function. */
void cwi_average_add(float *sum, const float *x, size_t count, float weight, bool first);

/* Position of the random streams of a half (dropout) at a micro-batch, of `tickets` for a batch: different for each
 * client, the same after a resume. */
uint64_t cwi_part_position(size_t client, uint64_t epoch, size_t batches, size_t step, size_t ticket, size_t tickets);

/* The share of a batch in its step's average. */
static inline float cwi_batch_weight(uint64_t samples, uint64_t total)
{
    return (float)((double)samples / (double)total);
}

#endif
