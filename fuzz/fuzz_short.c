/* fuzz_short.c - hostile short frames, behind a hostile frame before them. The first byte says which type, the second
 * how many bytes the frame before has. What becomes whole has a short form that becomes the same again. */
#include <assert.h>
#include <string.h>

#include "base/base.h"
#include "wire/short_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const cwi_short_memory *memory, cw_msg_type type, const uint8_t *frame, size_t size)
{
    uint8_t again[CWI_SHORT_MAX], *back;
    size_t back_size;
    const size_t less = cwi_short_write(memory, type, frame, size, again);
    if (!less)
        return; /* of another type, to begin with */
    const cw_status status = cwi_short_read(memory, type, again, less, &back, &back_size, NULL);
    assert(status == CW_OK && back_size == size && !memcmp(back, frame, size));
    (void)status;
    cwi_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_short_memory memory = {.size = 0};
    uint8_t *frame;
    size_t frame_size;
    cw_error err;
    if (size < 2)
        return 0;
    const cw_msg_type type = data[0] & 1 ? CW_MSG_ANSWER : CW_MSG_REQUEST;
    const size_t before = CWI_MIN((size_t)data[1], size - 2);
    cwi_short_note(&memory, type, data + 2, before);
    data += 2 + before;
    size -= 2 + before;
    if (cwi_short_read(&memory, type, data, size, &frame, &frame_size, &err) != CW_OK) {
        assert(err.message[0] && !frame);
        return 0;
    }
    assert(frame_size <= CWI_SHORT_MAX && !cwi_short_is(frame, frame_size));
    write_again(&memory, type, frame, frame_size);
    cwi_short_note(&memory, type, frame, frame_size);
    cwi_free(frame);
    return 0;
}
