/* fuzz_roundtrip.c - encodes whatever floats, with whatever codec, and decodes them again.
 *
 * Input: a line of text, the spec; a byte for the number of samples; a byte of flags; then the elements. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cutwire/codec.h"

enum { MAX_SPEC = 120, FLAG_BF16 = 1, FLAG_EVALUATE = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct trial {
    cw_codec *codec;
    cw_tensor x;
    size_t n;
    cw_encode_args args;
} trial;

static float element(const cw_tensor *t, size_t i)
{
    if (t->dtype == CW_F32)
        return ((const float *)t->data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static size_t first_nonfinite(const trial *t)
{
    size_t i = 0;
    while (i < t->n && isfinite(element(&t->x, i)))
        i++;
    return i;
}

/* What comes back lies between the extremes of magnitude, or for codecs that keep the sign between those of value. */
static void check_values(const trial *t, const float *y)
{
    float largest = 0;
    for (size_t i = 0; i < t->n; i++)
        largest = fmaxf(largest, fabsf(element(&t->x, i)));
    const bool exact = strcmp(cw_codec_spec(t->codec), "none") == 0;
    const bool steps = strncmp(cw_codec_spec(t->codec), "ec:", 3) == 0; /* up to a step beyond */
    /* Half the distance of neighbours: among fp16's denormals it is no longer relative. */
    const float least = strstr(cw_codec_spec(t->codec), "fp16") ? 0x1p-25f : 1e-40f;
    for (size_t i = 0; i < t->n; i++) {
        assert(isfinite(y[i]));
        assert(steps || fabsf(y[i]) <= largest * 1.004f || fabsf(y[i]) <= largest + least || largest > 3e38f);
        assert(!exact || y[i] == element(&t->x, i));
    }
}

static void decode(const trial *t, const uint8_t *payload, size_t size)
{
    cw_tensor y;
    cw_error err;
    cw_status status = cw_tensor_alloc(&y, CW_F32, &t->x.shape);
    assert(status == CW_OK);
    status = cw_decode(payload, size, &y, NULL, &err);
    assert(status == CW_OK);
    check_values(t, y.data);
    cw_tensor_free(&y);
}

static void roundtrip(trial *t)
{
    size_t bound = cw_codec_bound(t->codec, &t->x), size, again;
    assert(bound > 0);
    uint8_t *payload = malloc(bound), *twice = malloc(bound);
    cw_error err;
    cw_status status = cw_encode(t->codec, &t->x, &t->args, payload, bound, &size, &err);
    const size_t bad = first_nonfinite(t);
    if (bad == t->n && status == CW_ERR_TOO_SMALL && !strstr(cw_codec_spec(t->codec), "bytes=0,")) {
        free(payload); /* a budget that cannot be kept */
        free(twice);
        return;
    }
    if (bad < t->n) {
        assert(status == CW_ERR_NONFINITE && err.offset == bad && size == 0);
    } else {
        assert(status == CW_OK && size <= bound);
        t->args.threads = 2;
        status = cw_encode(t->codec, &t->x, &t->args, twice, size, &again, &err);
        assert(status == CW_OK && again == size && memcmp(payload, twice, size) == 0);
        decode(t, payload, size);
    }
    free(payload);
    free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char spec[MAX_SPEC + 1];
    const uint8_t *end = memchr(data, '\n', size < MAX_SPEC ? size : MAX_SPEC);
    if (!end || (size_t)(end - data) + 3 > size)
        return 0;
    memcpy(spec, data, (size_t)(end - data));
    spec[end - data] = '\0';
    trial t = {.args = {.seed = end[1], .evaluate = end[2] & FLAG_EVALUATE}};
    if (cw_codec_create(spec, &t.codec, NULL) != CW_OK)
        return 0;
    const cw_dtype dtype = end[2] & FLAG_BF16 ? CW_BF16 : CW_F32;
    const size_t left = size - (size_t)(end + 3 - data), samples = end[1];
    cw_shape shape = {.ndim = samples ? 2 : 1};
    t.n = left / cw_dtype_size(dtype);
    if (samples)
        t.n -= t.n % samples;
    shape.dim[0] = (int64_t)(samples ? samples : t.n);
    shape.dim[1] = samples ? (int64_t)(t.n / samples) : 0;
    if (cw_tensor_alloc(&t.x, dtype, &shape) == CW_OK) {
        memcpy(t.x.data, end + 3, t.n * cw_dtype_size(dtype));
        roundtrip(&t);
        cw_tensor_free(&t.x);
    }
    cw_codec_destroy(&t.codec);
    return 0;
}
