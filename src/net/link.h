/* link.h - what makes frames survive a connection that breaks: they are kept until the other end has them. Internal.
 *
 * Each end counts its frames from 1 (chunk.h carries the number) and takes only the one that it expects next: what is
 * sent twice is taken once, and what follows a gap is not taken. Control chunks say what was taken. The bytes:
 * docs/formats/protocol.md, section 1.3.
 *
 * An end that does not know control chunks ignores them, since they continue no frame. Then nothing is kept. */
#ifndef CWI_LINK_H
#define CWI_LINK_H

#include "net/chunk.h"

typedef enum cwi_control_kind {
    CWI_CONTROL_RESUME = 1, /* client, first on each connection: what it expects */
    CWI_CONTROL_RESUMED,    /* server: the link goes on, and what it expects */
    CWI_CONTROL_FRESH,      /* server: it knows nothing of this link: both count from 1 */
    CWI_CONTROL_ACK,        /* either: what it expects */
    CWI_CONTROL_RESET,      /* server: it has dropped this link; a RESUME begins a new one */
    CWI_CONTROL_CLOSE,      /* either, behind its last frame: it is about to close; a client answers ACK at once */
    CWI_CONTROL_CLOSED,     /* server: it has heard that, and so all before it */
} cwi_control_kind;

enum { CWI_CONTROL_SIZE = CWI_CHUNK_HEADER + 24 };

typedef struct cwi_control {
    cwi_control_kind kind;
    uint64_t server;   /* a random number that the server made up when it began to listen; 0: not known yet */
    uint32_t expected; /* the number of the frame that the sender wants next, */
    uint32_t have;     /* and its bytes that have arrived */
} cwi_control;

void cwi_control_write(uint8_t chunk[CWI_CONTROL_SIZE], const cwi_control *control);
/* False: it is none. */
bool cwi_control_read(const uint8_t *chunk, size_t size, cwi_control *out);

/* Frames are numbered 1 to 2^31 - 1, and then from 1 again. */
static inline uint32_t cwi_number_after(uint32_t number)
{
    return number >= CWI_CHUNK_FIRST - 1 ? 1 : number + 1;
}

typedef struct cwi_kept_frame {
    struct cwi_kept_frame *next;
    size_t size;
    uint32_t number;
    uint8_t bytes[];
} cwi_kept_frame;

/* One end of a link. Zero-initialize. */
typedef struct cwi_link {
    bool joined;                                       /* the other end knows control chunks */
    bool broken;                                       /* its connection is known to be: frames are kept alone */
    bool asked;                                        /* on this connection: this server closes, what has arrived? */
    double since;                                      /* clock when it broke */
    uint32_t taken;                                    /* number of the last frame that was taken; 0: none */
    uint32_t have;                                     /* bytes of the one behind it */
    uint64_t taken_bytes, released_bytes, given_bytes; /* in; out: frames that the other end has; and its next one */
    uint64_t owed;                                     /* bytes taken since the last ACK */
    uint32_t owed_frames;
    double owed_since; /* clock of the first of them; 0: none; below: an ACK is due at once */
    cwi_kept_frame *first, *last;
    uint64_t kept; /* bytes, with what each frame costs beside */
} cwi_link;

static inline uint32_t cwi_link_expected(const cwi_link *l)
{
    return cwi_number_after(l->taken);
}

/* Bytes of frames that have crossed it, both ways, as far as this end knows. */
static inline uint64_t cwi_link_moved(const cwi_link *l)
{
    return l->taken_bytes + l->given_bytes;
}

/* Keeps a copy of the frame. CW_ERR_NO_MEMORY. */
cw_status cwi_link_keep(cwi_link *l, uint32_t number, const void *bytes, size_t size, cw_error *err);
/* Takes the last one back: it was not sent. */
void cwi_link_forget_last(cwi_link *l);
/* Gives up the oldest that is kept: the link cannot be resumed then. */
void cwi_link_forget_first(cwi_link *l);
/* The other end wants `expected` next, of which it has some bytes; `next` is the number that the next frame will get.
 * What it has is freed. False: that frame is not kept. */
bool cwi_link_release(cwi_link *l, uint32_t expected, uint32_t have, uint32_t next);
void cwi_link_clear(cwi_link *l); /* all of it: a new link */

/* Whether a chunk of that frame is to be taken. */
bool cwi_link_wants(const cwi_link *l, uint32_t number);
/* One was, with so many bytes: `have` are here of the frame then; 0: it is whole. */
void cwi_link_took(cwi_link *l, uint32_t number, size_t bytes, size_t have);
/* Whether an ACK is due, at once or by the clock. */
bool cwi_link_ack_due(const cwi_link *l, double now);
/* The ACK, as if it were sent now. */
cwi_control cwi_link_ack(cwi_link *l, uint64_t server);

#endif
