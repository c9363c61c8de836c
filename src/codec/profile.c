/* profile.c - profiles: their bytes, written and read, trusting nothing. docs/formats/profile.md has them one by one.
 */
#include "codec/profile.h"

#include <string.h>

#include "codec/ec_offsets.h"

static const uint8_t magic[4] = {'C', 'W', 'P', 'F'};

enum {
    VERSION = 1,
    VERSION_KLT = 2, /* of those with a transform */
    AT_VERSION = 4,
    AT_FLAGS = 6,
    AT_ORDER = 7,
    AT_CRC = 8,
    AT_BITS = 12,
    AT_ZERO = 16,
    AT_NDIM = 17,
    AT_WIDTH = 18,
    AT_DIMS = 20,
    CLASSES = 1, /* flags */
    OFFSETS = 2,
    KLT = 4,
    DIMS_LEAST = 2,
    DIMS_MOST = 5,
};

/* What a bit an element is in whole numbers. */
#define BITS_ONE 65536.0

/* FNV-1a (Fowler, Noll, Vo) of 64 bits; 0 is no profile's. */
static uint64_t hash_of(const uint8_t *bytes, size_t size)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    return h ? h : 1;
}

static uint32_t checksum_of(const uint8_t *bytes, size_t size)
{
    static const uint8_t zero[4];
    uint32_t crc = cwi_crc32c(0, bytes, AT_CRC);
    crc = cwi_crc32c(crc, zero, sizeof zero);
    return cwi_crc32c(crc, bytes + AT_BITS, size - AT_BITS);
}

void cwi_profile_ctx_shape(size_t channels, cwi_ctx_shape *out)
{
    const cw_shape shape = cw_shape_of(4, (int64_t[]){CWI_LANES, (int64_t)channels, 1, CWI_CTX_OWN_LEAST});
    cwi_ctx_shape_of(&shape, CWI_LANES * channels * CWI_CTX_OWN_LEAST, out);
}

bool cwi_profile_fits(const cw_profile *p, const cw_shape *shape)
{
    bool same = shape->ndim == p->shape.ndim;
    for (int i = 1; same && i < shape->ndim; i++)
        same = shape->dim[i] == p->shape.dim[i];
    return same;
}

/* ---- reading ---- */

static cw_status damaged(cw_error *err, size_t at, const char *what)
{
    return cwi_fail_at(err, CW_ERR_CORRUPT, at, "the profile's %s cannot be: it is damaged, learn it anew", what);
}

static cw_status read_shape(cw_profile *p, cw_error *err)
{
    cwi_order order;
    size_t count;
    const uint8_t *b = p->bytes;
    p->order = (cwi_order_id){.name = (cwi_order_name)b[AT_ORDER], .width = (unsigned)cwi_get_le(b + AT_WIDTH, 2)};
    p->shape.ndim = b[AT_NDIM];
    if (p->shape.ndim < DIMS_LEAST || p->shape.ndim > DIMS_MOST)
        return damaged(err, AT_NDIM, "number of dimensions");
    if (p->size < AT_DIMS + 8 * (size_t)(p->shape.ndim - 1))
        return cwi_fail_at(err, CW_ERR_TRUNCATED, p->size, "the profile ends after %zu bytes, amid its dimensions",
                           p->size);
    p->shape.dim[0] = 1;
    for (int i = 1; i < p->shape.ndim; i++) {
        const uint64_t dim = cwi_get_le(b + AT_DIMS + 8 * (i - 1), 8);
        if (dim == 0 || dim > UINT32_MAX)
            return damaged(err, AT_DIMS + 8 * (size_t)(i - 1), "dimension");
        p->shape.dim[i] = (int64_t)dim;
    }
    if (cw_shape_count(&p->shape, &count) != CW_OK || count > CWI_CTX_ELEMENTS_MOST ||
        p->order.name == CWI_ORDER_AUTO || p->order.name >= CWI_ORDER_NC ||
        !cwi_order_of(p->order, &p->shape, false, &order))
        return damaged(err, AT_ORDER, "layout or shape");
    cwi_ctx_shape s;
    cwi_ctx_shape_of(&order.shape, count, &s);
    p->channels = s.channels;
    return p->channels <= CWI_PROFILE_CHANNELS_MOST ? CW_OK : damaged(err, AT_DIMS, "number of channels");
}

/* Encoders rely on it. */
static bool knows_all_symbols(const cwi_ctx_model *m)
{
    for (unsigned c = 0; c < CWI_CONTEXTS; c++)
        for (unsigned s = 0; s < CWI_SYMBOLS; s++)
            if (m->start[s + 1][c] <= m->start[s][c])
                return false;
    return m->symbols == CWI_SYMBOLS;
}

static cw_status read_tables(cw_profile *p, const uint8_t *at, cw_error *err)
{
    cwi_ctx_shape s;
    cwi_profile_ctx_shape(p->channels, &s);
    p->tables.sets = cwi_calloc(cwi_ctx_most_sets(&s), sizeof *p->tables.sets);
    p->tables.of = cwi_calloc(p->channels, 1);
    if (!p->tables.sets || !p->tables.of)
        return cwi_fail_memory(err, cwi_ctx_most_sets(&s) * sizeof *p->tables.sets);
    const uint8_t *end = cwi_ctx_tables_get(at, p->bytes + p->size, &s, false, &p->tables);
    if (!end || !knows_all_symbols(&p->tables.model))
        return damaged(err, (size_t)(at - p->bytes), "weights and tables");
    return end == p->bytes + p->size ? CW_OK : damaged(err, (size_t)(end - p->bytes), "end");
}

static cw_status read_transform(cw_profile *p, const uint8_t **at, cw_error *err)
{
    const size_t here = (size_t)(*at - p->bytes);
    cwi_order order;
    if (!cwi_order_of(p->order, &p->shape, false, &order) || !cwi_klt_takes(&order.shape))
        return damaged(err, AT_FLAGS, "flags");
    CWI_TRY(cwi_klt_get(*at, p->size - here, p->channels, &p->klt, at, err));
    return *at ? CW_OK : damaged(err, here, "transform");
}

static cw_status read_parts(cw_profile *p, cw_error *err)
{
    const size_t begin = AT_DIMS + 8 * (size_t)(p->shape.ndim - 1);
    const unsigned flags = p->bytes[AT_FLAGS];
    p->classes = flags & CLASSES;
    p->bits = (double)cwi_get_le(p->bytes + AT_BITS, 4) / BITS_ONE;
    p->tables.zero = p->bytes[AT_ZERO];
    const bool transforms = cwi_get_le(p->bytes + AT_VERSION, 2) == VERSION_KLT;
    if (flags & ~(unsigned)(CLASSES | OFFSETS | KLT) || !(flags & KLT) != !transforms ||
        p->tables.zero >= CWI_ABOUT_TOP)
        return damaged(err, AT_FLAGS, "flags or zero");
    const uint8_t *at = p->bytes + begin;
    if (transforms)
        CWI_TRY(read_transform(p, &at, err));
    const size_t levels = (size_t)(at - p->bytes);
    at = cwi_about_levels_get(at, p->size - levels, p->classes, &p->levels);
    if (!at)
        return damaged(err, levels, "levels");
    if (flags & OFFSETS) {
        const size_t here = (size_t)(at - p->bytes);
        p->offsets = p->channels;
        p->offset = cwi_calloc(p->channels, sizeof *p->offset);
        if (!p->offset)
            return cwi_fail_memory(err, p->channels * sizeof *p->offset);
        at = cwi_offsets_get(at, p->size - here, p->channels, p->offset);
        if (!at)
            return damaged(err, here, "offsets");
    }
    return read_tables(p, at, err);
}

static cw_status read_profile(cw_profile *p, cw_error *err)
{
    if (p->size < AT_DIMS)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, p->size, "a profile has %d bytes or more, this one %zu", AT_DIMS,
                           p->size);
    if (memcmp(p->bytes, magic, sizeof magic) != 0)
        return cwi_fail_at(err, CW_ERR_MAGIC, 0, "not a profile: it begins with %02x %02x %02x %02x, not \"CWPF\"",
                           p->bytes[0], p->bytes[1], p->bytes[2], p->bytes[3]);
    const unsigned version = (unsigned)cwi_get_le(p->bytes + AT_VERSION, 2);
    if (version != VERSION && version != VERSION_KLT)
        return cwi_fail_at(err, CW_ERR_VERSION, AT_VERSION,
                           "profile of version %u, this library reads versions %d and %d", version, VERSION,
                           VERSION_KLT);
    const uint32_t crc = checksum_of(p->bytes, p->size);
    if (crc != (uint32_t)cwi_get_le(p->bytes + AT_CRC, 4))
        return cwi_fail_at(err, CW_ERR_CHECKSUM, AT_CRC,
                           "the profile's checksum is %08x, it says %08x: it is damaged, learn it anew", crc,
                           (unsigned)cwi_get_le(p->bytes + AT_CRC, 4));
    CWI_TRY(read_shape(p, err));
    return read_parts(p, err);
}

/* ---- the public functions ---- */

cw_status cw_profile_create(const void *bytes, size_t size, cw_profile **out, cw_error *err)
{
    if (!out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_profile_create: out is NULL");
    *out = NULL;
    if (!bytes && size)
        return cwi_fail(err, CW_ERR_INVALID, "cw_profile_create: bytes is NULL");
    cw_profile *p = cwi_calloc(1, sizeof *p);
    if (!p)
        return cwi_fail_memory(err, sizeof *p);
    p->bytes = cwi_alloc(size ? size : 1, 1);
    if (!p->bytes) {
        cwi_free(p);
        return cwi_fail_memory(err, size);
    }
    if (size)
        memcpy(p->bytes, bytes, size);
    p->size = size;
    p->hash = hash_of(p->bytes, size);
    const cw_status status = read_profile(p, err);
    if (status != CW_OK)
        cw_profile_destroy(&p);
    *out = p;
    return status;
}

void cw_profile_destroy(cw_profile **profile)
{
    if (!profile || !*profile)
        return;
    cwi_free((*profile)->tables.sets);
    cwi_free((*profile)->tables.of);
    cwi_free((*profile)->offset);
    cwi_klt_free(&(*profile)->klt);
    cwi_free((*profile)->bytes);
    cwi_free(*profile);
    *profile = NULL;
}

const void *cw_profile_bytes(const cw_profile *profile, size_t *size)
{
    *size = profile->size;
    return profile->bytes;
}

uint64_t cw_profile_hash(const cw_profile *profile)
{
    return profile->hash;
}

size_t cw_profile_outputs(const cw_profile *profile)
{
    return profile->klt.kept;
}

/* ---- writing ---- */

static size_t head_size(const cwi_profile_parts *parts)
{
    return AT_DIMS + 8 * (size_t)(parts->shape->ndim - 1);
}

static uint8_t *put_head(const cwi_profile_parts *parts, uint8_t *out)
{
    memcpy(out, magic, sizeof magic);
    cwi_put_le(out + AT_VERSION, parts->klt ? VERSION_KLT : VERSION, 2);
    out[AT_FLAGS] = (uint8_t)((parts->classes ? CLASSES : 0) | (parts->offsets ? OFFSETS : 0) | (parts->klt ? KLT : 0));
    out[AT_ORDER] = (uint8_t)parts->order.name;
    cwi_put_le(out + AT_BITS, (uint64_t)(CWI_MIN(CWI_MAX(parts->bits, 0.0), 64.0) * BITS_ONE), 4);
    out[AT_ZERO] = (uint8_t)parts->tables->zero;
    out[AT_NDIM] = (uint8_t)parts->shape->ndim;
    cwi_put_le(out + AT_WIDTH, parts->order.width, 2);
    for (int i = 1; i < parts->shape->ndim; i++)
        cwi_put_le(out + AT_DIMS + 8 * (i - 1), (uint64_t)parts->shape->dim[i], 8);
    return out + head_size(parts);
}

static size_t put_profile(const cwi_profile_parts *parts, uint8_t *out)
{
    cwi_ctx_shape s;
    cwi_profile_ctx_shape(parts->channels, &s);
    uint8_t *at = put_head(parts, out);
    if (parts->klt)
        memcpy(at, parts->klt, parts->klt_size);
    at += parts->klt_size;
    cwi_about_levels_put(parts->levels, at);
    at += cwi_about_levels_size(parts->levels);
    if (parts->offsets) {
        cwi_offsets_put(parts->offset, parts->offsets, parts->unit, at);
        at += cwi_offsets_size(parts->offset, parts->offsets);
    }
    const size_t size = (size_t)(cwi_ctx_tables_put(parts->tables, &s, at) - out);
    cwi_put_le(out + AT_CRC, checksum_of(out, size), 4);
    return size;
}

cw_status cwi_profile_make(const cwi_profile_parts *parts, cw_profile **out, cw_error *err)
{
    cwi_ctx_shape s;
    cwi_profile_ctx_shape(parts->channels, &s);
    const size_t bound = head_size(parts) + parts->klt_size + CWI_ABOUT_LEVELS_MOST +
                         cwi_offsets_bound(parts->offsets) + cwi_ctx_tables_bound(&s);
    uint8_t *bytes = cwi_calloc(bound, 1);
    if (!bytes)
        return cwi_fail_memory(err, bound);
    const cw_status status = cw_profile_create(bytes, put_profile(parts, bytes), out, err);
    cwi_free(bytes);
    return status;
}
