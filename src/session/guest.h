/* guest.h - a client's end of a session: it asks to be let in, says that it lives, and hears the end. Internal.
 *
 * Knows nothing of what it takes part in: that is a cwi_guest_work, which a mode fills. Frames in, frames out, no
 * waiting.
 */
#ifndef CWI_GUEST_H
#define CWI_GUEST_H

#include "session/outbox.h"

typedef struct cwi_guest_work {
    /* WELCOME came: prepares, and fills in READY's fields. */
    cw_status (*welcome)(void *run, const cw_msg *welcome, cw_msg *ready, cw_error *err);
    /* Any other message of the server. */
    cw_status (*take)(void *run, const cw_msg *msg, cw_error *err);
} cwi_guest_work;

typedef enum cwi_guest_state { CWI_GUEST_NEW, CWI_GUEST_HELLO, CWI_GUEST_IN, CWI_GUEST_DONE } cwi_guest_state;

typedef struct cwi_guest {
    const cwi_guest_work *work;
    void *run;
    cwi_outbox box;
    cwi_guest_state state;
    double timeout;      /* seconds of silence of a server that let us in */
    double join_timeout; /* of one that has not */
    double reconnect;    /* seconds to wait for one whose connection broke, or that began anew; 0: no such wait */
    uint64_t token, session;
    uint32_t index, members; /* this client's number, of how many */
    double heard, said;
    uint64_t moved;       /* bytes of frames that have crossed the link */
    uint64_t generation;  /* how often the server has begun anew */
    bool broken;          /* the connection is */
    bool rejoins;         /* the server has begun anew, and has not let us in yet */
    char last_words[400]; /* the server's, at the end */
} cwi_guest;

cw_status cwi_guest_open(cwi_guest *g, const cwi_guest_work *work, void *run, cw_transport *transport, double timeout,
                         double join_timeout, cw_error *err);
void cwi_guest_close(cwi_guest *g);

/* Says HELLO. */
cw_status cwi_guest_start(cwi_guest *g, cw_error *err);
/* Takes one frame, which stays the caller's. A failure ends this client's part; it has then told the server why. */
cw_status cwi_guest_handle(cwi_guest *g, const cw_frame *frame, cw_error *err);
/* To be called now and then: says that this client lives, and notices when the server does not. */
cw_status cwi_guest_tick(cwi_guest *g, cw_error *err);
/* Takes leave before the end. */
void cwi_guest_leave(cwi_guest *g);

/* A message of this type, to be filled in, and sent. */
cw_msg cwi_guest_message(const cwi_guest *g, cw_msg_type type);
cw_status cwi_guest_send(cwi_guest *g, const cw_msg *msg, cw_error *err);
cw_status cwi_guest_send_tensor(cwi_guest *g, cw_msg *msg, const cw_codec *codec, const cw_tensor *x,
                                const cw_encode_args *args, cw_error *err);

#endif
