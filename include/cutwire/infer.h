/* cutwire/infer.h - a trained network used across a cut.
 *
 *     cw_network *network;                  a run's folder: model, weights, names of classes
 *     cw_network_open("runs/mine", NULL, &network, &err);
 *     cw_evaluate("runs/mine", &options, &evaluation, &err);      accuracy against bytes a sample, at every cut
 *
 * Thread-safety: each object belongs to one thread at a time.
 */
#ifndef CUTWIRE_INFER_H
#define CUTWIRE_INFER_H

#include "cutwire/codec.h"
#include "cutwire/half.h"
#include "cutwire/record.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- trained networks ---- */

typedef struct cw_network cw_network;

/* Zero-initialize. */
typedef struct cw_network_options {
    const char *cut;  /* number or alias; NULL: the run's own */
    size_t max_batch; /* samples that a forward takes at most; 0: 64 */
    int threads;      /* of the engine; 0: one per processor */
} cw_network_options;

typedef struct cw_network_info {
    const char *run;          /* the path it was opened by */
    const char *model;        /* "resnet20" */
    const char *data;         /* NAME[:DIR] of the data set that it was trained on */
    const char *uplink;       /* codec spec of the run's activations */
    cw_shape sample, smashed; /* of one sample: at the input, at the cut */
    int cut, classes;
    const char *const *class_names; /* `classes` of them, by label, or NULL */
} cw_network_info;

/* From a run's folder: config.json, model.safetensors (where that is missing, the checkpoint), classes.txt and
 * recipe.txt; no data set is needed. options: NULL allowed. On failure *out is NULL. CW_ERR_NOT_FOUND, CW_ERR_IO,
 * CW_ERR_CORRUPT, CW_ERR_SPEC (no such cut), CW_ERR_MISMATCH (weights of another model), CW_ERR_UNSUPPORTED (a
 * precision that this processor lacks), CW_ERR_NO_MEMORY. */
cw_status cw_network_open(const char *path, const cw_network_options *options, cw_network **out, cw_error *err);
/* NULL and pointer to NULL allowed. */
void cw_network_close(cw_network **network);
/* Lives as long as the network. */
const cw_network_info *cw_network_get_info(const cw_network *network);

/* ---- evaluation without a network between ---- */

/* Zero-initialize. */
typedef struct cw_evaluate_options {
    const char *data;     /* NAME[:DIR]; NULL: the run's */
    const char *data_dir; /* NULL: DIR, or the usual places */
    size_t limit;         /* test samples; 0: as many as the run tests on */
    const char *cuts;     /* "all", or numbers and aliases with commas between; NULL: the run's */
    const char *uplinks;  /* codec specs with commas between: a part with '=' before any ':' belongs to the spec before
                             it; NULL: the run's */
    size_t batch;         /* samples that are coded together; 0: 1, as a device does that sends one at a time */
    int threads;          /* 0: one per processor */
    void *ctx;
    /* NULL, or called now and then: how many of `total` forwards and codings of batches are done. */
    void (*progress)(void *ctx, size_t done, size_t total);
    volatile sig_atomic_t *stop; /* NULL, or set to non-zero to end with CW_ERR_CANCELLED */
} cw_evaluate_options;

/* One cut with one codec. */
typedef struct cw_evaluate_point {
    int cut;
    char alias[24];  /* "" where the cut has none */
    char codec[192]; /* its spec, as it was given */
    cw_shape smashed;
    double accuracy;       /* 0..1 */
    double agreement;      /* share of samples with the answer of the whole network */
    double error;          /* 2-norm of what the codec changed, relative to the activations' */
    double raw_bytes;      /* of a sample's activations in fp32 */
    double payload_bytes;  /* a sample */
    double encode_seconds; /* a sample, on one thread */
    double decode_seconds;
} cw_evaluate_point;

typedef struct cw_evaluation {
    size_t samples, batch;
    double accuracy; /* of the whole network, without a codec */
    double seconds;  /* that it all took */
    cw_evaluate_point *points;
    size_t count;
} cw_evaluation;

/* Runs the test samples through the network once, and at each cut through each codec and the layers after it. A codec
 * without loss is not run again: its answers are the whole network's. On failure *out is zeroed. The errors of
 * cw_network_open, of data sets, of specs (CW_ERR_SPEC); CW_ERR_CANCELLED. */
cw_status cw_evaluate(const char *run, const cw_evaluate_options *options, cw_evaluation *out, cw_error *err);
void cw_evaluation_free(cw_evaluation *evaluation);

#ifdef __cplusplus
}
#endif
#endif
