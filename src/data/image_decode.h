/* image_decode.h - JPEG and PNG files to RGB bytes. Internal.
 *
 * The pixels are those that Pillow's Image.open(f).convert('RGB') gives: samples as they are stored, whatever a gamma,
 * a profile or an orientation says of them, alpha dropped. 16-bit samples become their high bytes. */
#ifndef CWI_IMAGE_DECODE_H
#define CWI_IMAGE_DECODE_H

#include "base/base.h"

/* An image of more pixels than this is refused before it is allocated. */
#define CWI_MAX_PIXELS ((size_t)1 << 26)

/* Decoder and buffers, reused from image to image; belongs to one thread. */
typedef struct cwi_image_decoder {
    void *jpeg;
    uint8_t *rgb; /* height x width x 3 */
    size_t capacity;
    size_t width, height;
} cwi_image_decoder;

cw_status cwi_image_decoder_init(cwi_image_decoder *d, cw_error *err);
void cwi_image_decoder_free(cwi_image_decoder *d);
/* Which of the two formats it is is told from the first bytes. Damage that libjpeg or libpng read past, as their own
 * programs do, is no failure; a file that ends before its image does is one. CW_ERR_MAGIC, CW_ERR_CORRUPT,
 * CW_ERR_TRUNCATED, CW_ERR_UNSUPPORTED (too large, or a rare kind), CW_ERR_NO_MEMORY. */
cw_status cwi_image_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err);

/* ---- what the two formats are made with ---- */

/* Room for width x height pixels of `depth` bytes in d->rgb. */
cw_status cwi_image_reserve(cwi_image_decoder *d, size_t width, size_t height, size_t depth, cw_error *err);

cw_status cwi_jpeg_create(void **jpeg, cw_error *err);
void cwi_jpeg_destroy(void *jpeg);
cw_status cwi_jpeg_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err);
cw_status cwi_png_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err);

#endif
