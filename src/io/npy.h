/* npy.h - the header of a .npy file, apart from the file. Internal. */
#ifndef CWI_NPY_H
#define CWI_NPY_H

#include "cutwire/io.h"

typedef struct cwi_npy_header {
    cw_dtype dtype;
    cw_shape shape;
    size_t data_offset; /* where the elements begin */
    size_t data_size;   /* their bytes: exactly what follows data_offset */
    bool swapped;       /* big-endian */
    bool fortran;       /* the first index runs fastest */
} cwi_npy_header;

/* Parses and checks a whole file's bytes; allocates nothing. Statuses as cw_npy_load. */
cw_status cwi_npy_parse(const uint8_t *bytes, size_t size, cwi_npy_header *out, cw_error *err);

#endif
