/* tensor.c - dtypes, shapes, and tensors as views or owners of their elements. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/tensor.h"

size_t cw_dtype_size(cw_dtype dtype)
{
    switch (dtype) {
    case CW_F32:
    case CW_I32:
        return 4;
    case CW_BF16:
    case CW_F16:
        return 2;
    case CW_U8:
        return 1;
    case CW_I64:
        return 8;
    }
    return 0;
}

const char *cw_dtype_name(cw_dtype dtype)
{
    switch (dtype) {
    case CW_F32:
        return "f32";
    case CW_BF16:
        return "bf16";
    case CW_F16:
        return "f16";
    case CW_U8:
        return "u8";
    case CW_I32:
        return "i32";
    case CW_I64:
        return "i64";
    }
    return "?";
}

cw_shape cw_shape_of(int ndim, const int64_t *dims)
{
    cw_shape s = {.ndim = ndim}; /* an impossible ndim is kept, so that cw_shape_count reports it */
    for (int i = 0; i < ndim && i < CW_MAX_DIMS; i++)
        s.dim[i] = dims[i];
    return s;
}

bool cw_shape_equal(const cw_shape *a, const cw_shape *b)
{
    if (a->ndim != b->ndim)
        return false;
    for (int i = 0; i < a->ndim && i < CW_MAX_DIMS; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

cw_status cw_shape_count(const cw_shape *shape, size_t *count)
{
    *count = 0;
    if (shape->ndim < 0 || shape->ndim > CW_MAX_DIMS)
        return CW_ERR_INVALID;
    int64_t bytes = 8; /* zero dimensions count as 1 here: no order of dimensions hides an overflow */
    bool empty = false;
    for (int i = 0; i < shape->ndim; i++) {
        int64_t dim = shape->dim[i];
        if (dim < 0 || __builtin_mul_overflow(bytes, dim ? dim : 1, &bytes))
            return CW_ERR_INVALID;
        empty |= dim == 0;
    }
#if SIZE_MAX < INT64_MAX
    if ((uint64_t)bytes > SIZE_MAX)
        return CW_ERR_INVALID;
#endif
    *count = empty ? 0 : (size_t)(bytes / 8);
    return CW_OK;
}

char *cw_shape_format(const cw_shape *shape, char *buf, size_t size)
{
    if (size == 0)
        return buf;
    buf[0] = '\0';
    if (shape->ndim == 0)
        snprintf(buf, size, "scalar");
    size_t used = 0;
    for (int i = 0; i < shape->ndim && i < CW_MAX_DIMS && used < size; i++) {
        int n = snprintf(buf + used, size - used, "%s%lld", i ? "x" : "", (long long)shape->dim[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return buf;
}

cw_tensor cw_tensor_view(cw_dtype dtype, const cw_shape *shape, void *data)
{
    return (cw_tensor){.dtype = dtype, .shape = *shape, .data = data, .owned = false};
}

cw_status cw_tensor_alloc(cw_tensor *out, cw_dtype dtype, const cw_shape *shape)
{
    memset(out, 0, sizeof *out);
    size_t count;
    size_t size = cw_dtype_size(dtype);
    if (size == 0)
        return CW_ERR_INVALID;
    CWI_TRY(cw_shape_count(shape, &count));
    void *data = cwi_alloc(count, size);
    if (!data)
        return CW_ERR_NO_MEMORY;
    *out = (cw_tensor){.dtype = dtype, .shape = *shape, .data = data, .owned = true};
    return CW_OK;
}

void cw_tensor_free(cw_tensor *t)
{
    if (!t)
        return;
    if (t->owned)
        cwi_free(t->data);
    memset(t, 0, sizeof *t);
}
