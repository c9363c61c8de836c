/* profile.h - what was learned of earlier tensors of a cut, for ec: docs/formats/profile.md. Internal. */
#ifndef CWI_PROFILE_H
#define CWI_PROFILE_H

#include "codec/ctx.h"
#include "codec/ec_about.h"
#include "codec/klt.h"
#include "codec/order.h"

enum {
    CWI_PROFILE_CHANNELS_MOST = 1 << 16,
    CWI_PROFILE_HASH = 8, /* bytes of it in a payload */
};

struct cw_profile {
    uint8_t *bytes; /* what it was made from */
    size_t size;
    uint64_t hash;
    cwi_order_id order; /* name and width */
    cw_shape shape;     /* of the tensors, with dimension 0 as 1 */
    size_t channels;    /* as they are coded */
    cwi_klt klt;        /* where it keeps any outputs they are what is coded, in place of the channels */
    double bits;        /* an element took when it was learned; of use to encoders alone */
    bool classes;       /* have levels */
    cwi_about_levels levels;
    size_t offsets; /* channels that have them, or 0 */
    float *offset;
    cwi_ctx_tables tables; /* with its zero */
};

/* Whether tensors of this shape, but for dimension 0, are those that it was learned from. */
bool cwi_profile_fits(const cw_profile *p, const cw_shape *shape);
static inline bool cwi_profile_transforms(const cw_profile *p)
{
    return p->klt.kept > 0;
}
/* What tables are written and read for. */
void cwi_profile_ctx_shape(size_t channels, cwi_ctx_shape *out);

/* What a profile is made of; `klt` (bytes of a transform, or NULL), `levels`, `offset` (whole numbers of `unit`) and
 * `tables` are the caller's. */
typedef struct cwi_profile_parts {
    cwi_order_id order;
    const cw_shape *shape;
    size_t channels, offsets; /* as in cw_profile */
    double bits;
    bool classes;
    const uint8_t *klt;
    size_t klt_size;
    const cwi_about_levels *levels;
    const int32_t *offset;
    float unit;
    const cwi_ctx_tables *tables;
} cwi_profile_parts;

cw_status cwi_profile_make(const cwi_profile_parts *parts, cw_profile **out, cw_error *err);

#endif
