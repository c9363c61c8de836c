/* fuzz_table.c - any bytes as the training split of a table: every number that comes out is finite, and the recipe that
 * was learned gives the same rows and the same text again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cutwire/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/cutwire-fuzz-XXXXXX", csv[64], adult[64];

static void remove_folder(void)
{
    unlink(csv);
    unlink(adult);
    rmdir(folder);
}

/* Every row of the split, into *rows; 0 where it does not open. */
static size_t read_rows(const char *spec, const char *recipe, cw_dataset **ds, float **rows)
{
    cw_error err;
    cw_loader *l;
    cw_batch b;
    *rows = NULL;
    if (cw_dataset_open_with(spec, CW_SPLIT_TRAIN, recipe, ds, &err) != CW_OK)
        return 0;
    const cw_dataset_info *info = cw_dataset_get_info(*ds);
    const size_t floats = info->count * (size_t)info->sample.dim[0];
    *rows = malloc(floats * sizeof **rows);
    cw_loader_options o = {.batch = info->count};
    if (!*rows || cw_loader_create(*ds, NULL, 0, &o, &l, &err) != CW_OK || cw_loader_next(l, &b, &err) != CW_OK)
        abort();
    memcpy(*rows, b.x, floats * sizeof **rows);
    cw_loader_destroy(&l);
    return floats;
}

static void try_as(const char *spec)
{
    cw_dataset *ds = NULL, *again = NULL;
    float *rows, *same;
    const size_t floats = read_rows(spec, NULL, &ds, &rows);
    for (size_t i = 0; i < floats; i++)
        if (!isfinite(rows[i]))
            abort();
    if (floats) {
        if (read_rows(spec, cw_dataset_recipe(ds), &again, &same) != floats ||
            memcmp(rows, same, floats * sizeof *rows) != 0 ||
            strcmp(cw_dataset_recipe(ds), cw_dataset_recipe(again)) != 0)
            abort();
        free(same);
    }
    free(rows);
    cw_dataset_close(&again);
    cw_dataset_close(&ds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char spec[64];
    if (!*spec) {
        if (!mkdtemp(folder))
            abort();
        snprintf(csv, sizeof csv, "%s/train.csv", folder);
        snprintf(adult, sizeof adult, "%s/adult.data", folder);
        snprintf(spec, sizeof spec, "csv:%s", folder);
        atexit(remove_folder);
    }
    for (int headless = 0; headless < 2; headless++) {
        FILE *f = fopen(headless ? adult : csv, "wb");
        if (!f || (size && fwrite(data, 1, size, f) != size) || fclose(f) != 0)
            abort();
        try_as(spec);
        unlink(headless ? adult : csv);
    }
    return 0;
}
