/* fingerprint.h - a number that names trained weights. Internal. */
#ifndef CWI_INFER_FINGERPRINT_H
#define CWI_INFER_FINGERPRINT_H

#include "base/base.h"
#include "cutwire/infer.h"

/* Of one named tensor: name, shape and every bit of its values. Those of several are added, so that their order does
 * not matter: cw_weights_print. */
uint64_t cwi_tensor_fingerprint(const cw_named_tensor *item);
/* cw_weights_print of what a half shows; 0 where it shows no weights. */
cw_status cwi_half_print(cw_half *half, uint64_t *print, cw_error *err);

#endif
