/* fingerprint.c - a number that names trained weights. Not a secret, and no protection against forgery: it tells a
 * model from another one that was meant. */
#include <string.h>

#include "half/half_state.h"
#include "infer/fingerprint.h"

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8)
        hash = mixed(hash ^ cwi_get_le(p, 8)) + UINT64_C(0x9e3779b97f4a7c15);
    uint64_t rest = 0;
    for (size_t i = 0; i < size; i++)
        rest |= (uint64_t)p[i] << (8 * i);
    return mixed(hash ^ rest ^ (uint64_t)size << 56);
}

/* PyTorch counts batches beside each batch norm; no answer depends on it. */
static bool is_counter(const char *name)
{
    static const char suffix[] = "num_batches_tracked";
    const size_t length = strlen(name), tail = sizeof suffix - 1;
    return length >= tail && strcmp(name + length - tail, suffix) == 0;
}

uint64_t cwi_tensor_fingerprint(const cw_named_tensor *item)
{
    char shape[128];
    size_t count = 0;
    const cw_tensor *t = &item->tensor;
    if (is_counter(item->name))
        return 0;
    (void)cw_shape_count(&t->shape, &count);
    const uint64_t name = cwi_hash_string(item->name);
    const uint64_t kind = cwi_hash_string(cw_shape_format(&t->shape, shape, sizeof shape)) + (uint64_t)t->dtype;
    return hash_bytes(mixed(name) ^ kind, t->data, count * cw_dtype_size(t->dtype));
}

uint64_t cw_weights_print(const cw_named_tensor *items, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count && items; i++)
        sum += cwi_tensor_fingerprint(&items[i]);
    return sum;
}

cw_status cwi_half_print(cw_half *half, uint64_t *print, cw_error *err)
{
    cwi_state state;
    *print = 0;
    if (!cw_half_weight_count(half))
        return CW_OK;
    CWI_TRY(cwi_halves_export(&half, 1, CWI_STATE_MODEL, &state, err));
    *print = cw_weights_print(state.items, state.count);
    cwi_state_free(&state);
    return CW_OK;
}
