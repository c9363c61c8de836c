/* server.h - the server as a state machine: frames in, frames out, no waiting. Internal.
 *
 * server.c       life, joining and losing clients, dispatch of frames
 * server_round.c the rounds of a run: what is collected from every client, and what follows
 * server_classes.c whose label is which
 */
#ifndef CWI_TRAIN_SERVER_H
#define CWI_TRAIN_SERVER_H

#include "train/outbox.h"
#include "train/report.h"

typedef enum cwi_slot_state {
    CWI_SLOT_VACANT,
    CWI_SLOT_JOINING, /* WELCOME sent */
    CWI_SLOT_READY,   /* takes part from the next phase on */
    CWI_SLOT_ACTIVE,
} cwi_slot_state;

/* The place of one client; a client that is lost leaves it vacant for itself or another. */
typedef struct cwi_slot {
    cwi_slot_state state;
    cw_peer peer;
    uint64_t token;
    uint64_t samples, test_samples;
    int labels;         /* below which its labels are, */
    int32_t *label_map; /* and which of the run's each is; NULL: the same */
    bool owes;          /* the round still wants something from it */
    bool arrived;       /* `frame` holds it, waiting for the slots before it */
    cw_frame frame;
    uint64_t batch;  /* samples of its batch in the step under way */
    double due_from; /* clock since when it owes, later by what the server has computed since */
    double loss;     /* sums over the evaluation so far, kept apart so that their order never matters */
    uint64_t correct, evaluated;
} cwi_slot;

/* What the server waits for. */
typedef enum cwi_stage {
    CWI_STAGE_JOINING,
    CWI_STAGE_ACTIVATIONS,
    CWI_STAGE_CLIENT_GRADS,
    CWI_STAGE_TRAIN_DONE,
    CWI_STAGE_EVAL_DONE,
    CWI_STAGE_FINISHED,
} cwi_stage;

typedef struct cwi_server {
    cwi_setup setup;
    cwi_report report;
    cwi_outbox box;
    uint8_t *welcome; /* WELCOME's blob */
    size_t welcome_size;
    uint64_t config_hash, session;
    cwi_half half;   /* the layers after the cut */
    cwi_half client; /* a copy of what every client has: weights, averaged buffers, optimizer */
    cwi_slot *slots;
    size_t slot_count;

    cwi_stage stage;
    size_t next;       /* slots before it are done in this round */
    cwi_progress from; /* where the epoch begins: at its first step, but for a run that goes on within one */
    uint32_t epoch, step, steps;
    uint32_t goal; /* the phase ends before this step: the epoch's last, or there is a checkpoint to be saved */
    uint64_t expected, actual; /* samples of the step: at its start, and of clients whose work counts */
    double sum_loss;           /* of the epoch's training */
    uint64_t sum_correct, sum_samples;
    double phase_began;
    float *average;        /* client gradients or buffers */
    uint8_t *coded_update; /* the averaged gradient as it is sent */
    size_t coded_capacity;
    float *statistics; /* this half's batch-norm statistics before the batch at hand, for when that is refused */
    float *x, *dx;     /* one batch of smashed data, and its gradient */
    uint8_t *sent;     /* with --mask-gradient: 0 where the activations' codes are */
    int32_t *labels;
    cw_epoch_report totals;
    uint64_t before_up, before_down; /* at the socket, before this process went on with the run */
    cw_status lost_status;           /* why the last client was lost */
    char lost_reason[400];
    bool classes_learned; /* from clients: the setup had none */
    uint64_t most[2];     /* samples of either split that a client may announce; 0: not yet looked up */
    double alone_since;   /* clock since when no client is there, or joining began */
} cwi_server;

cw_status cwi_server_create(const cw_config *config, const char *mode, cw_transport *transport, const cw_hooks *hooks,
                            cwi_server **out, cw_error *err);
void cwi_server_destroy(cwi_server **server);
/* Takes one frame, and owns it from then on. Fails only when the run as a whole cannot go on. */
cw_status cwi_server_handle(cwi_server *server, cw_frame *frame, cw_error *err);
/* To be called now and then: drops clients that owe an answer for too long. */
cw_status cwi_server_tick(cwi_server *server, cw_error *err);
/* Tells the clients that the run is over, by END or, when it failed, by ERROR, and saves the model. */
cw_status cwi_server_finish(cwi_server *server, cw_status outcome, const char *words, cw_error *err);

/* ---- between the files ---- */

/* Begins the first or next epoch with every client that is ready. */
cw_status cwi_server_begin_epoch(cwi_server *s, cw_error *err);
/* A frame of an active client that answers what the round asks for. The slot takes the frame over when it has to wait:
 * frame->owner is then NULL. A failure is the client's fault. */
cw_status cwi_server_take(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_frame *frame, cw_error *err);
/* Goes on as far as the frames at hand allow. */
cw_status cwi_server_advance(cwi_server *s, cw_error *err);
/* Removes a client from the run, telling it why; the others go on. */
void cwi_server_lose(cwi_server *s, cwi_slot *slot, cw_status status, const char *why);
/* By the names in a client's READY: the slot's labels. CW_ERR_MISMATCH: a name that is none of the run's. */
cw_status cwi_server_take_classes(cwi_server *s, cwi_slot *slot, const cw_msg *ready, cw_error *err);
/* What was learned from a client that is gone before anybody else has joined. */
void cwi_server_forget_classes(cwi_server *s);
/* Of an ACTIVATION, as the run's, into s->labels. */
cw_status cwi_server_labels(cwi_server *s, const cwi_slot *slot, const cw_msg *msg, cw_error *err);
cw_msg cwi_server_message(const cwi_server *s, const cwi_slot *slot, cw_msg_type type);
size_t cwi_server_active(const cwi_server *s);

#endif
