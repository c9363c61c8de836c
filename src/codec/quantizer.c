/* quantizer.c - scale factors that neither overflow nor lose denormals. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/quantizer.h"

/* Ranges narrower than this are scaled up (exactly) by GROW before their inverse is taken. */
static const float narrow = 0x1p-64f, grow = 0x1p86f;

uint32_t cwi_quant_code(const cwi_quant *q, float a, float *v)
{
    *v = (a * q->pre - q->base) * q->scale;
    float sum = *v + q->half;
    return (uint32_t)CWI_MIN(sum, q->top);
}

static void set_common(cwi_quant *q, unsigned bits, cwi_rounding rounding, unsigned top)
{
    memset(q, 0, sizeof *q);
    q->pre = 1.0f;
    q->bits = bits;
    q->top = (float)top;
    q->half = rounding == CWI_ROUND_NEAREST ? 0.5f : 0.0f;
}

void cwi_quant_magnitudes(cwi_quant *q, unsigned bits, cwi_rounding rounding, float limit, unsigned steps, unsigned top)
{
    set_common(q, bits, rounding, top);
    if (limit > 0.0f && steps > 0) {
        q->pre = limit < narrow ? grow : 1.0f;
        q->scale = (float)steps / (limit * q->pre);
    }
}

void cwi_quant_between(cwi_quant *q, unsigned bits, cwi_rounding rounding, float low, float high)
{
    const unsigned steps = (1u << bits) - 1;
    set_common(q, bits, rounding, steps);
    float width = high - low;
    if (!isfinite(width))
        q->pre = 0.5f;
    else if (width < narrow)
        q->pre = grow; /* then low and high are small, too: floats this close together are below 2^-40 */
    if (high > low) {
        q->base = low * q->pre;
        q->scale = (float)steps / (high * q->pre - q->base);
    } else {
        q->pre = 1.0f;
        q->base = low;
    }
}

void cwi_levels_between(float *level, unsigned bits, float low, float high)
{
    const unsigned steps = (1u << bits) - 1;
    for (unsigned c = 0; c <= steps; c++) {
        double v = low + (double)c * ((double)high - (double)low) / steps;
        level[c] = c == steps ? high : (float)v;
    }
}
