/* repro.h - what the paper's figures share when they are made again: results of a codec, feature maps, plots. */
#ifndef CLI_REPRO_H
#define CLI_REPRO_H

#include "cli.h"

int repro_figure1(int argc, char **argv);
int repro_figure2(int argc, char **argv);

/* ---- one tensor through one codec ---- */

typedef struct repro_coded {
    size_t payload_bytes, header_bytes;
    double l2;       /* |decoded - x| */
    double relative; /* the same over |x|; 0 for an all-zero x */
} repro_coded;

/* Encodes x (CW_F32) with `spec` and decodes it into back, which is as large as x and the caller's. */
cw_status repro_through(const char *spec, const cw_tensor *x, float *back, repro_coded *out, cw_error *err);

/* ---- feature maps of a trained network ---- */

typedef struct repro_net {
    cw_config config;
    cw_model *model;
    cw_tensor_set weights;
    char folder[512]; /* of the run */
    bool stopped;     /* by the user, while training: nothing was opened */
    double test_accuracy;
} repro_net;

/* Trains the network of config unsplit into config->out, or when `run` is not NULL opens the one an earlier run left in
 * that folder. *net is to be closed in any case. */
cw_status repro_net_open(const cw_config *config, const char *run, const cw_hooks *hooks, repro_net *net,
                         cw_error *err);
void repro_net_close(repro_net *net);
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
