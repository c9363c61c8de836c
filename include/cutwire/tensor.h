/* cutwire/tensor.h - dense tensors as plain structs, and the files they live in.
 *
 * A cw_tensor is a view: dtype, shape and a pointer to row-major, little-endian elements. It owns
 * its elements only when made by cw_tensor_alloc or a loader here; free those with cw_tensor_free.
 *
 * Thread-safety: no shared state; a tensor may be read by many threads at once.
 */
#ifndef CUTWIRE_TENSOR_H
#define CUTWIRE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cutwire/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The values are part of the payload format; never renumber. */
typedef enum cw_dtype {
    CW_F32 = 1,
    CW_BF16 = 2,
    CW_F16 = 3,
    CW_U8 = 4,
    CW_I32 = 5,
    CW_I64 = 6,
} cw_dtype;

enum { CW_MAX_DIMS = 8 };

typedef struct cw_shape {
    int32_t ndim; /* 0 (a scalar: one element) .. CW_MAX_DIMS */
    int64_t dim[CW_MAX_DIMS];
} cw_shape;

typedef struct cw_tensor {
    cw_dtype dtype;
    cw_shape shape;
    void *data;
    bool owned; /* data was allocated by this library */
} cw_tensor;

/* Size of one element in bytes; 0 for an unknown dtype. */
size_t cw_dtype_size(cw_dtype dtype);
/* "f32", "bf16", ...; "?" for an unknown dtype. */
const char *cw_dtype_name(cw_dtype dtype);

/* Convenience: cw_shape_of(4, (int64_t[]){n, c, h, w}). */
cw_shape cw_shape_of(int ndim, const int64_t *dims);
bool cw_shape_equal(const cw_shape *a, const cw_shape *b);
/* Number of elements into *count. CW_ERR_INVALID when ndim or a dimension is out of range or the byte count
 * of 8-byte elements would overflow int64_t. */
cw_status cw_shape_count(const cw_shape *shape, size_t *count);
/* Writes "64x16x16" (or "scalar") into buf, always terminated; returns buf. */
char *cw_shape_format(const cw_shape *shape, char *buf, size_t size);

/* A view of memory that stays the caller's. */
cw_tensor cw_tensor_view(cw_dtype dtype, const cw_shape *shape, void *data);
/* 64-byte aligned, uninitialized elements, owned by *out. On failure *out is zeroed. CW_ERR_INVALID, CW_ERR_NO_MEMORY.
 */
cw_status cw_tensor_alloc(cw_tensor *out, cw_dtype dtype, const cw_shape *shape);
/* Frees owned elements and zeroes *t. NULL and already-freed tensors are allowed. */
void cw_tensor_free(cw_tensor *t);

#ifdef __cplusplus
}
#endif
#endif
