/* welcome.c - WELCOME's blob: what a client has to know of the run (docs/formats/protocol.md).
 *
 * A JSON object { "mode", "requires", "settings" } and, where the server asks for what a client may leave out, "asks";
 * a zero byte, the recipe of texts and tables or nothing, a zero
 * byte, the names of classes or nothing. A client that does not know something required refuses it by its name;
 * settings are the keys of the configuration that clients share. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "config/setup.h"

/* What a client must be able to do, beyond mode and settings. */
static const char *const known[] = {"masked-support", "micro-batches", "client-state",   "any-targets",
                                    "own-gradient",   "late-steps",    "learned-weights"};

static json_t *requirements(const cwi_setup *setup)
{
    json_t *list = json_array();
    /* A masked gradient is coded with the support that decoding the activation's payload tells. */
    if (setup->mask_gradient && cw_codec_get_traits(setup->down).takes_support)
        json_array_append_new(list, json_string("masked-support"));
    if (setup->config.in_flight > 1)
        json_array_append_new(list, json_string("micro-batches"));
    if (setup->client_state)
        json_array_append_new(list, json_string("client-state"));
    if (setup->any_targets)
        json_array_append_new(list, json_string("any-targets"));
    if (cwi_keeps_own_gradient(setup, (size_t)setup->config.clients))
        json_array_append_new(list, json_string("own-gradient"));
    if (setup->config.step_deadline > 0)
        json_array_append_new(list, json_string("late-steps"));
    if (setup->config.freeze && !setup->client_state)
        json_array_append_new(list, json_string("learned-weights"));
    return list;
}

static cw_status head_text(const cwi_setup *setup, char **text, cw_error *err)
{
    char *settings;
    CWI_TRY(cwi_setup_shared_json(setup, &settings, err));
    json_t *head = json_pack("{s:s,s:o,s:o}", "mode", setup->config.mode, "requires", requirements(setup), "settings",
                             json_loads(settings, 0, NULL));
    cwi_free(settings);
    if (setup->ask_times)
        json_object_set_new(head, "asks", json_pack("[s]", "times"));
    *text = head ? json_dumps(head, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(head);
    return *text ? CW_OK : cwi_fail_memory(err, 0);
}

static cw_status join_parts(const char *const *parts, size_t count, uint8_t **blob, size_t *size, cw_error *err)
{
    *size = count - 1;
    for (size_t i = 0; i < count; i++)
        *size += strlen(parts[i]);
    uint8_t *at = *blob = cwi_alloc(*size + 1, 1);
    if (!at)
        return cwi_fail_memory(err, *size);
    for (size_t i = 0; i < count; i++) {
        memcpy(at, parts[i], strlen(parts[i]) + 1);
        at += strlen(parts[i]) + 1;
    }
    return CW_OK;
}

cw_status cwi_welcome_write(const cwi_setup *setup, uint8_t **blob, size_t *size, cw_error *err)
{
    char *text, *classes;
    *blob = NULL;
    CWI_TRY(head_text(setup, &text, err));
    cw_status status = cwi_classes_format(&setup->classes, &classes, err);
    if (status == CW_OK) {
        const char *const parts[] = {text, setup->recipe ? setup->recipe : "", classes};
        status = join_parts(parts, CWI_COUNT(parts), blob, size, err);
        cwi_free(classes);
    }
    free(text);
    return status;
}

static cw_status take_requirements(const json_t *list, cwi_required *required, cw_error *err)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(item);
        bool found = false;
        for (size_t k = 0; name && k < CWI_COUNT(known); k++)
            found |= strcmp(name, known[k]) == 0;
        if (!found)
            return cwi_fail(err, CW_ERR_UNSUPPORTED,
                            "the server requires '%.40s', which this client does not know: use the same version",
                            name ? name : "?");
        required->client_state |= strcmp(name, "client-state") == 0;
        required->any_targets |= strcmp(name, "any-targets") == 0;
        required->late_steps |= strcmp(name, "late-steps") == 0;
    }
    return CW_OK;
}

/* What is unknown is left out. */
static void take_asks(const json_t *list, cwi_required *required)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(item);
        required->ask_times |= name && strcmp(name, "times") == 0;
    }
}

static cw_status take_head(const json_t *head, cw_config *config, cwi_required *required, cw_error *err)
{
    const char *mode = json_string_value(json_object_get(head, "mode"));
    const json_t *settings = json_object_get(head, "settings"), *requires = json_object_get(head, "requires");
    if (mode && strcmp(mode, "infer") == 0)
        return cwi_fail(err, CW_ERR_PROTOCOL,
                        "the server there answers requests and trains nothing: `cutwire infer` asks it");
    if (!mode || !json_is_object(settings) || !json_is_array(requires))
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server's WELCOME lacks its mode, settings or requirements");
    CWI_TRY(take_requirements(requires, required, err));
    take_asks(json_object_get(head, "asks"), required);
    CWI_TRY(cw_config_set(config, "mode", mode, err));
    char *text = json_dumps(settings, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!text)
        return cwi_fail_memory(err, 0);
    const cw_status status = cwi_config_from_shared_json(config, text, strlen(text), err);
    free(text);
    return status;
}

static cw_status read_head(const uint8_t *text, size_t size, cw_config *config, cwi_required *required, cw_error *err)
{
    json_error_t where;
    json_t *head = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, &where);
    if (!head)
        return cwi_fail_at(err, CW_ERR_PROTOCOL, (uint64_t)where.position, "the server's WELCOME is not JSON: %s",
                           where.text);
    const cw_status status = take_head(head, config, required, err);
    json_decref(head);
    return status;
}

static cw_status read_recipe(const uint8_t *text, size_t size, const cw_config *config, char **recipe, cw_error *err)
{
    if (size)
        return cwi_recipe_take(text, size, recipe, err);
    return cwi_recipe_needed(config)
               ? cwi_fail(err, CW_ERR_PROTOCOL, "the server sent no recipe for samples of %s", config->input)
               : CW_OK;
}

cw_status cwi_welcome_read(const uint8_t *blob, size_t size, cw_config *config, cwi_required *required, char **recipe,
                           cwi_classes *classes, cw_error *err)
{
    const uint8_t *end = blob + size, *first = size ? memchr(blob, '\0', size) : NULL;
    const uint8_t *second = first ? memchr(first + 1, '\0', (size_t)(end - first - 1)) : NULL;
    *recipe = NULL;
    *classes = (cwi_classes){0};
    *required = (cwi_required){0};
    if (!second)
        return cwi_fail(err, CW_ERR_PROTOCOL, "WELCOME is not made of configuration, recipe and names of classes");
    CWI_TRY(read_head(blob, (size_t)(first - blob), config, required, err));
    CWI_TRY(read_recipe(first + 1, (size_t)(second - first - 1), config, recipe, err));
    const cw_status status =
        cwi_classes_parse(second + 1, (size_t)(end - second - 1), (size_t)config->classes, classes, err);
    if (status == CW_OK)
        return CW_OK;
    cwi_free(*recipe);
    *recipe = NULL;
    return cwi_fail_prefix(err, status, "WELCOME");
}
