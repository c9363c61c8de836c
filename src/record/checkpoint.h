/* checkpoint.h - what a run needs to go on as if it had never stopped. Internal.
 *
 * One safetensors file, checkpoint.safetensors in the run's folder, replaced atomically after an epoch or a number of
 * steps: parameters, batch-norm buffers and the optimizer's state of one half or two, and as metadata the
 * configuration, the next epoch, the report so far, and within an epoch the next step and the sums over those before;
 * where clients' batch-norm statistics differ, each client's.
 * Nothing else is needed: shuffling, augmentation, dropout and codecs draw from streams that are functions of (seed,
 * epoch, step).
 *
 * The one before it stays beside it as checkpoint.previous.safetensors: where the last cannot be read, or holds what is
 * not finite, a run goes on from there, and says so. */
#ifndef CWI_CHECKPOINT_H
#define CWI_CHECKPOINT_H

#include "record/own_statistics.h"
#include "record/report.h"

/* Before the names of what the clients gave (cwi_half_remote_create), in a checkpoint: they are of another namespace
 * than this server's own. */
#define CWI_CLIENT_PREFIX "client."

/* The step of an epoch of so many steps before which the next checkpoint is due, or the epoch ends. */
uint32_t cwi_checkpoint_next_step(const cw_config *config, uint32_t step, uint32_t steps);

/* Writes it: within an epoch, or between epochs when the configuration asks for one there. A failure (a full disk) is
 * logged and leaves the last good file; training goes on. CW_ERR_DIVERGED, whether one is wanted or not: the halves are
 * not finite, nothing was written, and there is nothing to go on with. */
cw_status cwi_checkpoint_save(cwi_report *report, const cw_config *config, cw_half *const *halves, size_t count,
                              const cwi_progress *at, cw_error *err);

/* When config.resume names a run: loads the halves and the report, and gives the place to go on from. Else, and where
 * that run was stopped before it had a checkpoint or an epoch, that is the beginning, and the weights are those of the
 * file config.weights, when it names one. at->own, when not NULL, gets the clients' statistics, and stays.
 * CW_ERR_MISMATCH: the run was split at another cut, or was not, or had another optimizer; the weights do not fit.
 * CW_ERR_NOT_FOUND: no such file, or a tensor that is not in it. */
cw_status cwi_checkpoint_begin(const cw_config *config, cw_half *const *halves, size_t count, cwi_report *report,
                               cwi_progress *at, cw_error *err);

#endif
