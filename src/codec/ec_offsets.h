/* ec_offsets.h - channels whose background is not 0: what is subtracted from each before it is quantized. Internal. */
#ifndef CWI_EC_OFFSETS_H
#define CWI_EC_OFFSETS_H

#include "codec/codec_impl.h"

enum {
    CWI_OFFSETS_CHANNELS_MOST = 1 << 16,
    CWI_OFFSETS_UNIT = 4,       /* bytes: of the unit, a float */
    CWI_OFFSETS_MOST = 1 << 20, /* units */
};

/* How many channels may have offsets: those of an ordered tensor of 4 dimensions, or 0. */
size_t cwi_offsets_channels(const cw_shape *shape);
/* The offsets that make such a tensor shorter at about this step, as whole numbers of *unit; returns about which part
 * of its bytes they save, if any. */
double cwi_offsets_find(const cwi_source *s, const cw_shape *shape, double step, int32_t *offset, float *unit);
/* Whether a good part of the elements is 0. */
bool cwi_offsets_has_zeros(const cwi_source *s, size_t elements);
size_t cwi_offsets_size(const int32_t *offset, size_t channels);
void cwi_offsets_put(const int32_t *offset, size_t channels, float unit, uint8_t *out);
/* Where they end, or NULL. `out`, which may be NULL, gets floats. */
const uint8_t *cwi_offsets_get(const uint8_t *in, size_t size, size_t channels, float *out);
static inline size_t cwi_offsets_bound(size_t channels)
{
    return CWI_OFFSETS_UNIT + 6 * channels + 1;
}

#endif
