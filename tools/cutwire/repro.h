/* repro.h - what the paper's figures share when they are made again: results of a codec, feature maps, plots. */
#ifndef CLI_REPRO_H
#define CLI_REPRO_H

#include "cli.h"

int repro_figure1(int argc, char **argv);
int repro_figure2(int argc, char **argv);
int repro_theorem1(int argc, char **argv);

/* ---- one tensor through one codec ---- */

typedef struct repro_coded {
    size_t payload_bytes, header_bytes;
    double l2;       /* |decoded - x| */
    double relative; /* the same over |x|; 0 for an all-zero x */
} repro_coded;

/* Encodes x (CW_F32) with `spec` and decodes it into back, which is as large as x and the caller's. `seed` is of codecs
 * that draw random numbers. */
cw_status repro_through(const char *spec, uint64_t seed, const cw_tensor *x, float *back, repro_coded *out,
                        cw_error *err);

/* ---- options ---- */

/* Keys of the training run that are options of a figure as well. */
enum { REPRO_KEYS = 12, REPRO_MOST_SAMPLES = 65536 };
typedef struct repro_keys {
    const char *value[REPRO_KEYS];
} repro_keys;

/* Fills table[0..REPRO_KEYS). */
void repro_key_options(repro_keys *keys, cli_option *table);
/* Sets those keys that say how an earlier run's network is used here; one that says what it is, is refused: the run's
 * holds. CW_ERR_SPEC. */
cw_status repro_keys_for_run(const repro_keys *keys, cw_config *config, cw_error *err);
/* The configuration of the training run of figure `name` (for messages), with its folder in `out`; a run that is there
 * is refused unless `overwrite`. CLI_GO_ON with *config the caller's, or an exit code. */
int repro_configure(const char *name, const repro_keys *keys, int epochs, const char *out, bool overwrite,
                    cw_config **config);
#define REPRO_OVERWRITE_OPTION(value)                                                                                  \
    {                                                                                                                  \
        "overwrite", NULL, "replace the network that an earlier one left in --out (CSV and pictures always are)",      \
            CLI_FLAG, value                                                                                            \
    }

/* ---- feature maps of a trained network ---- */

typedef struct repro_net {
    cw_config *config;
    cw_model *model;
    cw_tensor_set weights;
    char folder[512]; /* of the run */
    bool stopped;     /* by the user, while training: nothing was opened */
    double test_accuracy;
} repro_net;

/* Trains the network of config (taken over in any case) unsplit into its folder, or when `run` is not NULL opens the
 * one an earlier run left in that folder, used as `keys` say. Progress of the training goes to the terminal. CLI_GO_ON,
 * or the exit code after saying why not; *net is to be closed in both cases. */
int repro_net_prepare(const char *name, cw_config *config, const repro_keys *keys, const char *run, bool json,
                      bool quiet, repro_net *net);
void repro_net_close(repro_net *net);
/* The first batch of the training (CW_TRAIN, augmented as in training) or the test split; to be closed in any case. */
typedef struct repro_batch {
    cw_dataset *ds;
    cw_loader *loader;
    cw_batch batch;
} repro_batch;
cw_status repro_batch_open(const repro_net *net, cw_mode mode, size_t size, repro_batch *out, cw_error *err);
void repro_batch_close(repro_batch *b);

/* Layers [first, last) with the trained weights, for batches of up to n samples, CW_TRAIN with gradients. */
cw_status repro_part(const repro_net *net, size_t first, size_t last, cw_mode mode, size_t n, cw_part **out,
                     cw_error *err);
/* n samples at the cut, over data. */
cw_tensor repro_smashed_view(const cw_cut *cut, size_t n, float *data);

/* The smashed data of one batch at a cut: CW_TRAIN of the first training batch, as clients send it while training,
 * CW_EVAL of the first of the test set. *out owns its elements. */
cw_status repro_smashed(const repro_net *net, const cw_cut *cut, cw_mode mode, size_t batch, cw_tensor *out,
                        cw_error *err);

/* ---- files ---- */

/* Makes the folder and those above it. CW_ERR_IO. */
cw_status repro_folder(const char *path, cw_error *err);
/* Writes folder/script and runs gnuplot on it in that folder. A missing gnuplot is no failure: false, with a sentence
 * on standard error. */
bool repro_plot(const char *folder, const char *script, const char *text);

#endif
