/* samples.c - what a network is fed: its data set's test samples, with the network's labels, or files. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "data/folder_walk.h"
#include "data/photo.h"
#include "infer/network.h"

static cw_status map_labels(const cw_network *network, cwi_test *test, cw_error *err)
{
    const cwi_classes *run = &network->setup.classes, *own = &test->feed.classes;
    if (!run->count || !own->count)
        return CW_OK;
    if (!cwi_classes_unknown(run, own))
        return cwi_classes_map(run, own, &test->map, err);
    char *both = NULL;
    const cw_status status = cwi_classes_refuse(run, own, &both, err);
    cwi_free(both);
    return status;
}

cw_status cwi_test_open(const cw_network *network, cwi_test *test, cw_error *err)
{
    *test = (cwi_test){0};
    CWI_TRY(cwi_feed_open(&network->setup, CW_SPLIT_TEST, 0, 1, NULL, &test->feed, err));
    test->labels = cwi_alloc(network->max_batch, sizeof *test->labels);
    cw_status status = test->labels ? map_labels(network, test, err) : cwi_fail_memory(err, 0);
    if (status == CW_OK)
        status = cwi_feed_seek(&test->feed, 0, 0, err);
    if (status != CW_OK)
        cwi_test_close(test);
    return status;
}

void cwi_test_close(cwi_test *test)
{
    cwi_feed_close(&test->feed);
    cwi_free(test->map);
    cwi_free(test->labels);
    *test = (cwi_test){0};
}

cw_status cwi_test_next(cwi_test *test, cw_batch *batch, cw_error *err)
{
    CWI_TRY(cwi_feed_next(&test->feed, batch, err));
    for (size_t i = 0; i < batch->n; i++)
        test->labels[i] = test->map ? test->map[batch->labels[i]] : batch->labels[i];
    batch->labels = test->labels;
    return CW_OK;
}

/* ---- files ---- */

struct cw_samples {
    cw_network *network;
    cw_samples_options options;
    cwi_test test;
    cwi_names files;          /* those that were named, and those in folders that were */
    cwi_photo_reader *photos; /* made for the first one */
    size_t each;              /* floats of one sample */
    size_t file;              /* next one */
    cw_tensor array;          /* of the file under way */
    size_t at, have;          /* samples of it that were given, of how many */
    size_t given;             /* in all */
};

/* One sample, or several along one more dimension. */
static cw_status check_array(const cw_samples *s, const char *path, size_t *n, cw_error *err)
{
    char got[80], due[80];
    const cw_shape *want = &s->network->setup.sample, *have = &s->array.shape;
    cw_shape one = *have;
    *n = 1;
    if (have->ndim == want->ndim + 1) {
        *n = (size_t)have->dim[0];
        one.ndim--;
        memmove(one.dim, one.dim + 1, sizeof one.dim - sizeof one.dim[0]);
        one.dim[CW_MAX_DIMS - 1] = 0;
    }
    if (s->array.dtype != CW_F32 || !cw_shape_equal(&one, want))
        return cwi_fail(err, CW_ERR_MISMATCH, "%s holds %s of %s, the network takes samples of f32, %s", path,
                        cw_dtype_name(s->array.dtype), cw_shape_format(have, got, sizeof got),
                        cw_shape_format(want, due, sizeof due));
    if (isinf(cwi_peak(s->array.data, *n * s->each)))
        return cwi_fail(err, CW_ERR_NONFINITE, "%s holds NaN or infinity", path);
    return CW_OK;
}

static bool is_array(const char *path)
{
    const size_t length = strlen(path);
    return length >= 4 && strcmp(path + length - 4, ".npy") == 0;
}

static cw_status open_array(cw_samples *s, const char *path, cw_error *err)
{
    const cw_status status = cw_npy_load(path, &s->array, err);
    return status == CW_OK ? check_array(s, path, &s->have, err) : cwi_fail_prefix(err, status, "%s", path);
}

static cw_status open_photo(cw_samples *s, const char *path, cw_error *err)
{
    const cwi_setup *setup = &s->network->setup;
    if (!s->photos)
        CWI_TRY(cwi_photo_open(setup->config.data, &setup->sample, &s->photos, err));
    if (cw_tensor_alloc(&s->array, CW_F32, &setup->sample) != CW_OK)
        return cwi_fail_memory(err, s->each * sizeof(float));
    s->have = 1;
    return cwi_photo_read(s->photos, path, s->array.data, err);
}

static cw_status open_file(cw_samples *s, cw_error *err)
{
    const char *path = s->files.items[s->file++];
    cw_tensor_free(&s->array);
    s->at = s->have = 0;
    return is_array(path) ? open_array(s, path, err) : open_photo(s, path, err);
}

static cw_status next_of_files(cw_samples *s, cw_sample_batch *batch, cw_error *err)
{
    while (s->at == s->have) {
        if (s->file == s->files.count)
            return CW_END;
        CWI_TRY(open_file(s, err));
    }
    batch->n = CWI_MIN(s->have - s->at, s->network->max_batch);
    batch->x = (const float *)s->array.data + s->at * s->each;
    batch->name = s->files.items[s->file - 1];
    batch->first = s->at;
    s->at += batch->n;
    return CW_OK;
}

static cw_status next_of_data(cw_samples *s, cw_sample_batch *batch, cw_error *err)
{
    cw_batch b;
    CWI_TRY(cwi_test_next(&s->test, &b, err));
    *batch = (cw_sample_batch){.n = b.n, .x = b.x, .labels = b.labels, .first = s->given};
    return CW_OK;
}

cw_status cw_samples_next(cw_samples *s, cw_sample_batch *batch, cw_error *err)
{
    const size_t limit = s->options.file_count ? s->options.limit : 0; /* a data set has it already */
    *batch = (cw_sample_batch){0};
    if (limit && s->given >= limit)
        return CW_END;
    CWI_TRY(s->options.file_count ? next_of_files(s, batch, err) : next_of_data(s, batch, err));
    if (limit)
        batch->n = CWI_MIN(batch->n, limit - s->given);
    s->given += batch->n;
    return CW_OK;
}

size_t cw_samples_count(const cw_samples *s)
{
    return s->options.file_count ? 0 : s->test.feed.samples;
}

/* ---- opening ---- */

/* Where a folder lies, and its own name there. */
static void part_path(const char *path, char *parent, char *name, size_t size)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t at = end;
    while (at > 0 && path[at - 1] != '/')
        at--;
    snprintf(name, size, "%.*s", (int)(end - at), path + at);
    snprintf(parent, size, "%.*s", at ? (int)at : 1, at ? path : ".");
}

/* The photos below a folder. */
static cw_status add_folder(cw_samples *s, const char *folder, cw_error *err)
{
    enum { SIZE = 4096 };
    char parent[SIZE], name[SIZE], path[2 * SIZE];
    cwi_skipped skipped = {0};
    cwi_names found = {0};
    if (strlen(folder) >= SIZE)
        return cwi_fail(err, CW_ERR_INVALID, "%.200s...: a path of more than %d bytes", folder, SIZE - 1);
    part_path(folder, parent, name, SIZE);
    cw_status status = cwi_walk_photos(parent, name, &found, &skipped, err);
    for (size_t i = 0; i < found.count && status == CW_OK; i++) {
        const bool here = strcmp(parent, ".") == 0;
        snprintf(path, sizeof path, "%s%s", here ? "" : parent, found.items[i]);
        status = cwi_names_add(&s->files, path, err);
    }
    if (status == CW_OK && !found.count)
        status = cwi_fail(err, CW_ERR_NOT_FOUND, "%s holds no images (.jpg, .jpeg, .jpe, .jfif or .png)", folder);
    cwi_names_free(&found);
    return status;
}

static cw_status open_files(cw_samples *s, cw_error *err)
{
    struct stat st;
    for (size_t i = 0; i < s->options.file_count; i++) {
        const char *path = s->options.files[i];
        const bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        CWI_TRY(folder ? add_folder(s, path, err) : cwi_names_add(&s->files, path, err));
    }
    return CW_OK;
}

static cw_status open_samples(cw_samples *s, cw_error *err)
{
    const cw_samples_options *o = &s->options;
    CWI_TRY(cw_shape_count(&s->network->setup.sample, &s->each));
    if (o->file_count)
        return open_files(s, err);
    CWI_TRY(cwi_network_set_data(s->network, o->data, o->data_dir, o->limit, err));
    return cwi_test_open(s->network, &s->test, err);
}

cw_status cw_samples_open(cw_network *network, const cw_samples_options *options, cw_samples **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!network || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_samples_open: a NULL argument");
    cw_samples *s = cwi_calloc(1, sizeof *s);
    if (!s)
        return cwi_fail_memory(err, sizeof *s);
    s->network = network;
    s->options = *options;
    const cw_status status = open_samples(s, err);
    if (status != CW_OK)
        cw_samples_close(&s);
    *out = s;
    return status;
}

void cw_samples_close(cw_samples **samples)
{
    cw_samples *s = samples ? *samples : NULL;
    if (!s)
        return;
    if (!s->options.file_count)
        cwi_test_close(&s->test);
    cwi_photo_close(&s->photos);
    cwi_names_free(&s->files);
    cw_tensor_free(&s->array);
    cwi_free(s);
    *samples = NULL;
}
