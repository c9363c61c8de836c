/* klt.h - a linear transform of a tensor's channels, learned of earlier tensors: the Karhunen-Loeve transform, which
 * makes channels uncorrelated and brings their energy into few of them. It is part of a profile. Internal.
 *
 * Output j of a place is the sum over channels c of basis[j][c] (x[c] - mean[c]). The rows of the basis are
 * orthonormal, so that errors of the outputs are errors of the tensor. Outputs from `kept` on are not computed: they
 * count as 0. */
#ifndef CWI_KLT_H
#define CWI_KLT_H

#include "codec/codec_impl.h"

enum {
    CWI_KLT_LEAST = 2,  /* channels */
    CWI_KLT_MOST = 512, /* likewise: learning takes their third power */
};

typedef struct cwi_klt {
    size_t channels, kept; /* kept: 1 .. channels; 0: there is no transform */
    float *mean;           /* of each channel; all that follow lie behind it */
    float *basis;          /* kept rows of channels */
    float *back;           /* the same, channels rows of kept */
    float *shift;          /* of each output kept: what its sums begin with */
} cwi_klt;

/* ---- its bytes (klt.c): docs/formats/profile.md ---- */

size_t cwi_klt_size(size_t channels, size_t kept);
/* Of tensors with `channels` channels. *end: behind it, or NULL where there can be no such transform. CW_ERR_NO_MEMORY,
 * or CW_OK. */
cw_status cwi_klt_get(const uint8_t *at, size_t size, size_t channels, cwi_klt *out, const uint8_t **end,
                      cw_error *err);
void cwi_klt_free(cwi_klt *k);

/* ---- its use (klt.c) ---- */

/* Whether tensors of this shape (samples x channels x height x width) may be transformed. */
bool cwi_klt_takes(const cw_shape *shape);
/* All of a tensor that lies sample by sample, channel by channel; y must not be x. */
void cwi_klt_put(const cwi_klt *k, const cwi_kernels *kernels, const cw_shape *shape, unsigned threads, const float *x,
                 float *y);
/* And back; what is too large for a float becomes the largest one. */
void cwi_klt_undo(const cwi_klt *k, const cwi_kernels *kernels, const cw_shape *shape, unsigned threads, const float *y,
                  float *x);
/* How many times the relative error (the 2-norm's) that is asked of tensor x its transform y may have, where what is
 * not kept is lost; with an error of 0 the root mean square of x over that of y. 0: that error cannot be had by way of
 * y, or y has nothing, or something infinite. */
double cwi_klt_larger(const cwi_klt *k, const cw_shape *shape, const float *x, const float *y, double error);

/* ---- learning it (klt_learn.c) ---- */

/* Its bytes, of finite elements that lie as above; outputs whose mean square is below `least` are not kept. *bytes is
 * the caller's, to be given to cwi_free(); NULL where there is nothing to learn, as of constants. */
cw_status cwi_klt_learn(const float *x, const cw_shape *shape, double least, uint8_t **bytes, size_t *size,
                        cw_error *err);

#endif
