/* cutwire/io.h - tensors in files: .npy, safetensors; and whole files as bytes. Not in libcutwire-codec.
 *
 * Thread-safety: pure functions of their arguments and the file system.
 */
#ifndef CUTWIRE_IO_H
#define CUTWIRE_IO_H

#include "cutwire/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* .npy files, format versions 1.0 to 3.0; dtypes f4 f2 u1 i4 i8. Fortran order and big-endian are read, too, and
 * become C order and little-endian.
 * A header that claims more elements than the file holds is refused before anything of that size is allocated.
 * Load: *out owns its elements; zeroed on failure. CW_ERR_NOT_FOUND, CW_ERR_IO (with the system's reason),
 * CW_ERR_MAGIC, CW_ERR_VERSION, CW_ERR_TRUNCATED, CW_ERR_CORRUPT, CW_ERR_UNSUPPORTED, CW_ERR_NO_MEMORY. bf16 is saved
 * as its bits in '<u2'. Save writes PATH.tmp, flushes it to disk and renames, so PATH is always either the old or the
 * whole new file; a device or a pipe is written as it is. Two that write the same PATH at the same time is for the
 * callers to avoid. */
cw_status cw_npy_load(const char *path, cw_tensor *out, cw_error *err);
cw_status cw_npy_save(const char *path, const cw_tensor *t, cw_error *err);
/* The same in memory. Decode copies the elements: bytes may be freed afterwards. Encode: *bytes is the caller's
 * (cw_bytes_free); CW_ERR_INVALID, CW_ERR_NO_MEMORY. */
cw_status cw_npy_decode(const void *bytes, size_t size, cw_tensor *out, cw_error *err);
cw_status cw_npy_encode(const cw_tensor *t, uint8_t **bytes, size_t *size, cw_error *err);

/* Whole files as bytes. Read: *data (owned by the caller, free with cw_bytes_free) and *size. Write: atomic as above.
 */
cw_status cw_file_read(const char *path, uint8_t **data, size_t *size, cw_error *err);
cw_status cw_file_write(const char *path, const void *data, size_t size, cw_error *err);
void cw_bytes_free(uint8_t *data);

/* safetensors (huggingface format): an 8-byte header length, a JSON header, the tensors' bytes.
 *
 * A cw_named_tensor's name is at most 127 bytes. Writing: tensors in the given order. Reading: every
 * offset, length, dtype and shape is checked against the bytes at hand; unknown dtypes are refused.
 * `metadata` (may be NULL) is stored under __metadata__ as {"cutwire": metadata}, an opaque string. */
typedef struct cw_named_tensor {
    char name[128];
    cw_tensor tensor;
} cw_named_tensor;

/* The elements of each tensor, and the list itself. */
void cw_named_tensors_free(cw_named_tensor *items, size_t count);

typedef struct cw_tensor_set {
    cw_named_tensor *items; /* owned; each tensor is a view into `bytes` or owns its elements */
    size_t count;
    char *metadata; /* owned; NULL when absent */
    uint8_t *bytes; /* owned backing store; NULL when the tensors own theirs */
} cw_tensor_set;

cw_status cw_safetensors_encode(const cw_named_tensor *items, size_t count, const char *metadata, uint8_t **bytes,
                                size_t *size, cw_error *err);
/* Copies what it needs from bytes: they may be freed afterwards. */
cw_status cw_safetensors_decode(const void *bytes, size_t size, cw_tensor_set *out, cw_error *err);
cw_status cw_safetensors_load(const char *path, cw_tensor_set *out, cw_error *err);
cw_status cw_safetensors_save(const char *path, const cw_named_tensor *items, size_t count, const char *metadata,
                              cw_error *err);
/* NULL when no tensor has that name. */
const cw_tensor *cw_tensor_set_find(const cw_tensor_set *set, const char *name);
void cw_tensor_set_free(cw_tensor_set *set);

#ifdef __cplusplus
}
#endif
#endif
