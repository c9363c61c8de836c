/* tensor_copy.c - loads a .npy or .safetensors file and saves it again: the C half of interop.sh. */
#include <stdio.h>
#include <string.h>

#include "cutwire/io.h"

static int report(cw_status status, const cw_error *err)
{
    if (status != CW_OK)
        fprintf(stderr, "%s\n", err->message);
    return status == CW_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    cw_error err = {.message = ""};
    if (argc != 3)
        return 2;
    if (strstr(argv[1], ".safetensors")) {
        cw_tensor_set set;
        cw_status status = cw_safetensors_load(argv[1], &set, &err);
        if (status == CW_OK)
            status = cw_safetensors_save(argv[2], set.items, set.count, set.metadata, &err);
        cw_tensor_set_free(&set);
        return report(status, &err);
    }
    cw_tensor t;
    cw_status status = cw_npy_load(argv[1], &t, &err);
    if (status == CW_OK)
        status = cw_npy_save(argv[2], &t, &err);
    cw_tensor_free(&t);
    return report(status, &err);
}
