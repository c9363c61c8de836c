/* onednn.c - statuses, descriptions of memories, and of operations with their attributes. */
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

cwi_md cwi_md_channels_last(const cw_shape *shape, size_t n)
{
    dnnl_dims_t dims;
    int count = dims_of(shape, n, dims);
    cwi_md md;
    memset(&md, 0, sizeof md);
    (void)dnnl_memory_desc_init_by_tag(&md, count, dims, dnnl_f32, dnnl_nhwc);
    return md;
}

/* ---- operations ---- */

void cwi_pd_destroy(cwi_pd pd)
{
    if (pd)
        (void)dnnl_primitive_desc_destroy(pd);
}

bool cwi_pd_is_slow(const_dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) != dnnl_success || !name)
        return false;
    return strncmp(name, "ref", 3) == 0 || strncmp(name, "gemm:", 5) == 0 || strncmp(name, "simple", 6) == 0;
}

cwi_md cwi_pd_md(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index)
{
    const cwi_md *md = dnnl_primitive_desc_query_md(pd, what, index);
    cwi_md none;
    memset(&none, 0, sizeof none);
    return md ? *md : none;
}

static cw_status add_post_op(dnnl_primitive_attr_t attr, const cwi_eltwise *post, cw_error *err)
{
    dnnl_post_ops_t ops;
    CWI_DNNL(dnnl_post_ops_create(&ops), err);
    dnnl_status_t status = dnnl_post_ops_append_eltwise(ops, 1.0f, post->algorithm, post->alpha, 0.0f);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
    return status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_post_ops_append_eltwise");
}

/* With the caller's scratchpad, and `post` behind the operation. */
static cw_status create_attr(const cwi_eltwise *post, dnnl_primitive_attr_t *out, cw_error *err)
{
    CWI_DNNL(dnnl_primitive_attr_create(out), err);
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    cw_status s =
        status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_primitive_attr_set_scratchpad_mode");
    if (s == CW_OK && post && post->algorithm != dnnl_alg_kind_undef)
        s = add_post_op(*out, post, err);
    if (s != CW_OK)
        dnnl_primitive_attr_destroy(*out);
    return s;
}

/* From any of the dnnl_*_desc_t. */
static cw_status create_pd(dnnl_engine_t engine, const void *desc, const cwi_eltwise *post, cwi_pd forward, cwi_pd *out,
                           cw_error *err)
{
    dnnl_primitive_attr_t attr;
    *out = NULL;
    CWI_TRY(create_attr(post, &attr, err));
    dnnl_status_t status = dnnl_primitive_desc_create(out, desc, attr, engine, forward);
    dnnl_primitive_attr_destroy(attr);
    return status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_primitive_desc_create");
}

static const cwi_md *bias_of(const cwi_conv *c)
{
    return cwi_md_empty(&c->bias) ? NULL : &c->bias;
}

static dnnl_status_t init_conv(dnnl_convolution_desc_t *desc, cwi_way way, const cwi_conv *c)
{
    const dnnl_alg_kind_t direct = dnnl_convolution_direct;
    if (way == CWI_FORWARD)
        return dnnl_convolution_forward_desc_init(desc, dnnl_forward_training, direct, &c->src, &c->weights, bias_of(c),
                                                  &c->dst, c->strides, c->pad, c->pad);
    if (way == CWI_BACK_TO_WEIGHTS)
        return dnnl_convolution_backward_weights_desc_init(desc, direct, &c->src, &c->weights, bias_of(c), &c->dst,
                                                           c->strides, c->pad, c->pad);
    return dnnl_convolution_backward_data_desc_init(desc, direct, &c->src, &c->weights, &c->dst, c->strides, c->pad,
                                                    c->pad);
}

cw_status cwi_pd_conv(dnnl_engine_t engine, cwi_way way, const cwi_conv *c, const cwi_eltwise *post, cwi_pd forward,
                      cwi_pd *out, cw_error *err)
{
    dnnl_convolution_desc_t desc;
    *out = NULL;
    CWI_DNNL(init_conv(&desc, way, c), err);
    return create_pd(engine, &desc, post, forward, out, err);
}

static dnnl_status_t init_linear(dnnl_inner_product_desc_t *desc, cwi_way way, const cwi_conv *c)
{
    if (way == CWI_FORWARD)
        return dnnl_inner_product_forward_desc_init(desc, dnnl_forward_training, &c->src, &c->weights, bias_of(c),
                                                    &c->dst);
    if (way == CWI_BACK_TO_WEIGHTS)
        return dnnl_inner_product_backward_weights_desc_init(desc, &c->src, &c->weights, bias_of(c), &c->dst);
    return dnnl_inner_product_backward_data_desc_init(desc, &c->src, &c->weights, &c->dst);
}

cw_status cwi_pd_linear(dnnl_engine_t engine, cwi_way way, const cwi_conv *c, const cwi_eltwise *post, cwi_pd forward,
                        cwi_pd *out, cw_error *err)
{
    dnnl_inner_product_desc_t desc;
    *out = NULL;
    CWI_DNNL(init_linear(&desc, way, c), err);
    return create_pd(engine, &desc, post, forward, out, err);
}

static dnnl_prop_kind_t forward_kind(bool train)
{
    return train ? dnnl_forward_training : dnnl_forward_inference;
}

cw_status cwi_pd_batchnorm(dnnl_engine_t engine, cwi_way way, const cwi_batchnorm *b, cwi_pd forward, cwi_pd *out,
                           cw_error *err)
{
    dnnl_batch_normalization_desc_t desc;
    const unsigned flags = (unsigned)dnnl_use_scale | (unsigned)dnnl_use_shift |
                           (b->train && !b->given ? 0u : (unsigned)dnnl_use_global_stats) |
                           (b->relu ? (unsigned)dnnl_fuse_norm_relu : 0u);
    *out = NULL;
    if (way == CWI_FORWARD)
        CWI_DNNL(dnnl_batch_normalization_forward_desc_init(&desc, forward_kind(b->train), &b->md, b->epsilon, flags),
                 err);
    else
        CWI_DNNL(dnnl_batch_normalization_backward_desc_init(&desc, dnnl_backward, &b->md, &b->md, b->epsilon, flags),
                 err);
    return create_pd(engine, &desc, NULL, forward, out, err);
}

cw_status cwi_pd_resize(dnnl_engine_t engine, cwi_way way, const cwi_pool *c, cwi_pd forward, cwi_pd *out,
                        cw_error *err)
{
    dnnl_resampling_desc_t desc;
    *out = NULL;
    if (way == CWI_FORWARD)
        CWI_DNNL(dnnl_resampling_forward_desc_init(&desc, forward_kind(c->train), dnnl_resampling_nearest, NULL,
                                                   &c->src, &c->dst),
                 err);
    else
        CWI_DNNL(dnnl_resampling_backward_desc_init(&desc, dnnl_resampling_nearest, NULL, &c->src, &c->dst), err);
    return create_pd(engine, &desc, NULL, forward, out, err);
}

cw_status cwi_pd_pool(dnnl_engine_t engine, cwi_way way, const cwi_pool *c, cwi_pd forward, cwi_pd *out, cw_error *err)
{
    const dnnl_alg_kind_t algorithm = c->maximum ? dnnl_pooling_max : dnnl_pooling_avg_exclude_padding;
    dnnl_pooling_desc_t desc;
    *out = NULL;
    if (way == CWI_FORWARD)
        CWI_DNNL(dnnl_pooling_forward_desc_init(&desc, forward_kind(c->train), algorithm, &c->src, &c->dst, c->strides,
                                                c->window, c->pad, c->pad),
                 err);
    else
        CWI_DNNL(
            dnnl_pooling_backward_desc_init(&desc, algorithm, &c->src, &c->dst, c->strides, c->window, c->pad, c->pad),
            err);
    return create_pd(engine, &desc, NULL, forward, out, err);
}

cw_status cwi_pd_eltwise(dnnl_engine_t engine, cwi_way way, const cwi_eltwise *e, const cwi_md *md, cwi_pd forward,
                         cwi_pd *out, cw_error *err)
{
    dnnl_eltwise_desc_t desc;
    *out = NULL;
    if (way == CWI_FORWARD)
        CWI_DNNL(dnnl_eltwise_forward_desc_init(&desc, dnnl_forward_training, e->algorithm, md, e->alpha, 0.0f), err);
    else
        CWI_DNNL(dnnl_eltwise_backward_desc_init(&desc, e->algorithm, md, md, e->alpha, 0.0f), err);
    return create_pd(engine, &desc, NULL, forward, out, err);
}

cw_status cwi_pd_add(dnnl_engine_t engine, const cwi_md *a, const cwi_md *b, const cwi_md *to, const cwi_eltwise *post,
                     cwi_pd *out, cw_error *err)
{
    dnnl_binary_desc_t desc;
    *out = NULL;
    CWI_DNNL(dnnl_binary_desc_init(&desc, dnnl_binary_add, a, b, to), err);
    return create_pd(engine, &desc, post, NULL, out, err);
}

cw_status cwi_pd_reorder(dnnl_engine_t engine, const cwi_md *from, const cwi_md *to, cwi_pd *out, cw_error *err)
{
    dnnl_primitive_attr_t attr;
    *out = NULL;
    CWI_TRY(create_attr(NULL, &attr, err));
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, attr);
    dnnl_primitive_attr_destroy(attr);
    return status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_reorder_primitive_desc_create");
}

cw_status cwi_reorder_create(dnnl_engine_t engine, const cwi_md *from, const cwi_md *to, dnnl_primitive_t *out,
                             cw_error *err)
{
    cwi_pd pd;
    CWI_DNNL(dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL), err);
    dnnl_status_t status = dnnl_primitive_create(out, pd);
    cwi_pd_destroy(pd);
    return status == dnnl_success ? CW_OK : cwi_dnnl_fail(err, status, "dnnl_primitive_create (reorder)");
}
