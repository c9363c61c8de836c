/* fuzz_npy.c - any bytes as a .npy file: what parses must lie inside the input, and loads. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[] = "/tmp/cutwire-npy-XXXXXX";

static void remove_file(void)
{
    unlink(path);
}

/* Elements in another order than ours are moved, which needs a file. */
static void load(const uint8_t *data, size_t size, const cwi_npy_header *h)
{
    static bool made;
    if (!made) {
        int fd = mkstemp(path);
        if (fd < 0)
            abort();
        close(fd);
        atexit(remove_file);
        made = true;
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
    cw_tensor t;
    cw_error err;
    if (cw_npy_load(path, &t, &err) != CW_OK || !cw_shape_equal(&t.shape, &h->shape))
        abort();
    cw_tensor_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_npy_header h;
    cw_error err;
    if (cwi_npy_parse(data, size, &h, &err) != CW_OK)
        return 0;
    if (h.data_offset + h.data_size != size)
        abort();
    if (h.fortran || h.swapped)
        load(data, size, &h);
    return 0;
}
