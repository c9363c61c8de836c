/* wire.c - frames from messages and back, driven by the table of wire_table.c.
 *
 * Every message has exactly one encoding: whatever decodes gives the same bytes when encoded again. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "wire/wire_table.h"

/* The frame header, little-endian. The fields of the type follow, then the labels, then zeros up to a multiple of
 * BLOB_ALIGN (so that floats in the blob of an aligned frame can be used where they lie), then the blob. */
enum {
    FRAME_FORMAT = 1,
    AT_FORMAT = 4, /* after the magic */
    AT_TYPE = 5,
    AT_FIELDS_SIZE = 6,
    AT_CLIENT = 8,
    AT_CRC = 12,
    AT_SESSION = 16,
    AT_LABELS_SIZE = 24,
    AT_BLOB_SIZE = 28,
    HEADER_SIZE = 32,
    BLOB_ALIGN = 16,
};
static const uint8_t MAGIC[4] = {'C', 'W', 'F', 'R'};

/* Exclusive, so that it can be checked against `int classes`. */
enum { LABEL_END = INT32_MAX };

/* Where the parts of a frame lie. */
typedef struct frame_map {
    size_t labels_at, labels_size, blob_at, blob_size, size;
} frame_map;

static bool map_frame(size_t fields_size, size_t labels_size, size_t blob_size, frame_map *out)
{
    out->labels_at = HEADER_SIZE + fields_size;
    out->labels_size = labels_size;
    out->blob_size = blob_size;
    size_t end;
    if (!cwi_add_size(out->labels_at + BLOB_ALIGN - 1, labels_size, &end))
        return false;
    out->blob_at = end / BLOB_ALIGN * BLOB_ALIGN;
    return cwi_add_size(out->blob_at, blob_size, &out->size);
}

const char *cw_msg_name(cw_msg_type type)
{
    const cwi_layout *layout = cwi_wire_layout((unsigned)type);
    return layout ? layout->name : "?";
}

/* The bytes of the frame but for the CRC's own, which count as zeros. */
static uint32_t frame_crc(const uint8_t *frame, size_t size)
{
    static const uint8_t zeros[4] = {0};
    uint32_t crc = cwi_crc32c(0, frame, AT_CRC);
    crc = cwi_crc32c(crc, zeros, sizeof zeros);
    return cwi_crc32c(crc, frame + AT_SESSION, size - AT_SESSION);
}

/* ---- labels ---- */

static bool is_label_width(uint64_t width)
{
    return width <= 2 || width == 4 || width == CW_TARGETS_TENSOR; /* 0: there are none */
}

/* `largest`: the largest label, or all labels or-ed together. */
static unsigned width_of(uint32_t largest)
{
    return largest <= UINT8_MAX ? 1 : largest <= UINT16_MAX ? 2 : 4;
}

/* The width of a message's labels: computed from `labels`, or as it came with a decoded message. Negative labels
 * look large here, and are refused when encoding. */
static unsigned label_width(const cw_msg *msg)
{
    if (msg->targets.dtype)
        return CW_TARGETS_TENSOR;
    if (!msg->labels)
        return msg->label_width;
    uint32_t all = 0; /* the bits in use decide the width */
    for (uint64_t i = 0; i < msg->samples; i++)
        all |= (uint32_t)msg->labels[i];
    return width_of(all);
}

/* Targets that are a tensor: its dtype, what that stands for, its dimensions, five zeros; the dimensions, eight bytes
 * each; the elements. */
enum { TARGETS_HEAD = 8, TARGETS_ZEROS = 3 };

static size_t targets_head_size(int ndim)
{
    return TARGETS_HEAD + 8 * (size_t)ndim;
}

/* Bytes of a tensor's elements; false where it is none. */
static bool targets_size(const cw_tensor *t, size_t *size)
{
    size_t count;
    return t->shape.ndim >= 1 && cw_shape_count(&t->shape, &count) == CW_OK &&
           cwi_mul_size(count, cw_dtype_size(t->dtype), size);
}

static bool is_whole(cw_dtype dtype)
{
    return dtype == CW_U8 || dtype == CW_I32 || dtype == CW_I64;
}

/* Elements stand for their own dtype, or whole numbers for those of a wider one. */
static bool stands_for(cw_dtype dtype, cw_dtype as)
{
    return cw_dtype_size(dtype) &&
           (as == dtype || (is_whole(dtype) && is_whole(as) && cw_dtype_size(as) > cw_dtype_size(dtype)));
}

static cw_status check_targets(const cw_msg *msg, cw_error *err)
{
    const cw_tensor *t = &msg->targets;
    size_t size;
    if (msg->labels)
        return cwi_fail(err, CW_ERR_INVALID, "ACTIVATION: labels and a tensor of targets");
    if (!stands_for(t->dtype, msg->targets_as) || !targets_size(t, &size) || (size && !t->data))
        return cwi_fail(err, CW_ERR_INVALID, "ACTIVATION: the targets are no tensor");
    if ((uint64_t)t->shape.dim[0] != msg->samples)
        return cwi_fail(err, CW_ERR_INVALID, "ACTIVATION: targets of %lld samples in a batch of %llu",
                        (long long)t->shape.dim[0], (unsigned long long)msg->samples);
    return size <= UINT32_MAX - targets_head_size(CW_MAX_DIMS)
               ? CW_OK
               : cwi_fail(err, CW_ERR_INVALID, "ACTIVATION: %zu bytes of targets, a frame holds at most 4 GiB", size);
}

static void put_targets(const cw_msg *msg, uint8_t *dst)
{
    const cw_tensor *t = &msg->targets;
    size_t size = 0;
    (void)targets_size(t, &size);
    memset(dst, 0, TARGETS_HEAD);
    dst[0] = (uint8_t)t->dtype;
    dst[1] = (uint8_t)msg->targets_as;
    dst[2] = (uint8_t)t->shape.ndim;
    for (int i = 0; i < t->shape.ndim; i++)
        cwi_put_le(dst + TARGETS_HEAD + 8 * i, (uint64_t)t->shape.dim[i], 8);
    if (size)
        memcpy(dst + targets_head_size(t->shape.ndim), t->data, size);
}

static cw_status put_labels(const cw_msg *msg, unsigned width, uint8_t *dst, cw_error *err)
{
    if (width == CW_TARGETS_TENSOR) {
        put_targets(msg, dst);
        return CW_OK;
    }
    if (!msg->labels) {
        if (width)
            memcpy(dst, msg->label_bytes, (size_t)msg->samples * width);
        return CW_OK;
    }
    for (uint64_t i = 0; i < msg->samples; i++) {
        if (msg->labels[i] < 0 || msg->labels[i] >= LABEL_END)
            return cwi_fail_at(err, CW_ERR_INVALID, i,
                               "ACTIVATION message: label %d of sample %llu is negative or too large",
                               (int)msg->labels[i], (unsigned long long)i);
        cwi_put_le(dst + i * width, (uint32_t)msg->labels[i], width);
    }
    return CW_OK;
}

/* Labels in range, and in the narrowest width that holds them. */
static cw_status check_labels(const cw_msg *msg, size_t at, cw_error *err)
{
    uint32_t all = 0;
    for (uint64_t i = 0; i < msg->samples; i++) {
        uint64_t label = cwi_get_le(msg->label_bytes + i * msg->label_width, msg->label_width);
        if (label >= LABEL_END)
            return cwi_fail_at(err, CW_ERR_CORRUPT, at + i * msg->label_width,
                               "ACTIVATION frame: label of sample %llu is negative", (unsigned long long)i + 1);
        all |= (uint32_t)label;
    }
    if (width_of(all) != msg->label_width)
        return cwi_fail_at(err, CW_ERR_CORRUPT, at, "ACTIVATION frame: labels take %u bytes each where %u would do",
                           msg->label_width, width_of(all));
    return CW_OK;
}

cw_status cw_msg_labels(const cw_msg *msg, int classes, int32_t *out, cw_error *err)
{
    if (msg && msg->type == CW_MSG_ACTIVATION && msg->label_width == CW_TARGETS_TENSOR)
        return cwi_fail(err, CW_ERR_PROTOCOL, "client %llu sent a tensor of targets where labels were due",
                        (unsigned long long)msg->client + 1);
    if (!msg || !out || msg->type != CW_MSG_ACTIVATION || !msg->label_bytes)
        return cwi_fail(err, CW_ERR_INVALID, "labels asked of something that is not a decoded ACTIVATION message");
    for (uint64_t i = 0; i < msg->samples; i++) {
        uint64_t label = cwi_get_le(msg->label_bytes + i * msg->label_width, msg->label_width);
        if (label >= (uint64_t)CWI_MAX(classes, 0))
            return cwi_fail(err, CW_ERR_PROTOCOL,
                            "client %llu sent label %llu for sample %llu of a batch, but there are only %d classes",
                            (unsigned long long)msg->client + 1, (unsigned long long)label, (unsigned long long)i + 1,
                            classes);
        out[i] = (int32_t)label;
    }
    return CW_OK;
}

/* ---- fields ---- */

static uint64_t load_member(const cw_msg *msg, const cwi_field *field)
{
    const uint8_t *p = (const uint8_t *)msg + field->member;
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (field->member_size) {
    case 2:
        memcpy(&v16, p, 2);
        return v16;
    case 4:
        memcpy(&v32, p, 4);
        return v32;
    default:
        memcpy(&v64, p, 8);
        return v64;
    }
}

static void store_member(cw_msg *msg, const cwi_field *field, uint64_t value)
{
    uint8_t *p = (uint8_t *)msg + field->member;
    uint16_t v16 = (uint16_t)value;
    uint32_t v32 = (uint32_t)value;
    switch (field->member_size) {
    case 2:
        memcpy(p, &v16, 2);
        break;
    case 4:
        memcpy(p, &v32, 4);
        break;
    default:
        memcpy(p, &value, 8);
    }
}

/* `status` and `at` differ between a caller's mistake and a sender's. */
static cw_status check_field(const cwi_layout *layout, const cwi_field *field, uint64_t value, cw_status status,
                             uint64_t at, cw_error *err)
{
    double real;
    memcpy(&real, &value, sizeof real);
    switch (field->kind) {
    case CWI_FIELD_REAL:
    case CWI_FIELD_REAL_NONNEG:
        if (!isfinite(real))
            return cwi_fail_at(err, status, at, "%s: %s is not a finite number", layout->name, field->name);
        if (field->kind == CWI_FIELD_REAL_NONNEG && real < 0)
            return cwi_fail_at(err, status, at, "%s: %s is %g, it cannot be negative", layout->name, field->name, real);
        return CW_OK;
    case CWI_FIELD_LABEL_WIDTH:
        if (!is_label_width(value))
            return cwi_fail_at(err, status, at,
                               "%s: labels of %llu bytes each, allowed are 0, 1, 2, 4, and %d for a tensor",
                               layout->name, (unsigned long long)value, CW_TARGETS_TENSOR);
        return CW_OK;
    case CWI_FIELD_UINT:
        break;
    }
    if (value < field->min || value > field->max)
        return cwi_fail_at(err, status, at, "%s: %s is %llu, allowed is %llu to %llu", layout->name, field->name,
                           (unsigned long long)value, (unsigned long long)field->min, (unsigned long long)field->max);
    return CW_OK;
}

/* Rules between fields, and between a field and the header. */
static cw_status check_together(const cw_msg *msg, cw_status status, cw_error *err)
{
    if (msg->type == CW_MSG_HELLO && msg->version_min > msg->version_max)
        return cwi_fail_at(err, status, HEADER_SIZE, "HELLO: versions %u to %u are no range", msg->version_min,
                           msg->version_max);
    if (msg->type == CW_MSG_WELCOME && msg->client >= msg->clients)
        return cwi_fail_at(err, status, AT_CLIENT, "WELCOME: client %llu of only %u",
                           (unsigned long long)msg->client + 1, (unsigned)msg->clients);
    return CW_OK;
}

/* ---- blob ---- */

/* Bytes of the character at p, which must be UTF-8 and steer no terminal (C0, DEL, C1); else 0. */
static size_t character(const uint8_t *p, size_t left)
{
    bool control = p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && left > 1 && p[1] < 0xa0);
    return control ? 0 : cwi_utf8_length(p, left);
}

static cw_status check_blob(const cwi_layout *layout, const cw_msg *msg, cw_status status, uint64_t at, cw_error *err)
{
    size_t size = msg->blob_size;
    switch (layout->blob) {
    case CWI_BLOB_NONE:
        if (size)
            return cwi_fail_at(err, status, at, "%s: carries %zu bytes that this type does not have", layout->name,
                               size);
        return CW_OK;
    case CWI_BLOB_BYTES:
        if (!size)
            return cwi_fail_at(err, status, at, "%s: its content is missing", layout->name);
        return CW_OK;
    case CWI_BLOB_MAYBE:
        return CW_OK;
    case CWI_BLOB_F32:
        if (size % 4)
            return cwi_fail_at(err, status, at, "%s: %zu bytes are no whole number of fp32 values", layout->name, size);
        return CW_OK;
    case CWI_BLOB_TEXT:
        if (size > CWI_TEXT_MAX)
            return cwi_fail_at(err, status, at, "%s: a text of %zu bytes, at most %d are allowed", layout->name, size,
                               CWI_TEXT_MAX);
    }
    return CW_OK;
}

/* A peer's text ends up on a terminal: it must not steer it. */
static cw_status check_text(const cw_msg *msg, const cwi_layout *layout, size_t at, cw_error *err)
{
    size_t step;
    for (size_t i = 0; i < msg->blob_size; i += step) {
        step = character(msg->blob + i, msg->blob_size - i);
        if (!step)
            return cwi_fail_at(err, CW_ERR_CORRUPT, at + i,
                               "%s: at 0x%02x its text is no UTF-8, or a control character", layout->name,
                               msg->blob[i]);
    }
    return CW_OK;
}

/* Our own texts may quote someone else's, which the receiver would refuse. */
static void clean_text(uint8_t *text, size_t size)
{
    size_t step;
    for (size_t i = 0; i < size; i += step) {
        step = character(text + i, size - i);
        if (step)
            continue;
        text[i] = '?';
        step = 1;
    }
}

static void put_blob(const cwi_layout *layout, const cw_msg *msg, uint8_t *dst)
{
    if (msg->blob_size && msg->blob != dst)
        memmove(dst, msg->blob, msg->blob_size);
    if (layout->blob == CWI_BLOB_TEXT)
        clean_text(dst, msg->blob_size);
}

/* ---- encode ---- */

/* Bytes of labels; 0 for types without. */
static size_t labels_size_of(const cwi_layout *layout, const cw_msg *msg)
{
    size_t size = 0;
    if (!layout->has_labels)
        return 0;
    if (!msg->targets.dtype)
        return (size_t)msg->samples * label_width(msg);
    return targets_size(&msg->targets, &size) ? targets_head_size(msg->targets.shape.ndim) + size : 0;
}

size_t cw_msg_head_size(const cw_msg *msg)
{
    const cwi_layout *layout = msg ? cwi_wire_layout((unsigned)msg->type) : NULL;
    frame_map map;
    if (!layout || !map_frame(cwi_wire_fields_size(layout), labels_size_of(layout, msg), 0, &map))
        return 0;
    return map.blob_at;
}

static cw_status check_message(const cwi_layout *layout, const cw_msg *msg, cw_error *err)
{
    for (size_t i = 0; i < CWI_FIELDS_MAX && layout->fields[i].width; i++) {
        const cwi_field *field = &layout->fields[i];
        if (field->kind != CWI_FIELD_LABEL_WIDTH)
            CWI_TRY(check_field(layout, field, load_member(msg, field), CW_ERR_INVALID, CW_NO_OFFSET, err));
    }
    CWI_TRY(check_together(msg, CW_ERR_INVALID, err));
    if (layout->has_labels && msg->targets.dtype)
        CWI_TRY(check_targets(msg, err));
    else if (layout->has_labels && !msg->labels && msg->label_width &&
             (!msg->label_bytes || !is_label_width(msg->label_width) || msg->label_width == CW_TARGETS_TENSOR))
        return cwi_fail(err, CW_ERR_INVALID, "%s: the labels are missing", layout->name);
    if (msg->blob_size > UINT32_MAX)
        return cwi_fail(err, CW_ERR_INVALID, "%s: %zu bytes of content, a frame holds at most 4 GiB", layout->name,
                        msg->blob_size);
    if (msg->blob_size && !msg->blob)
        return cwi_fail(err, CW_ERR_INVALID, "%s: blob is NULL but blob_size is %zu", layout->name, msg->blob_size);
    return check_blob(layout, msg, CW_ERR_INVALID, CW_NO_OFFSET, err);
}

static void put_header(const cwi_layout *layout, const cw_msg *msg, const frame_map *map, uint8_t *frame)
{
    memcpy(frame, MAGIC, sizeof MAGIC);
    frame[AT_FORMAT] = FRAME_FORMAT;
    frame[AT_TYPE] = (uint8_t)msg->type;
    cwi_put_le(frame + AT_FIELDS_SIZE, cwi_wire_fields_size(layout), 2);
    cwi_put_le(frame + AT_CLIENT, msg->client, 4);
    cwi_put_le(frame + AT_SESSION, msg->type == CW_MSG_HELLO ? 0 : msg->session, 8);
    cwi_put_le(frame + AT_LABELS_SIZE, map->labels_size, 4);
    cwi_put_le(frame + AT_BLOB_SIZE, map->blob_size, 4);
}

static void put_fields(const cwi_layout *layout, const cw_msg *msg, unsigned width, uint8_t *p)
{
    for (size_t i = 0; i < CWI_FIELDS_MAX && layout->fields[i].width; i++) {
        const cwi_field *field = &layout->fields[i];
        cwi_put_le(p, field->kind == CWI_FIELD_LABEL_WIDTH ? width : load_member(msg, field), field->width);
        p += field->width;
    }
}

cw_status cw_msg_encode(const cw_msg *msg, void *dst, size_t capacity, size_t *size, cw_error *err)
{
    if (!msg || !dst || !size)
        return cwi_fail(err, CW_ERR_INVALID, "cw_msg_encode: a NULL argument");
    *size = 0;
    const cwi_layout *layout = cwi_wire_layout((unsigned)msg->type);
    if (!layout)
        return cwi_fail(err, CW_ERR_INVALID, "there is no message type %u", (unsigned)msg->type);
    CWI_TRY(check_message(layout, msg, err));
    unsigned width = layout->has_labels ? label_width(msg) : 0;
    frame_map map;
    if (!map_frame(cwi_wire_fields_size(layout), labels_size_of(layout, msg), msg->blob_size, &map))
        return cwi_fail(err, CW_ERR_INVALID, "%s: too large for this machine's addresses", layout->name);
    if (map.size > capacity)
        return cwi_fail(err, CW_ERR_TOO_SMALL, "%s: %zu bytes do not fit a buffer of %zu", layout->name, map.size,
                        capacity);

    uint8_t *frame = dst;
    /* The blob first: it may lie anywhere in the buffer. */
    put_blob(layout, msg, frame + map.blob_at);
    put_header(layout, msg, &map, frame);
    put_fields(layout, msg, width, frame + HEADER_SIZE);
    if (layout->has_labels)
        CWI_TRY(put_labels(msg, width, frame + map.labels_at, err));
    size_t labels_end = map.labels_at + map.labels_size;
    memset(frame + labels_end, 0, map.blob_at - labels_end);
    cwi_put_le(frame + AT_CRC, frame_crc(frame, map.size), 4);
    *size = map.size;
    return CW_OK;
}

/* ---- decode ---- */

/* Magic, format, and lengths that fit the bytes at hand; then, and only then, the checksum. */
static cw_status open_frame(const uint8_t *frame, size_t size, bool checked, frame_map *map, cw_error *err)
{
    for (size_t i = 0; i < CWI_MIN(size, sizeof MAGIC); i++)
        if (frame[i] != MAGIC[i])
            return cwi_fail_at(err, CW_ERR_MAGIC, i, "not a cutwire frame");
    if (size > AT_FORMAT && frame[AT_FORMAT] != FRAME_FORMAT)
        return cwi_fail_at(err, CW_ERR_VERSION, AT_FORMAT, "frame format %u, this program reads format %d",
                           frame[AT_FORMAT], FRAME_FORMAT);
    if (size < HEADER_SIZE)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "frame of %zu bytes, its header alone takes %d", size,
                           HEADER_SIZE);
    size_t fields_size = (size_t)cwi_get_le(frame + AT_FIELDS_SIZE, 2);
    size_t labels_size = (size_t)cwi_get_le(frame + AT_LABELS_SIZE, 4);
    size_t blob_size = (size_t)cwi_get_le(frame + AT_BLOB_SIZE, 4);
    if (!map_frame(fields_size, labels_size, blob_size, map) || map->size > size)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "frame ends after %zu bytes, its header announces more", size);
    if (map->size < size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, map->size, "%zu bytes follow the end of the frame", size - map->size);
    if (checked)
        return CW_OK;
    uint32_t stored = (uint32_t)cwi_get_le(frame + AT_CRC, 4), computed = frame_crc(frame, size);
    if (stored != computed)
        return cwi_fail_at(err, CW_ERR_CHECKSUM, AT_CRC, "frame damaged on its way: checksum %08x, stored is %08x",
                           (unsigned)computed, (unsigned)stored);
    return CW_OK;
}

static cw_status take_fields(const cwi_layout *layout, const uint8_t *frame, cw_msg *msg, cw_error *err)
{
    size_t at = HEADER_SIZE;
    for (size_t i = 0; i < CWI_FIELDS_MAX && layout->fields[i].width; i++) {
        const cwi_field *field = &layout->fields[i];
        uint64_t value = cwi_get_le(frame + at, field->width);
        CWI_TRY(check_field(layout, field, value, CW_ERR_CORRUPT, at, err));
        store_member(msg, field, value);
        at += field->width;
    }
    return check_together(msg, CW_ERR_CORRUPT, err);
}

static cw_status fail_targets(size_t at, const char *what, cw_error *err)
{
    return cwi_fail_at(err, CW_ERR_CORRUPT, at, "ACTIVATION frame: targets: %s", what);
}

/* A tensor in the place of labels, `at` in the frame: all that its head says is checked against the bytes there. */
static cw_status take_targets(const uint8_t *frame, const frame_map *map, cw_msg *msg, cw_error *err)
{
    const size_t at = map->labels_at;
    const uint8_t *head = frame + at;
    cw_tensor t = {0};
    size_t size;
    if (map->labels_size < TARGETS_HEAD)
        return fail_targets(AT_LABELS_SIZE, "no head", err);
    t.dtype = (cw_dtype)head[0];
    if (!stands_for(t.dtype, (cw_dtype)head[1]))
        return fail_targets(at, "unknown dtypes", err);
    t.shape.ndim = head[2];
    if (t.shape.ndim < 1 || t.shape.ndim > CW_MAX_DIMS)
        return fail_targets(at + 2, "as many dimensions as no tensor has", err);
    for (size_t i = TARGETS_ZEROS; i < TARGETS_HEAD; i++)
        if (head[i])
            return fail_targets(at + i, "not zero where zeros are due", err);
    const size_t data_at = targets_head_size(t.shape.ndim);
    if (map->labels_size < data_at)
        return fail_targets(AT_LABELS_SIZE, "no dimensions", err);
    for (int i = 0; i < t.shape.ndim; i++)
        t.shape.dim[i] = (int64_t)cwi_get_le(head + TARGETS_HEAD + 8 * i, 8);
    if (!targets_size(&t, &size) || size != map->labels_size - data_at || (uint64_t)t.shape.dim[0] != msg->samples)
        return fail_targets(at + TARGETS_HEAD, "another shape than their bytes, or another number of samples", err);
    t.data = (void *)(uintptr_t)(head + data_at);
    msg->targets = t;
    msg->targets_as = (cw_dtype)head[1];
    return CW_OK;
}

static cw_status take_labels(const cwi_layout *layout, const uint8_t *frame, const frame_map *map, cw_msg *msg,
                             cw_error *err)
{
    const bool tensor = layout->has_labels && msg->label_width == CW_TARGETS_TENSOR;
    const uint64_t expected = layout->has_labels ? msg->samples * msg->label_width : 0;
    if (!tensor && map->labels_size != expected)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_LABELS_SIZE, "%s: %zu bytes of labels where its fields say %llu",
                           layout->name, map->labels_size, (unsigned long long)expected);
    for (size_t i = map->labels_at + map->labels_size; i < map->blob_at; i++)
        if (frame[i])
            return cwi_fail_at(err, CW_ERR_CORRUPT, i, "%s: padding before its content is not zero", layout->name);
    if (!layout->has_labels || !msg->label_width)
        return CW_OK;
    if (tensor)
        return take_targets(frame, map, msg, err);
    msg->label_bytes = frame + map->labels_at;
    return check_labels(msg, map->labels_at, err);
}

static cw_status take_message(const uint8_t *frame, const frame_map *map, cw_msg *msg, cw_error *err)
{
    const cwi_layout *layout = cwi_wire_layout(frame[AT_TYPE]);
    if (!layout)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_TYPE, "there is no message type %u", frame[AT_TYPE]);
    if (map->labels_at != HEADER_SIZE + cwi_wire_fields_size(layout))
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_FIELDS_SIZE, "%s: %zu bytes of fields where this type has %zu",
                           layout->name, map->labels_at - HEADER_SIZE, cwi_wire_fields_size(layout));
    msg->type = (cw_msg_type)frame[AT_TYPE];
    msg->client = (uint32_t)cwi_get_le(frame + AT_CLIENT, 4);
    msg->session = cwi_get_le(frame + AT_SESSION, 8);
    if (msg->type == CW_MSG_HELLO && msg->session)
        return cwi_fail_at(err, CW_ERR_CORRUPT, AT_SESSION, "HELLO: names a session, which only the server gives out");
    CWI_TRY(take_fields(layout, frame, msg, err));
    CWI_TRY(take_labels(layout, frame, map, msg, err));
    msg->blob_size = map->blob_size;
    CWI_TRY(check_blob(layout, msg, CW_ERR_CORRUPT, AT_BLOB_SIZE, err));
    if (msg->blob_size)
        msg->blob = frame + map->blob_at;
    return layout->blob == CWI_BLOB_TEXT ? check_text(msg, layout, map->blob_at, err) : CW_OK;
}

static cw_status decode(const void *src, size_t size, bool checked, cw_msg *msg, cw_error *err)
{
    memset(msg, 0, sizeof *msg);
    frame_map map = {0};
    CWI_TRY(open_frame(src, size, checked, &map, err));
    cw_status status = take_message(src, &map, msg, err);
    if (status != CW_OK)
        memset(msg, 0, sizeof *msg); /* no view of a refused frame gets out */
    return status;
}

cw_status cw_msg_decode(const void *src, size_t size, cw_msg *msg, cw_error *err)
{
    if (!src || !msg)
        return cwi_fail(err, CW_ERR_INVALID, "cw_msg_decode: a NULL argument");
    return decode(src, size, false, msg, err);
}

cw_status cwi_msg_decode_again(const void *src, size_t size, cw_msg *msg, cw_error *err)
{
    return decode(src, size, true, msg, err);
}
