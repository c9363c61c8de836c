/* rows.c - samples that are rows of floats in memory: token ids, columns of a table. */
#include <string.h>

#include "data/dataset.h"

cw_status cwi_row_sample(const cw_dataset *ds, size_t i, cwi_augment *augment, void *worker, float *x, cw_error *err)
{
    (void)augment, (void)worker, (void)err;
    size_t n = (size_t)ds->info.sample.dim[0];
    memcpy(x, ds->rows + i * n, n * sizeof *x);
    return CW_OK;
}

const cwi_dataset_ops cwi_row_ops = {.sample = cwi_row_sample};

cw_status cwi_rows_reserve(cw_dataset *ds, size_t *capacity, cw_error *err)
{
    if (ds->info.count < *capacity)
        return CW_OK;
    size_t n = (size_t)ds->info.sample.dim[0], next = *capacity ? 2 * *capacity : 1024;
    if (next > UINT32_MAX)
        return cwi_fail(err, CW_ERR_UNSUPPORTED, "more than 2^31 samples");
    float *rows = cwi_realloc(ds->rows, *capacity * n * sizeof *rows, next * n * sizeof *rows);
    if (!rows)
        return cwi_fail_memory(err, next * n * sizeof *rows);
    ds->rows = rows;
    int32_t *labels = cwi_realloc(ds->labels, *capacity * sizeof *labels, next * sizeof *labels);
    if (!labels)
        return cwi_fail_memory(err, next * sizeof *labels);
    ds->labels = labels;
    *capacity = next;
    return CW_OK;
}
