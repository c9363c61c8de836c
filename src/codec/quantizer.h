/* quantizer.h - how the codecs set up cwi_quant and the levels that undo it. Internal. */
#ifndef CWI_QUANTIZER_H
#define CWI_QUANTIZER_H

#include "codec/kernels/kernels.h"

typedef enum cwi_rounding { CWI_ROUND_FLOOR, CWI_ROUND_NEAREST, CWI_ROUND_STOCHASTIC } cwi_rounding;

/* Codes 0 .. top for magnitudes 0 .. limit, `steps` codes to `limit`: code = a * steps / limit, at most top. With limit
 * or steps 0 every code is 0. */
void cwi_quant_magnitudes(cwi_quant *q, unsigned bits, cwi_rounding rounding, float limit, unsigned steps,
                          unsigned top);
/* The code of one magnitude or value, and the product it is made from (v in cwi_quant). */
uint32_t cwi_quant_code(const cwi_quant *q, float a, float *v);
/* Codes 0 .. 2^bits - 1 for values low .. high (finite, low <= high). */
void cwi_quant_between(cwi_quant *q, unsigned bits, cwi_rounding rounding, float low, float high);
/* What those codes decode to: level[c] = low + c * step, step = (high - low) / (2^bits - 1). */
void cwi_levels_between(float *level, unsigned bits, float low, float high);

#endif
