/* fuzz_wire.c - decodes hostile frames. Bytes with a good checksum are what an attacker sends, so the target repairs
 * it: otherwise nearly every input would end there. Whatever decodes must give the same bytes when encoded again. */
#include <assert.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/wire.h"

enum { AT_CRC = 12, CRC_SIZE = 4 }; /* docs/formats/protocol.md */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_crc(uint8_t *frame, size_t size)
{
    if (size < AT_CRC + CRC_SIZE)
        return;
    memset(frame + AT_CRC, 0, CRC_SIZE);
    cwi_put_le(frame + AT_CRC, cwi_crc32c(0, frame, size), CRC_SIZE);
}

static void widen_labels(const cw_msg *msg)
{
    int32_t *labels = cwi_alloc((size_t)msg->samples, sizeof *labels);
    if (labels) {
        cw_status status = cw_msg_labels(msg, INT32_MAX, labels, NULL);
        assert(status == CW_OK);
        (void)status;
    }
    cwi_free(labels);
}

static void encode_again(const cw_msg *msg, const uint8_t *frame, size_t size)
{
    assert(cw_msg_head_size(msg) + msg->blob_size == size);
    uint8_t *again = cwi_alloc(size, 1);
    if (!again)
        return;
    size_t written;
    cw_status status = cw_msg_encode(msg, again, size, &written, NULL);
    assert(status == CW_OK && written == size && !memcmp(again, frame, size));
    (void)status;
    cwi_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *frame = cwi_alloc(size, 1);
    if (!frame)
        return 0;
    cw_msg msg;
    cw_error err;
    memcpy(frame, data, size);
    if (cw_msg_decode(frame, size, &msg, &err) != CW_OK) {
        repair_crc(frame, size);
        if (cw_msg_decode(frame, size, &msg, &err) != CW_OK) {
            assert(err.message[0]);
            cwi_free(frame);
            return 0;
        }
    }
    if (msg.type == CW_MSG_ACTIVATION && msg.label_width && msg.label_width != CW_TARGETS_TENSOR)
        widen_labels(&msg);
    encode_again(&msg, frame, size);
    cwi_free(frame);
    return 0;
}
