/* onednn.h - oneDNN 2.x as this module uses it: statuses into errors, a few shorthands. Internal. */
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
cwi_md cwi_pd_md(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index);

/* Attributes with the caller's scratchpad and, unless `activation` is dnnl_alg_kind_undef, that eltwise as post-op. */
cw_status cwi_attr_create(dnnl_alg_kind_t activation, float alpha, dnnl_primitive_attr_t *out, cw_error *err);

#endif
