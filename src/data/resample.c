/* resample.c - separable resizing: rows first, then columns together with the normalization. */
#include <math.h>
#include <string.h>

#include "data/resample.h"

static cw_status reserve(void **buffer, size_t *capacity, size_t count, size_t size, cw_error *err)
{
    if (count <= *capacity)
        return CW_OK;
    cwi_free(*buffer);
    *capacity = 0;
    *buffer = cwi_alloc(count, size);
    if (!*buffer)
        return cwi_fail_memory(err, count * size);
    *capacity = count;
    return CW_OK;
}

void cwi_resampler_free(cwi_resampler *r)
{
    cwi_free(r->rows);
    cwi_free(r->weights);
    cwi_free(r->start);
    memset(r, 0, sizeof *r);
}

/* Weights and first pixels of an axis into r; each output's weights sum to 1, unused taps are 0. */
static cw_status plan_axis(cwi_resampler *r, const cwi_axis *a, size_t n, cw_error *err)
{
    double radius = a->step > 1 ? a->step : 1;
    r->taps = CWI_MIN((size_t)ceil(2 * radius) + 1, a->high - a->low);
    void *weights = r->weights, *start = r->start;
    cw_status status = reserve(&weights, &r->weight_capacity, n * r->taps, sizeof *r->weights, err);
    r->weights = weights;
    if (status == CW_OK)
        status = reserve(&start, &r->start_capacity, n, sizeof *r->start, err);
    r->start = start;
    for (size_t i = 0; status == CW_OK && i < n; i++) {
        double center = a->first + ((double)i + 0.5) * a->step, sum = 0;
        double left = floor(center - radius + 0.5);
        size_t first = left < (double)a->low ? a->low : (size_t)left;
        first = CWI_MIN(first, a->high - r->taps);
        float *w = r->weights + i * r->taps;
        for (size_t t = 0; t < r->taps; t++)
            sum += 1 - fmin(fabs(((double)(first + t) + 0.5 - center) / radius), 1);
        for (size_t t = 0; t < r->taps; t++)
            w[t] = (float)((1 - fmin(fabs(((double)(first + t) + 0.5 - center) / radius), 1)) / sum);
        r->start[i] = first;
    }
    return status;
}

/* One row of the source to 3 x n floats, channel after channel. */
static void resize_row(const cwi_resampler *r, const uint8_t *row, size_t n, bool flip, float *out)
{
    for (size_t i = 0; i < n; i++) {
        const float *w = r->weights + i * r->taps;
        const uint8_t *p = row + 3 * r->start[i];
        float sum[3] = {0, 0, 0};
        for (size_t t = 0; t < r->taps; t++)
            for (size_t c = 0; c < 3; c++)
                sum[c] += w[t] * (float)p[3 * t + c];
        size_t at = flip ? n - 1 - i : i;
        for (size_t c = 0; c < 3; c++)
            out[c * n + at] = sum[c];
    }
}

/* Output row i of every channel from the resized rows. */
static void resize_column(const cwi_resampler *r, size_t first_row, size_t i, size_t n, const float mean[3],
                          const float std[3], float *out)
{
    const float *w = r->weights + i * r->taps;
    for (size_t c = 0; c < 3; c++) {
        float *restrict o = out + c * n * n + i * n;
        const float scale = 1.0f / (255.0f * std[c]), bias = -mean[c] / std[c];
        for (size_t k = 0; k < n; k++)
            o[k] = bias;
        for (size_t t = 0; t < r->taps; t++) {
            const float *restrict row = r->rows + ((r->start[i] + t - first_row) * 3 + c) * n;
            const float weight = w[t] * scale;
            for (size_t k = 0; k < n; k++)
                o[k] += weight * row[k];
        }
    }
}

cwi_axis cwi_axis_centre(size_t length, size_t shorter, size_t n)
{
    double step = (double)shorter / (double)((n * 256 + 112) / 224);
    return (cwi_axis){.first = ((double)length - step * (double)n) / 2, .step = step, .low = 0, .high = length};
}

cw_status cwi_resample(cwi_resampler *r, const uint8_t *rgb, size_t width, const cwi_axis *x, const cwi_axis *y,
                       size_t n, bool flip, const float mean[3], const float std[3], float *out, cw_error *err)
{
    CWI_TRY(plan_axis(r, y, n, err)); /* once to know which rows matter */
    size_t first_row = r->start[0], end_row = r->start[n - 1] + r->taps;
    void *rows = r->rows;
    cw_status status = reserve(&rows, &r->row_capacity, (end_row - first_row) * 3 * n, sizeof *r->rows, err);
    r->rows = rows;
    if (status == CW_OK)
        status = plan_axis(r, x, n, err);
    if (status != CW_OK)
        return status;
    for (size_t row = first_row; row < end_row; row++)
        resize_row(r, rgb + row * width * 3, n, flip, r->rows + (row - first_row) * 3 * n);
    CWI_TRY(plan_axis(r, y, n, err));
    for (size_t i = 0; i < n; i++)
        resize_column(r, first_row, i, n, mean, std, out);
    return CW_OK;
}
