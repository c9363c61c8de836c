/* fuzz_image.c - any bytes as a photo: an error or pixels, never more memory than CWI_MAX_PIXELS allow. */
#include <stdlib.h>

#include "data/image_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_image_decoder d;
    cw_error err;
    if (cwi_image_decoder_init(&d, &err) != CW_OK)
        return 0;
    if (cwi_image_decode(&d, data, size, &err) == CW_OK) {
        if (d.width == 0 || d.height > CWI_MAX_PIXELS / d.width || d.capacity < d.width * d.height * 3)
            abort();
    }
    cwi_image_decoder_free(&d);
    return 0;
}
