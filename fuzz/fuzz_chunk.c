/* fuzz_chunk.c - feeds the assembly of TCP frames with chunks: the input is a row of them, each behind two bytes that
 * say how long it is. A frame that comes out must be made of what went in, and memory must not exceed it by much. A
 * control chunk has one encoding. */
#include <assert.h>
#include <string.h>

#include "net/link.h"

enum { MAX_FRAME = 200000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_control(const uint8_t *chunk, size_t size)
{
    uint8_t again[CWI_CONTROL_SIZE];
    cwi_control control;
    if (!cwi_control_read(chunk, size, &control))
        return;
    cwi_control_write(again, &control);
    assert(size == sizeof again && memcmp(again, chunk, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_assembly a = {0};
    size_t fed = 0;
    while (size >= 2) {
        size_t length = (size_t)cwi_get_le(data, 2);
        length = CWI_MIN(length, size - 2);
        uint8_t *chunk = cwi_alloc(length, 1); /* of its own, so that the sanitizer sees an over-read */
        if (!chunk)
            break;
        memcpy(chunk, data + 2, length);
        data += 2 + length;
        size -= 2 + length;
        fed += length;
        cw_frame frame;
        cw_error err;
        cw_status status = cwi_assembly_take(&a, chunk, length, MAX_FRAME, &frame, &err);
        check_control(chunk, length);
        cwi_free(chunk);
        assert(status == CW_OK || status == CW_END || status == CW_ERR_PROTOCOL);
        assert(a.have <= a.capacity && a.capacity <= 2 * fed && (!a.bytes || a.have < a.size));
        if (status != CW_OK)
            continue;
        assert(frame.size <= fed && frame.size <= MAX_FRAME);
        cw_frame_release(&frame);
    }
    cwi_assembly_reset(&a);
    return 0;
}
