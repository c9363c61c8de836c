/* fuzz_profile.c - makes profiles from hostile bytes, whose checksum an attacker gets right, and encodes and decodes
 * with those that are taken: what decodes is finite, whatever they say, and whatever becomes of the payload. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/payload.h"
#include "codec/profile.h"

enum { AT_CRC = 8, FIXED = 20, MAX_ELEMENTS = 1 << 14, FLIPS = 16 }; /* docs/formats/profile.md */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair(uint8_t *bytes, size_t size)
{
    static const uint8_t zero[4];
    if (size < FIXED)
        return;
    uint32_t crc = cwi_crc32c(0, bytes, AT_CRC);
    crc = cwi_crc32c(crc, zero, sizeof zero);
    cwi_put_le(bytes + AT_CRC, cwi_crc32c(crc, bytes + AT_CRC + 4, size - AT_CRC - 4), 4);
}

/* Whether it decodes; what does is finite. */
static bool decode(const uint8_t *payload, size_t size, const cw_profile *profile, cw_tensor *out, size_t elements)
{
    if (cw_decode(payload, size, out, &(cw_decode_args){.profile = profile}, NULL) != CW_OK)
        return false;
    for (size_t i = 0; i < elements; i++)
        assert(isfinite(((float *)out->data)[i]));
    return true;
}

static void damage(const uint8_t *payload, size_t size, const cw_profile *profile, cw_tensor *out, size_t elements)
{
    uint8_t *copy = malloc(size); /* as long as the payload: an over-read is seen */
    assert(copy);
    for (size_t i = 0; i < FLIPS; i++) {
        memcpy(copy, payload, size);
        copy[(profile->hash >> i) % size] ^= (uint8_t)(1u << i % 8);
        cwi_payload_seal(copy, size);
        decode(copy, size, profile, out, elements);
    }
    free(copy);
}

static void use(const cw_profile *profile)
{
    cw_shape shape = profile->shape;
    size_t elements, used;
    cw_tensor x, y;
    cw_codec *codec;
    shape.dim[0] = 1 + (int64_t)(profile->hash % 3);
    if (cw_shape_count(&shape, &elements) != CW_OK || elements > MAX_ELEMENTS)
        return;
    if (cw_codec_create("ec:err=0.2", &codec, NULL) != CW_OK || cw_tensor_alloc(&x, CW_F32, &shape) != CW_OK ||
        cw_tensor_alloc(&y, CW_F32, &shape) != CW_OK)
        abort();
    cwi_rng r = cwi_rng_make(profile->hash, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < elements; i++)
        ((float *)x.data)[i] = (float)(cwi_rng_normal(&r) + 2.0 * (i / 16 % 2));
    const size_t bound = cw_codec_bound(codec, &x);
    uint8_t *payload = malloc(bound);
    assert(payload);
    const cw_status status = cw_encode(codec, &x, &(cw_encode_args){.profile = profile}, payload, bound, &used, NULL);
    assert(status == CW_OK);
    const bool decodes = decode(payload, used, profile, &y, elements);
    assert(decodes);
    damage(payload, used, profile, &y, elements);
    free(payload);
    cw_tensor_free(&x);
    cw_tensor_free(&y);
    cw_codec_destroy(&codec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cw_profile *profile;
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    repair(copy, size);
    if (cw_profile_create(copy, size, &profile, NULL) == CW_OK)
        use(profile);
    cw_profile_destroy(&profile);
    free(copy);
    return 0;
}
