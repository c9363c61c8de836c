/* image_png.c - PNG by libpng: the stored samples, without gamma, profile or background. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "data/image_decode.h"

typedef struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *p, *end;
    bool has_header;
    char why[96];
} png_reader;

_Noreturn static void on_error(png_structp png, png_const_charp why)
{
    png_reader *r = png_get_error_ptr(png);
    snprintf(r->why, sizeof r->why, "%s", why);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp what)
{
    (void)png, (void)what;
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
    png_reader *r = png_get_io_ptr(png);
    if (n > (size_t)(r->end - r->p))
        png_error(png, "it ends too early");
    memcpy(out, r->p, n);
    r->p += n;
}

/* An index beyond the palette is the grey of that number, as Pillow has it. */
static void fill_palette(png_reader *r)
{
    png_color full[256];
    png_colorp palette;
    int count = 0;
    const int indices = 1 << png_get_bit_depth(r->png, r->info);
    png_get_PLTE(r->png, r->info, &palette, &count);
    for (int i = 0; i < indices; i++) {
        const png_byte grey = (png_byte)i;
        full[i] = i < count ? palette[i] : (png_color){grey, grey, grey};
    }
    png_set_PLTE(r->png, r->info, full, indices);
}

/* Whatever is stored, to three bytes a pixel. */
static void ask_for_rgb(png_reader *r)
{
    const int color = png_get_color_type(r->png, r->info);
    if (color == PNG_COLOR_TYPE_PALETTE) {
        fill_palette(r);
        png_set_palette_to_rgb(r->png);
    } else if (!(color & PNG_COLOR_MASK_COLOR)) {
        png_set_gray_to_rgb(r->png);
    }
    if (color & PNG_COLOR_MASK_ALPHA)
        png_set_strip_alpha(r->png);
    if (png_get_bit_depth(r->png, r->info) == 16)
        png_set_strip_16(r->png);
}

/* Chunks that say how to show the samples are passed over, transparency among them. A deflate window that the stream
 * claims smaller than it is, as some old encoders do, is no reason to fail. */
static void ignore_ancillary(png_structp png)
{
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "tRNS", 1);
    png_set_option(png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
}

/* Leaves by on_error where libpng gives up. What follows the pixels does not matter. */
static cw_status read_image(png_reader *r, cwi_image_decoder *d, cw_error *err)
{
    png_structp png = r->png;
    png_set_read_fn(png, r, on_read);
    ignore_ancillary(png);
    png_read_info(png, r->info);
    r->has_header = true;
    CWI_TRY(cwi_image_reserve(d, png_get_image_width(png, r->info), png_get_image_height(png, r->info), 3, err));
    ask_for_rgb(r);
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, r->info);
    if (png_get_rowbytes(png, r->info) != d->width * 3)
        png_error(png, "an unknown kind of pixels");
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < d->height; y++)
            png_read_row(png, d->rgb + y * d->width * 3, NULL);
    return CW_OK;
}

static cw_status read_or_fail(png_reader *r, cwi_image_decoder *d, cw_error *err)
{
    if (setjmp(png_jmpbuf(r->png)))
        return cwi_fail(err, CW_ERR_CORRUPT, "a damaged PNG%s (%s)", r->has_header ? "" : " header", r->why);
    return read_image(r, d, err);
}

cw_status cwi_png_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err)
{
    png_reader r = {.p = bytes, .end = bytes + size};
    cw_status status;
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (r.info)
        status = read_or_fail(&r, d, err);
    else
        status = cwi_fail(err, CW_ERR_NO_MEMORY, "out of memory for a PNG");
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return status;
}
