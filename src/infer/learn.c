/* learn.c - the profile of a run's cut: learned of the maps of training samples, kept in the run's folder. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "infer/network.h"

enum { SAMPLES = 256, PATH_SIZE = 1100 };

/* ---- in the run's folder ---- */

static void path_of(const char *folder, int cut, char *path)
{
    snprintf(path, PATH_SIZE, "%s/cut%d.profile", folder, cut);
}

cw_status cwi_network_profile_of(const char *folder, int cut, cw_profile **out, cw_error *err)
{
    char path[PATH_SIZE];
    uint8_t *bytes;
    size_t size;
    *out = NULL;
    path_of(folder, cut, path);
    if (access(path, F_OK) != 0)
        return CW_OK;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    const cw_status status = cw_profile_create(bytes, size, out, err);
    cw_bytes_free(bytes);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}

cw_status cwi_network_read_profile(cw_network *n, cw_error *err)
{
    return cwi_network_profile_of(n->path, n->setup.cut.number, &n->profile, err);
}

/* ---- maps of training samples ---- */

typedef struct maps {
    cw_half *head;
    cwi_feed feed;
    float *data;
    size_t each, count, wanted; /* floats of a sample; samples */
} maps;

/* As they are: augmented ones are not what is asked later. */
static cw_status open_training_data(cw_network *n, const char *data_dir, cwi_feed *feed, cw_error *err)
{
    cw_config *config = &n->setup.config;
    config->flip = config->resized_crop = false;
    config->crop_pad = config->train_limit = 0;
    CWI_TRY(cwi_network_set_data(n, NULL, data_dir, 0, err));
    CWI_TRY(cwi_feed_open(&n->setup, CW_SPLIT_TRAIN, 0, 1, NULL, feed, err));
    return cwi_feed_seek(feed, 0, 0, err);
}

static cw_status add_batch(maps *m, cw_error *err)
{
    cw_batch batch;
    CWI_TRY(cwi_feed_next(&m->feed, &batch, err));
    const cw_half_call call = {.mode = CW_EVAL, .n = CWI_MIN(batch.n, m->wanted - m->count)};
    CWI_TRY(cw_half_forward(m->head, &call, batch.x, m->data + m->count * m->each, err));
    m->count += call.n;
    return CW_OK;
}

static cw_status collect(cw_network *n, const char *data_dir, maps *m, cw_error *err)
{
    CWI_TRY(cw_network_head(n, &m->head, err));
    CWI_TRY(cw_shape_count(&n->setup.cut.smashed, &m->each));
    m->data = cwi_alloc(m->wanted * m->each, sizeof(float));
    if (!m->data)
        return cwi_fail_memory(err, m->wanted * m->each * sizeof(float));
    CWI_TRY(open_training_data(n, data_dir, &m->feed, err));
    cw_status status = CW_OK;
    while (status == CW_OK && m->count < m->wanted)
        status = add_batch(m, err);
    return status == CW_END && m->count > 1 ? CW_OK : status;
}

/* ---- learning ---- */

static cw_tensor tensor_of(const cw_network *n, const maps *m, size_t first, size_t count)
{
    return cwi_setup_smashed(&n->setup, m->data + first * m->each, count);
}

/* Mean bytes of samples from `first` on, each alone. */
static cw_status measure(const cw_network *n, const maps *m, const cw_codec *codec, size_t first,
                         const cw_profile *profile, double *bytes, cw_error *err)
{
    const cw_tensor one = tensor_of(n, m, first, 1);
    const size_t bound = cw_codec_bound(codec, &one);
    const cw_encode_args args = {.evaluate = true, .profile = profile};
    uint8_t *buffer = cwi_alloc(bound, 1);
    cw_status status = buffer ? CW_OK : cwi_fail_memory(err, bound);
    size_t total = 0, size;
    for (size_t i = first; i < m->count && status == CW_OK; i++) {
        const cw_tensor x = tensor_of(n, m, i, 1);
        status = cw_encode(codec, &x, &args, buffer, bound, &size, err);
        total += size;
    }
    cwi_free(buffer);
    *bytes = (double)total / (double)(m->count - first);
    return status;
}

static cw_status train(cw_network *n, const maps *m, const cw_codec *codec, double *alone, double *with, cw_error *err)
{
    const size_t learned = (m->count + 1) / 2;
    const cw_tensor x = tensor_of(n, m, 0, learned), *const all = &x;
    cw_profile *profile;
    CWI_TRY(cw_profile_train(codec, &all, 1, &profile, err));
    cw_profile_destroy(&n->profile);
    n->profile = profile;
    n->info.profile = profile;
    if (alone)
        CWI_TRY(measure(n, m, codec, learned, NULL, alone, err));
    return with ? measure(n, m, codec, learned, profile, with, err) : CW_OK;
}

static cw_status save(const cw_network *n, cw_error *err)
{
    char path[PATH_SIZE];
    size_t size;
    const void *bytes = cw_profile_bytes(n->profile, &size);
    path_of(n->path, n->setup.cut.number, path);
    return cw_file_write(path, bytes, size, err);
}

static cw_status learn(cw_network *n, const cw_codec *codec, size_t samples, const char *data_dir, double *alone,
                       double *with, cw_error *err)
{
    maps m = {.wanted = 2 * (samples ? samples : SAMPLES)};
    cw_status status = collect(n, data_dir, &m, err);
    if (status == CW_OK)
        status = train(n, &m, codec, alone, with, err);
    cwi_feed_close(&m.feed);
    cwi_free(m.data);
    return status == CW_OK ? save(n, err) : status;
}

cw_status cw_network_learn_profile(cw_network *n, const char *uplink, size_t samples, const char *data_dir,
                                   double *bytes_alone, double *bytes_with, cw_error *err)
{
    cw_codec *codec;
    if (!n || samples > 1 << 20)
        return cwi_fail(err, CW_ERR_INVALID, "cw_network_learn_profile: no network, or more than a million samples");
    if (n->side != CWI_SIDE_WHOLE)
        return cwi_fail(err, CW_ERR_INVALID, "%s is one side of a network: a profile is learned in its run's folder",
                        n->path);
    cw_status status = cw_codec_create(uplink ? uplink : n->setup.config.uplink, &codec, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "uplink");
    status = learn(n, codec, samples, data_dir, bytes_alone, bytes_with, err);
    cw_codec_destroy(&codec);
    return status;
}
