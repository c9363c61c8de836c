/* resample.h - a part of an RGB image resized to a square and normalized. Internal. */
#ifndef CWI_RESAMPLE_H
#define CWI_RESAMPLE_H

#include "base/base.h"

/* One axis of the part: output i of n looks at first + (i + 0.5) * step, in pixels of the source. What lies outside
 * [low, high) does not exist. */
typedef struct cwi_axis {
    double first, step;
    size_t low, high;
} cwi_axis;

/* Of an edge of `length`: the shorter edge resized to 256/224 of n, and the n in the middle of that. */
cwi_axis cwi_axis_centre(size_t length, size_t shorter, size_t n);

/* Buffers, reused from image to image; belongs to one thread. */
typedef struct cwi_resampler {
    float *rows; /* the source rows that matter, already resized horizontally */
    size_t row_capacity;
    float *weights; /* of one axis: [n][taps] */
    size_t *start;  /* [n] */
    size_t weight_capacity, start_capacity;
    size_t taps;
} cwi_resampler;

/* Bilinear with antialiasing (a triangle filter as wide as the step, as PIL and torchvision have it). rgb is
 * height x width x 3; out is 3 x n x n = (value / 255 - mean) / std; mirrored left to right with flip. */
cw_status cwi_resample(cwi_resampler *r, const uint8_t *rgb, size_t width, const cwi_axis *x, const cwi_axis *y,
                       size_t n, bool flip, const float mean[3], const float std[3], float *out, cw_error *err);
void cwi_resampler_free(cwi_resampler *r);

#endif
