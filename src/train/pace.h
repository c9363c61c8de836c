/* pace.h - which codec the activations take at each moment of a run: always the same, or `auto`. Internal.
 *
 *     auto[:accuracy,from=E,to=E]     ec with an error that goes from one value to the other over the run
 */
#ifndef CWI_TRAIN_PACE_H
#define CWI_TRAIN_PACE_H

#include "base/base.h"
#include "cutwire/codec.h"

typedef struct cwi_pace {
    cw_codec *codec; /* the one in use */
    double from, to; /* relative errors at the run's begin and end; from 0: the codec is always the same */
} cwi_pace;

/* A codec's spec, or auto's. CW_ERR_SPEC, CW_ERR_NO_MEMORY. */
cw_status cwi_pace_open(const char *spec, cwi_pace *pace, cw_error *err);
void cwi_pace_close(cwi_pace *pace);
/* The codec when `progress` of the run, 0 to 1, is done: a function of it alone, so that a resumed run takes the same
 * ones. Valid until the next call. CW_ERR_NO_MEMORY. */
cw_status cwi_pace_at(cwi_pace *pace, double progress, const cw_codec **codec, cw_error *err);

#endif
