/* cutwire/model.h - networks of one's own: layers one after the other, skips between them, and places to cut.
 *
 *     cw_model_builder *b;
 *     cw_model *model;
 *     cw_model_options options = {.sample = {.ndim = 3, .dim = {3, 32, 32}}, .classes = 10};
 *     cw_model_builder_create("mine", &options, &b, &err);
 *     cw_build_conv(b, "conv1", 32, 3, 1, 1, true);
 *     int skip = cw_build_activation(b, "relu1", NULL);
 *     cw_build_cut(b, 1, "shallow");
 *     cw_build_conv(b, "conv2", 32, 3, 1, 1, true);
 *     cw_build_add(b, "add", skip);
 *     cw_build_avgpool(b, "pool");
 *     cw_build_flatten(b, "flatten");
 *     cw_build_classifier(b, "fc");
 *     if (cw_model_build(&b, &model, &err) != CW_OK)
 *         puts(err.message);
 *
 * What comes out is a cw_model as cw_model_open gives it: cw_part_create takes it, cw_model_cut finds its cuts. The
 * models known by name are built by these same functions.
 *
 * A layer reads the output of the layer before it. Each function returns the number of the layer that it adds (0, 1,
 * 2, ...): by it cw_build_add and cw_build_from name the layer's output. Errors are remembered: after the first one
 * further calls do nothing and return CW_MODEL_INPUT, and cw_model_build tells it, with the layer's name. A NULL
 * builder counts as one that has failed. A builder belongs to one thread at a time.
 *
 * Shapes are of one sample: maps are C,H,W, vectors C. Names are layers' names in weight files ("layer1.0.conv1", its
 * weight is "layer1.0.conv1.weight"): letters, digits, '.', '_' and '-', 1 to 63 of them, each name once. With the
 * seed they decide the initial weights.
 */
#ifndef CUTWIRE_MODEL_H
#define CUTWIRE_MODEL_H

#include "cutwire/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cw_model_builder cw_model_builder;

/* name: as of layers, copied. options: as for cw_model_open; not kept. On failure *out is NULL. CW_ERR_SPEC (unknown
 * activation or input), CW_ERR_INVALID (name, sample, classes, NULL), CW_ERR_NO_MEMORY. */
cw_status cw_model_builder_create(const char *name, const cw_model_options *options, cw_model_builder **out,
                                  cw_error *err);
/* Of a builder that is not to be built. */
void cw_model_builder_destroy(cw_model_builder **builder);

/* Checks the whole and gives the model, which the caller closes. The builder is gone afterwards, *builder is NULL,
 * whether that worked or not; on failure *out is NULL. The last layer must be the classifier, every other one must be
 * read by a later one, and every cut must part the network: not within a skip, not between a layer and the activation
 * computed with it. CW_ERR_INVALID, CW_ERR_SPEC (an unknown activation), CW_ERR_NO_MEMORY: of the first call that
 * failed, or of these checks. */
cw_status cw_model_build(cw_model_builder **builder, cw_model **out, cw_error *err);

/* What the next layer would read: a layer's number (or CW_MODEL_INPUT), and its shape. */
int cw_build_last(const cw_model_builder *b);
cw_shape cw_build_shape(const cw_model_builder *b);

/* Makes a model of one's own known by a name, as the built-in ones are: to cw_model_open, and so to every role of
 * train.h (configuration key "model"), whose other ends must know it, too. `build` gets a new builder each time and
 * calls cw_build_*; strings of *known and ctx stay the caller's and must live as long as the program. Safe while other
 * threads open models. CW_ERR_INVALID: the name is taken or none, or there are 32 already. */
cw_status cw_model_register(const cw_model_known *known, void (*build)(cw_model_builder *b, void *ctx), void *ctx,
                            cw_error *err);

/* ---- layers ---- */

/* C,H,W -> channels,H',W'. kernel x kernel, H' = (H + 2 pad - kernel) / stride + 1. channels, kernel and stride
 * 1..65536, 0 <= pad < kernel. */
int cw_build_conv(cw_model_builder *b, const char *name, int channels, int kernel, int stride, int pad, bool bias);
/* C,1,L -> channels,1,L: a window of `kernel` (odd) over the last axis, without bias. */
int cw_build_conv_time(cw_model_builder *b, const char *name, int channels, int kernel);
/* Batch normalization of each channel; any shape. epsilon 1e-5, running statistics of momentum 0.1 (PyTorch's). */
int cw_build_batchnorm(cw_model_builder *b, const char *name);
/* Any shape. which: "relu", "leaky_relu", "gelu", "silu", "tanh"; NULL: the model's (cw_model_options). */
int cw_build_activation(cw_model_builder *b, const char *name, const char *which);
/* Maximum over windows; sides and ranges as of cw_build_conv. */
int cw_build_maxpool(cw_model_builder *b, const char *name, int kernel, int stride, int pad);
/* C,1,L -> C,1,1: the maximum over the last axis. */
int cw_build_max_time(cw_model_builder *b, const char *name);
/* C,H,W -> C,1,1: the mean over the map. */
int cw_build_avgpool(cw_model_builder *b, const char *name);
/* C,H,W -> C,height,width: each element is the nearest of the map's. height and width 1..65536. */
int cw_build_resize(cw_model_builder *b, const char *name, int height, int width);
/* The output of `skip` plus what comes, both of one shape. skip: a layer's number, or CW_MODEL_INPUT. */
int cw_build_add(cw_model_builder *b, const char *name, int skip);
/* C,H,W -> CHW, row-major. */
int cw_build_flatten(cw_model_builder *b, const char *name);
/* C -> features, with bias. features 1..1048576. */
int cw_build_linear(cw_model_builder *b, const char *name, int features);
/* C -> options.classes, with bias: the logits. The last layer. */
int cw_build_classifier(cw_model_builder *b, const char *name);
/* Of vectors, while training. 0 <= rate < 1. */
int cw_build_dropout(cw_model_builder *b, const char *name, float rate);
/* The model's input, when that is texts ("tokens:V": L -> dim,1,L) or tables ("table:N/C1/...": the N numbers, then
 * dim for each category). dim 1..65536. */
int cw_build_embedding(cw_model_builder *b, const char *name, int dim);

/* Not layers: what the next layer reads, instead of the last one's output (a layer's number, or CW_MODEL_INPUT); and
 * how linear layers to come begin: normal of this deviation, 0: by their number of inputs (Kaiming). */
void cw_build_from(cw_model_builder *b, int layer);
void cw_build_linear_deviation(cw_model_builder *b, float deviation);

/* Here, behind the last layer, the network may be cut. number: 1 or more, growing from cut to cut. alias: NULL, or a
 * second name ("shallow"): 1 to 23 characters as in layers' names, the first one a letter, each once. */
void cw_build_cut(cw_model_builder *b, int number, const char *alias);

#ifdef __cplusplus
}
#endif
#endif
