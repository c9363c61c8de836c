/* mode.h - ways to train a network that is cut between a server and clients. Internal.
 *
 * A mode is one file with one cwi_mode, and a line in modes.c. It has what both roles hold (model, codecs, halves,
 * report, session) and says what they do with each other's messages. docs/formats/protocol.md tells each conversation.
 */
#ifndef CWI_MODE_H
#define CWI_MODE_H

#include "record/own_statistics.h"
#include "record/report.h"
#include "record/watch.h"
#include "session/guest.h"
#include "session/identity.h"
#include "session/session.h"

typedef struct cw_server cw_server; /* as in cutwire/train.h */
typedef struct cw_client cw_client;

typedef struct cwi_mode cwi_mode;

/* How often roles look at the clock while no frame comes. */
#define CWI_TICK_SECONDS 0.2

/* The server's role. */
struct cw_server {
    cwi_setup setup;
    cwi_report report;
    cwi_session session;
    cw_half *half;   /* the layers after the cut */
    cw_half *mirror; /* the layers before it, as every client has them: weights, averaged buffers, optimizer */
    const cwi_mode *mode;
    void *state;                 /* the mode's */
    bool owns_half, owns_mirror; /* else they are the caller's */
    uint8_t *welcome;            /* WELCOME's blob */
    cwi_progress from;           /* where the run begins */
    cwi_own_statistics own;      /* clients' that it begins with, or stops with */
    bool awhile;                 /* it stops, and its clients are to wait for it */
    bool gathers;                /* the mode wants to know of all frames that are there before work goes on */
    double drain_until;          /* and waits so long for the step under way */
    cwi_watch watch;             /* what it tells of itself */
    struct cwi_places *places;   /* NULL: they are not kept */
};

/* A client's role. */
struct cw_client {
    cw_config config; /* its own; after WELCOME with the server's shared keys */
    const char *expect_model;
    cwi_guest guest;
    cwi_report report; /* for its events only */
    bool has_setup;
    cwi_setup setup;
    cw_half *half; /* the layers before the cut */
    cwi_feed train, test;
    const cw_feed *own_train, *own_test; /* the caller's, or NULL */
    char *class_names;                   /* READY's blob */
    uint8_t *welcome;                    /* the last WELCOME's blob, and the place that it gave */
    size_t welcome_size;
    uint32_t place;
    cwi_identity identity; /* of config.identity; token 0: there is none */
    const cwi_mode *mode;
    void *state; /* the mode's */
    bool owns_half;
};

/* What its clients are at, as of now; the mode's traffic. Lives until the next call. */
const cw_server_status *cwi_server_status(cw_server *server, const cw_epoch_report *totals);

struct cwi_mode {
    const char *name, *summary;
    /* The server's side: what its session works on, with the state that open makes. */
    const cwi_work *work;
    cw_status (*open_server)(cw_server *server, void **state, cw_error *err);
    void (*close_server)(void *state);
    /* A client's side, from WELCOME on. */
    cw_status (*open_client)(cw_client *client, void **state, cw_error *err);
    void (*close_client)(void *state);
    cw_status (*take)(void *state, const cw_msg *msg, cw_error *err);
    /* Whether it has put off work until no more frames are at hand, and that work. NULL: it never does. */
    bool (*pending)(const void *state);
    cw_status (*go_on)(void *state, cw_error *err);
    /* In place of all that: a run without a cut, in this process. */
    cw_status (*alone)(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err);
};

/* 0 <= i < cwi_mode_count(). */
size_t cwi_mode_count(void);
const cwi_mode *cwi_mode_at(size_t i);
/* One with a server and clients. CW_ERR_SPEC: err lists them. */
cw_status cwi_mode_find(const char *name, const cwi_mode **mode, cw_error *err);

/* ---- what modes share ---- */

/* Samples [*first, *first + returned) of the i-th of `parts` micro-batches of a batch of n; sizes differ by one at
 * most.
 */
size_t cwi_micro_batch(size_t n, size_t i, size_t parts, size_t *first);
/* How many micro-batches a batch is cut into: one for each ticket, but none without a sample. */
static inline size_t cwi_micro_count(size_t n, size_t tickets)
{
    return CWI_MIN(n, tickets);
}

/* Whose label is which: the names that clients' data have for their classes, and the run's. */
typedef struct cwi_labels {
    struct cwi_label_map {
        int count;    /* below which the client's labels are, */
        int32_t *map; /* and which of the run's each is; NULL: the same */
    } * clients;
    size_t count;
    bool learned; /* from clients: the setup had none */
} cwi_labels;

cw_status cwi_labels_open(cwi_labels *l, size_t clients, cw_error *err);
void cwi_labels_close(cwi_labels *l);
/* By the names in a client's READY. CW_ERR_MISMATCH: a name that is none of the run's; CW_ERR_CORRUPT. */
cw_status cwi_labels_admit(cwi_labels *l, cw_server *server, size_t client, const cw_msg *ready, cw_error *err);
/* The client is gone; with it, where nobody else has joined and nothing has begun, what was learned from it. */
void cwi_labels_forget(cwi_labels *l, cw_server *server, size_t client);
/* Of an ACTIVATION, as the run's, into `labels`. CW_ERR_PROTOCOL. */
cw_status cwi_labels_take(const cwi_labels *l, size_t client, const cw_msg *msg, int32_t *labels, cw_error *err);

/* Whoever announces more samples than there can be makes everybody wait in an epoch of countless steps. */
typedef struct cwi_admission {
    uint64_t most[2]; /* samples of either split that a client may announce; 0: not yet looked up */
} cwi_admission;
/* A READY of a training. CW_ERR_MISMATCH. */
cw_status cwi_admission_check(cwi_admission *a, const cwi_setup *setup, const cw_msg *ready, cw_error *err);

/* Sums of gradients over the micro-batches of each client: a vector for each, in the order in which its micro-batches
 * are added. Where batches are not cut none is kept, and the half's own sum is used. */
typedef struct cwi_micro_sums {
    float **sum; /* one a client, made when first needed */
    bool *begun;
    size_t clients, floats;
    float *flat;
} cwi_micro_sums;

cw_status cwi_micro_sums_open(cwi_micro_sums *sums, size_t clients, const cw_half *half, cw_error *err);
void cwi_micro_sums_close(cwi_micro_sums *sums);
void cwi_micro_sums_clear(cwi_micro_sums *sums);
/* The half's last gradient, times weight, into this client's sum. */
cw_status cwi_micro_sums_add(cwi_micro_sums *sums, size_t client, cw_half *half, float weight, cw_error *err);
/* The clients' sums, each times its weight, as the half's gradient; those without one count nothing. */
cw_status cwi_micro_sums_finish(cwi_micro_sums *sums, const float *weights, float scale, cw_half *half, cw_error *err);

extern const cwi_mode cwi_mode_sync, cwi_mode_whole;

#endif
