/* mask_values.h - kept values in fewer bits, exactly: what they exceed the least one by. Internal.
 *
 * size (6 bytes, of all this) | shift (1) | low bits (1) | the least magnitude of each segment | for each value bits:
 * with signs its sign, then its distance from the least, counted in the floats between them and without the `shift`
 * lowest bits, which all have zero: all but the `low` lowest bits of that as so many zeros and a one, then those. */
#ifndef CWI_MASK_VALUES_H
#define CWI_MASK_VALUES_H

#include "codec/mask.h"

/* What the values of all segments become, into `out`, if that is shorter than they are: returns its size, else 0. `out`
 * has room for as many bytes as the values have. */
size_t cwi_values_pack(const cwi_mask *m, const uint8_t *values, uint8_t *out);
/* How long the part says it is, or 0 when it cannot be what `size` bytes at `in` begin with. */
size_t cwi_values_packed(const cwi_mask *m, const uint8_t *in, size_t size);
/* The inverse; `in` has exactly `size` bytes, as cwi_values_packed() said. False when they are no such. */
bool cwi_values_unpack(const cwi_mask *m, const uint8_t *in, size_t size, uint8_t *values);

#endif
