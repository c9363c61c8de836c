/* cutwire/infer.h - a trained network used across a cut.
 *
 *     cw_network *network;                  a run's folder: model, weights, names of classes
 *     cw_network_open("runs/mine", NULL, &network, &err);
 *     cw_evaluate("runs/mine", &options, &evaluation, &err);      accuracy against bytes a sample, at every cut
 *
 * Across a link: a server has the layers after the cut (cw_answerer), clients have those before it (cw_remote).
 *
 *     cw_answerer_create(&options, transport, &answerer, &err);   cw_answer_clients(answerer, &stop, &err);
 *
 *     cw_remote_open("tcp://192.0.2.7:5555", &options, &remote, &err);
 *     cw_remote_submit(remote, images, n, &ticket, &err);
 *     cw_remote_wait(remote, ticket, &answer, &err);
 *
 * Thread-safety: each object belongs to one thread at a time.
 */
#ifndef CUTWIRE_INFER_H
#define CUTWIRE_INFER_H

#include "cutwire/codec.h"
#include "cutwire/half.h"
#include "cutwire/net.h"
#include "cutwire/record.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- trained networks ---- */

typedef struct cw_network cw_network;

/* Zero-initialize. */
typedef struct cw_network_options {
    const char *cut;  /* number or alias; NULL: the run's own */
    size_t max_batch; /* samples that a forward takes at most; 0: 64 */
    int threads;      /* of the engine; 0: one per processor */
} cw_network_options;

typedef struct cw_network_info {
    const char *run;          /* the path it was opened by */
    const char *model;        /* "resnet20" */
    const char *data;         /* NAME[:DIR] of the data set that it was trained on */
    const char *uplink;       /* codec spec of the run's activations */
    cw_shape sample, smashed; /* of one sample: at the input, at the cut */
    int cut, classes;
    const char *const *class_names;  /* `classes` of them, by label, or NULL */
    uint64_t head_print, tail_print; /* numbers that name the weights before and after the cut; 0: not known */
    const cw_profile *profile;       /* of the maps at the cut (cw_network_learn_profile); NULL: none */
} cw_network_info;

/* From a file of cw_network_export; or from a run's folder: config.json, model.safetensors (where that is missing, the
 * checkpoint), classes.txt and recipe.txt; no data set is needed. options: NULL allowed. On failure *out is NULL.
 * CW_ERR_NOT_FOUND, CW_ERR_IO, CW_ERR_CORRUPT, CW_ERR_SPEC (no such cut), CW_ERR_MISMATCH (weights of another model; a
 * file of another cut), CW_ERR_UNSUPPORTED (a precision that this processor lacks), CW_ERR_NO_MEMORY. */
cw_status cw_network_open(const char *path, const cw_network_options *options, cw_network **out, cw_error *err);
/* NULL and pointer to NULL allowed. */
void cw_network_close(cw_network **network);
/* Lives as long as the network. */
const cw_network_info *cw_network_get_info(const cw_network *network);

/* The layers before the cut, and after it, ready to answer (CW_EVAL, up to max_batch samples): made when first asked
 * for, the network's own. CW_ERR_NOT_FOUND: a file of one side has not the other. The errors of cw_part_create. */
cw_status cw_network_head(cw_network *network, cw_half **out, cw_error *err);
cw_status cw_network_tail(cw_network *network, cw_half **out, cw_error *err);

/* The two sides as files (safetensors), for machines that have no more of the network: a device needs the head alone, a
 * server the tail. Both know the fingerprints of both. Either path may be NULL. Files are replaced. The network must be
 * a whole one. CW_ERR_INVALID, CW_ERR_IO, CW_ERR_NO_MEMORY. */
cw_status cw_network_export(const cw_network *network, const char *head_path, const char *tail_path, cw_error *err);

/* Learns a profile (codec.h) of the maps at the cut, of `samples` training samples (0: 256) of the run's data set
 * (data_dir: where it lies; NULL: the usual places), for an ec codec (NULL: the run's uplink). The network has it from
 * then on, and the run's folder keeps it, as cutN.profile: whoever opens the run at this cut has it, too, and so have
 * tails that are exported from it. A server sends it to each client once. The network must be a run's. *bytes_alone and
 * *bytes_with, if not NULL: the mean payload of one sample without and with it, over as many samples that it was not
 * learned from. CW_ERR_SPEC, CW_ERR_INVALID (another codec, a network from a file), CW_ERR_IO, the errors of data
 * sets. */
cw_status cw_network_learn_profile(cw_network *network, const char *uplink, size_t samples, const char *data_dir,
                                   double *bytes_alone, double *bytes_with, cw_error *err);

/* The number that names trained weights (head_print, tail_print): a hash of each tensor's name, dtype, shape and
 * values, summed, so that their order does not matter. Counters of batches (NAME.num_batches_tracked) are none of it.
 * It is no protection against forgery. */
uint64_t cw_weights_print(const cw_named_tensor *items, size_t count);

/* ---- samples for it ---- */

typedef struct cw_samples cw_samples;

/* Zero-initialize. Either files, or test samples of a data set. */
typedef struct cw_samples_options {
    /* .npy arrays of one sample or several, fp32 as the network takes them; JPEG and PNG files, and folders of them,
     * for networks of images, normalized and cropped as the test split of the run's data set. The strings are the
     * caller's */
    const char *const *files;
    size_t file_count;    /* 0: the data set */
    const char *data;     /* NAME[:DIR]; NULL: the run's */
    const char *data_dir; /* NULL: DIR, or the usual places */
    size_t limit;         /* samples; 0: all files, or as many test samples as the run tests on */
} cw_samples_options;

/* What one call of cw_samples_next gives; the samples' until the next call. */
typedef struct cw_sample_batch {
    size_t n;
    const float *x;        /* n x sample */
    const int32_t *labels; /* n, as the network has them; NULL: not known */
    const char *name;      /* of the file that they are from; NULL: the data set */
    size_t first;          /* number of the first one in its file or split, from 0 */
} cw_sample_batch;

/* The network must outlive the samples. CW_ERR_MISMATCH (another shape, other classes), CW_ERR_NOT_FOUND, CW_ERR_IO,
 * the errors of data sets and .npy files. */
cw_status cw_samples_open(cw_network *network, const cw_samples_options *options, cw_samples **out, cw_error *err);
void cw_samples_close(cw_samples **samples);
/* Up to max_batch samples of the network's, of one file. CW_END after the last. CW_ERR_MISMATCH, CW_ERR_NONFINITE (a
 * file's values), CW_ERR_UNSUPPORTED (a photo where samples are none), and the errors of reading. */
cw_status cw_samples_next(cw_samples *samples, cw_sample_batch *batch, cw_error *err);
/* Whole files are counted when they are read: the number of test samples, or 0. */
size_t cw_samples_count(const cw_samples *samples);

/* ---- evaluation without a network between ---- */

/* What the network says of one test sample. */
typedef struct cw_evaluate_answer {
    size_t sample;     /* 0, 1, ... in the data set's order */
    int label, answer; /* the class that it is, and the one that is likeliest for the network */
    int cut;           /* 0: the whole network, without a codec */
    const char *codec; /* as it was given; "" without one. Lives as long as the call */
} cw_evaluate_answer;

/* Zero-initialize. */
typedef struct cw_evaluate_options {
    const char *data;     /* NAME[:DIR]; NULL: the run's */
    const char *data_dir; /* NULL: DIR, or the usual places */
    size_t limit;         /* test samples; 0: as many as the run tests on */
    const char *cuts;     /* "all", or numbers and aliases with commas between; NULL: the run's */
    const char *uplinks;  /* codec specs with commas between: a part with '=' before any ':' belongs to the spec before
                             it; NULL: the run's */
    size_t batch;         /* samples that are coded together; 0: 1, as a device does that sends one at a time */
    int threads;          /* 0: one per processor */
    void *ctx;
    /* NULL, or called now and then: how many of `total` forwards and codings of batches are done. */
    void (*progress)(void *ctx, size_t done, size_t total);
    volatile sig_atomic_t *stop; /* NULL, or set to non-zero to end with CW_ERR_CANCELLED */
    /* NULL, or called for each sample with the whole network's answer, then with that of each cut and codec. Calls come
     * from the thread that evaluates; a failure ends the evaluation, with that status. */
    cw_status (*answered)(void *ctx, const cw_evaluate_answer *answer, cw_error *err);
} cw_evaluate_options;

/* One cut with one codec. */
typedef struct cw_evaluate_point {
    int cut;
    char alias[24];  /* "" where the cut has none */
    char codec[192]; /* its spec, as it was given */
    cw_shape smashed;
    double accuracy;       /* 0..1 */
    double agreement;      /* share of samples with the answer of the whole network */
    double error;          /* 2-norm of what the codec changed, relative to the activations' */
    double raw_bytes;      /* of a sample's activations in fp32 */
    double payload_bytes;  /* a sample */
    double encode_seconds; /* a sample, of the processor, on one thread */
    double decode_seconds;
} cw_evaluate_point;

typedef struct cw_evaluation {
    size_t samples, batch;
    double accuracy; /* of the whole network, without a codec */
    double seconds;  /* that it all took */
    cw_evaluate_point *points;
    size_t count;
} cw_evaluation;

/* Runs the test samples through the network once, and at each cut through each codec and the layers after it. A codec
 * without loss is not run again: its answers are the whole network's. On failure *out is zeroed. The errors of
 * cw_network_open, of data sets, of specs (CW_ERR_SPEC), of `answered`; CW_ERR_CANCELLED. */
cw_status cw_evaluate(const char *run, const cw_evaluate_options *options, cw_evaluation *out, cw_error *err);
void cw_evaluation_free(cw_evaluation *evaluation);

/* ---- the server ---- */

typedef struct cw_answerer cw_answerer;

/* Zero-initialize. Either a network, or a tail of one's own with what clients are told of it. Everything stays the
 * caller's and must outlive the answerer. */
typedef struct cw_answerer_options {
    cw_network *network; /* its tail answers */
    cw_half *tail;       /* NULL: the network's. Takes max_batch samples */
    const char *model;   /* without a network: its name, the cut's number, */
    int cut;
    const char *const *class_names; /* names of its outputs, or NULL, */
    uint64_t head_print;            /* of the weights that clients must have; 0: any, */
    uint64_t tail_print;            /* of its own; 0: computed from the tail, where it shows weights, */
    const char *uplink;             /* and the codec that it proposes; NULL: ec:err=0.1 */
    const cw_profile *profile;      /* of maps at the cut, sent to each client; NULL: the network's, or none */
    size_t max_batch;               /* samples that are answered together, of one client or several; 0: 64 */
    double max_wait;                /* seconds that a request may wait for others, to be answered together; 0: none */
    size_t max_clients;             /* at once; 0: 64 */
    size_t credit;                  /* requests that a client may have on their way; 0: 8 */
    size_t max_queue;               /* samples that may wait in all; further requests are refused at once; 0: 16 x
                                       max_batch */
    double timeout;                 /* seconds without a word from a client; 0: 60 */
    const cw_hooks *hooks;          /* CW_EVENT_LOG; NULL: silence */
} cw_answerer_options;

/* Totals since creation. Seconds are from a request's arrival to its answer. */
typedef struct cw_answerer_stats {
    uint64_t requests, samples, batches, refused, clients; /* refused: requests; clients: that were let in */
    size_t clients_now;
    double p50, p95, p99, slowest; /* seconds; 0 before any answer; percentiles to 10% */
    cw_net_stats net;
    double seconds; /* of all answers together */
} cw_answerer_stats;

/* The transport listens and stays the caller's. CW_ERR_INVALID, CW_ERR_MISMATCH (a tail that does not take what crosses
 * the cut), CW_ERR_NO_MEMORY, the errors of cw_network_tail. */
cw_status cw_answerer_create(const cw_answerer_options *options, cw_transport *transport, cw_answerer **out,
                             cw_error *err);
void cw_answerer_destroy(cw_answerer **answerer);
/* Takes one frame, and owns it from then on. What is wrong with it is its sender's fault, who is told: a failure is
 * this server's own (CW_ERR_NO_MEMORY). */
cw_status cw_answerer_handle(cw_answerer *answerer, cw_frame *frame, cw_error *err);
/* Answers what is due: to be called when no frame is left to receive, or as many samples as max_batch wait
 * (cw_answerer_is_full), and when the *next seconds (NULL allowed) that it last gave have passed. */
cw_status cw_answerer_tick(cw_answerer *answerer, double *next, cw_error *err);
bool cw_answerer_is_full(const cw_answerer *answerer);
/* Tells the clients that it is over, in these words. */
void cw_answerer_finish(cw_answerer *answerer, const char *words);
cw_answerer_stats cw_answerer_get_stats(const cw_answerer *answerer);
/* All that in a loop, until *stop is not 0, and then cw_answerer_finish. */
cw_status cw_answer_clients(cw_answerer *answerer, volatile sig_atomic_t *stop, cw_error *err);

/* ---- the client ---- */

typedef struct cw_remote cw_remote;

/* Zero-initialize. Everything stays the caller's and must outlive the remote. */
typedef struct cw_remote_options {
    cw_half *head;       /* the layers before the cut; NULL: what is submitted are activations at the cut */
    const char *uplink;  /* codec spec of the activations; NULL: the one that the server proposes */
    size_t top;          /* answers are the so many most likely classes; 0: the network's output */
    const char *model;   /* refuse a server that has another one, */
    int cut;             /* or another cut; NULL and 0: any */
    uint64_t head_print; /* of the head's weights, as cw_network_info has it; 0: computed from the head, where it shows
                            weights */
    uint64_t tail_print; /* 0: any */
    double deadline;     /* seconds until a request without an answer has failed; 0: 30 */
    double join_timeout; /* seconds to wait for the server to let this client in; 0: 10 */
    const cw_net_options *net;   /* NULL: plaintext on this machine; used again whenever it has to connect */
    volatile sig_atomic_t *stop; /* NULL, or set to non-zero to end every wait with CW_ERR_CANCELLED */
} cw_remote_options;

typedef struct cw_remote_info {
    const char *model; /* as the server names it; likewise */
    int cut;
    cw_shape smashed;               /* of one sample at the cut */
    size_t outputs;                 /* floats of one sample's output */
    const char *const *class_names; /* `outputs` of them, or NULL */
    const char *uplink;             /* the codec in use */
    size_t credit;                  /* requests that may be on their way */
    size_t max_samples;             /* of one request */
} cw_remote_info;

typedef struct cw_guess {
    int32_t label;
    float probability; /* softmax of the outputs */
} cw_guess;

typedef struct cw_answer {
    size_t n, top;           /* samples; guesses for each, or 0 */
    const cw_guess *guesses; /* n x top, the likeliest first; NULL where top is 0 */
    const float *outputs;    /* n x outputs; NULL where top is not 0 */
    double seconds;          /* from cw_remote_submit to the answer's arrival */
} cw_answer;

typedef struct cw_remote_stats {
    uint64_t requests, samples, answers;
    uint64_t payload_bytes; /* of requests, each counted once */
    uint64_t repeated;      /* requests that were sent again, to a server that came back */
    uint64_t connections;
    uint64_t bytes_sent, bytes_received; /* as cw_net_stats, over all connections */
} cw_remote_stats;

/* Connects, and waits until the server has let this client in. On failure *out is NULL. CW_ERR_TIMEOUT (nobody there),
 * CW_ERR_MISMATCH (another model, cut or weights: err has both names), CW_ERR_PROTOCOL (no server of this kind),
 * CW_ERR_VERSION, CW_ERR_SPEC, whatever status the server says (it is full), the errors of cw_net_connect. */
cw_status cw_remote_open(const char *endpoint, const cw_remote_options *options, cw_remote **out, cw_error *err);
/* Forgets what was not waited for. NULL and pointer to NULL allowed. */
void cw_remote_close(cw_remote **remote);
const cw_remote_info *cw_remote_get_info(const cw_remote *remote);
/* "" where the server knows none. */
const char *cw_remote_class_name(const cw_remote *remote, int32_t label);
cw_remote_stats cw_remote_get_stats(const cw_remote *remote);

/* Runs the head on n samples (1 to max_samples) of x, codes what comes out and sends it. x is not needed afterwards.
 * Waits while as many requests as the credit allows are on their way. *ticket is never 0. CW_ERR_INVALID,
 * CW_ERR_NONFINITE (the head's output), CW_ERR_TIMEOUT (no answer to earlier ones), the head's errors. */
cw_status cw_remote_submit(cw_remote *remote, const float *x, size_t n, uint64_t *ticket, cw_error *err);
/* Waits for the answer to this request, once. *answer is valid until the next call of cw_remote_wait. While it waits,
 * answers to others are taken in, and a server that came back is asked again what had no answer. CW_ERR_TIMEOUT: none
 * came by the deadline; CW_ERR_INVALID: no such ticket; what the server says of this request (CW_ERR_NONFINITE; it is
 * full: CW_ERR_CLOSED) or of this client. */
cw_status cw_remote_wait(cw_remote *remote, uint64_t ticket, cw_answer *answer, cw_error *err);

/* For a loop of one's own: takes in what has come, and names the oldest request that has ended (answered, refused, or
 * beyond its deadline), whose cw_remote_wait then returns at once; *ticket is 0 where none has. It does not wait, but
 * for 0.05 s while there is no connection. To be called at least every 0.1 s while requests are on their way. A failure
 * is for good, and of every request: what cw_remote_wait would return. */
cw_status cw_remote_poll(cw_remote *remote, uint64_t *ticket, cw_error *err);
/* A descriptor for poll(2), POLLIN, as cw_transport_poll_fd has it: cw_remote_poll comes before each wait, also after
 * cw_remote_submit. Another one after each new connection. -1: there is none now. */
int cw_remote_poll_fd(const cw_remote *remote);

#ifdef __cplusplus
}
#endif
#endif
