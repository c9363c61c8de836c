/* guard.h - averages that a liar among the clients cannot bend at will. Internal.
 *
 * With --clip-norm, --screen or --average what each client adds to a step is kept apart until all have come: its
 * gradients of both halves, the loss of its batch, and the statistics that its batch makes of the server's half. Then
 * contributions are clipped, those far from the others' are left out, and the rest is averaged. Without these options
 * a guard is inactive, and nothing here is called.
 */
#ifndef CWI_GUARD_H
#define CWI_GUARD_H

#include "config/setup.h"
#include "half/half_state.h"

typedef enum cwi_screening { CWI_SCREEN_OFF, CWI_SCREEN_WARN, CWI_SCREEN_DROP } cwi_screening;

/* What is compared among clients; each by its logarithm, smoothed over steps. */
typedef enum cwi_trait {
    CWI_TRAIT_LOSS,
    CWI_TRAIT_GRADIENT,
    CWI_TRAIT_CLIENT_GRADIENT,
    CWI_TRAIT_SERVER_STATISTICS, /* that its batch makes of the server's half */
    CWI_TRAIT_STATISTICS,        /* that it reports of its own */
    CWI_TRAITS
} cwi_trait;

/* Vectors of like length, one for each client that has given one. */
typedef struct cwi_ballot {
    float **given; /* made when first needed */
    bool *is_given;
    double *weight;
    size_t clients, floats;
} cwi_ballot;

cw_status cwi_ballot_open(cwi_ballot *b, size_t clients, size_t floats, cw_error *err);
void cwi_ballot_close(cwi_ballot *b);
void cwi_ballot_clear(cwi_ballot *b);
/* The client's vector is x, or with `add` grows by it, times scale; its weight in means is `weight`. */
cw_status cwi_ballot_give(cwi_ballot *b, size_t client, const float *x, float scale, bool add, double weight,
                          cw_error *err);

/* How vectors become one: the averaging interface. `rows` has `count` of them, at least one, with weights that need not
 * add up to 1. */
typedef struct cwi_averaging {
    const char *name;
    void (*average)(const float *const *rows, const double *weights, size_t count, size_t floats, float *out);
} cwi_averaging;

enum { CWI_AVERAGINGS = 3, CWI_BALLOT_MOST = 4096 };       /* clients, as many as a configuration has */
extern const cwi_averaging cwi_averagings[CWI_AVERAGINGS]; /* the first is the mean */

typedef struct cwi_guard {
    bool active;
    cwi_screening screen;
    const cwi_averaging *averaging;
    double clip_norm; /* 0: none */
    size_t clients;
    cwi_ballot gradients, buffers;               /* of the server's half */
    cwi_ballot client_gradients, client_buffers; /* of the clients' */
    double *smooth[CWI_TRAITS];                  /* of each client; NaN: none yet */
    double *value[CWI_TRAITS];                   /* of the step; NaN: none */
    bool *far;                                   /* now */
    bool *was_far;                               /* when last told */
    cwi_trait *why;                              /* what was far */
    double *score;
    float *flat, *begun; /* of the server's half: a gradient; its buffers when the step began */
} cwi_guard;

/* CW_ERR_SPEC: screen or average is unknown. */
cw_status cwi_guard_check(const cw_config *config, cw_error *err);
cw_status cwi_guard_open(cwi_guard *g, const cw_config *config, cw_error *err);
void cwi_guard_close(cwi_guard *g);

/* A step's ballots are empty, and nobody is far. */
void cwi_guard_begin(cwi_guard *g);
/* What there is of this trait, of a client in this step. */
void cwi_guard_note(cwi_guard *g, cwi_trait trait, size_t client, double value);
/* Compares what was noted of a trait. Those that are far from the others are marked for this step. Fewer than three
 * clients cannot be compared. */
void cwi_guard_compare(cwi_guard *g, cwi_trait trait);
/* Whether the client's vector is given, and not left out. */
bool cwi_guard_counts(const cwi_guard *g, const cwi_ballot *b, size_t client);
/* The average of a ballot, without those who are left out, each clipped where `clip`. False: there is nothing to
 * average.
 */
bool cwi_guard_average(cwi_guard *g, cwi_ballot *b, bool clip, float *out);
/* Notes of each client that has given a vector how far it is from the median of all, as a part of that median's norm.
 */
void cwi_guard_note_distances(cwi_guard *g, cwi_trait trait, const cwi_ballot *b);
double cwi_ballot_norm(const cwi_ballot *b, size_t client);
const char *cwi_trait_name(cwi_trait trait);

#endif
