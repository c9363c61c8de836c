/* repro_theorem1.h - what a codec does to the gradient of fixed weights, averaged over the codec's random numbers. */
#ifndef CLI_REPRO_THEOREM1_H
#define CLI_REPRO_THEOREM1_H

#include "repro.h"

enum {
    T1_GROUPS = 8, /* of seeds, for the standard error */
    T1_MOST_SEEDS = 65536,
    T1_POINTS = 17,    /* 1, 2, 4 ... 65536 seeds */
    T1_MOST_ROWS = 16, /* codecs in both directions */
};

/* The gradient of one half, relative to |g|, g being the one without compression. */
typedef struct theorem1_half {
    double error[T1_POINTS]; /* |mean over the first 2^i seeds - g| */
    double final_error;      /* over all seeds */
    double spread;           /* of a single seed's gradient about their mean: the root of the summed variances */
    double bias;             /* |E - g|, what no averaging removes; 0 where the estimate of its square is negative */
    double squared, squared_error; /* bias^2, an estimate whose mean is right, and its standard error */
} theorem1_half;

/* One codec in one direction. */
typedef struct theorem1_row {
    bool downlink; /* it codes the gradient at the cut, else the activations */
    char spec[128];
    size_t seeds; /* 1: the codec draws no random numbers */
    double bits;  /* an element */
    double error; /* relative, of what crosses the cut, mean over seeds */
    theorem1_half client, server;
} theorem1_row;

typedef struct theorem1 theorem1;

/* Gradients of the first training batch across the cut, without compression. */
cw_status theorem1_open(const repro_net *net, const cw_cut *cut, size_t samples, theorem1 **out, cw_error *err);
void theorem1_close(theorem1 **t);
/* Measures row->spec in row->downlink's direction with `seeds` seeds, a multiple of T1_GROUPS. tick (NULL allowed) is
 * called after each; CW_ERR_CANCELLED when it says so by returning false. */
cw_status theorem1_measure(theorem1 *t, size_t seeds, theorem1_row *row, bool (*tick)(void *ctx, size_t done),
                           void *ctx, cw_error *err);
/* What crosses the cut without compression: folder/cutN-train.npy, and its gradient, cutN-gradient.npy. */
cw_status theorem1_save_maps(const theorem1 *t, int cut, const char *folder, cw_error *err);
/* Whether the half's mean gradient is off by more than chance explains: squared bias above 4 standard errors. */
bool theorem1_biased(const theorem1_row *row, const theorem1_half *half);

/* ---- showing ---- */

/* folder/theorem1.csv */
cw_status theorem1_csv(const theorem1_row *rows, size_t count, const char *folder, cw_error *err);
/* theorem1.png and .svg, by the script theorem1.gp. */
bool theorem1_plot(const theorem1_row *rows, size_t count, const cw_config *config, const cw_cut *cut,
                   const char *folder);
void theorem1_print(const theorem1_row *rows, size_t count);
json_t *theorem1_json(const theorem1_row *rows, size_t count);

#endif
