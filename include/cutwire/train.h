/* cutwire/train.h - train one network across a cut: the roles of a run.
 *
 * One step of mode "sync" (Zhou et al., ECAI 2024, section 2): every client sends the compressed
 * activations of its batch and the labels; the server runs its half on each, sends each the gradient at the cut, and
 * averages its own gradients weighted by samples; clients send the gradients of their half, the server averages them
 * likewise and sends the average back; all halves take the same step of the optimizer. A batch's gradient is of the
 * mean loss, so the step is one on the mean loss of all samples of all clients.
 *
 * Thread-safety: each run belongs to the thread that started it.
 */
#ifndef CUTWIRE_TRAIN_H
#define CUTWIRE_TRAIN_H

#include "cutwire/codec.h"
#include "cutwire/config.h"
#include "cutwire/feed.h"
#include "cutwire/half.h"
#include "cutwire/net.h"
#include "cutwire/record.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Checks what only makes sense together: model and cut exist for the data set's shape, codec specs parse. */
cw_status cw_config_check(const cw_config *config, cw_error *err);

/* ---- the roles ---- */

/* Unsplit training in this process: the baseline. With config.clients > 1 each step averages the gradients of that many
 * shards' batches, exactly as `sync` does. Files: see docs/reference/files.md, "A run's folder". */
cw_status cw_train_unsplit(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err);

/* Server and clients in this process and thread over the in-process transport: the same state machines as over TCP. */
cw_status cw_train_inproc(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err);

/* ---- the roles, driven by anybody's event loop ----
 *
 * A role is a state machine: frames in, frames out (into its transport), and a look at the clock now and then. A loop
 * waits on cw_transport_poll_fd, receives with a time-out of 0 until CW_ERR_TIMEOUT, gives each frame to _handle, and
 * calls _tick when the seconds that it last said have passed. A server's and many clients' machines may share a thread.
 */

typedef struct cw_server cw_server;
typedef struct cw_client cw_client;

/* Zero-initialize. With halves of one's own (half.h) the configuration's model is "own", or a model of cutwire's whose
 * other half they fit. Halves stay the caller's, and must outlive the role. */
typedef struct cw_server_options {
    const cw_hooks *hooks;
    cw_half *half;        /* the layers after the cut; NULL: the engine's */
    cw_half *client_half; /* one like the clients': the server keeps their weights in it and never runs it; NULL: the
                             engine's; with model "own" none: then the clients bring weights and batches of their own,
                             the first one's weights are where all begin, and one of them gives its state after each
                             epoch, for checkpoints and for those who join */
    const char *how;      /* of config.json's "mode"; NULL: "split" */
    bool own_clients;     /* whoever starts the server starts the clients too, also when the run is resumed: places are
                             not kept for those of before */
} cw_server_options;

/* The transport listens and stays the caller's. On failure *out is NULL. CW_ERR_SPEC, CW_ERR_INVALID, CW_ERR_MISMATCH,
 * CW_ERR_NOT_FOUND, CW_ERR_IO, CW_ERR_NO_MEMORY. */
cw_status cw_server_create(const cw_config *config, cw_transport *transport, const cw_server_options *options,
                           cw_server **out, cw_error *err);
void cw_server_destroy(cw_server **server);
/* Takes one frame, and owns it from then on. A failure is the run's: call cw_server_finish with it. */
cw_status cw_server_handle(cw_server *server, cw_frame *frame, cw_error *err);
/* *next (NULL allowed): seconds until it wants to be called again. Failures as above. */
cw_status cw_server_tick(cw_server *server, double *next, cw_error *err);
/* Clients that take part, or are to from the next epoch on. */
size_t cw_server_clients(const cw_server *server);
/* All epochs are done. */
bool cw_server_done(const cw_server *server);
/* Ends the run, once: tells the clients, in these words (END; ERROR when outcome is a failure; CW_ERR_CANCELLED: it was
 * stopped), and writes model and summary. Returns outcome, or what went wrong with the files. result: NULL allowed. */
cw_status cw_server_finish(cw_server *server, cw_status outcome, const char *words, cw_result *result, cw_error *err);

/* Zero-initialize. */
typedef struct cw_client_options {
    const cw_hooks *hooks;
    const char *expect_model; /* refuse a server that trains another; NULL: any */
    cw_half *half;            /* the layers before the cut; NULL: the engine's */
    const cw_feed *train;     /* this client's training data; NULL: its shard of the configuration's data set */
    const cw_feed *test;      /* likewise; NULL beside a feed of one's own: nothing to evaluate on */
} cw_client_options;

/* As for the server; of config only the keys that are a client's own count. */
cw_status cw_client_create(const cw_config *config, cw_transport *transport, const cw_client_options *options,
                           cw_client **out, cw_error *err);
void cw_client_destroy(cw_client **client);
/* Says HELLO; once, before anything else. */
cw_status cw_client_start(cw_client *client, cw_error *err);
/* Takes one frame, and owns it from then on. A failure ends this client's part; it has then told the server why. */
cw_status cw_client_handle(cw_client *client, cw_frame *frame, cw_error *err);
/* Says that it lives, and notices when the server does not. */
cw_status cw_client_tick(cw_client *client, double *next, cw_error *err);
/* Takes leave before the end of the run. */
void cw_client_leave(cw_client *client);
/* The server said END, in these words ("" before). */
bool cw_client_done(const cw_client *client);
const char *cw_client_last_words(const cw_client *client);

/* ---- the roles, with a loop of their own ---- */

/* The server's role on a listening transport, until the run ends. A failing client is dropped with a message and the
 * rest goes on. CW_ERR_TIMEOUT: too few clients came or all were lost. CW_ERR_DIVERGED: the loss is not finite. */
cw_status cw_serve(const cw_config *config, cw_transport *transport, const cw_hooks *hooks, cw_result *result,
                   cw_error *err);

/* The same with halves of one's own. */
cw_status cw_serve_with(const cw_config *config, cw_transport *transport, const cw_server_options *options,
                        cw_result *result, cw_error *err);
cw_status cw_join_with(const cw_config *config, cw_transport *transport, const cw_client_options *options,
                       cw_error *err);

/* A client's role on a connected transport. Of config only the keys that are a client's own count; expect_model (NULL:
 * any) makes the client refuse a server that trains another. CW_ERR_TIMEOUT, CW_ERR_PROTOCOL, CW_ERR_DIVERGED, or
 * whatever status the server says in refusing the client or in ending its run (err has its words). */
cw_status cw_join(const cw_config *config, const char *expect_model, cw_transport *transport, const cw_hooks *hooks,
                  cw_error *err);

#ifdef __cplusplus
}
#endif
#endif
