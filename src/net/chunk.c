/* chunk.c - chunk headers, and the assembly of frames from chunks. */
#include <string.h>

#include "net/chunk.h"

void cwi_chunk_header(uint8_t header[CWI_CHUNK_HEADER], uint32_t number, bool first, uint32_t left)
{
    cwi_put_le(header, (number & ~CWI_CHUNK_FIRST) | (first ? CWI_CHUNK_FIRST : 0), 4);
    cwi_put_le(header + 4, left, 4);
}

void cwi_assembly_reset(cwi_assembly *a)
{
    cwi_free(a->bytes);
    *a = (cwi_assembly){0};
}

/* Room for `more` bytes; memory follows what has arrived, not what was announced. */
static cw_status reserve(cwi_assembly *a, size_t more, cw_error *err)
{
    size_t wanted = a->have + more;
    if (a->bytes && wanted <= a->capacity)
        return CW_OK;
    size_t capacity = CWI_MIN(a->size, CWI_MAX(2 * a->capacity, wanted));
    uint8_t *bytes = a->bytes ? cwi_realloc(a->bytes, a->have, capacity) : cwi_alloc(capacity, 1);
    if (!bytes)
        return cwi_fail_memory(err, capacity);
    a->bytes = bytes;
    a->capacity = capacity;
    return CW_OK;
}

cw_status cwi_assembly_take(cwi_assembly *a, const uint8_t *chunk, size_t size, uint32_t max_frame, cw_frame *out,
                            cw_error *err)
{
    if (size < CWI_CHUNK_HEADER)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a chunk of %zu bytes, its header alone takes %d", size,
                        CWI_CHUNK_HEADER);
    uint32_t head = (uint32_t)cwi_get_le(chunk, 4), number = head & ~CWI_CHUNK_FIRST;
    size_t left = (size_t)cwi_get_le(chunk + 4, 4), length = size - CWI_CHUNK_HEADER;
    if (length != CWI_MIN(left, (size_t)CWI_CHUNK_DATA))
        return cwi_fail(err, CW_ERR_PROTOCOL, "a chunk of %zu bytes where %zu are left of its frame", length, left);
    if (head & CWI_CHUNK_FIRST) {
        cwi_assembly_reset(a);
        if (left > max_frame)
            return cwi_fail(err, CW_ERR_PROTOCOL, "a frame of %zu bytes, at most %u are taken", left,
                            (unsigned)max_frame);
        a->size = left;
        a->number = number;
    } else if (!a->bytes || number != a->number || left != a->size - a->have) {
        cwi_assembly_reset(a);
        return CW_END;
    }
    cw_status status = reserve(a, length, err);
    if (status != CW_OK) {
        cwi_assembly_reset(a);
        return status;
    }
    if (length)
        memcpy(a->bytes + a->have, chunk + CWI_CHUNK_HEADER, length);
    a->have += length;
    if (a->have < a->size)
        return CW_END;
    *out = (cw_frame){.bytes = a->bytes, .size = a->size, .owner = a->bytes};
    *a = (cwi_assembly){0}; /* the bytes are the caller's now */
    return CW_OK;
}
