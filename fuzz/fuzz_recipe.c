/* fuzz_recipe.c - any bytes as the recipe of a text or a table, which comes out of a run's files: what is taken must be
 * given back as the same text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cutwire/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/cutwire-fuzz-XXXXXX";

static void remove_folder(void)
{
    static const char *const names[] = {"test.csv", "test.tsv"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* A test split of each kind, once. */
static void make_folder(void)
{
    static const char table[] = "a,b,class\n1,red,x\n", text[] = "label\ttext\n1\tthe cat\n";
    char path[128];
    if (!mkdtemp(folder))
        abort();
    atexit(remove_folder);
    snprintf(path, sizeof path, "%s/test.csv", folder);
    cw_status status = cw_file_write(path, table, sizeof table - 1, NULL);
    snprintf(path, sizeof path, "%s/test.tsv", folder);
    if (status != CW_OK || cw_file_write(path, text, sizeof text - 1, NULL) != CW_OK)
        abort();
}

static void open_with(const char *name, const char *recipe)
{
    char spec[128];
    cw_dataset *ds, *again;
    cw_error err;
    snprintf(spec, sizeof spec, "%s:%s", name, folder);
    if (cw_dataset_open_with(spec, CW_SPLIT_TEST, recipe, &ds, &err) != CW_OK)
        return;
    if (cw_dataset_open_with(spec, CW_SPLIT_TEST, cw_dataset_recipe(ds), &again, &err) != CW_OK ||
        strcmp(cw_dataset_recipe(ds), cw_dataset_recipe(again)) != 0)
        abort();
    cw_dataset_close(&again);
    cw_dataset_close(&ds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    if (!made)
        make_folder();
    made = true;
    char *recipe = malloc(size + 1);
    if (!recipe)
        return 0;
    memcpy(recipe, data, size);
    recipe[size] = '\0';
    open_with("csv", recipe);
    open_with("sst-2", recipe);
    free(recipe);
    return 0;
}
