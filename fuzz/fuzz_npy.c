/* fuzz_npy.c - any bytes as a .npy file: what parses must lie inside the input. */
#include <stdlib.h>

#include "tensor/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_npy_header h;
    cw_error err;
    if (cwi_npy_parse(data, size, &h, &err) == CW_OK && h.data_offset + h.data_size != size)
        abort();
    return 0;
}
