/* short_frame.c - see short_frame.h. */
#include "wire/short_frame.h"

#include <string.h>

#include "codec/payload.h"

/* Of frames (wire.c), of REQUEST and ANSWER, and of payloads. */
enum { AT_TYPE = 5, AT_CRC = 12, AT_BLOB_SIZE = 28, AT_REQUEST = 32, AT_BLOB = 48 };
enum { AT_HEADER_SIZE = 6, AT_PAYLOAD_CRC = 12, AT_BODY_SIZE = 16, BODY_SIZE_BYTES = 5, PAYLOAD_MIN = 24 };

/* A short frame: how much is left out, with its highest bit set; the frame's checksum; the rest of the frame. */
enum { IS_SHORT = 0x80, SHORT_HEAD = 1 + 4 };

/* What follows from the rest is not compared. */
static const struct {
    size_t at, size;
    bool in_payload;
} derived[] = {{AT_CRC, 4, false},
               {AT_BLOB_SIZE, 4, false},
               {AT_REQUEST, 4, false},
               {AT_BLOB + AT_PAYLOAD_CRC, 4, true},
               {AT_BLOB + AT_BODY_SIZE, BODY_SIZE_BYTES, true}};

/* So much must be left out at least: all that is derived, and the header that it is derived by. */
static size_t least_head(cw_msg_type type)
{
    return type == CW_MSG_REQUEST ? AT_BLOB + PAYLOAD_MIN : AT_BLOB;
}

void cwi_short_note(cwi_short_memory *memory, cw_msg_type type, const uint8_t *frame, size_t size)
{
    if (size <= AT_TYPE || cwi_short_is(frame, size) || frame[AT_TYPE] != type)
        return;
    memory->size = CWI_MIN(size, (size_t)CWI_SHORT_HEAD);
    memcpy(memory->head, frame, memory->size);
}

bool cwi_short_is(const uint8_t *bytes, size_t size)
{
    return size && bytes[0] & IS_SHORT;
}

/* All that is derived but the frame's checksum. False: the payload would be shorter than its header. */
static bool derive(const cwi_short_memory *memory, cw_msg_type type, uint8_t *frame, size_t size)
{
    const size_t payload_size = size - AT_BLOB;
    uint8_t *payload = frame + AT_BLOB;
    cwi_put_le(frame + AT_BLOB_SIZE, payload_size, 4);
    cwi_put_le(frame + AT_REQUEST, cwi_get_le(memory->head + AT_REQUEST, 4) + 1, 4);
    if (type != CW_MSG_REQUEST)
        return true;
    const size_t header = (size_t)cwi_get_le(payload + AT_HEADER_SIZE, 2);
    if (header > payload_size)
        return false;
    cwi_put_le(payload + AT_BODY_SIZE, payload_size - header, BODY_SIZE_BYTES);
    cwi_payload_seal(payload, payload_size);
    return true;
}

/* Bytes at the beginning that are as before, or derived. */
static size_t same_head(const cwi_short_memory *memory, cw_msg_type type, const uint8_t *frame, size_t size)
{
    uint8_t head[CWI_SHORT_HEAD];
    size_t same = 0;
    memcpy(head, memory->head, memory->size);
    for (size_t i = 0; i < CWI_COUNT(derived); i++)
        if (type == CW_MSG_REQUEST || !derived[i].in_payload)
            memcpy(head + derived[i].at, frame + derived[i].at, derived[i].size);
    while (same < CWI_MIN(memory->size, size) && head[same] == frame[same])
        same++;
    return same;
}

size_t cwi_short_write(const cwi_short_memory *memory, cw_msg_type type, const uint8_t *frame, size_t size,
                       uint8_t *out)
{
    const size_t least = least_head(type);
    if (memory->size < least || size < least || size > CWI_SHORT_MAX || frame[AT_TYPE] != type)
        return 0;
    const size_t same = same_head(memory, type, frame, size);
    uint8_t again[CWI_SHORT_MAX];
    memcpy(again, frame, size);
    if (same < least || !derive(memory, type, again, size) || memcmp(again, frame, size) != 0)
        return 0;
    out[0] = (uint8_t)(IS_SHORT | same);
    memcpy(out + 1, frame + AT_CRC, 4);
    memcpy(out + SHORT_HEAD, frame + same, size - same);
    return SHORT_HEAD + size - same;
}

cw_status cwi_short_read(const cwi_short_memory *memory, cw_msg_type type, const uint8_t *bytes, size_t size,
                         uint8_t **frame, size_t *frame_size, cw_error *err)
{
    const size_t head = cwi_short_is(bytes, size) ? bytes[0] & ~(size_t)IS_SHORT : 0;
    *frame = NULL;
    if (size < SHORT_HEAD || head < least_head(type) || head > memory->size)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a short %s leaves out %zu bytes, the one before had %zu of them",
                        cw_msg_name(type), head, memory->size);
    const size_t rest = size - SHORT_HEAD, whole = head + rest;
    if (whole > CWI_SHORT_MAX)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a short %s of %zu bytes, at most %d are taken", cw_msg_name(type), whole,
                        CWI_SHORT_MAX);
    uint8_t *made = cwi_alloc(whole, 1);
    if (!made)
        return cwi_fail_memory(err, whole);
    memcpy(made, memory->head, head);
    memcpy(made + head, bytes + SHORT_HEAD, rest);
    memcpy(made + AT_CRC, bytes + 1, 4);
    if (!derive(memory, type, made, whole)) {
        cwi_free(made);
        return cwi_fail(err, CW_ERR_PROTOCOL, "a short %s that ends within its payload's header", cw_msg_name(type));
    }
    *frame = made;
    *frame_size = whole;
    return CW_OK;
}
