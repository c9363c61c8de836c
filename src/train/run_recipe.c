/* run_recipe.c - the recipe of a run whose samples are texts or tables: the vocabulary or the columns' statistics by
 * which they become numbers. The server has it and sends it along with the configuration, so that a client's own data
 * get the same numbers; a run's folder keeps it for the run's continuation. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "train/setup.h"

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

/* ---- on the wire: the configuration as JSON, and behind a zero byte the recipe, when there is one ---- */

cw_status cwi_welcome_write(const cwi_setup *setup, uint8_t **blob, size_t *size, cw_error *err)
{
    char *json;
    *blob = NULL;
    CWI_TRY(cwi_setup_shared_json(setup, &json, err));
    size_t head = strlen(json), tail = setup->recipe ? strlen(setup->recipe) : 0;
    *size = head + (tail ? tail + 1 : 0);
    *blob = cwi_alloc(*size, 1);
    if (*blob)
        memcpy(*blob, json, head);
    cwi_free(json);
    if (!*blob)
        return cwi_fail_memory(err, *size);
    if (tail) {
        (*blob)[head] = '\0';
        memcpy(*blob + head + 1, setup->recipe, tail);
    }
    return CW_OK;
}

cw_status cwi_welcome_read(const uint8_t *blob, size_t size, cw_config *config, char **recipe, cw_error *err)
{
    const uint8_t *zero = size ? memchr(blob, '\0', size) : NULL;
    size_t head = zero ? (size_t)(zero - blob) : size;
    *recipe = NULL;
    CWI_TRY(cwi_config_from_shared_json(config, (const char *)blob, head, err));
    if (zero)
        return cwi_recipe_take(zero + 1, size - head - 1, recipe, err);
    return cwi_recipe_needed(config)
               ? cwi_fail(err, CW_ERR_PROTOCOL, "the server sent no recipe for samples of %s", config->input)
               : CW_OK;
}
