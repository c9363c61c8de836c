/* onednn.h - oneDNN 2.x as this module uses it. Internal.
 *
 * Descriptions of memories and operations are made in onednn.c alone: layers say what they want by plain structs, and
 * get a cwi_pd, an implementation that oneDNN chose. Running primitives is program.c's, and param.c's for weights.
 */
#ifndef CWI_ONEDNN_H
#define CWI_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

#include "base/base.h"
#include "cutwire/nn.h"

/* CW_ERR_BACKEND (or CW_ERR_NO_MEMORY) saying which call failed and how. */
cw_status cwi_dnnl_fail(cw_error *err, dnnl_status_t status, const char *call);

/* Returns early when a oneDNN call fails. */
#define CWI_DNNL(call, err)                                                                                            \
    do {                                                                                                               \
        dnnl_status_t cwi_dnnl_status = (call);                                                                        \
        if (cwi_dnnl_status != dnnl_success)                                                                           \
            return cwi_dnnl_fail((err), cwi_dnnl_status, #call);                                                       \
    } while (0)

typedef dnnl_memory_desc_t cwi_md;

/* Row-major. `shape` with a batch of n before it, unless n is 0. */
cwi_md cwi_md_plain(const cw_shape *shape, size_t n, dnnl_data_type_t type);
/* The same, layout left to oneDNN. */
cwi_md cwi_md_any(const cw_shape *shape, size_t n, dnnl_data_type_t type);
bool cwi_md_equal(const cwi_md *a, const cwi_md *b);
bool cwi_md_empty(const cwi_md *md);
size_t cwi_md_bytes(const cwi_md *md);
/* True when the elements of an n x c x 1 x 1 map lie in memory as those of an n x c matrix do. */
bool cwi_md_is_matrix(const cwi_md *md);
/* A map whose channels lie together (n,h,w,c), of fp32. */
cwi_md cwi_md_channels_last(const cw_shape *shape, size_t n);

/* ---- operations ---- */

/* An operation with the implementation chosen for it; freed by cwi_pd_destroy. */
typedef dnnl_primitive_desc_t cwi_pd;

void cwi_pd_destroy(cwi_pd pd); /* NULL allowed */
cwi_md cwi_pd_md(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index);
/* True for oneDNN's plain loops and for those that unfold into one big matrix. */
bool cwi_pd_is_slow(const_dnnl_primitive_desc_t pd);

typedef enum cwi_way { CWI_FORWARD, CWI_BACK_TO_INPUT, CWI_BACK_TO_WEIGHTS } cwi_way;

/* An elementwise function and its parameter; dnnl_alg_kind_undef: none. */
typedef struct cwi_eltwise {
    dnnl_alg_kind_t algorithm;
    float alpha;
} cwi_eltwise;

/* Layouts of format "any" are left to oneDNN; an empty bias is none. The same for fully connected layers, which have
 * neither strides nor pad. */
typedef struct cwi_conv {
    cwi_md src, weights, bias, dst;
    dnnl_dims_t strides, pad; /* of height and width */
} cwi_conv;

typedef struct cwi_batchnorm {
    cwi_md md;
    float epsilon;
    bool train, relu; /* with the ReLU after it */
    bool given;       /* statistics, also while training */
} cwi_batchnorm;

typedef struct cwi_pool {
    cwi_md src, dst;
    bool maximum, train; /* else the mean, of what lies within the map */
    dnnl_dims_t window, strides, pad;
} cwi_pool;

/* Ways back need `forward`, the operation's own way forward. All take the caller's scratchpad. `post` is computed
 * behind the operation; NULL: nothing. CW_ERR_BACKEND, CW_ERR_NO_MEMORY; *out is NULL then. */
cw_status cwi_pd_conv(dnnl_engine_t engine, cwi_way way, const cwi_conv *c, const cwi_eltwise *post, cwi_pd forward,
                      cwi_pd *out, cw_error *err);
cw_status cwi_pd_linear(dnnl_engine_t engine, cwi_way way, const cwi_conv *c, const cwi_eltwise *post, cwi_pd forward,
                        cwi_pd *out, cw_error *err);
cw_status cwi_pd_batchnorm(dnnl_engine_t engine, cwi_way way, const cwi_batchnorm *b, cwi_pd forward, cwi_pd *out,
                           cw_error *err);
/* To dst's height and width, each element the nearest of src. */
cw_status cwi_pd_resize(dnnl_engine_t engine, cwi_way way, const cwi_pool *c, cwi_pd forward, cwi_pd *out,
                        cw_error *err);
cw_status cwi_pd_pool(dnnl_engine_t engine, cwi_way way, const cwi_pool *c, cwi_pd forward, cwi_pd *out, cw_error *err);
/* The way back of one that looks at the output needs no `forward`. */
cw_status cwi_pd_eltwise(dnnl_engine_t engine, cwi_way way, const cwi_eltwise *e, const cwi_md *md, cwi_pd forward,
                         cwi_pd *out, cw_error *err);
cw_status cwi_pd_add(dnnl_engine_t engine, const cwi_md *a, const cwi_md *b, const cwi_md *to, const cwi_eltwise *post,
                     cwi_pd *out, cw_error *err);
cw_status cwi_pd_reorder(dnnl_engine_t engine, const cwi_md *from, const cwi_md *to, cwi_pd *out, cw_error *err);
/* A reorder to be run by itself: its scratchpad is its own. */
cw_status cwi_reorder_create(dnnl_engine_t engine, const cwi_md *from, const cwi_md *to, dnnl_primitive_t *out,
                             cw_error *err);

#endif
