/* ahead.h - the batch whose turn comes next, decoded by a second thread while the engine works on the one at hand.
 * Internal. */
#ifndef CWI_AHEAD_H
#define CWI_AHEAD_H

#include "modes/batch_room.h"
#include "net/transport.h"

typedef struct cwi_ahead cwi_ahead;

/* Whether the engine leaves a processor, there are batches to wait for each other, and decoding takes a while. */
bool cwi_ahead_pays(const cwi_setup *setup);
/* The setup stays the caller's. NULL where it does not pay, or there is no memory or no thread to be had: then nothing
 * is decoded ahead, and all functions below take NULL. */
cwi_ahead *cwi_ahead_open(const cwi_setup *setup);
void cwi_ahead_close(cwi_ahead *a);

/* Begins with an ACTIVATION, one at a time, whose bytes stay where they are until it is taken or forgotten. */
void cwi_ahead_begin(cwi_ahead *a, const cw_frame *frame);
/* Waits for it. True where it was this message: then `room` has what was decoded, and *status and err say what came of
 * it. */
bool cwi_ahead_take(cwi_ahead *a, const cw_msg *msg, cwi_batch_room *room, cw_status *status, cw_error *err);
/* Waits, and forgets it: before its frame is released. */
void cwi_ahead_forget(cwi_ahead *a);

#endif
