/* client.h - a client as a state machine: frames in, frames out, no waiting. Internal. */
#ifndef CWI_TRAIN_CLIENT_H
#define CWI_TRAIN_CLIENT_H

#include "train/report.h"

typedef struct cwi_client cwi_client;

/* expect_model: NULL or the only model it will train. The transport and hooks stay the caller's. */
cw_status cwi_client_create(const cw_config *config, const char *expect_model, cw_transport *transport,
                            const cw_hooks *hooks, cwi_client **out, cw_error *err);
void cwi_client_destroy(cwi_client **client);

/* Says HELLO. */
cw_status cwi_client_start(cwi_client *client, cw_error *err);
/* Takes one frame. A failure ends the client's part; it has then told the server why. */
cw_status cwi_client_handle(cwi_client *client, const cw_frame *frame, cw_error *err);
/* To be called now and then: keeps the server informed that it lives, and notices when the server does not. */
cw_status cwi_client_tick(cwi_client *client, cw_error *err);
/* Takes leave before the end of the run. */
void cwi_client_leave(cwi_client *client);
/* The server said END, in these words ("" before). */
bool cwi_client_done(const cwi_client *client);
/* Its data, all zero before the server has welcomed it. */
const cwi_feed *cwi_client_feed(const cwi_client *client);
const char *cwi_client_last_words(const cwi_client *client);

#endif
