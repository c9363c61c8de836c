/* cli_model.h - the network that a command is about, as its options describe it; what they leave open is assumed. */
#ifndef CLI_MODEL_H
#define CLI_MODEL_H

#include "cli.h"

typedef struct cli_model {
    const char *name;
    const char *sample, *input, *activation; /* NULL: not given */
    int classes;                             /* negative: not given */
    cw_shape shape;                          /* what `sample` says, once the model is open */
    char assumed[160];                       /* the options that were not given, with the values they got; or "" */
    char text[2][32];                        /* where assumed values lie that are not constants */
} cli_model;

#define CLI_MODEL_OPTIONS(m)                                                                                           \
    {"sample", "SHAPE", "shape of one input: CxHxW, L words, D columns [of the network's usual data: see below]",      \
     CLI_STRING, &(m)->sample},                                                                                        \
        {"input", "KIND", "what its numbers are: image, tokens:V, table:N/C1/... [likewise]", CLI_STRING,              \
         &(m)->input},                                                                                                 \
        {"classes", "N", "number of labels [likewise]", CLI_INT, &(m)->classes},                                       \
    {                                                                                                                  \
        "activation", "NAME", "relu, leaky_relu, gelu, silu, tanh [relu]", CLI_STRING, &(m)->activation                \
    }

/* For the summary. */
#define CLI_MODEL_ASSUMED                                                                                              \
    "Where neither a sample's shape nor its kind is given, images are as CIFAR-10's (3x32x32, 10 classes), textcnn\n"  \
    "gets texts as AG News' (64 words, tokens:20002, 4 classes) and mlp tables as Adult's (14 columns,\n"              \
    "table:6/10/17/8/16/7/6/3/43, 2 classes); the output says what was assumed."

/* Opens model m->name with the options, having filled in those that were not given. CLI_GO_ON, or the exit code after
 * the error has been printed. */
int cli_model_open(const char *command, cli_model *m, cw_model **out);

#endif
