/* image_decode.c - which kind of image a file is, and the buffer that its pixels go to. */
#include <string.h>

#include "data/image_decode.h"

cw_status cwi_image_decoder_init(cwi_image_decoder *d, cw_error *err)
{
    memset(d, 0, sizeof *d);
    return cwi_jpeg_create(&d->jpeg, err);
}

void cwi_image_decoder_free(cwi_image_decoder *d)
{
    cwi_jpeg_destroy(d->jpeg);
    cwi_free(d->rgb);
    memset(d, 0, sizeof *d);
}

cw_status cwi_image_reserve(cwi_image_decoder *d, size_t width, size_t height, size_t depth, cw_error *err)
{
    if (width == 0 || height == 0 || width > CWI_MAX_PIXELS / height)
        return cwi_fail(err, CW_ERR_UNSUPPORTED, "an image of %zux%zu pixels", width, height);
    size_t size = width * height * depth;
    if (size > d->capacity) {
        cwi_free(d->rgb);
        d->capacity = 0;
        d->rgb = cwi_alloc(size, 1);
        if (!d->rgb)
            return cwi_fail_memory(err, size);
        d->capacity = size;
    }
    d->width = width;
    d->height = height;
    return CW_OK;
}

/* What lies about in folders of photos under the name of one. */
static cw_status fail_other(const uint8_t *bytes, size_t size, cw_error *err)
{
    static const struct {
        size_t at, n;
        const char *bytes, *what;
    } kinds[] = {
        {0, 4, "GIF8", "a GIF: convert it to PNG"},
        {0, 2, "BM", "a BMP: convert it to PNG"},
        {8, 4, "WEBP", "a WebP: convert it to PNG"},
        {0, 4, "II*\0", "a TIFF: convert it to PNG"},
        {0, 4, "MM\0*", "a TIFF: convert it to PNG"},
        {4, 4, "ftyp", "an HEIC or AVIF: convert it to PNG"},
        {0, 4, "\0\5\x16\7", "what macOS keeps beside a file: remove it"},
        {0, 24, "version https://git-lfs.", "a pointer of Git LFS: run `git lfs pull`"},
    };
    if (size == 0)
        return cwi_fail(err, CW_ERR_MAGIC, "neither a JPEG nor a PNG: the file is empty");
    for (size_t i = 0; i < CWI_COUNT(kinds); i++)
        if (size >= kinds[i].at + kinds[i].n && memcmp(bytes + kinds[i].at, kinds[i].bytes, kinds[i].n) == 0)
            return cwi_fail(err, CW_ERR_MAGIC, "neither a JPEG nor a PNG, but %s", kinds[i].what);
    return cwi_fail(err, CW_ERR_MAGIC, "neither a JPEG nor a PNG");
}

cw_status cwi_image_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    static const uint8_t png[4] = {0x89, 'P', 'N', 'G'};
    if (size >= 2 && bytes[0] == 0xff && bytes[1] == 0xd8)
        return cwi_jpeg_decode(d, bytes, size, err);
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return cwi_png_decode(d, bytes, size, err);
    return fail_other(bytes, size, err);
}
