/* own_statistics.h - batch norm's statistics as each client has them. Internal.
 *
 * Clients begin a phase of training with the same statistics of their half, go on from them each with its own batches,
 * and get the average at the phase's end. A run that stops before then (SIGTERM) saves each client's own: averaged at
 * another step, they would differ in their last bits from those of a run that was not stopped. */
#ifndef CWI_OWN_STATISTICS_H
#define CWI_OWN_STATISTICS_H

#include "half/half_state.h"

typedef struct cwi_own_statistics {
    size_t clients, floats; /* floats of one client's; 0: its half has none, or is not known here */
    float **of;             /* each client's; NULL: it has those of all */
} cwi_own_statistics;

/* Of nobody yet. CW_ERR_NO_MEMORY. */
cw_status cwi_own_statistics_open(cwi_own_statistics *s, size_t clients, size_t floats, cw_error *err);
void cwi_own_statistics_close(cwi_own_statistics *s);
/* Copies this client's. CW_ERR_NO_MEMORY. */
cw_status cwi_own_statistics_keep(cwi_own_statistics *s, size_t client, const float *flat, cw_error *err);
/* This client's; or all clients'. */
void cwi_own_statistics_forget(cwi_own_statistics *s, size_t client);
void cwi_own_statistics_clear(cwi_own_statistics *s);

/* As tensors of a checkpoint, "statistics.CLIENT", clients counted from 1, and back: of a set that may hold more, or
 * none of them. CW_ERR_NO_MEMORY; CW_ERR_MISMATCH: one has another number of floats. */
cw_status cwi_own_statistics_export(const cwi_own_statistics *s, cwi_state *state, cw_error *err);
cw_status cwi_own_statistics_import(cwi_own_statistics *s, const cw_tensor_set *set, cw_error *err);

#endif
