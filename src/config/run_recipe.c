/* run_recipe.c - the recipe of a run whose samples are texts or tables: the vocabulary or the columns' statistics by
 * which they become numbers; and the names of its classes. The server sends both along with the configuration, so that
 * a client's own data get the same numbers; a run's folder keeps them for the run's continuation. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/setup.h"

enum { PATH_SIZE = sizeof((cw_config *)0)->resume + 32 };

static cw_status read_file(const char *path, char **recipe, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    cw_status status = cwi_recipe_take(bytes, size, recipe, err);
    cw_bytes_free(bytes);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}

cw_status cwi_recipe_take(const void *bytes, size_t size, char **recipe, cw_error *err)
{
    *recipe = NULL;
    if (size == 0 || memchr(bytes, '\0', size))
        return cwi_fail(err, CW_ERR_CORRUPT, "not the text of a recipe");
    char *text = cwi_alloc(size + 1, 1);
    if (!text)
        return cwi_fail_memory(err, size + 1);
    memcpy(text, bytes, size);
    text[size] = '\0';
    *recipe = text;
    return CW_OK;
}

cw_status cwi_recipe_find(const cw_config *config, char **recipe, cw_error *err)
{
    char path[PATH_SIZE];
    *recipe = NULL;
    snprintf(path, sizeof path, "%s/" CWI_RECIPE_FILE, config->resume);
    if (*config->resume && cwi_recipe_needed(config))
        return read_file(path, recipe, err);
    if (*config->recipe)
        return read_file(config->recipe, recipe, err);
    /* Weights are of the words and columns that they were learned with. */
    const char *slash = strrchr(config->weights, '/');
    snprintf(path, sizeof path, "%.*s" CWI_RECIPE_FILE, slash ? (int)(slash - config->weights) + 1 : 0,
             config->weights);
    return *config->weights && access(path, F_OK) == 0 ? read_file(path, recipe, err) : CW_OK;
}

bool cwi_recipe_needed(const cw_config *config)
{
    return *config->input && strcmp(config->input, "image") != 0;
}

/* ---- names of classes ---- */

static cw_status read_classes(const char *path, size_t most, cwi_classes *classes, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    cw_status status = cwi_classes_parse(bytes, size, most, classes, err);
    cw_bytes_free(bytes);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}

cw_status cwi_classes_read(const cw_config *config, cwi_classes *classes, cw_error *err)
{
    char path[PATH_SIZE];
    const size_t most = (size_t)config->classes;
    snprintf(path, sizeof path, "%s/" CWI_CLASSES_FILE, config->resume);
    if (*config->resume)
        return access(path, F_OK) == 0 ? read_classes(path, most, classes, err) : CW_OK; /* older runs have none */
    const char *slash = strrchr(config->weights, '/');
    snprintf(path, sizeof path, "%.*s" CWI_CLASSES_FILE, slash ? (int)(slash - config->weights) + 1 : 0,
             config->weights);
    if (!*config->weights || access(path, F_OK) != 0)
        return CW_OK;
    CWI_TRY(read_classes(path, SIZE_MAX, classes, err));
    if (classes->count != most) /* the classifier is another one, too */
        cwi_classes_free(classes);
    return CW_OK;
}
