/* onednn.c - statuses, memory descriptors and attributes. */
#include <string.h>

#include "nn/onednn.h"

static const char *status_text(dnnl_status_t status)
{
    switch (status) {
    case dnnl_out_of_memory:
        return "out of memory";
    case dnnl_invalid_arguments:
        return "invalid arguments";
    case dnnl_unimplemented:
        return "not implemented for these shapes on this CPU";
    case dnnl_runtime_error:
        return "runtime error";
    default:
        return "failed";
    }
}

cw_status cwi_dnnl_fail(cw_error *err, dnnl_status_t status, const char *call)
{
    cw_status mapped = status == dnnl_out_of_memory ? CW_ERR_NO_MEMORY : CW_ERR_BACKEND;
    return cwi_fail(err, mapped, "oneDNN: %.*s: %s", (int)strcspn(call, "("), call, status_text(status));
}

static int dims_of(const cw_shape *shape, size_t n, dnnl_dims_t dims)
{
    int count = 0;
    if (n)
        dims[count++] = (int64_t)n;
    for (int i = 0; i < shape->ndim; i++)
        dims[count++] = shape->dim[i];
    return count;
}

cwi_md cwi_md_plain(const cw_shape *shape, size_t n, dnnl_data_type_t type)
{
    dnnl_dims_t dims, strides;
    int count = dims_of(shape, n, dims);
    int64_t stride = 1;
    for (int i = count - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= dims[i];
    }
    cwi_md md;
    memset(&md, 0, sizeof md);
    (void)dnnl_memory_desc_init_by_strides(&md, count, dims, type, strides);
    return md;
}

cwi_md cwi_md_any(const cw_shape *shape, size_t n, dnnl_data_type_t type)
{
    dnnl_dims_t dims;
    int count = dims_of(shape, n, dims);
    cwi_md md;
    memset(&md, 0, sizeof md);
    (void)dnnl_memory_desc_init_by_tag(&md, count, dims, type, dnnl_format_tag_any);
    return md;
}

bool cwi_md_equal(const cwi_md *a, const cwi_md *b)
{
    return dnnl_memory_desc_equal(a, b) != 0;
}

bool cwi_md_empty(const cwi_md *md)
{
    return md->ndims == 0;
}

size_t cwi_md_bytes(const cwi_md *md)
{
    return dnnl_memory_desc_get_size(md);
}

bool cwi_md_is_matrix(const cwi_md *md)
{
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    if (md->format_kind != dnnl_blocked || md->ndims != 4 || md->dims[2] != 1 || md->dims[3] != 1)
        return false;
    bool by_channel = b->inner_nblks == 0 || (b->inner_nblks == 1 && b->inner_idxs[0] == 1);
    return by_channel && md->padded_dims[1] == md->dims[1] && b->strides[0] == md->dims[1] && md->offset0 == 0;
}

cwi_md cwi_pd_md(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index)
{
    const cwi_md *md = dnnl_primitive_desc_query_md(pd, what, index);
    cwi_md none;
    memset(&none, 0, sizeof none);
    return md ? *md : none;
}

static cw_status add_post_op(dnnl_primitive_attr_t attr, dnnl_alg_kind_t activation, float alpha, cw_error *err)
{
    dnnl_post_ops_t ops;
    CWI_DNNL(dnnl_post_ops_create(&ops), err);
    dnnl_status_t status = dnnl_post_ops_append_eltwise(ops, 1.0f, activation, alpha, 0.0f);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
    return status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_post_ops_append_eltwise");
}

cw_status cwi_attr_create(dnnl_alg_kind_t activation, float alpha, dnnl_primitive_attr_t *out, cw_error *err)
{
    CWI_DNNL(dnnl_primitive_attr_create(out), err);
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    cw_status s =
        status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_primitive_attr_set_scratchpad_mode");
    if (s == CW_OK && activation != dnnl_alg_kind_undef)
        s = add_post_op(*out, activation, alpha, err);
    if (s != CW_OK)
        dnnl_primitive_attr_destroy(*out);
    return s;
}
