/* sync.h - the two sides of mode sync. Internal to the mode.
 *
 * The conversation, for each epoch (docs/formats/protocol.md):
 *
 *     server                                   client
 *     STATE, BEGIN {train, step, steps}   ->                                    weights of the client half
 *       for each step, with `in_flight` micro-batches:
 *                                         <-   ACTIVATION {step, ticket, labels, payload}    one a micro-batch
 *     GRADIENT {step, ticket, loss}       ->                                    answers each, in their order
 *                                         <-   CLIENT_GRAD {step, samples, payload}
 *     UPDATE {step, lr, payload}          ->                                    to every client
 *                                         <-   TIMES {step, seconds}                where WELCOME asks for it
 *                                         <-   PHASE_DONE {train, statistics}
 *     STATE, BEGIN {evaluate}             ->                                    in epochs that are evaluated
 *                                         <-   ACTIVATION {step, labels, payload}   several in flight
 *     RESULT {step, loss, correct}        ->                                    answers each, in their order
 *                                         <-   PHASE_DONE {evaluate}
 */
#ifndef CWI_SYNC_H
#define CWI_SYNC_H

#include "modes/barrier.h"
#include "modes/mode.h"
#include "record/checkpoint.h"

extern const cwi_work cwi_sync_work;
cw_status cwi_sync_open_server(cw_server *server, void **state, cw_error *err);
void cwi_sync_close_server(void *state);

cw_status cwi_sync_open_client(cw_client *client, void **state, cw_error *err);
void cwi_sync_close_client(void *state);
cw_status cwi_sync_take(void *state, const cw_msg *msg, cw_error *err);
bool cwi_sync_pending(const void *state);
cw_status cwi_sync_go_on(void *state, cw_error *err);

#endif
