/* safetensors.h - what its reader and its writer share. Internal. */
#ifndef CWI_SAFETENSORS_H
#define CWI_SAFETENSORS_H

#include "cutwire/io.h"

#define CWI_METADATA_NAME "__metadata__"
#define CWI_METADATA_KEY  "cutwire"

/* "F32"...; NULL for a dtype the format has no name for. */
const char *cwi_safetensors_dtype_name(cw_dtype dtype);

/* Index of a name that occurs twice among the items, or `count`. CW_ERR_NO_MEMORY. */
cw_status cwi_named_tensors_repeated(const cw_named_tensor *items, size_t count, size_t *repeated);

#endif
