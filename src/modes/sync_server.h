/* sync_server.h - the server's side of mode sync, whose files build on each other in this order. Internal to the mode.
 *
 *     sync_rounds.c  messages, batches, whose frames a round wants
 *     sync_guard.c   what clients add to a step, kept apart and compared (--screen, --average, --clip-norm)
 *     sync_step.c    a step: activations, gradients, the update of the clients' half
 *     sync_state.c   the clients' half as a whole: statistics, STATE, GIVE_STATE
 *     sync_epoch.c   phases, evaluation, reports, checkpoints
 *     sync_server.c  life, the table of rounds, the session's work
 *
 * In a round's names `take` is one frame's work, and `finish` what follows when all have come.
 */
#ifndef CWI_SYNC_SERVER_H
#define CWI_SYNC_SERVER_H

#include "modes/ahead.h"
#include "modes/batch_room.h"
#include "modes/guard.h"
#include "modes/sync.h"

typedef enum sync_stage {
    STAGE_BEFORE, /* the first epoch */
    STAGE_ACTIVATIONS,
    STAGE_CLIENT_GRADS,
    STAGE_TRAIN_DONE,
    STAGE_EVAL_DONE,
    STAGE_CLIENT_STATE, /* one client is to give what all are to have */
    STAGE_DRAINED,      /* what there is is saved, and the server stops for a while */
    STAGE_FINISHED,
} sync_stage;

/* One client's work. */
typedef struct client_work {
    uint64_t samples, test_samples, batch_size;
    bool synced;  /* has what the mirror has, where that is remote */
    size_t batch; /* samples of its batch in the step under way */
    bool added;   /* what it has sent in the round under way is part of what follows */
    bool skipped; /* its work up to this step of this epoch came too late, or has not come yet, */
    uint32_t skipped_epoch, skipped_step;
    bool absent;   /* and nothing has come of it since */
    bool left_out; /* it was silent in this phase of this epoch, which ended without it */
    uint32_t left_epoch, left_goal;
    cw_phase left_phase;
    uint32_t late;   /* steps of the run that went on without it */
    bool waited_for; /* it has lost its memory, joins again, and the round waits for what it owes */
    bool returning;  /* it does so in a round that could not wait: the next step will */
    double loss;     /* sums over the evaluation so far, kept apart so that their order never matters */
    uint64_t correct, evaluated;
} client_work;

typedef struct cwi_sync_server {
    cw_server *server;
    cwi_session *session;
    const cwi_setup *setup;
    cwi_admission admission;
    cwi_labels names;
    client_work *clients;
    size_t count, tickets;
    cwi_barrier barrier;
    double round_began; /* by the session's clock */
    sync_stage stage;
    bool draining; /* the step under way is the last one for now */
    uint32_t epoch, step, steps;
    bool trained;              /* the epoch's training is over, and the mirror has the clients' averaged statistics */
    uint32_t goal;             /* the phase ends before this step: the epoch's last, or a checkpoint is to be saved */
    uint64_t expected, actual; /* samples of the step: at its start, and of clients whose work counts */
    cwi_progress from;   /* where the next epoch begins: at its first step, but for a run that goes on within one */
    cwi_progress now_at; /* the step under way: the sums over those before it */
    double sum_loss;     /* of the epoch's training */
    uint64_t sum_correct, sum_samples;
    double phase_began;
    cwi_micro_sums micro;  /* with several tickets */
    float *weights;        /* of the clients' sums in it */
    float *average;        /* client gradients or buffers */
    float *flat;           /* one client's, as it sends them */
    float *statistics;     /* this half's batch-norm statistics before the batch at hand, for when that is refused */
    float *now;            /* those after it */
    uint8_t *coded_update; /* the averaged gradient as it is sent */
    size_t coded_capacity;
    cwi_batch_room batch;
    cwi_ahead *ahead; /* the next one; NULL: none is decoded ahead */
    cwi_guard guard;
    cw_status (*then)(struct cwi_sync_server *s, cw_error *err); /* what waits for a client's state */
    size_t giver;                                                /* that client */
    bool averaged;                                               /* it is to take the averaged buffers first */
    cw_epoch_report totals;
    uint64_t before_up, before_down; /* at the socket, before this process went on with the run */
} cwi_sync_server;

/* Which frames a round wants of each client. */
typedef enum sync_owing { OWING_ALL, OWING_BATCHES, OWING_MICRO_BATCHES, OWING_NOTHING } sync_owing;

/* ---- rounds ---- */

cw_msg cwi_sync_message(const cwi_sync_server *s, size_t client, cw_msg_type type);
/* The same to every active client. */
void cwi_sync_broadcast(cwi_sync_server *s, cw_msg msg);
/* Samples of a client in a step, and its batches in so many samples. */
uint64_t cwi_sync_batch(const cwi_sync_server *s, size_t client, uint32_t step);
uint32_t cwi_sync_batches(const cwi_sync_server *s, size_t client, uint64_t samples);
void cwi_sync_open_round(cwi_sync_server *s, sync_stage stage, sync_owing owing);
/* The client owes nothing, and what is held of it is freed. */
void cwi_sync_drop_turn(cwi_sync_server *s, size_t client);
cw_encode_args cwi_sync_encode_args(const cwi_sync_server *s, cwi_flow flow, size_t client, uint32_t ticket);
/* Of the batch at hand, uncoded. */
uint64_t cwi_sync_raw_bytes(const cwi_sync_server *s);
/* Bytes at the socket so far, with those of before the run went on. */
void cwi_sync_count_socket(const cwi_sync_server *s, cw_traffic *up, cw_traffic *down);
/* What logs and pages tell of the server now; good until the next call. NULL where nobody listens. */
const cw_server_status *cwi_sync_status(cwi_sync_server *s);
/* Whose `what` of this step is in the update just made: once for each client, where somebody wants to know. */
void cwi_sync_tell_added(const cwi_sync_server *s, const cwi_ballot *ballot, const char *name, const char *what);
/* Tells it to who listens; `state` is the cwi_sync_server. */
void cwi_sync_tell_status(void *state);

/* ---- where the guard is active ---- */

cw_status cwi_sync_guard_open(cwi_sync_server *s, cw_error *err);
/* Ballots for the clients' half, whose size is known by then. */
cw_status cwi_sync_guard_size(cwi_sync_server *s, cw_error *err);
cw_status cwi_sync_guard_begin_step(cwi_sync_server *s, cw_error *err);
/* The server's half has the statistics that this client's batches of the step begin from. */
cw_status cwi_sync_guard_begin_batch(cwi_sync_server *s, size_t client, cw_error *err);
/* The half's gradient of n samples is the client's, as is what became of the statistics (s->now). */
cw_status cwi_sync_guard_take_batch(cwi_sync_server *s, size_t client, size_t n, cw_error *err);
/* The half gets the averages. */
cw_status cwi_sync_guard_finish_batches(cwi_sync_server *s, cw_error *err);
/* s->average becomes that of the clients' gradients, or of their statistics. */
void cwi_sync_guard_finish_grads(cwi_sync_server *s);
void cwi_sync_guard_finish_statistics(cwi_sync_server *s);

/* ---- a step ---- */

cw_status cwi_sync_begin_step(cwi_sync_server *s, cw_error *err);
void cwi_sync_await_train_done(cwi_sync_server *s);
/* Where there is a deadline: the step goes on without those that are late. */
void cwi_sync_check_deadline(cwi_sync_server *s);
/* Who is not heard of is not waited for in the steps that follow. Whether it is such a one. */
bool cwi_sync_leave_absent(cwi_sync_server *s, size_t client);
/* What such a client sends of a step that has gone on without it. */
bool cwi_sync_is_stale(cwi_sync_server *s, size_t client, const cw_msg *msg);
/* What a client sends of a phase that has ended without it. */
bool cwi_sync_is_of_ended_phase(cwi_sync_server *s, size_t client, const cw_msg *msg);
/* Decodes a batch and runs the server's half forward and through the loss. */
cw_status cwi_sync_run_batch(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_half_call *call, cw_loss *loss,
                             cw_error *err);
cw_status cwi_sync_take_activation(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
cw_status cwi_sync_finish_activations(cwi_sync_server *s, cw_error *err);
cw_status cwi_sync_take_client_grad(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
cw_status cwi_sync_finish_client_grads(cwi_sync_server *s, cw_error *err);
/* What clients that were lost would have had in the average is made up for by the others. */
void cwi_sync_scale_average(cwi_sync_server *s, size_t floats);

/* ---- the clients' half as a whole ---- */

cw_status cwi_sync_take_train_done(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
cw_status cwi_sync_send_state(cwi_sync_server *s, cw_error *err);
/* STATE to this client alone. */
cw_status cwi_sync_send_state_to(cwi_sync_server *s, size_t client, cw_error *err);
/* Asks a client for its half, after the averaged buffers where there are such; `then` comes when it is here. */
void cwi_sync_ask_for_state(cwi_sync_server *s, bool averaged, cw_status (*then)(cwi_sync_server *s, cw_error *err));
cw_status cwi_sync_take_client_state(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
cw_status cwi_sync_finish_client_state(cwi_sync_server *s, cw_error *err);

/* ---- epochs ---- */

/* A client that is ready takes part from here on: it gets STATE and BEGIN. */
cw_status cwi_sync_let_in(cwi_sync_server *s, size_t client, cw_phase phase, cw_error *err);

cw_status cwi_sync_begin_epoch(void *state, cw_error *err);
cw_status cwi_sync_finish_train_done(cwi_sync_server *s, cw_error *err);
cw_status cwi_sync_take_eval_batch(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
cw_status cwi_sync_take_eval_done(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
/* Writes a checkpoint of the epoch as far as it was trained, and does no more. */
void cwi_sync_save_and_stop(cwi_sync_server *s);
/* Also of an epoch that is not evaluated: there test_samples stays 0. */
cw_status cwi_sync_finish_epoch(cwi_sync_server *s, cw_error *err);

#endif
