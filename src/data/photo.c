/* photo.c - a single photo as a sample: for whoever asks a trained network about it. */
#include <string.h>

#include "data/dataset.h"
#include "data/image_decode.h"
#include "data/photo.h"
#include "data/resample.h"

struct cwi_photo_reader {
    const cwi_normal *normal;
    bool crops; /* as the test split of photos in folders */
    size_t n;   /* edge of a sample */
    float *rgb; /* 3 x n x n, where samples are grey */
    cwi_image_decoder decoder;
    cwi_resampler resampler;
};

cw_status cwi_photo_open(const char *spec, const cw_shape *sample, cwi_photo_reader **out, cw_error *err)
{
    const cwi_format *format = cwi_format_of(spec);
    const bool square = sample->ndim == 3 && sample->dim[1] == sample->dim[2];
    *out = NULL;
    if (!format || !format->normal || !square || sample->dim[0] != format->normal->channels)
        return cwi_fail(err, CW_ERR_UNSUPPORTED,
                        "photos are taken by networks of square images; this one was trained on %s: give .npy files",
                        spec);
    cwi_photo_reader *r = cwi_calloc(1, sizeof *r);
    if (!r)
        return cwi_fail_memory(err, sizeof *r);
    r->normal = format->normal;
    r->crops = format->sizable;
    r->n = (size_t)sample->dim[1];
    cw_status status = cwi_image_decoder_init(&r->decoder, err);
    if (status == CW_OK && r->normal->channels == 1 && !(r->rgb = cwi_alloc(3 * r->n * r->n, sizeof(float))))
        status = cwi_fail_memory(err, 3 * r->n * r->n * sizeof(float));
    if (status != CW_OK)
        cwi_photo_close(&r);
    *out = r;
    return status;
}

void cwi_photo_close(cwi_photo_reader **reader)
{
    cwi_photo_reader *r = *reader;
    if (!r)
        return;
    cwi_image_decoder_free(&r->decoder);
    cwi_resampler_free(&r->resampler);
    cwi_free(r->rgb);
    cwi_free(r);
    *reader = NULL;
}

static cw_status decode(cwi_photo_reader *r, const char *path, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    const cw_status status = cwi_image_decode(&r->decoder, bytes, size, err);
    cw_bytes_free(bytes);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}

/* The middle of an edge, as long as the shorter one. */
static cwi_axis middle(size_t length, size_t shorter, size_t n)
{
    return (cwi_axis){
        .first = (double)(length - shorter) / 2, .step = (double)shorter / (double)n, .low = 0, .high = length};
}

/* Luma as ITU-R BT.601 has it, as Pillow's convert('L'). */
static void make_grey(const cwi_photo_reader *r, float *x)
{
    const size_t n = r->n * r->n;
    for (size_t i = 0; i < n; i++) {
        const float y = 0.299f * r->rgb[i] + 0.587f * r->rgb[n + i] + 0.114f * r->rgb[2 * n + i];
        x[i] = (y - r->normal->mean[0]) / r->normal->std[0];
    }
}

cw_status cwi_photo_read(cwi_photo_reader *r, const char *path, float *x, cw_error *err)
{
    static const float zero[3] = {0, 0, 0}, one[3] = {1, 1, 1};
    CWI_TRY(decode(r, path, err));
    const size_t width = r->decoder.width, height = r->decoder.height, shorter = CWI_MIN(width, height);
    const cwi_axis ax = (r->crops ? cwi_axis_centre : middle)(width, shorter, r->n);
    const cwi_axis ay = (r->crops ? cwi_axis_centre : middle)(height, shorter, r->n);
    if (!r->rgb)
        return cwi_resample(&r->resampler, r->decoder.rgb, width, &ax, &ay, r->n, false, r->normal->mean,
                            r->normal->std, x, err);
    CWI_TRY(cwi_resample(&r->resampler, r->decoder.rgb, width, &ax, &ay, r->n, false, zero, one, r->rgb, err));
    make_grey(r, x);
    return CW_OK;
}
