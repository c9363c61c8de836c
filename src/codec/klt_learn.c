/* klt_learn.c - learns a transform of channels: their covariances, and what makes them uncorrelated. */
#include <math.h>
#include <string.h>

#include "codec/klt.h"

enum {
    PLACES_MOST = 1 << 14, /* that are looked at */
    AT_ONCE = 4,           /* places */
    SWEEPS_MOST = 30,
    WEIGHT_MOST = 127,
};

/* Rows whose cosine is smaller count as orthogonal. */
#define SMALL 1e-7

typedef struct learner {
    const float *x;
    size_t samples, channels, plane;
    double *mean;   /* of each channel */
    double *row;    /* channels x channels: covariances, then eigenvectors times their eigenvalues */
    double *length; /* of each row: the eigenvalue */
    double *some;   /* AT_ONCE places */
    uint16_t *order;
    double least;
} learner;

/* ---- covariances ---- */

static void find_means(learner *l)
{
    for (size_t s = 0; s < l->samples; s++)
        for (size_t c = 0; c < l->channels; c++) {
            const float *at = l->x + (s * l->channels + c) * l->plane;
            double sum = 0;
            for (size_t p = 0; p < l->plane; p++)
                sum += (double)at[p];
            l->mean[c] += sum;
        }
    for (size_t c = 0; c < l->channels; c++)
        l->mean[c] = (double)(float)(l->mean[c] / (double)(l->samples * l->plane)); /* as it will be known */
}

/* Adds AT_ONCE places to the lower half. */
static void add_places(learner *l)
{
    const size_t n = l->channels;
    const double *a = l->some, *b = a + n, *c = b + n, *d = c + n;
    for (size_t i = 0; i < n; i++) {
        double *row = l->row + i * n;
        const double ai = a[i], bi = b[i], ci = c[i], di = d[i];
        for (size_t j = 0; j <= i; j++)
            row[j] += ai * a[j] + bi * b[j] + ci * c[j] + di * d[j];
    }
}

static void take_place(const learner *l, size_t place, double *out)
{
    const float *at = l->x + place / l->plane * l->channels * l->plane + place % l->plane;
    for (size_t c = 0; c < l->channels; c++)
        out[c] = (double)at[c * l->plane] - l->mean[c];
}

/* Of places at equal distances. */
static void find_covariances(learner *l)
{
    const size_t n = l->channels, places = l->samples * l->plane;
    const size_t count = CWI_MIN(places, (size_t)PLACES_MOST);
    for (size_t i = 0; i < count; i += AT_ONCE) {
        memset(l->some, 0, AT_ONCE * n * sizeof *l->some);
        for (size_t k = 0; k < AT_ONCE && i + k < count; k++)
            take_place(l, (size_t)((uint64_t)(i + k) * places / count), l->some + k * n);
        add_places(l);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            l->row[j * n + i] = l->row[i * n + j] = l->row[i * n + j] / (double)count;
}

/* ---- eigenvectors ---- */

static double product(const double *a, const double *b, size_t n)
{
    enum { SUMS = 8 };
    double sum[SUMS] = {0}, all = 0;
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++)
            sum[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        all += a[i] * b[i];
    for (size_t j = 0; j < SUMS; j++)
        all += sum[j];
    return all;
}

/* Turns two rows in their plane until they are orthogonal; false where they are. */
static bool turn(double *a, double *b, size_t n)
{
    const double aa = product(a, a, n), bb = product(b, b, n), ab = product(a, b, n);
    if (fabs(ab) <= SMALL * sqrt(aa) * sqrt(bb))
        return false;
    const double zeta = (bb - aa) / (2 * ab);
    const double t = (zeta < 0 ? -1 : 1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    const double cosine = 1 / sqrt(1 + t * t), sine = cosine * t;
    for (size_t i = 0; i < n; i++) {
        const double ai = a[i], bi = b[i];
        a[i] = cosine * ai - sine * bi;
        b[i] = sine * ai + cosine * bi;
    }
    return true;
}

/* One-sided Jacobi (Hestenes 1958): turns of the rows of a symmetric matrix leave each eigenvector times its
 * eigenvalue.
 */
static void find_eigenvectors(learner *l)
{
    const size_t n = l->channels;
    bool turned = true;
    for (int sweep = 0; sweep < SWEEPS_MOST && turned; sweep++) {
        turned = false;
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++)
                turned |= turn(l->row + i * n, l->row + j * n, n);
    }
    for (size_t i = 0; i < n; i++)
        l->length[i] = sqrt(product(l->row + i * n, l->row + i * n, n));
}

/* Insertion sort: the largest eigenvalue first. */
static void sort_rows(learner *l)
{
    for (size_t i = 0; i < l->channels; i++) {
        size_t at = i;
        for (; at > 0 && l->length[l->order[at - 1]] < l->length[i]; at--)
            l->order[at] = l->order[at - 1];
        l->order[at] = (uint16_t)i;
    }
}

/* ---- bytes ---- */

static size_t count_kept(const learner *l)
{
    const double least = CWI_MAX(l->least, 1e-6 * l->length[l->order[0]]);
    size_t kept = 0;
    while (kept < l->channels && l->length[l->order[kept]] > least)
        kept++;
    return kept;
}

static uint8_t *put_row(const learner *l, const double *row, uint8_t *out)
{
    double most = 0;
    for (size_t c = 0; c < l->channels; c++)
        most = CWI_MAX(most, fabs(row[c]));
    for (size_t c = 0; c < l->channels; c++)
        *out++ = (uint8_t)(int8_t)lrint(row[c] / most * WEIGHT_MOST);
    return out;
}

static void put_transform(const learner *l, size_t kept, uint8_t *out)
{
    cwi_put_le(out, kept, 2);
    out += 2;
    for (size_t c = 0; c < l->channels; c++, out += 4) {
        const float mean = (float)l->mean[c];
        uint32_t bits;
        memcpy(&bits, &mean, sizeof bits);
        cwi_put_le(out, bits, 4);
    }
    for (size_t j = 0; j < kept; j++)
        out = put_row(l, l->row + l->order[j] * l->channels, out);
}

static cw_status learn(learner *l, uint8_t **bytes, size_t *size, cw_error *err)
{
    find_means(l);
    find_covariances(l);
    find_eigenvectors(l);
    sort_rows(l);
    const size_t kept = count_kept(l);
    if (kept == 0)
        return CW_OK;
    *size = cwi_klt_size(l->channels, kept);
    *bytes = cwi_alloc(*size, 1);
    if (!*bytes)
        return cwi_fail_memory(err, *size);
    put_transform(l, kept, *bytes);
    return CW_OK;
}

cw_status cwi_klt_learn(const float *x, const cw_shape *shape, double least, uint8_t **bytes, size_t *size,
                        cw_error *err)
{
    const size_t n = (size_t)shape->dim[1], doubles = n * (n + 2 + AT_ONCE);
    learner l = {.x = x, .samples = (size_t)shape->dim[0], .channels = n, .least = least};
    l.plane = (size_t)(shape->dim[2] * shape->dim[3]);
    *bytes = NULL;
    l.row = cwi_calloc(doubles, sizeof *l.row);
    l.order = cwi_calloc(n, sizeof *l.order);
    l.mean = l.row + n * n;
    l.length = l.mean + n;
    l.some = l.length + n;
    const cw_status status =
        l.row && l.order ? learn(&l, bytes, size, err) : cwi_fail_memory(err, doubles * sizeof *l.row);
    cwi_free(l.row);
    cwi_free(l.order);
    return status;
}
