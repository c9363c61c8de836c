/* cutwire/record.h - what a run tells while it goes on, and what is in its folder afterwards.
 *
 * Thread-safety: events come in the thread that drives the run.
 */
#ifndef CUTWIRE_RECORD_H
#define CUTWIRE_RECORD_H

#include <signal.h>

#include "cutwire/config.h"
#include "cutwire/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of one direction. `socket` is all that the transport counted, both training and evaluation, weights and
 * everything; the others are parts of it or what it stands for. */
typedef struct cw_traffic {
    uint64_t socket;
    uint64_t payload; /* codec payloads of training steps */
    uint64_t raw;     /* the same tensors in fp32 */
    uint64_t eval_payload;
    uint64_t eval_raw;
    uint64_t weights; /* blobs of weights, client gradients, averages, buffers */
} cw_traffic;

typedef struct cw_epoch_report {
    int epoch;             /* 0-based */
    double train_loss;     /* means over the epoch's samples */
    double train_accuracy; /* 0..1 */
    double test_loss;      /* 0 where test_samples is */
    double test_accuracy;
    double lr;            /* of the last step */
    double seconds;       /* since the run began, joining excluded */
    double train_seconds; /* of this epoch's training phase */
    uint64_t train_samples;
    uint64_t test_samples;  /* 0: this epoch was not evaluated, or there is nothing to evaluate it on */
    int clients;            /* taking part at its end */
    cw_precision precision; /* that it was trained in: never CW_PRECISION_AUTO */
    cw_traffic up, down;    /* totals so far */
} cw_epoch_report;

/* Where a client is. */
typedef struct cw_origin {
    int client;       /* 0-based place; -1: none, as of a peer that was refused */
    char address[48]; /* numeric; "": unknown, or within this process */
    char key[16];     /* the fingerprint of its public key: the key's first 10 characters; "": it has none */
} cw_origin;

typedef enum cw_client_state {
    CW_CLIENT_VACANT,  /* nobody has this place */
    CW_CLIENT_JOINING, /* greeted */
    CW_CLIENT_READY,   /* takes part from the next epoch on */
    CW_CLIENT_ACTIVE,
} cw_client_state;

/* A client's place at a server that trains. Counts are of the place: they go on when a client comes back. */
typedef struct cw_client_status {
    cw_client_state state;
    cw_origin origin;
    uint64_t samples;                      /* of its shard */
    uint64_t steps;                        /* in which its batch was taken */
    uint64_t uplink_bytes, downlink_bytes; /* of its frames, without the transport's own framing */
    double loss;                           /* mean of its last batch */
    double lag;       /* of the last step: seconds that the server waited for its batch after the first one was there */
    double owes_for;  /* seconds for which the server has waited for it by now; 0: it owes nothing */
    uint64_t joined;  /* how often */
    uint64_t resumed; /* how often a connection broke and was taken up again: it kept its place */
    uint64_t lost;    /* how often */
    uint64_t flagged; /* steps in which screening found it far from the others */
} cw_client_status;

/* What a server that trains is at. Pointers live as long as the event's call. */
typedef struct cw_server_status {
    const cw_client_status *clients;
    size_t count;
    cw_traffic up, down;   /* so far */
    uint64_t steps;        /* since this process began */
    double step_seconds;   /* all these together */
    double server_seconds; /* of them: this process worked on frames */
    double client_seconds; /* of them: the slowest client worked; below 0: clients were not asked (cw_hooks.times) */
    uint64_t refused;      /* peers that were turned away */
} cw_server_status;

typedef enum cw_log_level { CW_LOG_DEBUG = -1, CW_LOG_INFO, CW_LOG_WARN, CW_LOG_ERROR } cw_log_level;

typedef enum cw_event_kind {
    CW_EVENT_LOG,    /* text: a sentence for the user; level, name, origin */
    CW_EVENT_STEP,   /* epoch, step, steps, loss (running mean of the epoch); a server's: server */
    CW_EVENT_EVAL,   /* epoch, step, steps: evaluation batches done */
    CW_EVENT_EPOCH,  /* report */
    CW_EVENT_STATUS, /* server or answerer: some tenths of a second have passed */
} cw_event_kind;

typedef struct cw_event {
    cw_event_kind kind;
    const char *text;
    int epoch, epochs;
    size_t step, steps;
    double loss;
    const cw_epoch_report *report;
    cw_log_level level;             /* LOG */
    const char *name;               /* LOG: a word for programs (docs/guide/server.md has them); NULL: "note" */
    const cw_origin *origin;        /* LOG: of whom it tells; NULL: of nobody */
    const cw_server_status *server; /* NULL where there is none */
    const struct cw_answerer_stats *answerer; /* STATUS of a server that answers requests (infer.h); else NULL */
} cw_event;

/* A value of cw_hooks.stop. */
enum { CW_STOP_AWHILE = 2 };

/* How a run talks to its caller; zero-initialize for silence. */
typedef struct cw_hooks {
    void *ctx;
    void (*event)(void *ctx, const cw_event *event);
    /* Set to non-zero (by a signal handler): end cleanly at the next step; to CW_STOP_AWHILE: a server finishes the
     * step, for which it waits a minute at most, saves a checkpoint, and does not tell its clients that the run is
     * over: they wait for it. */
    volatile sig_atomic_t *stop;
    bool times; /* a server's: ask clients how long they work, 58 bytes a step of each over TCP */
    bool debug; /* a server's: LOG of level CW_LOG_DEBUG, too: what of each client is in each update, with epoch, step
                   and steps as in STEP */
} cw_hooks;

typedef struct cw_result {
    int epochs_done;
    bool stopped;         /* by hooks.stop */
    cw_epoch_report last; /* zero when no epoch was completed */
    double best_accuracy;
    cw_precision precision; /* what the run's came to: never CW_PRECISION_AUTO */
    char out[512];          /* where the run's files are; "": nowhere */
} cw_result;

/* The configuration that the run in this folder was started with, from its checkpoint; from its config.json, when it
 * was stopped before it had a checkpoint or an epoch: it then goes on from its beginning. CW_ERR_IO, CW_ERR_NOT_FOUND,
 * CW_ERR_CORRUPT, CW_ERR_VERSION. */
cw_status cw_config_from_run(cw_config *config, const char *folder, cw_error *err);
/* Whether the run in this folder is split: it goes on by cw_train_inproc or cw_serve, else by cw_train_unsplit, and is
 * refused by the others. Failures as above. */
cw_status cw_run_is_split(const char *folder, bool *split, cw_error *err);

#ifdef __cplusplus
}
#endif
#endif
