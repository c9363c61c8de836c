/* sparse.h - the body that sp and rt share: which elements are kept, and their values. Internal. */
#ifndef CWI_SPARSE_H
#define CWI_SPARSE_H

#include "codec/mask.h"

/* Both codecs' first key. */
#define CWI_SPARSE_KEY_R                                                                                               \
    {                                                                                                                  \
        .name = "r", .type = CWI_KEY_REAL, .min = 0, .max = 1, .standard = 0.95875                                     \
    }

/* The mask of a tensor of that shape, with bitmap or indices, whichever is smaller. */
cwi_mask cwi_sparse_mask(double r, cwi_values values, bool per_sample, const cw_shape *shape, size_t elements);
bool cwi_sparse_bound(const cwi_mask *m, size_t *size);
/* Reserves the body, writes its fixed part and returns where marks and values go. */
cw_status cwi_sparse_begin(cwi_encode_job *job, const cwi_mask *m, uint8_t **marks, uint8_t **values);
/* The k largest of each segment. */
cw_status cwi_sparse_encode_largest(cwi_encode_job *job, const cwi_mask *m);
/* The mask must be that of the payload's shape and parameters. */
cw_status cwi_sparse_check(const cwi_payload *p, cwi_mask m, cw_error *err);
cw_status cwi_sparse_decode(cwi_decode_job *job, cwi_mask m);

#endif
