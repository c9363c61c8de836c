/* outbox.h - builds frames in a reused buffer and sends them; tensors are encoded straight into the frame. Internal. */
#ifndef CWI_OUTBOX_H
#define CWI_OUTBOX_H

#include "base/base.h"
#include "cutwire/codec.h"
#include "cutwire/net.h"
#include "cutwire/wire.h"

typedef struct cwi_outbox {
    cw_transport *transport; /* the caller's */
    uint8_t *frame;
    size_t capacity;
} cwi_outbox;

void cwi_outbox_free(cwi_outbox *box);

/* Copies the blob to where frames are built, so that sending the message to many copies it no more. Without memory
 * for it nothing changes. Until another message is sent by this box. */
void cwi_outbox_place(cwi_outbox *box, cw_msg *msg);

/* Sends a message whose blob, if any, is ready. */
cw_status cwi_outbox_send(cwi_outbox *box, cw_peer peer, const cw_msg *msg, cw_error *err);

/* Encodes `x` as the message's blob and sends it; *payload gets the blob's size. */
cw_status cwi_outbox_send_tensor(cwi_outbox *box, cw_peer peer, cw_msg *msg, const cw_codec *codec, const cw_tensor *x,
                                 const cw_encode_args *args, size_t *payload, cw_error *err);

/* Sends a message whose blob is a text (ERROR, END, LEAVE). */
cw_status cwi_outbox_send_text(cwi_outbox *box, cw_peer peer, cw_msg *msg, const char *text, cw_error *err);

#endif
