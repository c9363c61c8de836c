/* config.h - what a configuration is inside: plain data, one field for each key of the table in config.c. Internal. */
#ifndef CWI_CONFIG_H
#define CWI_CONFIG_H

#include "cutwire/config.h"

struct cw_config {
    /* what is trained; the server decides, clients are told */
    char data[256]; /* NAME[:DIR] */
    char model[64];
    char activation[32];
    char init[16];
    char precision[8];     /* "fp32", "bf16", or "auto": decided by the machine of the server or of the unsplit run */
    char cut[32];          /* number or alias */
    char bottleneck[48];   /* C[:K[/S]][@CUT], of the model at the cut; "": none */
    bool freeze;           /* nothing else learns */
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
    double clip_norm; /* server: of each client's gradients; 0: none */
    char screen[8];   /* server: "off", "warn", "drop": clients whose losses and gradients are far from the others' */
    char average[16]; /* server: "mean", "trimmed", "median" */
    /* how this process works; each role has its own */
    int threads; /* of the engine; 0: one per processor */
    int loader_threads;
    double timeout;       /* seconds without a word from a peer that owes one */
    double join_timeout;  /* seconds to wait for clients to join (server) or for the server (client); 0: for ever */
    double grace;         /* server: seconds for which a place is held whose connection broke */
    double step_deadline; /* server: a step goes on without clients that are so many seconds late; 0: it never does */
    int quorum;           /* server: clients that it wants at least */
    double reconnect;     /* client: seconds to wait for a server out of reach, or that begins anew; 0: none */
    char identity[256];   /* client: file with its token; "": a new one each time */
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
};

/* Every key at its default. Nothing is owned: copy freely. */
void cwi_config_init(cw_config *config);

#endif
