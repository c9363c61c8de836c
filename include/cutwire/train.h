/* cutwire/train.h - train one network across a cut: configuration, the roles, and what a run reports.
 *
 * One step of mode "sync" (Zhou et al., ECAI 2024, section 2): every client sends the compressed
 * activations of its batch and the labels; the server runs its half on each, sends each the gradient at the cut, and
 * averages its own gradients weighted by samples; clients send the gradients of their half, the server averages them
 * likewise and sends the average back; all halves take the same step of the optimizer. A batch's gradient is of the
 * mean loss, so the step is one on the mean loss of all samples of all clients.
 *
 * Thread-safety: a cw_config is plain data; each run belongs to the thread that started it.
 */
#ifndef CUTWIRE_TRAIN_H
#define CUTWIRE_TRAIN_H

#include <signal.h>

#include "cutwire/codec.h"
#include "cutwire/data.h"
#include "cutwire/feed.h"
#include "cutwire/half.h"
#include "cutwire/net.h"
#include "cutwire/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- configuration ---- */

/* Plain data, copy freely. Fill with cw_config_init, then cw_config_set. */
typedef struct cw_config {
    /* what is trained; the server decides, clients are told */
    char data[256]; /* NAME[:DIR] */
    char model[64];
    char activation[32];
    char init[16];
    char precision[8];     /* "fp32", "bf16", or "auto": decided by the machine of the server or of the unsplit run */
    char cut[32];          /* number or alias */
    char uplink[128];      /* codec specs */
    char eval_uplink[128]; /* of the activations of evaluations; "": uplink */
    char downlink[128];
    char mode[16];         /* how server and clients take turns: "sync" */
    int in_flight;         /* micro-batches that a client's batch is cut into, to be on their way at once; 1: none */
    char mask_gradient[8]; /* "1": where the decoded activation is 0 the gradient is sent as 0, the cut is behind a
                              ReLU; "0": not so; "auto": where that holds and the downlink is coded */
    char update[128];      /* of the client half's gradients */
    char schedule[128];
    uint64_t seed;
    int clients;
    int batch; /* samples per client and step */
    int epochs;
    char optimizer[16]; /* "sgd", "adam", "adamw" */
    double lr;
    double momentum;
    double weight_decay;
    double bias_lr; /* of batch norm's biases, times lr; clients whose gradients are coded take 1 at most */
    double label_smoothing;
    bool nesterov;
    bool flip;
    int crop_pad;
    bool resized_crop; /* photos */
    double dirichlet;  /* <= 0: even shards */
    char sample[64];   /* shape of one input, "1x28x28"; "": as the data set has it */
    int classes;       /* 0: as the data set has it */
    char input[1024];  /* what a sample's floats are (cw_dataset_info.input); "": as the data set has it, or "image" */
    int train_limit;   /* samples in all; 0: all */
    int test_limit;
    int max_samples; /* server: the most training or test samples that one client may announce; 0: the run's limit, else
                        as many as the server's own data set has, else 10 million */
    /* how this process works; each role has its own */
    int threads; /* of the engine; 0: one per processor */
    int loader_threads;
    double timeout;      /* seconds without a word from a peer that owes one */
    double join_timeout; /* seconds to wait for clients to join (server) or for the server (client) */
    bool allow_plaintext;
    bool own_data;      /* client: the whole local data set is its shard */
    char data_dir[256]; /* where the data set lies on this machine; "": the usual places, or data's DIR */
    char recipe[512];   /* file with the recipe of texts or tables (data.h); "": the resumed run's, that of the weights,
                           or learned */
    char weights[512];  /* safetensors file to begin with, with the recipe beside it unless `recipe` names one; "": as
                           `init` says */
    char out[512];      /* run directory; "": none is written */
    bool overwrite;     /* a run that `out` holds is replaced; else it is refused. Holds once: no JSON keeps it */
    char resume[512];   /* folder of a run to go on with; "": none */
    int checkpoint_every; /* epochs; 0: no checkpoints at their ends */
    int checkpoint_steps; /* steps between checkpoints within an epoch; 0: none there */
    int eval_every;       /* epochs between evaluations, the last epoch always has one; 0: it alone */
} cw_config;

void cw_config_init(cw_config *config);

/* One key of the configuration, for --help, manifests and parsers. Static storage. */
typedef struct cw_config_option {
    const char *key;     /* "weight-decay" */
    const char *metavar; /* "X"; NULL for a switch */
    const char *help;
    const char *value; /* the default, as a string */
    bool shared;       /* the server's value holds for clients */
    bool client;       /* each client has its own; what is neither is of no use to a client */
} cw_config_option;
size_t cw_config_option_count(void);
const cw_config_option *cw_config_option_at(size_t i);

/* Sets one key from text ("lr", "0.1"; switches: NULL, "1" or "0"). CW_ERR_SPEC: unknown key, or a value that is
 * malformed or out of range; err says what is allowed. */
cw_status cw_config_set(cw_config *config, const char *key, const char *value, cw_error *err);
/* Checks what only makes sense together: model and cut exist for the data set's shape, codec specs parse. */
cw_status cw_config_check(const cw_config *config, cw_error *err);
/* Every key but `overwrite` as one JSON object (owned by the caller, cw_bytes_free after a cast), or with shared_only
 * those that travel. JSON is UTF-8: bytes of a path that are not become U+FFFD. */
cw_status cw_config_to_json(const cw_config *config, bool shared_only, char **json, cw_error *err);
/* Applies a JSON object of keys. Unknown keys are refused. CW_ERR_SPEC. */
cw_status cw_config_from_json(cw_config *config, const char *json, size_t size, cw_error *err);

/* A recipe by name: data, model, epochs, batch, rate, schedule, decay, augmentation. 0 <= i < cw_preset_count(). Static
 * storage. */
typedef struct cw_preset {
    const char *name;
    const char *summary;
    const char *settings; /* "KEY=VALUE KEY=VALUE ..." */
} cw_preset;
size_t cw_preset_count(void);
const cw_preset *cw_preset_at(size_t i);
/* Sets the keys that the preset names and leaves all others. CW_ERR_SPEC: unknown; err lists the known ones. */
cw_status cw_config_apply_preset(cw_config *config, const char *name, cw_error *err);

/* The configuration that the run in this folder was started with, from its checkpoint. CW_ERR_IO, CW_ERR_NOT_FOUND,
 * CW_ERR_CORRUPT. */
cw_status cw_config_from_run(cw_config *config, const char *folder, cw_error *err);
/* Whether the run in this folder is split: it goes on by cw_train_inproc or cw_serve, else by cw_train_unsplit, and is
 * refused by the others. Failures as above. */
cw_status cw_run_is_split(const char *folder, bool *split, cw_error *err);

/* ---- what a run tells ---- */

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

typedef enum cw_event_kind {
    CW_EVENT_LOG,   /* text: a sentence for the user */
    CW_EVENT_STEP,  /* epoch, step, steps, loss (running mean of the epoch) */
    CW_EVENT_EVAL,  /* epoch, step, steps: evaluation batches done */
    CW_EVENT_EPOCH, /* report */
} cw_event_kind;

typedef struct cw_event {
    cw_event_kind kind;
    const char *text;
    int epoch, epochs;
    size_t step, steps;
    double loss;
    const cw_epoch_report *report;
} cw_event;

/* How a run talks to its caller; zero-initialize for silence. */
typedef struct cw_hooks {
    void *ctx;
    void (*event)(void *ctx, const cw_event *event);
    volatile sig_atomic_t *stop; /* set to non-zero (by a signal handler): end cleanly at the next step */
} cw_hooks;

typedef struct cw_result {
    int epochs_done;
    bool stopped;         /* by hooks.stop */
    cw_epoch_report last; /* zero when no epoch was completed */
    double best_accuracy;
    cw_precision precision; /* what the run's came to: never CW_PRECISION_AUTO */
    char out[512];          /* where the run's files are; "": nowhere */
} cw_result;

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
                             engine's */
    const char *how;      /* of config.json's "mode"; NULL: "split" */
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
