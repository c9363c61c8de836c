/* optimizer.h - what an update rule provides. Internal. */
#ifndef CWI_OPTIMIZER_H
#define CWI_OPTIMIZER_H

#include "nn/part.h"

enum { CWI_MAX_SLOTS = 2 };

/* One step's numbers for one parameter. */
typedef struct cwi_update {
    const cw_optimizer_options *options;
    float lr, decay; /* in place of the options' weight_decay */
    uint64_t step;   /* from 1 */
} cwi_update;

/* Elementwise, so that home layouts do not matter: one pass over weight, gradient and slots. */
typedef void (*cwi_update_fn)(const cwi_update *u, float *w, const float *g, float *const *slots, size_t count);

typedef struct cwi_update_rule {
    const char *slot_names[CWI_MAX_SLOTS];
    cwi_update_fn apply;
} cwi_update_rule;

extern const cwi_update_rule cwi_sgd_rule, cwi_adam_rule;

#endif
