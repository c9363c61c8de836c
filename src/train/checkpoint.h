/* checkpoint.h - what a run needs to go on as if it had never stopped. Internal.
 *
 * One safetensors file, checkpoint.safetensors in the run's folder, replaced atomically after an epoch: parameters,
 * batch-norm buffers and the optimizer's state of one half or two, and as metadata the configuration, the next epoch
 * and the report so far. Nothing else is needed: shuffling, augmentation, dropout and codecs draw from streams that are
 * functions of (seed, epoch, step). */
#ifndef CWI_TRAIN_CHECKPOINT_H
#define CWI_TRAIN_CHECKPOINT_H

#include "train/report.h"

/* Writes it when the configuration asks for one after this epoch. A failure (a full disk) is logged and leaves the last
 * good file; training goes on. */
void cwi_checkpoint_save(cwi_report *report, const cw_config *config, cwi_half *const *halves, size_t count,
                         int next_epoch);

/* When config.resume names a run: loads the halves and the report, and gives the epoch to go on with. Else the epoch is
 * 0, and the weights are those of the file config.weights, when it names one.
 * CW_ERR_MISMATCH: the run was split at another cut, or was not, or had another optimizer; the weights do not fit.
 * CW_ERR_NOT_FOUND: no such file, or a tensor that is not in it. */
cw_status cwi_checkpoint_begin(const cw_config *config, cwi_half *const *halves, size_t count, cwi_report *report,
                               int *next_epoch, cw_error *err);

#endif
