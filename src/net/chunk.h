/* chunk.h - frames cut into chunks for TCP, and put together again. Internal.
 *
 * Why: ZeroMQ takes a peer for dead when no whole message arrives within the heartbeat timeout. A frame of some
 * megabytes takes longer than that on a thin link, so it travels as many small messages. It also keeps a hostile peer
 * from making the receiver allocate more than what has really arrived.
 *
 * A chunk is a header of 8 bytes, little-endian, and up to CWI_CHUNK_DATA bytes of the frame:
 *     u32  frame number, counted by the sender, modulo 2^31; bit 31: this is the frame's first chunk
 *     u32  bytes of the frame that are still to come, this chunk's included
 * Each chunk but a frame's last is full. */
#ifndef CWI_CHUNK_H
#define CWI_CHUNK_H

#include "base/base.h"
#include "cutwire/net.h"

enum { CWI_CHUNK_HEADER = 8, CWI_CHUNK_DATA = 32 << 10 };

#define CWI_CHUNK_FIRST (UINT32_C(1) << 31)

void cwi_chunk_header(uint8_t header[CWI_CHUNK_HEADER], uint32_t number, bool first, uint32_t left);

/* A frame on its way in. Zero-initialize. */
typedef struct cwi_assembly {
    uint8_t *bytes; /* NULL: none begun */
    size_t capacity, have, size;
    uint32_t number;
} cwi_assembly;

/* Takes one chunk. CW_OK: *out is a whole frame (its peer left to the caller); CW_END: not yet whole;
 * CW_ERR_PROTOCOL: no chunk of ours, or of a frame larger than max_frame; CW_ERR_NO_MEMORY.
 * A chunk that does not continue the frame at hand ends that frame: some were lost with a connection. */
cw_status cwi_assembly_take(cwi_assembly *a, const uint8_t *chunk, size_t size, uint32_t max_frame, cw_frame *out,
                            cw_error *err);
void cwi_assembly_reset(cwi_assembly *a);

#endif
