/* graph.h - what a model is: layers in order, each fed by an earlier one, and the places where it may be cut. Internal.
 *
 * Layer i reads the output of layer `from` (usually i - 1; CW_MODEL_INPUT is the model's input) and, when it is an
 * addition, also that of `skip`. That is enough of a graph for residual networks.
 */
#ifndef CWI_GRAPH_H
#define CWI_GRAPH_H

#include <stdatomic.h>

#include "base/base.h"
#include "cutwire/model.h"
#include "cutwire/nn.h"

enum { CWI_NAME_MAX = 64, CWI_ALIAS_MAX = 24 };

typedef enum cwi_layer_kind {
    CWI_CONV,
    CWI_BATCHNORM,
    CWI_ACTIVATION,
    CWI_MAXPOOL,
    CWI_AVGPOOL, /* over the whole map */
    CWI_ADD,
    CWI_FLATTEN,
    CWI_LINEAR,
    CWI_DROPOUT,
    CWI_EMBED,
    CWI_RESIZE, /* to another height and width, by nearest neighbour */
    CWI_LAYER_KINDS
} cwi_layer_kind;

typedef enum cwi_activation { CWI_RELU, CWI_LEAKY_RELU, CWI_GELU, CWI_SILU, CWI_TANH, CWI_ACTIVATIONS } cwi_activation;

/* What a sample's floats are (cw_model_options.input). */
enum { CWI_MAX_FIELDS = 64 };

typedef struct cwi_input {
    enum { CWI_IMAGE, CWI_TOKENS, CWI_TABLE } kind;
    int32_t vocabulary;             /* tokens */
    int numeric, field_count;       /* tables: plain numbers, then categories */
    int32_t fields[CWI_MAX_FIELDS]; /* how many values each category has */
} cwi_input;

cw_status cwi_input_parse(const char *text, cwi_input *out, cw_error *err);
const char *cwi_input_name(const cwi_input *input); /* for sentences: "image", "tokens", "table" */

typedef struct cwi_layer {
    cwi_layer_kind kind;
    char name[CWI_NAME_MAX]; /* "features.0"; its parameters are name.weight, ... */
    int from;
    int skip; /* CWI_ADD; of others CW_NO_LAYER */
    cw_shape in, out;
    int kernel, stride, pad; /* convolution and pooling, square; the width of an embedding's rows */
    bool time;               /* the window is 1 x kernel, over maps of height 1 */
    int64_t rows;            /* of an embedding */
    bool bias;
    cwi_activation activation;
    float rate;      /* dropout */
    bool output;     /* linear: its output is the logits */
    float deviation; /* of the initial weights; 0: by their number (init.c) */
    bool inserted;   /* of a bottleneck: files of weights may lack it */
    bool frozen;     /* learns nothing; batch norm takes its running statistics also while training */
} cwi_layer;

typedef struct cwi_cut_point {
    int number;
    size_t layer;
    char alias[CWI_ALIAS_MAX]; /* "": none */
} cwi_cut_point;

struct cw_model {
    atomic_int references; /* the opener's and one of each part */
    char name[CWI_NAME_MAX];
    cw_model_options options; /* `activation` is a static string */
    cwi_activation activation;
    cwi_input input;
    cwi_layer *layers;
    size_t layer_count, layer_capacity;
    cwi_cut_point *cuts;
    size_t cut_count, cut_capacity;
    size_t learns_from; /* the first layer that is not frozen */
};

cw_model *cwi_model_retain(const cw_model *model);

const char *cwi_activation_name(cwi_activation a);
/* CW_ERR_SPEC: err lists the known ones. */
cw_status cwi_activation_parse(const char *name, cwi_activation *out, cw_error *err);
const char *cwi_layer_kind_name(const cwi_layer *layer);

/* True when layers [0, at) and [at, ...) are joined by the output of layer at - 1 alone. */
bool cwi_model_separable(const cw_model *model, size_t at);
/* How many layers read the output of layer i. */
int cwi_model_readers(const cw_model *model, int i);

/* ---- building (cutwire/model.h; each model_*.c) ---- */

/* Appends to a model, remembering the first failure: later calls then do nothing. */
struct cw_model_builder {
    cw_model *model;
    int last;               /* the layer whose output the next one reads */
    float linear_deviation; /* of linear layers to come, 0: by their number */
    char bottleneck[64];    /* as of cw_model_options; "": none */
    bool freeze;
    cw_status status;
    cw_error error;
};

/* NULL has failed, too. */
bool cwi_build_failed(const cw_model_builder *b);
/* Records the failure, "model NAME: " before it. */
void cwi_build_fail(cw_model_builder *b, cw_status status, const char *fmt, ...) CWI_PRINTF(3, 4);
/* 1 to `longest` letters, digits, dots, hyphens and underscores. */
bool cwi_name_valid(const char *name, size_t longest);

/* One way to build a model; `build` refuses samples it cannot take. */
typedef struct cwi_model_family {
    cw_model_known known;
    void (*build)(cw_model_builder *b); /* NULL: of a program's own, and what follows here is, too */
} cwi_model_family;

typedef struct cwi_own_family {
    cwi_model_family family; /* first */
    void (*build)(cw_model_builder *b, void *ctx);
    void *ctx;
} cwi_own_family;

/* What cw_model_open does with a family it knows; *out was NULLed. Tests build families of their own. */
cw_status cwi_model_build(const cwi_model_family *family, const cw_model_options *options, cw_model **out,
                          cw_error *err);

void cwi_build_cnn(cw_model_builder *b);
void cwi_build_vgg19(cw_model_builder *b);
void cwi_build_resnet18(cw_model_builder *b);
void cwi_build_resnet34(cw_model_builder *b);
void cwi_build_resnet20(cw_model_builder *b);
void cwi_build_resnet56(cw_model_builder *b);
void cwi_build_resnet110(cw_model_builder *b);
void cwi_build_resnet9(cw_model_builder *b);
void cwi_build_resnet9s(cw_model_builder *b);
void cwi_build_textcnn(cw_model_builder *b);
void cwi_build_mlp(cw_model_builder *b);

/* Puts the builder's bottleneck in, where it has one (bottleneck.c). */
void cwi_build_bottleneck(cw_model_builder *b);

/* For builders: fails with CW_ERR_INVALID unless the sample is C,H,W with sides of at least `side`. */
bool cwi_build_needs_image(cw_model_builder *b, int64_t side);

#endif
