/* short_frame.h - REQUESTs and ANSWERs without what was in the one before. Internal.
 *
 * A request of few values is mostly header: the frame's, and the payload's within it. Both ends remember the head of
 * the last frame of a type, so the next one may leave out as many bytes of its beginning as are the same. The checksum
 * is that of the whole frame, what is left out included. The bytes: docs/formats/protocol.md, section 4.5.
 *
 * Frames of one sender must arrive in order. Thread-safety: pure functions of their arguments. */
#ifndef CWI_SHORT_FRAME_H
#define CWI_SHORT_FRAME_H

#include "cutwire/wire.h"
#include <stdbool.h>

enum {
    CWI_SHORT_HEAD = 127, /* bytes of a frame that are remembered */
    CWI_SHORT_MAX = 8192, /* larger frames travel whole */
};

/* What one direction of one connection remembers. Zero-initialize, and again for a new connection. */
typedef struct cwi_short_memory {
    uint8_t head[CWI_SHORT_HEAD]; /* of the last frame of the type */
    size_t size;                  /* bytes of it; 0: there was none */
} cwi_short_memory;

/* A whole frame is sent, or has come. Other types than `type` (CW_MSG_REQUEST or CW_MSG_ANSWER) are not remembered. */
void cwi_short_note(cwi_short_memory *memory, cw_msg_type type, const uint8_t *frame, size_t size);
/* The short form of a frame of that type into `out`, which has room for `size` bytes. The bytes written; 0: it has none
 * now, and must travel whole. */
size_t cwi_short_write(const cwi_short_memory *memory, cw_msg_type type, const uint8_t *frame, size_t size,
                       uint8_t *out);
/* Whether these bytes are a short form; no frame begins like one. */
bool cwi_short_is(const uint8_t *bytes, size_t size);
/* The whole frame, to be decoded as any other, which checks its checksum. *frame is the caller's, cwi_free.
 * CW_ERR_PROTOCOL, CW_ERR_NO_MEMORY. */
cw_status cwi_short_read(const cwi_short_memory *memory, cw_msg_type type, const uint8_t *bytes, size_t size,
                         uint8_t **frame, size_t *frame_size, cw_error *err);

#endif
