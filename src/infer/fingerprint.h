/* fingerprint.h - a number that names trained weights. Internal. */
#ifndef CWI_INFER_FINGERPRINT_H
#define CWI_INFER_FINGERPRINT_H

#include "base/base.h"
#include "cutwire/io.h"

/* Of one named tensor: name, shape and every bit of its values. Those of several are added, so that their order does
 * not matter. */
uint64_t cwi_tensor_fingerprint(const cw_named_tensor *item);
uint64_t cwi_weights_fingerprint(const cw_named_tensor *items, size_t count);

#endif
