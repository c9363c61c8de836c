/* peak.c - the largest magnitude among floats. */
#include <math.h>
#include <string.h>

#include "base/base.h"

/* Partial results that do not wait for each other: SSE2 has no maximum of whole numbers, and what stands for it takes
 * several instructions. */
enum { LANES = 16 };

static uint32_t magnitude_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & UINT32_C(0x7fffffff);
}

/* Magnitudes as bits, which order as the numbers do, with infinity and NaN behind all of them. */
float cwi_peak(const float *x, size_t count)
{
    int32_t lane[LANES] = {0};
    uint32_t peak = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] = CWI_MAX(lane[j], (int32_t)magnitude_bits(x[i + j]));
    for (; i < count; i++)
        peak = CWI_MAX(peak, magnitude_bits(x[i]));
    for (size_t j = 0; j < LANES; j++)
        peak = CWI_MAX(peak, (uint32_t)lane[j]);
    float largest;
    memcpy(&largest, &peak, sizeof largest);
    return isfinite(largest) ? largest : INFINITY;
}
