/* fuzz_decode.c - decodes hostile payloads of every codec. An attacker gets length and checksum right, so the target
 * does, too: otherwise nearly every input would end there. Whatever decodes must be finite, the same on one thread and
 * on two, and no larger than the payload's length justifies. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/payload.h"

enum { AT_VERSION = 4, AT_HEADER = 6, AT_BODY = 16, FIXED = 24, MAX_ELEMENTS = 1 << 20 }; /* docs/formats/payload.md */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair(uint8_t *payload, size_t size)
{
    if (size < FIXED)
        return;
    size_t header = (size_t)cwi_get_le(payload + AT_HEADER, 2);
    if (header <= size)
        cwi_put_le(payload + AT_BODY, size - header, payload[AT_VERSION] == 1 ? 8 : 5);
    cwi_payload_seal(payload, size);
}

static void check_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert(isfinite(x[i]));
}

/* By any support: whether it is the payload's or not, what decodes is finite. */
static void decode_with_support(const uint8_t *payload, size_t size, cw_tensor *out, size_t elements)
{
    uint8_t *support = malloc(elements ? elements : 1);
    assert(support);
    for (size_t i = 0; i < elements; i++)
        support[i] = (uint8_t)(i * 0x9e3779b1u >> 30);
    if (cw_decode(payload, size, out, &(cw_decode_args){.support = support}, NULL) == CW_OK)
        check_finite(out->data, elements);
    free(support);
}

static void decode(const uint8_t *payload, size_t size)
{
    cw_payload_info info;
    cw_error err;
    if (cw_payload_inspect(payload, size, &info, &err) != CW_OK)
        return;
    assert(info.elements / 4096 <= size);
    if (info.elements > MAX_ELEMENTS)
        return;
    cw_codec *codec;
    cw_status named = cw_codec_create(info.codec, &codec, &err);
    assert(named == CW_OK);
    assert(strcmp(cw_codec_spec(codec), info.codec) == 0);
    cw_codec_destroy(&codec);
    cw_tensor one, two, own;
    cw_status made[] = {cw_tensor_alloc(&one, CW_F32, &info.shape), cw_tensor_alloc(&two, CW_F32, &info.shape),
                        cw_tensor_alloc(&own, info.dtype, &info.shape)};
    assert(made[0] == CW_OK && made[1] == CW_OK && made[2] == CW_OK);
    cw_status status = cw_decode(payload, size, &one, NULL, &err);
    decode_with_support(payload, size, &two, info.elements);
    cw_status again = cw_decode(payload, size, &two, &(cw_decode_args){.threads = 2}, &err);
    cw_status as_own = cw_decode(payload, size, &own, NULL, &err);
    assert(status == again && status == as_own);
    if (status == CW_OK) {
        check_finite(one.data, info.elements);
        assert(memcmp(one.data, two.data, info.elements * sizeof(float)) == 0);
    }
    cw_tensor_free(&one);
    cw_tensor_free(&two);
    cw_tensor_free(&own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1); /* as long as the payload: an over-read is seen */
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    decode(copy, size);
    repair(copy, size);
    decode(copy, size);
    free(copy);
    return 0;
}
