/* fuzz_roundtrip.c - encodes whatever floats, with whatever codec, and decodes them again.
 *
 * Input: a line of text, the spec; a byte for the number of samples; a byte of flags; then the elements. With
 * FLAG_CHANNELS each sample has 1 + flags / 16 channels of one row, with FLAG_ROWS too about as many rows as columns.
 * FLAG_EVALUATE, which is nothing to ec, gives it a support.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec_ec.h"
#include "codec/payload.h"

enum { MAX_SPEC = 120, FLAG_BF16 = 1, FLAG_EVALUATE = 2, FLAG_CHANNELS = 4, FLAG_ROWS = 8, CHANNELS_SHIFT = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct trial {
    cw_codec *codec;
    const char *spec; /* canonical */
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

static bool is_ec(const trial *t)
{
    return strncmp(t->spec, "ec:", 3) == 0;
}

/* The number of a key that the codec has. */
static double number_of(const trial *t, const char *key)
{
    const char *at = strstr(t->spec, key);
    assert(at);
    return strtod(at + strlen(key), NULL);
}

/* Of ec: what docs/reference/codecs.md says of the payload of nothing but zeros; inputs are too short for what it
 * says of large ones. */
static size_t least_size(const trial *t)
{
    const size_t samples = t->x.shape.ndim ? (size_t)t->x.shape.dim[0] : 1;
    const size_t segments = strstr(t->spec, "scope=sample") ? samples : 1;
    const size_t header = cwi_header_size(t->codec->family, t->codec->value, &t->x.shape);
    return header + CWI_EC_LEAST_PREFIX + (t->n ? 4 * segments + 1 : 0) +
           (t->x.shape.ndim == 3 ? CWI_EC_MORE_BYTES : 0);
}

/* Of codecs other than ec: what comes back lies within the largest magnitude. */
static void check_magnitudes(const trial *t, const float *y)
{
    float largest = 0;
    for (size_t i = 0; i < t->n; i++)
        largest = fmaxf(largest, fabsf(element(&t->x, i)));
    const bool exact = strcmp(t->spec, "none") == 0;
    /* Half the distance of neighbours: among fp16's denormals it is no longer relative. */
    const float least = strstr(t->spec, "fp16") ? 0x1p-25f : 1e-40f;
    for (size_t i = 0; i < t->n; i++) {
        assert(fabsf(y[i]) <= largest * 1.004f || fabsf(y[i]) <= largest + least || largest > 3e38f);
        assert(!exact || y[i] == element(&t->x, i));
    }
}

/* Of ec: each element is within a step of what it was, which the payload tells, and on the same side of 0. The level of
 * a code is the mean of what has it, of magnitudes in bins of about 1%. */
static void check_steps(const trial *t, const uint8_t *payload, size_t size, const float *y)
{
    cw_payload_info info;
    cw_status status = cw_payload_inspect(payload, size, &info, NULL);
    assert(status == CW_OK);
    const size_t length = strstr(t->spec, "scope=sample") && t->n ? t->n / (size_t)t->x.shape.dim[0] : t->n;
    for (size_t i = 0; i < t->n; i++) {
        float step;
        const uint8_t *body = payload + info.header_bytes;
        memcpy(&step, body + cwi_ec_prefix(body[0]) + 4 * (i / length), sizeof step);
        const double x = (double)element(&t->x, i), off = fabs((double)y[i] - x);
        assert(step > 0 ? off <= 1.1 * (double)step + 0x1p-149 : y[i] == 0);
        /* what is within half a step of 0 comes back as what is expected there */
        assert(fabs((double)y[i]) <= 0.5 * (double)step || (y[i] < 0) == (x < 0));
    }
}

static void decode(const trial *t, const uint8_t *payload, size_t size, cw_tensor *y)
{
    cw_error err;
    cw_status status = cw_tensor_alloc(y, CW_F32, &t->x.shape);
    assert(status == CW_OK);
    status = cw_decode(payload, size, y, &(cw_decode_args){.support = t->args.support}, &err);
    assert(status == CW_OK);
    for (size_t i = 0; i < t->n; i++) {
        assert(isfinite(((const float *)y->data)[i]));
        assert(!t->args.support || t->args.support[i] || ((const float *)y->data)[i] == 0);
    }
}

/* Of ms coded in context: the payload without is no shorter, and the same tensor. */
static void check_plain(const trial *t, size_t coded, const float *y)
{
    char spec[2 * MAX_SPEC] = "";
    strncat(spec, t->spec, (size_t)(strstr(t->spec, ",entropy=ctx") - t->spec)); /* the last key */
    cw_codec *plain;
    cw_status status = cw_codec_create(spec, &plain, NULL);
    assert(status == CW_OK);
    const size_t bound = cw_codec_bound(plain, &t->x);
    uint8_t *payload = malloc(bound);
    size_t size;
    status = cw_encode(plain, &t->x, NULL, payload, bound, &size, NULL);
    assert(status == CW_OK && coded <= size);
    cw_tensor z;
    decode(t, payload, size, &z);
    assert(memcmp(y, z.data, t->n * sizeof *y) == 0);
    cw_tensor_free(&z);
    free(payload);
    cw_codec_destroy(&plain);
}

static void check(const trial *t, const uint8_t *payload, size_t size)
{
    cw_tensor y;
    decode(t, payload, size, &y);
    if (is_ec(t)) {
        const double bytes = number_of(t, "bytes="), bits = number_of(t, "bpe=") * (double)t->n;
        assert(bytes == 0 || (double)size <= bytes);
        assert(bits == 0 || (double)size * 8 <= bits || size <= least_size(t));
        check_steps(t, payload, size, y.data);
    } else {
        check_magnitudes(t, y.data);
    }
    if (strstr(t->spec, "entropy=ctx"))
        check_plain(t, size, y.data);
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
    if (bad < t->n) {
        assert(status == CW_ERR_NONFINITE && err.offset == bad && size == 0);
    } else if (status == CW_ERR_TOO_SMALL) { /* only for a budget that cannot be kept */
        assert(is_ec(t) && number_of(t, "bytes=") > 0 && number_of(t, "bytes=") < (double)least_size(t) && size == 0);
    } else if (status == CW_ERR_INVALID) { /* only for a layout that such a tensor cannot have */
        assert(is_ec(t) && !strstr(t->spec, "layout=auto") && size == 0);
    } else {
        assert(status == CW_OK && size <= bound);
        t->args.threads = 2;
        status = cw_encode(t->codec, &t->x, &t->args, twice, size, &again, &err);
        assert(status == CW_OK && again == size && memcmp(payload, twice, size) == 0);
        check(t, payload, size);
    }
    free(payload);
    free(twice);
}

/* The largest tensor of at most n elements with so many samples, and what the flags say. */
static cw_shape shape_of(size_t n, size_t samples, unsigned flags)
{
    if (samples == 0)
        return cw_shape_of(1, (int64_t[]){(int64_t)n});
    const size_t channels = flags & FLAG_CHANNELS ? 1 + (flags >> CHANNELS_SHIFT) : 1;
    const size_t plane = n / samples / channels;
    const size_t rows = flags & FLAG_ROWS ? (size_t)sqrt((double)plane) : 1;
    const int64_t columns = (int64_t)(rows ? plane / rows : 0);
    if (!(flags & FLAG_CHANNELS))
        return cw_shape_of(2, (int64_t[]){(int64_t)samples, (int64_t)plane});
    if (!(flags & FLAG_ROWS))
        return cw_shape_of(3, (int64_t[]){(int64_t)samples, (int64_t)channels, columns});
    return cw_shape_of(4, (int64_t[]){(int64_t)samples, (int64_t)channels, (int64_t)rows, columns});
}

/* Of about half of the elements; the others become 0. */
static uint8_t *find_support(const cw_tensor *x, size_t n)
{
    uint8_t *support = malloc(n + 1), *at = x->data;
    const size_t size = cw_dtype_size(x->dtype);
    assert(support);
    for (size_t i = 0; i < n; i++) {
        support[i] = (uint8_t)(i * 0x9e3779b1u >> 24 & 1);
        if (!support[i])
            memset(at + i * size, 0, size);
    }
    return support;
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
    t.spec = cw_codec_spec(t.codec);
    const cw_dtype dtype = end[2] & FLAG_BF16 ? CW_BF16 : CW_F32;
    const size_t left = size - (size_t)(end + 3 - data);
    const cw_shape shape = shape_of(left / cw_dtype_size(dtype), end[1], end[2]);
    if (cw_shape_count(&shape, &t.n) == CW_OK && cw_tensor_alloc(&t.x, dtype, &shape) == CW_OK) {
        memcpy(t.x.data, end + 3, t.n * cw_dtype_size(dtype));
        uint8_t *support = is_ec(&t) && t.args.evaluate ? find_support(&t.x, t.n) : NULL;
        t.args.support = support;
        roundtrip(&t);
        free(support);
        cw_tensor_free(&t.x);
    }
    cw_codec_destroy(&t.codec);
    return 0;
}
