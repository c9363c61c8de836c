/* payload.c - the header every payload begins with (docs/formats/payload.md), written and checked. */
#include <string.h>

#include "codec/codec_impl.h"
#include "codec/payload.h"

static const uint8_t magic[4] = {'C', 'W', 'P', 'L'};

/* Offsets of the fixed part. */
enum {
    AT_VERSION = 4,
    AT_HEADER = 6,
    AT_CODEC = 8,
    AT_DTYPE = 9,
    AT_NDIM = 10,
    AT_PARAMS = 11,
    AT_CRC = 12,
    AT_BODY = 16,
    AT_DIMS = 24, /* of version 1 */
    BODY_BYTES = 5,
    AT_NUMBERS = AT_BODY + BODY_BYTES, /* of version 2: dimensions, in as few bytes as they take */
    DIM_MOST = 9,
    LEAST = 24, /* bytes, of either version */
};

/* ---- version 2: numbers of 7 bits a byte, least significant first, the upper bit set but in the last ---- */

static size_t number_size(uint64_t v)
{
    size_t size = 1;
    for (; v >= 128; v >>= 7)
        size++;
    return size;
}

uint8_t *cwi_number_put(uint64_t v, uint8_t *out)
{
    for (; v >= 128; v >>= 7)
        *out++ = (uint8_t)(v | 128);
    *out++ = (uint8_t)v;
    return out;
}

const uint8_t *cwi_number_get(const uint8_t *in, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (unsigned i = 0; i < DIM_MOST && in < end; i++) {
        const uint8_t byte = *in++;
        *v |= (uint64_t)(byte & 127) << 7 * i;
        if (byte < 128)
            return byte || i == 0 ? in : NULL;
    }
    return NULL;
}

static size_t header_size_v1(const cwi_family *family, size_t keys, const cw_shape *shape)
{
    size_t size = AT_DIMS + 8 * (size_t)shape->ndim + cwi_params_size(family, keys);
    return (size + 7) & ~(size_t)7;
}

size_t cwi_header_size(const cwi_family *family, const cwi_value *value, const cw_shape *shape)
{
    uint8_t params[CWI_PARAMS_MOST];
    if (family->version == 1)
        return header_size_v1(family, cwi_payload_keys(family), shape);
    size_t size = AT_NUMBERS + (size_t)(cwi_params_put_short(family, value, params) - params);
    for (int i = 0; i < shape->ndim; i++)
        size += number_size((uint64_t)shape->dim[i]);
    return size;
}

void cwi_header_put(const cw_codec *codec, cw_dtype dtype, const cw_shape *shape, size_t body_size, uint8_t *out)
{
    const cwi_family *family = codec->family;
    const bool first = family->version == 1;
    const size_t size = cwi_header_size(family, codec->value, shape);
    memset(out, 0, size);
    memcpy(out, magic, sizeof magic);
    cwi_put_le(out + AT_VERSION, family->version, 2);
    cwi_put_le(out + AT_HEADER, size, 2);
    out[AT_CODEC] = family->id;
    out[AT_DTYPE] = (uint8_t)dtype;
    out[AT_NDIM] = (uint8_t)shape->ndim;
    cwi_put_le(out + AT_BODY, body_size, first ? 8 : BODY_BYTES);
    uint8_t *at = out + (first ? AT_DIMS : AT_NUMBERS);
    for (int i = 0; i < shape->ndim; i++) {
        if (!first)
            at = cwi_number_put((uint64_t)shape->dim[i], at);
        for (int b = 0; first && b < 64; b += 8)
            *at++ = (uint8_t)((uint64_t)shape->dim[i] >> b);
    }
    out[AT_PARAMS] = (uint8_t)cwi_params_size(family, cwi_payload_keys(family));
    if (first)
        cwi_params_put(family, codec->value, at);
    else
        out[AT_PARAMS] = (uint8_t)(cwi_params_put_short(family, codec->value, at) - at);
}

uint32_t cwi_payload_crc(const uint8_t *payload, size_t size)
{
    static const uint8_t zero[4];
    uint32_t crc = cwi_crc32c(0, payload, AT_CRC);
    crc = cwi_crc32c(crc, zero, sizeof zero);
    return cwi_crc32c(crc, payload + AT_BODY, size - AT_BODY);
}

void cwi_payload_seal(uint8_t *payload, size_t size)
{
    cwi_put_le(payload + AT_CRC, cwi_payload_crc(payload, size), 4);
}

/* ---- checking ---- */

static cw_status check_fixed(const uint8_t *src, size_t size, cw_error *err)
{
    if (size < LEAST)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "payload ends after %zu bytes, one has %d or more", size,
                           LEAST);
    if (memcmp(src, magic, sizeof magic) != 0)
        return cwi_fail_at(err, CW_ERR_MAGIC, 0,
                           "not a cutwire payload: it begins with %02x %02x %02x %02x, not \"CWPL\"", src[0], src[1],
                           src[2], src[3]);
    const unsigned version = (unsigned)cwi_get_le(src + AT_VERSION, 2);
    if (version < 1 || version > CWI_VERSION)
        return cwi_fail_at(err, CW_ERR_VERSION, AT_VERSION,
                           "payload format version %u, this library reads versions 1 to %d", version, CWI_VERSION);
    return CW_OK;
}

/* Its dimensions end at *end. */
static cw_status parse_dims(const uint8_t *src, size_t size, cwi_payload *p, size_t *end, cw_error *err)
{
    const uint8_t *at = src + (p->version == 1 ? AT_DIMS : AT_NUMBERS);
    for (int i = 0; i < p->shape.ndim; i++) {
        const size_t here = (size_t)(at - src), left = size - here;
        uint64_t dim = 0;
        if (p->version == 1 ? left < 8 : left < DIM_MOST && !cwi_number_get(at, src + size, &dim))
            return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "payload ends after %zu bytes, amid its dimensions", size);
        if (p->version == 1)
            dim = cwi_get_le(at, 8);
        at = p->version == 1 ? at + 8 : cwi_number_get(at, src + size, &dim);
        if (!at || dim > INT64_MAX)
            return cwi_fail_at(err, CW_ERR_CORRUPT, here, "dimension %d of the payload is %llu%s", i,
                               (unsigned long long)dim, at ? ", too large" : " in more bytes than that takes");
        p->shape.dim[i] = (int64_t)dim;
    }
    *end = (size_t)(at - src);
    return CW_OK;
}

static cw_status parse_shape(const uint8_t *src, size_t size, cwi_payload *p, size_t *end, cw_error *err)
{
    const unsigned ndim = src[AT_NDIM];
    if (src[AT_DTYPE] != CW_F32 && src[AT_DTYPE] != CW_BF16)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_DTYPE,
                           "dtype %u in the payload: codecs make only f32 (%d) and bf16 (%d)", src[AT_DTYPE], CW_F32,
                           CW_BF16);
    if (ndim > CW_MAX_DIMS)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_NDIM, "%u dimensions in the payload, %d are possible", ndim,
                           CW_MAX_DIMS);
    p->dtype = (cw_dtype)src[AT_DTYPE];
    p->shape.ndim = (int32_t)ndim;
    p->version = (unsigned)cwi_get_le(src + AT_VERSION, 2);
    CWI_TRY(parse_dims(src, size, p, end, err));
    if (cw_shape_count(&p->shape, &p->elements) != CW_OK)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->version == 1 ? AT_DIMS : AT_NUMBERS,
                           "the payload's dimensions multiply to too many elements");
    return CW_OK;
}

static cw_status parse_family(const uint8_t *src, cwi_payload *p, cw_error *err)
{
    p->family = cwi_family_by_id(src[AT_CODEC]);
    if (!p->family)
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, AT_CODEC,
                           "codec number %u is unknown: the payload may come from a newer library", src[AT_CODEC]);
    if (p->version > p->family->version)
        return cwi_fail_at(err, CW_ERR_VERSION, AT_VERSION,
                           "payload format version %u of codec %s, this library knows versions up to %u", p->version,
                           p->family->info.name, p->family->version);
    const size_t keys = p->family->version > 1 ? p->family->first_keys : cwi_payload_keys(p->family);
    if (p->version == 1 && src[AT_PARAMS] != cwi_params_size(p->family, keys))
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, AT_PARAMS,
                           "%u bytes of parameters for codec %s, this library knows %zu: the payload may come from a "
                           "newer one",
                           src[AT_PARAMS], p->family->info.name, cwi_params_size(p->family, keys));
    p->header_size = p->version == 1 ? header_size_v1(p->family, keys, &p->shape) : 0;
    return CW_OK;
}

static cw_status parse_params(const uint8_t *src, size_t size, size_t at, cwi_payload *p, cw_error *err)
{
    size_t bad = 0;
    CWI_TRY(parse_family(src, p, err));
    if (p->version > 1)
        p->header_size = at + src[AT_PARAMS];
    if (cwi_get_le(src + AT_HEADER, 2) != p->header_size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_HEADER,
                           "the payload says its header has %u bytes, such a one has %zu",
                           (unsigned)cwi_get_le(src + AT_HEADER, 2), p->header_size);
    if (size < p->header_size)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "payload ends after %zu bytes, its header has %zu", size,
                           p->header_size);
    const size_t keys = p->family->version > 1 ? p->family->first_keys : cwi_payload_keys(p->family);
    if (p->version == 1 ? !cwi_params_get(p->family, keys, src + at, p->value, &bad)
                        : !cwi_params_get_short(p->family, src + at, src[AT_PARAMS], p->value, &bad))
        return cwi_fail_at(err, CW_ERR_CORRUPT, at, "parameter %s of codec %s is out of range in the payload",
                           p->family->keys[bad].name, p->family->info.name);
    return CW_OK;
}

cw_status cwi_payload_parse(const uint8_t *src, size_t size, cwi_payload *p, cw_error *err)
{
    memset(p, 0, sizeof *p);
    CWI_TRY(check_fixed(src, size, err));
    size_t at = 0;
    CWI_TRY(parse_shape(src, size, p, &at, err));
    CWI_TRY(parse_params(src, size, at, p, err));
    const uint64_t body = cwi_get_le(src + AT_BODY, p->version == 1 ? 8 : BODY_BYTES);
    const size_t left = size - p->header_size, wanted = cwi_padded((size_t)body, p->elements);
    if (left < wanted)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "payload ends after %zu bytes, %zu are missing", size,
                           wanted - left);
    if (left > wanted)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size + wanted, "%zu bytes follow the end of the payload",
                           left - wanted);
    p->body = src + p->header_size;
    p->body_size = (size_t)body;
    p->checksum = (uint32_t)cwi_get_le(src + AT_CRC, 4);
    return p->family->check(p, err);
}
