/* image_jpeg.c - JPEG by libjpeg-turbo.
 *
 * Real photo collections hold files with harmless warnings, which are read as djpeg and Pillow read them. A missing
 * end is not harmless. libjpeg tells only the first warning of a file, so each is looked at as it comes.
 */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "data/image_decode.h"

typedef struct jpeg_reader {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr manager;
    jmp_buf failed;
    bool created, has_header;
    bool ended; /* the file did, before its image */
} jpeg_reader;

_Noreturn static void on_error(j_common_ptr info)
{
    longjmp(((jpeg_reader *)info->client_data)->failed, 1);
}

static void on_message(j_common_ptr info, int level)
{
    jpeg_reader *r = info->client_data;
    if (level < 0 && r->manager.msg_code == JWRN_JPEG_EOF)
        r->ended = true;
}

cw_status cwi_jpeg_create(void **jpeg, cw_error *err)
{
    jpeg_reader *r = cwi_calloc(1, sizeof *r);
    if (!r)
        return cwi_fail_memory(err, sizeof *r);
    r->info.err = jpeg_std_error(&r->manager);
    r->info.client_data = r;
    r->manager.error_exit = on_error;
    r->manager.emit_message = on_message;
    if (setjmp(r->failed)) {
        char why[JMSG_LENGTH_MAX];
        r->manager.format_message((j_common_ptr)&r->info, why);
        cwi_jpeg_destroy(r);
        return cwi_fail(err, CW_ERR_BACKEND, "libjpeg-turbo: %s", why);
    }
    jpeg_create_decompress(&r->info);
    r->created = true;
    *jpeg = r;
    return CW_OK;
}

void cwi_jpeg_destroy(void *jpeg)
{
    jpeg_reader *r = jpeg;
    if (!r)
        return;
    if (r->created)
        jpeg_destroy_decompress(&r->info);
    cwi_free(r);
}

/* In place: CMYK as Adobe stores it, inverted, so that 255 is no ink; rounded as Pillow rounds. */
static void cmyk_to_rgb(uint8_t *p, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        const unsigned white = p[4 * i + 3];
        for (size_t c = 0; c < 3; c++) {
            const unsigned ink = (255u - p[4 * i + c]) * white + 128;
            p[3 * i + c] = (uint8_t)(white - ((ink + (ink >> 8)) >> 8));
        }
    }
}

/* Leaves by on_error where libjpeg gives up. */
static cw_status read_image(jpeg_reader *r, cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    struct jpeg_decompress_struct *info = &r->info;
    jpeg_mem_src(info, bytes, (unsigned long)size);
    jpeg_read_header(info, TRUE);
    r->has_header = true;
    const bool cmyk = info->num_components == 4;
    const size_t depth = cmyk ? 4 : 3;
    CWI_TRY(cwi_image_reserve(d, info->image_width, info->image_height, depth, err));
    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    info->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(info);
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = d->rgb + info->output_scanline * d->width * depth;
        jpeg_read_scanlines(info, &row, 1);
    }
    jpeg_finish_decompress(info);
    if (cmyk)
        cmyk_to_rgb(d->rgb, d->width * d->height);
    return CW_OK;
}

static cw_status fail_reading(const jpeg_reader *r, const char *why, cw_error *err)
{
    switch (r->manager.msg_code) {
    case JERR_OUT_OF_MEMORY:
        return cwi_fail(err, CW_ERR_NO_MEMORY, "out of memory for a JPEG");
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
    case JERR_CONVERSION_NOTIMPL:
        return cwi_fail(err, CW_ERR_UNSUPPORTED, "a rare kind of JPEG (%s): save it as an ordinary one", why);
    default:
        return cwi_fail(err, CW_ERR_CORRUPT, "a damaged JPEG%s (%s)", r->has_header ? "" : " header",
                        r->ended ? "it ends too early" : why);
    }
}

cw_status cwi_jpeg_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    jpeg_reader *r = d->jpeg;
    cw_status status;
    r->ended = r->has_header = false;
    if (setjmp(r->failed)) {
        char why[JMSG_LENGTH_MAX];
        r->manager.format_message((j_common_ptr)&r->info, why);
        status = fail_reading(r, why, err);
    } else {
        status = read_image(r, d, bytes, size, err);
    }
    jpeg_abort_decompress(&r->info);
    if (r->has_header && r->ended && (status == CW_OK || status == CW_ERR_CORRUPT))
        return cwi_fail(err, CW_ERR_TRUNCATED, "a JPEG that ends too early");
    return status;
}
