/* pixels.c - samples of images kept in memory as bytes: crop, flip and normalization while they become floats. */
#include "data/dataset.h"

/* y = scale * byte + bias, in blocks of a fixed length that every compiler turns into vectors. */
static void convert(const uint8_t *restrict src, size_t n, float scale, float bias, float *restrict dst)
{
    enum { BLOCK = 16 };
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (size_t k = 0; k < BLOCK; k++)
            dst[i + k] = scale * (float)src[i + k] + bias;
    for (; i < n; i++)
        dst[i] = scale * (float)src[i] + bias;
}

static void fill(float *dst, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = value;
}

static void reverse(float *row, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        float t = row[i];
        row[i] = row[n - 1 - i];
        row[n - 1 - i] = t;
    }
}

/* One channel, moved by (dy, dx) pixels; what comes in from outside is black. */
static void convert_plane(const uint8_t *src, ptrdiff_t h, ptrdiff_t w, ptrdiff_t dy, ptrdiff_t dx, bool flip,
                          float scale, float bias, float *dst)
{
    ptrdiff_t first = CWI_MIN(CWI_MAX(-dx, 0), w), last = CWI_MAX(CWI_MIN(w - dx, w), first);
    for (ptrdiff_t y = 0; y < h; y++, dst += w) {
        if (y + dy < 0 || y + dy >= h) {
            fill(dst, (size_t)w, bias);
            continue;
        }
        fill(dst, (size_t)first, bias);
        if (last > first)
            convert(src + (y + dy) * w + first + dx, (size_t)(last - first), scale, bias, dst + first);
        fill(dst + last, (size_t)(w - last), bias);
        if (flip)
            reverse(dst, (size_t)w);
    }
}

static cw_status pixel_sample(const cw_dataset *ds, size_t i, cwi_augment *a, void *worker, float *x, cw_error *err)
{
    (void)worker, (void)err;
    const cw_dataset_info *info = &ds->info;
    const ptrdiff_t channels = info->sample.dim[0], h = info->sample.dim[1], w = info->sample.dim[2];
    const bool flip = a->flip;
    ptrdiff_t dy = 0, dx = 0;
    if (a->crop_pad > 0) {
        uint64_t positions = 2 * (uint64_t)a->crop_pad + 1;
        dy = (ptrdiff_t)cwi_rng_below(&a->rng, positions) - a->crop_pad;
        dx = (ptrdiff_t)cwi_rng_below(&a->rng, positions) - a->crop_pad;
    }
    const uint8_t *src = ds->pixels + i * (size_t)(channels * h * w);
    for (ptrdiff_t c = 0; c < channels; c++) {
        float scale = 1.0f / (255.0f * info->std[c]), bias = -info->mean[c] / info->std[c];
        if (dy == 0 && dx == 0 && !flip)
            convert(src + c * h * w, (size_t)(h * w), scale, bias, x + c * h * w);
        else
            convert_plane(src + c * h * w, h, w, dy, dx, flip, scale, bias, x + c * h * w);
    }
    return CW_OK;
}

const cwi_dataset_ops cwi_pixel_ops = {.sample = pixel_sample, .augments = CWI_CAN_FLIP | CWI_CAN_CROP_PAD};
