/* outbox.c - frames out. */
#include <string.h>

#include "session/outbox.h"

void cwi_outbox_free(cwi_outbox *box)
{
    cwi_free(box->frame);
    box->frame = NULL;
    box->capacity = 0;
}

static cw_status reserve(cwi_outbox *box, size_t size, cw_error *err)
{
    if (size <= box->capacity)
        return CW_OK;
    cwi_outbox_free(box);
    box->frame = cwi_alloc(size, 1);
    if (!box->frame)
        return cwi_fail_memory(err, size);
    box->capacity = size;
    return CW_OK;
}

void cwi_outbox_place(cwi_outbox *box, cw_msg *msg)
{
    const size_t head = cw_msg_head_size(msg);
    if (!msg->blob_size || reserve(box, head + msg->blob_size, NULL) != CW_OK)
        return;
    memmove(box->frame + head, msg->blob, msg->blob_size);
    msg->blob = box->frame + head;
}

static cw_status encode_and_send(cwi_outbox *box, cw_peer peer, const cw_msg *msg, cw_error *err)
{
    size_t size;
    CWI_TRY(cw_msg_encode(msg, box->frame, box->capacity, &size, err));
    return cw_transport_send(box->transport, peer, box->frame, size, err);
}

cw_status cwi_outbox_send(cwi_outbox *box, cw_peer peer, const cw_msg *msg, cw_error *err)
{
    CWI_TRY(reserve(box, cw_msg_head_size(msg) + msg->blob_size, err));
    return encode_and_send(box, peer, msg, err);
}

cw_status cwi_outbox_send_tensor(cwi_outbox *box, cw_peer peer, cw_msg *msg, const cw_codec *codec, const cw_tensor *x,
                                 const cw_encode_args *args, size_t *payload, cw_error *err)
{
    size_t head = cw_msg_head_size(msg), bound = cw_codec_bound(codec, x);
    CWI_TRY(reserve(box, head + bound, err));
    CWI_TRY(cw_encode(codec, x, args, box->frame + head, bound, payload, err));
    msg->blob = box->frame + head;
    msg->blob_size = *payload;
    return encode_and_send(box, peer, msg, err);
}

cw_status cwi_outbox_send_text(cwi_outbox *box, cw_peer peer, cw_msg *msg, const char *text, cw_error *err)
{
    msg->blob = (const uint8_t *)text;
    msg->blob_size = strlen(text);
    return cwi_outbox_send(box, peer, msg, err);
}
