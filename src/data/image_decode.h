/* image_decode.h - JPEG and PNG files to RGB bytes. Internal. */
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
/* Which of the two formats it is is told from the first bytes. Grey and CMYK images become RGB, transparent ones lie on
 * black. CW_ERR_MAGIC, CW_ERR_CORRUPT, CW_ERR_TRUNCATED, CW_ERR_UNSUPPORTED (too large), CW_ERR_NO_MEMORY. */
cw_status cwi_image_decode(cwi_image_decoder *d, const uint8_t *bytes, size_t size, cw_error *err);

#endif
