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
    AT_DIMS = 24
};

size_t cwi_header_size(const cwi_family *family, size_t keys, const cw_shape *shape)
{
    size_t size = AT_DIMS + 8 * (size_t)shape->ndim + cwi_params_size(family, keys);
    return (size + 7) & ~(size_t)7;
}

void cwi_header_put(const cw_codec *codec, cw_dtype dtype, const cw_shape *shape, size_t body_size, uint8_t *out)
{
    const cwi_family *family = codec->family;
    const size_t size = cwi_header_size(family, cwi_payload_keys(family), shape);
    memset(out, 0, size);
    memcpy(out, magic, sizeof magic);
    cwi_put_le(out + AT_VERSION, family->version, 2);
    cwi_put_le(out + AT_HEADER, size, 2);
    out[AT_CODEC] = family->id;
    out[AT_DTYPE] = (uint8_t)dtype;
    out[AT_NDIM] = (uint8_t)shape->ndim;
    out[AT_PARAMS] = (uint8_t)cwi_params_size(family, cwi_payload_keys(family));
    cwi_put_le(out + AT_BODY, body_size, 8);
    for (int i = 0; i < shape->ndim; i++)
        cwi_put_le(out + AT_DIMS + 8 * i, (uint64_t)shape->dim[i], 8);
    cwi_params_put(family, codec->value, out + AT_DIMS + 8 * shape->ndim);
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
    if (size < AT_DIMS)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size,
                           "payload ends after %zu bytes, its header alone takes %d or more", size, AT_DIMS);
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

static cw_status parse_shape(const uint8_t *src, size_t size, cwi_payload *p, cw_error *err)
{
    const unsigned ndim = src[AT_NDIM];
    if (src[AT_DTYPE] != CW_F32 && src[AT_DTYPE] != CW_BF16)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_DTYPE,
                           "dtype %u in the payload: codecs make only f32 (%d) and bf16 (%d)", src[AT_DTYPE], CW_F32,
                           CW_BF16);
    if (ndim > CW_MAX_DIMS)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_NDIM, "%u dimensions in the payload, %d are possible", ndim,
                           CW_MAX_DIMS);
    if (size < AT_DIMS + 8 * (size_t)ndim)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "payload ends after %zu bytes, amid its dimensions", size);
    p->dtype = (cw_dtype)src[AT_DTYPE];
    p->shape.ndim = (int32_t)ndim;
    for (unsigned i = 0; i < ndim; i++) {
        uint64_t dim = cwi_get_le(src + AT_DIMS + 8 * i, 8);
        if (dim > INT64_MAX)
            return cwi_fail_at(err, CW_ERR_CORRUPT, AT_DIMS + 8 * i, "dimension %u of the payload is %llu, too large",
                               i, (unsigned long long)dim);
        p->shape.dim[i] = (int64_t)dim;
    }
    if (cw_shape_count(&p->shape, &p->elements) != CW_OK)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_DIMS, "the payload's dimensions multiply to too many elements");
    return CW_OK;
}

/* How many keys of its family it has. */
static cw_status parse_family(const uint8_t *src, cwi_payload *p, size_t *keys, cw_error *err)
{
    p->family = cwi_family_by_id(src[AT_CODEC]);
    p->version = (unsigned)cwi_get_le(src + AT_VERSION, 2);
    if (!p->family)
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, AT_CODEC,
                           "codec number %u is unknown: the payload may come from a newer library", src[AT_CODEC]);
    if (p->version > p->family->version)
        return cwi_fail_at(err, CW_ERR_VERSION, AT_VERSION,
                           "payload format version %u of codec %s, this library knows versions up to %u", p->version,
                           p->family->info.name, p->family->version);
    *keys = p->version < p->family->version ? p->family->first_keys : cwi_payload_keys(p->family);
    if (src[AT_PARAMS] != cwi_params_size(p->family, *keys))
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, AT_PARAMS,
                           "%u bytes of parameters for codec %s, this library knows %zu: the payload may come from a "
                           "newer one",
                           src[AT_PARAMS], p->family->info.name, cwi_params_size(p->family, *keys));
    return CW_OK;
}

static cw_status parse_params(const uint8_t *src, size_t size, cwi_payload *p, cw_error *err)
{
    size_t keys = 0, bad;
    CWI_TRY(parse_family(src, p, &keys, err));
    const size_t at = AT_DIMS + 8 * (size_t)p->shape.ndim;
    p->header_size = cwi_header_size(p->family, keys, &p->shape);
    if (cwi_get_le(src + AT_HEADER, 2) != p->header_size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_HEADER,
                           "the payload says its header has %u bytes, such a one has %zu",
                           (unsigned)cwi_get_le(src + AT_HEADER, 2), p->header_size);
    if (size < p->header_size)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "payload ends after %zu bytes, its header has %zu", size,
                           p->header_size);
    if (!cwi_params_get(p->family, keys, src + at, p->value, &bad))
        return cwi_fail_at(err, CW_ERR_CORRUPT, at, "parameter %s of codec %s is out of range in the payload",
                           p->family->keys[bad].name, p->family->info.name);
    return CW_OK;
}

cw_status cwi_payload_parse(const uint8_t *src, size_t size, cwi_payload *p, cw_error *err)
{
    memset(p, 0, sizeof *p);
    CWI_TRY(check_fixed(src, size, err));
    CWI_TRY(parse_shape(src, size, p, err));
    CWI_TRY(parse_params(src, size, p, err));
    const uint64_t body = cwi_get_le(src + AT_BODY, 8);
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
