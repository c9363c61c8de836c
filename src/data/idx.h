/* idx.h - IDX files of unsigned bytes, gzipped or not (the format of MNIST and its kin). Internal. */
#ifndef CWI_IDX_H
#define CWI_IDX_H

#include "cutwire/tensor.h"

/* Loads PATH as `ndim` dimensions of bytes; *out owns them. What the header promises is checked against the file's
 * size before it is allocated. Messages begin with the path. CW_ERR_NOT_FOUND, CW_ERR_IO, CW_ERR_MAGIC,
 * CW_ERR_TRUNCATED, CW_ERR_CORRUPT, CW_ERR_NO_MEMORY. */
cw_status cwi_idx_load(const char *path, int ndim, cw_tensor *out, cw_error *err);

#endif
