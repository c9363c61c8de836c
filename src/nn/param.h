/* param.h - a part's parameters: one home each, copies in the layouts that primitives want. Internal.
 *
 * The master value and its gradient are fp32 in the home layout: the one in which the largest training program writes
 * the gradient, so that the optimizer and the summing of gradients are elementwise and need no reorder. Blocked layouts
 * may be padded; the padding is zero and stays so. Copies in other layouts (or types) are made at most once per update.
 */
#ifndef CWI_PARAM_H
#define CWI_PARAM_H

#include "nn/graph.h"
#include "nn/onednn.h"

typedef enum cwi_role { CWI_WEIGHT, CWI_BIAS, CWI_RUNNING_MEAN, CWI_RUNNING_VAR, CWI_ROLES } cwi_role;

/* Sums of gradients, one within the other: of a client's micro-batches, and of clients. */

typedef struct cwi_param cwi_param;

/* The parameter in the layout `md`: what a primitive reads. */
typedef struct cwi_copy {
    struct cwi_copy *next;
    cwi_param *param;
    cwi_md md;
    void *data;       /* the home itself when the layouts agree */
    uint64_t version; /* of the parameter, when last refreshed */
    dnnl_primitive_t reorder;
    dnnl_memory_t from, to;
} cwi_copy;

struct cwi_param {
    char name[CWI_NAME_MAX + 16];
    cw_shape shape; /* canonical */
    size_t count;
    bool trainable;
    const cwi_layer *layer;
    cwi_role role;
    cwi_md home;   /* empty until settled */
    size_t stored; /* floats in the home layout, padding included */
    void *value, *grad;
    float *sum;       /* NULL: never asked for */
    uint64_t version; /* grows whenever the value changes */
    cwi_copy *copies;
    dnnl_primitive_t to_plain, from_plain; /* NULL when the home is canonical */
    dnnl_memory_t home_mem, plain_mem;
};

typedef struct cwi_params {
    cwi_param *items;
    size_t count;
    size_t trainable_size, buffer_size; /* scalars */
    bool gradients;                     /* kept at all */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} cwi_params;

/* The parameters of layers [first, last), without memory yet. */
cw_status cwi_params_create(cwi_params *set, const cw_model *model, size_t first, size_t last, bool gradients,
                            dnnl_engine_t engine, dnnl_stream_t stream, cw_error *err);
void cwi_params_destroy(cwi_params *set);

/* NULL when the layer has none of that role in this part. */
cwi_param *cwi_params_find(cwi_params *set, const cwi_layer *layer, cwi_role role);
/* Asks for the parameter in this layout; the copy's data is there after the next cwi_params_settle. */
cw_status cwi_param_use(cwi_param *param, const cwi_md *md, cwi_copy **out, cw_error *err);
/* Gives homes (canonical unless one was proposed), memory and reorders to all that lack them. */
cw_status cwi_params_settle(cwi_params *set, cw_error *err);
/* Brings a copy up to date. */
cw_status cwi_copy_refresh(cwi_copy *copy, dnnl_stream_t stream, cw_error *err);

/* From (seed, parameter name); canonical order, so that layouts do not matter. */
cw_status cwi_params_init(cwi_params *set, uint64_t seed, cw_init init, cw_error *err);

/* One parameter's value or gradient, from or to canonical order. */
void cwi_param_export(const cwi_params *set, const cwi_param *param, const void *home, float *plain);
void cwi_param_import(const cwi_params *set, const cwi_param *param, const float *plain, void *home);

#endif
