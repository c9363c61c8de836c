/* ctx_apart.h - windows of contexts: where channels are foretold well and badly. Internal.
 *
 * A context is where a prediction falls; of how far off it may be it says nothing. Where that differs from channel to
 * channel, classes of channels get a part of the contexts each, into which their weights shift and scale what they
 * predict. A decoder knows nothing of it. */
#ifndef CWI_CTX_APART_H
#define CWI_CTX_APART_H

#include "codec/ctx_regression.h"

/* Channels whose predictions have about the same mean square error, to half an octave. */
enum { CWI_CTX_BINS = 24 };
typedef struct cwi_ctx_bin {
    cwi_var_near_moments m;
    double error; /* of each channel, added up */
    size_t channels;
} cwi_ctx_bin;

typedef struct cwi_ctx_apart {
    const cwi_ctx_shape *shape;
    cwi_ctx_view all;                                  /* without windows */
    double n;                                          /* elements of each channel in the sample */
    cwi_ctx_bin near[CWI_CTX_BINS], own[CWI_CTX_BINS]; /* predicted from neighbours alone, and from all that it has */
    uint8_t *of_near, *of_own;                         /* each channel's bin */
} cwi_ctx_apart;

/* Adds a channel to its bin, whose number it returns. */
uint8_t cwi_ctx_bin_add(cwi_ctx_bin bins[CWI_CTX_BINS], cwi_var_moments m, double error);

/* About the bits of an element whose prediction has this mean square error, as of a normal distribution. */
double cwi_ctx_bits_of(double error);

/* Mode, weights and classes with windows of their own, from what is `fitted` without: sets of each channel's own, where
 * it may have them. False where they do not promise to take less. */
bool cwi_ctx_apart_fit(const cwi_ctx_apart *a, const cwi_ctx_tables *fitted, cwi_ctx_tables *out);

#endif
