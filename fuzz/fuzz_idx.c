/* fuzz_idx.c - any bytes as an IDX file, gzipped or not. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[] = "/tmp/cutwire-idx-XXXXXX";

static void remove_file(void)
{
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
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
    for (int ndim = 1; ndim <= 3; ndim += 2) {
        cw_tensor t;
        cw_error err;
        size_t count;
        if (cwi_idx_load(path, ndim, &t, &err) != CW_OK)
            continue;
        if (cw_shape_count(&t.shape, &count) != CW_OK || count > size * 1032)
            abort();
        cw_tensor_free(&t);
    }
    return 0;
}
