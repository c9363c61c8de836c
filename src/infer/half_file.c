/* half_file.c - one side of a trained network as a file: its weights, and what a machine without the run has to know.
 *
 * A safetensors file: the tensors of that side under their own names; "cutwire.run", bytes, what WELCOME would tell of
 * the run (settings, recipe, names of classes); of a tail "cutwire.profile", where there is one; and as metadata which
 * side it is, and the fingerprints of both, so that two files that were written together know each other. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infer/fingerprint.h"
#include "infer/network.h"

static const char run_tensor[] = "cutwire.run", profile_tensor[] = "cutwire.profile";
static const char *const side_names[] = {[CWI_SIDE_HEAD] = "head", [CWI_SIDE_TAIL] = "tail"};

/* ---- writing ---- */

static char *metadata_of(const cw_network *n, cwi_side side)
{
    char head[20], tail[20];
    snprintf(head, sizeof head, "%016llx", (unsigned long long)n->info.head_print);
    snprintf(tail, sizeof tail, "%016llx", (unsigned long long)n->info.tail_print);
    json_t *o = json_pack("{s:s,s:s,s:s}", "side", side_names[side], "head", head, "tail", tail);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static void add_bytes(cw_named_tensor *item, const char *name, void *bytes, size_t size)
{
    const cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)size});
    snprintf(item->name, sizeof item->name, "%s", name);
    item->tensor = cw_tensor_view(CW_U8, &shape, bytes);
}

/* Views of the side's tensors, and behind them of the run's bytes and the profile's. */
static size_t collect(const cw_network *n, cwi_side side, uint8_t *run, size_t size, cw_named_tensor *items)
{
    size_t count = 0;
    for (size_t i = 0; i < n->weights.count; i++)
        if (cwi_network_side_of(n, n->weights.items[i].name) == side)
            items[count++] = n->weights.items[i];
    add_bytes(&items[count++], run_tensor, run, size);
    if (side == CWI_SIDE_TAIL && n->profile) {
        const void *bytes = cw_profile_bytes(n->profile, &size);
        add_bytes(&items[count++], profile_tensor, (void *)(uintptr_t)bytes, size); /* only read */
    }
    return count;
}

static cw_status write_side(const cw_network *n, cwi_side side, const char *path, cw_error *err)
{
    uint8_t *run;
    size_t size;
    CWI_TRY(cwi_welcome_write(&n->setup, &run, &size, err));
    cw_named_tensor *items = cwi_calloc(n->weights.count + 2, sizeof *items);
    char *metadata = metadata_of(n, side);
    cw_status status = CW_ERR_NO_MEMORY;
    if (items && metadata)
        status = cw_safetensors_save(path, items, collect(n, side, run, size, items), metadata, err);
    else
        cwi_fail_memory(err, n->weights.count * sizeof *items);
    free(metadata);
    cwi_free(items);
    cwi_free(run);
    return status;
}

cw_status cw_network_export(const cw_network *n, const char *head_path, const char *tail_path, cw_error *err)
{
    if (!n || (!head_path && !tail_path))
        return cwi_fail(err, CW_ERR_INVALID, "cw_network_export: a NULL argument");
    if (n->side != CWI_SIDE_WHOLE)
        return cwi_fail(err, CW_ERR_INVALID, "%s is one side of a network: export from its run's folder", n->path);
    if (head_path)
        CWI_TRY(write_side(n, CWI_SIDE_HEAD, head_path, err));
    return tail_path ? write_side(n, CWI_SIDE_TAIL, tail_path, err) : CW_OK;
}

/* ---- reading ---- */

static cw_status take_print(const json_t *o, const char *key, uint64_t *print, cw_error *err)
{
    const char *text = json_string_value(json_object_get(o, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return cwi_fail(err, CW_ERR_CORRUPT, "its metadata lack the fingerprint of the %s", key);
    *print = strtoull(text, NULL, 16);
    return CW_OK;
}

static cw_status take_metadata(cw_network *n, const json_t *o, cw_error *err)
{
    const char *side = json_string_value(json_object_get(o, "side"));
    for (cwi_side s = CWI_SIDE_HEAD; side && s <= CWI_SIDE_TAIL; s++)
        if (strcmp(side, side_names[s]) == 0)
            n->side = s;
    if (n->side == CWI_SIDE_WHOLE)
        return cwi_fail(
            err, CW_ERR_CORRUPT,
            "it is neither a run's folder nor a file of `cutwire models export`: its metadata name no side");
    CWI_TRY(take_print(o, "head", &n->info.head_print, err));
    return take_print(o, "tail", &n->info.tail_print, err);
}

static cw_status read_metadata(cw_network *n, cw_error *err)
{
    const char *text = n->weights.metadata ? n->weights.metadata : "";
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const cw_status status = take_metadata(n, o, err);
    json_decref(o);
    return status;
}

static cw_status check_cut(const cw_network *n, const char *asked, cw_error *err)
{
    cw_cut cut;
    if (!asked)
        return CW_OK;
    CWI_TRY(cw_model_cut(n->setup.model, asked, &cut, err));
    return cut.number == n->setup.cut.number
               ? CW_OK
               : cwi_fail(err, CW_ERR_MISMATCH, "it was exported for cut %d, not %d", n->setup.cut.number, cut.number);
}

/* The file's own weights have the fingerprint that it states. */
static cw_status check_weights(const cw_network *n, cw_error *err)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n->weights.count; i++)
        if (cwi_network_side_of(n, n->weights.items[i].name) == n->side)
            sum += cwi_tensor_fingerprint(&n->weights.items[i]);
    return sum == (n->side == CWI_SIDE_HEAD ? n->info.head_print : n->info.tail_print)
               ? CW_OK
               : cwi_fail(err, CW_ERR_CORRUPT, "its weights are not those that were exported");
}

static cw_status open_setup(cw_network *n, const cw_network_options *options, cw_error *err)
{
    const cw_tensor *run = cw_tensor_set_find(&n->weights, run_tensor);
    cw_config config;
    char *recipe;
    cwi_classes classes;
    cwi_required required;
    if (!run || run->dtype != CW_U8 || run->shape.ndim != 1)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s is missing: it is no file of `cutwire models export`", run_tensor);
    cwi_config_init(&config);
    CWI_TRY(cwi_welcome_read(run->data, (size_t)run->shape.dim[0], &config, &required, &recipe, &classes, err));
    config.threads = options->threads;
    const cw_status status = cwi_setup_open_with(&config, recipe, NULL, NULL, &n->setup, err);
    if (status != CW_OK) {
        cwi_classes_free(&classes);
        return status;
    }
    cwi_classes_free(&n->setup.classes);
    n->setup.classes = classes;
    return CW_OK;
}

static cw_status take_profile(cw_network *n, cw_error *err)
{
    const cw_tensor *t = cw_tensor_set_find(&n->weights, profile_tensor);
    if (!t)
        return CW_OK;
    if (t->dtype != CW_U8 || t->shape.ndim != 1)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s is no profile", profile_tensor);
    return cw_profile_create(t->data, (size_t)t->shape.dim[0], &n->profile, err);
}

static cw_status open_file(cw_network *n, const cw_network_options *options, cw_error *err)
{
    CWI_TRY(read_metadata(n, err));
    CWI_TRY(open_setup(n, options, err));
    CWI_TRY(check_cut(n, options->cut, err));
    CWI_TRY(take_profile(n, err));
    return check_weights(n, err);
}

cw_status cwi_network_open_file(cw_network *n, const char *path, const cw_network_options *options, cw_error *err)
{
    CWI_TRY(cw_safetensors_load(path, &n->weights, err));
    const cw_status status = open_file(n, options, err);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}
