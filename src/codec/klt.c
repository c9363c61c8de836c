/* klt.c - see klt.h. */
#include "codec/klt.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* The most of the error (squared) that is asked for which outputs that are not kept may make: else there is little to
 * choose from. */
#define LOST_MOST 0.5

/* ---- bytes ---- */

enum { AT_MEANS = 2 }; /* behind how many outputs are kept */

size_t cwi_klt_size(size_t channels, size_t kept)
{
    return AT_MEANS + 4 * channels + kept * channels;
}

static cw_status allocate(cwi_klt *k, cw_error *err)
{
    const size_t floats = k->channels + 2 * k->kept * k->channels + k->kept;
    k->mean = cwi_calloc(floats, sizeof *k->mean);
    if (!k->mean)
        return cwi_fail_memory(err, floats * sizeof *k->mean);
    k->basis = k->mean + k->channels;
    k->back = k->basis + k->kept * k->channels;
    k->shift = k->back + k->kept * k->channels;
    return CW_OK;
}

static bool get_means(const uint8_t *at, cwi_klt *k)
{
    for (size_t c = 0; c < k->channels; c++) {
        const uint32_t bits = (uint32_t)cwi_get_le(at + 4 * c, 4);
        memcpy(&k->mean[c], &bits, sizeof bits);
        if (!isfinite(k->mean[c]))
            return false;
    }
    return true;
}

static double product(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Makes row `last` of n numbers orthonormal to those before it (Gram and Schmidt; twice, which is enough). False where
 * it is a sum of these. */
static bool orthonormalize(double *row, size_t last, size_t n)
{
    double *r = row + last * n;
    const double whole = product(r, r, n);
    for (int twice = 0; twice < 2; twice++)
        for (size_t j = 0; j < last; j++) {
            const double along = product(row + j * n, r, n);
            for (size_t c = 0; c < n; c++)
                r[c] -= along * row[j * n + c];
        }
    const double square = product(r, r, n);
    if (!(square > 1e-6 * whole))
        return false;
    const double scale = 1 / sqrt(square);
    for (size_t c = 0; c < n; c++)
        r[c] *= scale;
    return true;
}

/* Rows are sent in whole numbers, which are all but orthonormal: what is missing both sides make the same way. */
static bool get_basis(const uint8_t *at, cwi_klt *k, double *row)
{
    const size_t n = k->channels;
    for (size_t j = 0; j < k->kept; j++) {
        for (size_t c = 0; c < n; c++)
            row[j * n + c] = (int8_t)at[j * n + c];
        if (!orthonormalize(row, j, n))
            return false;
        double shift = 0;
        for (size_t c = 0; c < n; c++) {
            k->basis[j * n + c] = (float)row[j * n + c];
            k->back[c * k->kept + j] = k->basis[j * n + c];
            shift -= (double)k->basis[j * n + c] * (double)k->mean[c];
        }
        k->shift[j] = (float)shift;
        if (!isfinite(k->shift[j]))
            return false;
    }
    return true;
}

cw_status cwi_klt_get(const uint8_t *at, size_t size, size_t channels, cwi_klt *out, const uint8_t **end, cw_error *err)
{
    *out = (cwi_klt){.channels = channels};
    *end = NULL;
    if (channels < CWI_KLT_LEAST || channels > CWI_KLT_MOST || size < AT_MEANS)
        return CW_OK;
    out->kept = (size_t)cwi_get_le(at, AT_MEANS);
    if (out->kept == 0 || out->kept > channels || size < cwi_klt_size(channels, out->kept))
        return CW_OK;
    CWI_TRY(allocate(out, err));
    double *row = cwi_calloc(out->kept * channels, sizeof *row);
    if (!row)
        return cwi_fail_memory(err, out->kept * channels * sizeof *row);
    if (get_means(at + AT_MEANS, out) && get_basis(at + AT_MEANS + 4 * channels, out, row))
        *end = at + cwi_klt_size(channels, out->kept);
    cwi_free(row);
    return CW_OK;
}

void cwi_klt_free(cwi_klt *k)
{
    cwi_free(k->mean);
    *k = (cwi_klt){0};
}

/* ---- use ---- */

bool cwi_klt_takes(const cw_shape *shape)
{
    return shape->ndim == 4 && shape->dim[1] >= CWI_KLT_LEAST && shape->dim[1] <= CWI_KLT_MOST;
}

typedef struct transform {
    const cwi_kernels *kernels;
    cwi_planes_sum sum;
    size_t sample; /* elements */
    const float *in;
    float *out;
} transform;

static transform transform_of(const cwi_klt *k, const cwi_kernels *kernels, const cw_shape *shape, const float *in,
                              float *out)
{
    transform t = {.kernels = kernels, .in = in, .out = out};
    t.sum.plane = (size_t)(shape->dim[2] * shape->dim[3]);
    t.sample = k->channels * t.sum.plane;
    return t;
}

static void put_sample(void *ctx, unsigned worker, size_t index)
{
    const transform *t = ctx;
    (void)worker;
    float *out = t->out + index * t->sample;
    const size_t kept = t->sum.outputs * t->sum.plane;
    t->kernels->sum_planes(&t->sum, t->in + index * t->sample, out);
    memset(out + kept, 0, (t->sample - kept) * sizeof *out);
}

void cwi_klt_put(const cwi_klt *k, const cwi_kernels *kernels, const cw_shape *shape, unsigned threads, const float *x,
                 float *y)
{
    transform t = transform_of(k, kernels, shape, x, y);
    t.sum.inputs = k->channels;
    t.sum.outputs = k->kept;
    t.sum.weight = k->basis;
    t.sum.start = k->shift;
    cwi_parallel(threads, (size_t)shape->dim[0], put_sample, &t);
}

static void undo_sample(void *ctx, unsigned worker, size_t index)
{
    const transform *t = ctx;
    (void)worker;
    float *out = t->out + index * t->sample;
    t->kernels->sum_planes(&t->sum, t->in + index * t->sample, out);
    for (size_t i = 0; i < t->sample; i++)
        out[i] = CWI_MAX(CWI_MIN(out[i], FLT_MAX), -FLT_MAX);
}

void cwi_klt_undo(const cwi_klt *k, const cwi_kernels *kernels, const cw_shape *shape, unsigned threads, const float *y,
                  float *x)
{
    transform t = transform_of(k, kernels, shape, y, x);
    t.sum.inputs = k->kept;
    t.sum.outputs = k->channels;
    t.sum.weight = k->back;
    t.sum.start = k->mean;
    cwi_parallel(threads, (size_t)shape->dim[0], undo_sample, &t);
}

/* The sum of the squares of what n elements lie from `mean`: sums of every SUMS-th, which may be had side by side. */
static double energy_about(double mean, const float *x, size_t n)
{
    enum { SUMS = 8 };
    double sum[SUMS] = {0}, all = 0;
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++) {
            const double d = (double)x[i + j] - mean;
            sum[j] += d * d;
        }
    for (; i < n; i++)
        all += ((double)x[i] - mean) * ((double)x[i] - mean);
    for (size_t j = 0; j < SUMS; j++)
        all += sum[j];
    return all;
}

double cwi_klt_larger(const cwi_klt *k, const cw_shape *shape, const float *x, const float *y, double error)
{
    const size_t plane = (size_t)(shape->dim[2] * shape->dim[3]), planes = (size_t)shape->dim[0] * k->channels;
    double whole = 0, centred = 0, kept = 0;
    for (size_t i = 0; i < planes; i++) {
        whole += energy_about(0, x + i * plane, plane);
        centred += energy_about((double)k->mean[i % k->channels], x + i * plane, plane);
        kept += energy_about(0, y + i * plane, plane);
    }
    const double lost = CWI_MAX(centred - kept, 0), asked = error * error * whole;
    if (!(kept > 0) || !isfinite(kept) || !isfinite(centred))
        return 0;
    if (error <= 0)
        return sqrt(whole / kept);
    return lost < LOST_MOST * asked ? sqrt((asked - lost) / kept) / error : 0;
}
