/* image_decode.c - JPEG by libjpeg-turbo, PNG by libpng. */
#include <png.h>
#include <string.h>
#include <turbojpeg.h>

#include "data/image_decode.h"

cw_status cwi_image_decoder_init(cwi_image_decoder *d, cw_error *err)
{
    memset(d, 0, sizeof *d);
    d->jpeg = tjInitDecompress();
    return d->jpeg ? CW_OK : cwi_fail(err, CW_ERR_BACKEND, "libjpeg-turbo: %s", tjGetErrorStr2(NULL));
}

void cwi_image_decoder_free(cwi_image_decoder *d)
{
    if (d->jpeg)
        tjDestroy(d->jpeg);
    cwi_free(d->rgb);
    memset(d, 0, sizeof *d);
}

/* Room for width x height pixels of `depth` bytes. */
static cw_status reserve(cwi_image_decoder *d, size_t width, size_t height, size_t depth, cw_error *err)
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

/* In place: Adobe's inverted CMYK, in which 255 is no ink. */
static void cmyk_to_rgb(uint8_t *p, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            p[3 * i + c] = (uint8_t)((p[4 * i + c] * p[4 * i + 3] + 127) / 255);
}

static cw_status decode_jpeg(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    int width = 0, height = 0, subsampling = 0, space = 0; /* a header without a frame leaves them as they are */
    if (tjDecompressHeader3(d->jpeg, bytes, size, &width, &height, &subsampling, &space) != 0 || width <= 0 ||
        height <= 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "a damaged JPEG header (%s)", tjGetErrorStr2(d->jpeg));
    bool cmyk = space == TJCS_CMYK || space == TJCS_YCCK;
    CWI_TRY(reserve(d, (size_t)width, (size_t)height, cmyk ? 4 : 3, err));
    int result =
        tjDecompress2(d->jpeg, bytes, size, d->rgb, width, 0, height, cmyk ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT);
    if (result != 0) {
        /* Real photo collections hold files with harmless warnings; a missing end is not harmless. */
        const char *why = tjGetErrorStr2(d->jpeg);
        if (strstr(why, "Premature end"))
            return cwi_fail(err, CW_ERR_TRUNCATED, "a JPEG that ends too early");
        if (tjGetErrorCode(d->jpeg) != TJERR_WARNING)
            return cwi_fail(err, CW_ERR_CORRUPT, "a damaged JPEG (%s)", why);
    }
    if (cmyk)
        cmyk_to_rgb(d->rgb, d->width * d->height);
    return CW_OK;
}

static cw_status decode_png(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, bytes, size))
        return cwi_fail(err, CW_ERR_CORRUPT, "a damaged PNG header (%s)", image.message);
    cw_status status = reserve(d, image.width, image.height, 3, err);
    image.format = PNG_FORMAT_RGB;
    png_color black = {0, 0, 0};
    if (status == CW_OK && !png_image_finish_read(&image, &black, d->rgb, 0, NULL))
        status = cwi_fail(err, CW_ERR_CORRUPT, "a damaged PNG (%s)", image.message);
    png_image_free(&image);
    return status;
}

cw_status cwi_image_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    static const uint8_t png[4] = {0x89, 'P', 'N', 'G'};
    if (size >= 2 && bytes[0] == 0xff && bytes[1] == 0xd8)
        return decode_jpeg(d, bytes, size, err);
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return decode_png(d, bytes, size, err);
    return cwi_fail(err, CW_ERR_MAGIC, "neither a JPEG nor a PNG");
}
