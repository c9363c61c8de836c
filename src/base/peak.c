/* peak.c - the largest magnitude among floats. */
#include <math.h>
#include <string.h>

#include "base/base.h"

/* Magnitudes as bits, which order as the numbers do, with infinity and NaN behind all of them. */
float cwi_peak(const float *x, size_t count)
{
    uint32_t peak = 0;
    float largest;
#pragma omp simd reduction(max : peak)
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        peak = CWI_MAX(peak, bits & UINT32_C(0x7fffffff));
    }
    memcpy(&largest, &peak, sizeof largest);
    return isfinite(largest) ? largest : INFINITY;
}
