/* fuzz_safetensors.c - any bytes as a safetensors file: what decodes must encode and decode to the same again. */
#include <stdlib.h>
#include <string.h>

#include "cutwire/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t bytes_of(const cw_tensor *t)
{
    size_t count;
    if (cw_shape_count(&t->shape, &count) != CW_OK)
        abort();
    return count * cw_dtype_size(t->dtype);
}

static void compare(const cw_tensor_set *a, const cw_tensor_set *b)
{
    if (a->count != b->count)
        abort();
    for (size_t i = 0; i < a->count; i++) {
        const cw_tensor *x = &a->items[i].tensor, *y = &b->items[i].tensor;
        size_t n = bytes_of(x);
        if (strcmp(a->items[i].name, b->items[i].name) != 0 || !cw_shape_equal(&x->shape, &y->shape) ||
            x->dtype != y->dtype || (n > 0 && memcmp(x->data, y->data, n) != 0))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cw_tensor_set set, again;
    cw_error err;
    if (cw_safetensors_decode(data, size, &set, &err) != CW_OK)
        return 0;
    uint8_t *bytes;
    size_t encoded;
    /* The empty name is the one thing that reads but does not write. */
    if (cw_safetensors_encode(set.items, set.count, set.metadata, &bytes, &encoded, &err) == CW_OK) {
        if (cw_safetensors_decode(bytes, encoded, &again, &err) != CW_OK)
            abort();
        compare(&set, &again);
        cw_tensor_set_free(&again);
        cw_bytes_free(bytes);
    } else if (!cw_tensor_set_find(&set, "")) {
        abort();
    }
    cw_tensor_set_free(&set);
    return 0;
}
