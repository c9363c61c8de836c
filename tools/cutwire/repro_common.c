/* repro_common.c - a tensor through a codec, folders, and gnuplot as a program. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "repro.h"

/* ---- one tensor through one codec ---- */

static void compare(const float *x, const float *y, size_t count, repro_coded *out)
{
    double norm = 0, error = 0;
    for (size_t i = 0; i < count; i++) {
        double a = (double)x[i], d = (double)y[i] - a;
        norm += a * a;
        error += d * d;
    }
    out->l2 = sqrt(error);
    out->relative = norm > 0 ? sqrt(error / norm) : 0;
}

static cw_status encode_and_decode(const cw_codec *codec, uint64_t seed, const cw_tensor *x, float *back,
                                   repro_coded *out, cw_error *err)
{
    size_t bound = cw_codec_bound(codec, x), size;
    uint8_t *bytes = malloc(bound ? bound : 1);
    if (!bytes)
        return CW_ERR_NO_MEMORY;
    cw_payload_info info = {.header_bytes = 0};
    cw_tensor y = cw_tensor_view(CW_F32, &x->shape, back);
    const cw_encode_args args = {.seed = seed};
    cw_status status = cw_encode(codec, x, &args, bytes, bound, &size, err);
    if (status == CW_OK)
        status = cw_payload_inspect(bytes, size, &info, err);
    if (status == CW_OK)
        status = cw_decode(bytes, size, &y, NULL, err);
    free(bytes);
    out->payload_bytes = info.payload_bytes;
    out->header_bytes = info.header_bytes;
    return status;
}

cw_status repro_through(const char *spec, uint64_t seed, const cw_tensor *x, float *back, repro_coded *out,
                        cw_error *err)
{
    cw_codec *codec;
    size_t count;
    cw_status status = cw_shape_count(&x->shape, &count);
    if (status == CW_OK)
        status = cw_codec_create(spec, &codec, err);
    if (status != CW_OK)
        return status;
    status = encode_and_decode(codec, seed, x, back, out, err);
    cw_codec_destroy(&codec);
    if (status == CW_OK)
        compare(x->data, back, count, out);
    return status;
}

/* ---- options ---- */

static const char *const keys_offered[REPRO_KEYS] = {"data",        "data-dir",   "model", "activation",
                                                     "precision",   "epochs",     "batch", "lr",
                                                     "train-limit", "test-limit", "seed",  "threads"};

static const cw_config_option *describe(const char *key)
{
    size_t i = 0;
    while (strcmp(cw_config_option_at(i)->key, key) != 0)
        i++;
    return cw_config_option_at(i);
}

void repro_key_options(repro_keys *keys, cli_option *table)
{
    for (size_t i = 0; i < REPRO_KEYS; i++) {
        const cw_config_option *d = describe(keys_offered[i]);
        table[i] = (cli_option){d->key, d->metavar, d->help, CLI_STRING, &keys->value[i]};
    }
}

cw_status repro_keys_for_run(const repro_keys *keys, cw_config *config, cw_error *err)
{
    static const char *const free_ones[] = {"data-dir", "precision", "seed", "threads"};
    for (size_t i = 0; i < REPRO_KEYS; i++) {
        bool is_free = false;
        for (size_t k = 0; k < sizeof free_ones / sizeof *free_ones; k++)
            is_free |= strcmp(keys_offered[i], free_ones[k]) == 0;
        if (keys->value[i] && !is_free) {
            snprintf(err->message, sizeof err->message, "--%s is that of the run (--run): leave it out",
                     keys_offered[i]);
            return err->status = CW_ERR_SPEC;
        }
        cw_status status = keys->value[i] ? cw_config_set(config, keys_offered[i], keys->value[i], err) : CW_OK;
        if (status != CW_OK)
            return status;
    }
    return CW_OK;
}

/* Said here, before a data set is read, in this command's own words. */
static int refuse_earlier(const char *name, const char *run)
{
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", run);
    if (access(path, F_OK) != 0)
        return CLI_GO_ON;
    return cli_fail(CLI_FAILURE,
                    "%s: %s holds the network of an earlier run: use it by --run %s, replace it by "
                    "--overwrite, or name another folder by --out",
                    name, run, run);
}

static cw_status configure(const repro_keys *keys, int epochs, const char *out, bool overwrite, cw_config *config,
                           cw_error *err)
{
    char epochs_text[16], run[600];
    snprintf(epochs_text, sizeof epochs_text, "%d", epochs);
    snprintf(run, sizeof run, "%s/run", out);
    const char *const settings[][2] = {
        {"epochs", epochs_text}, {"batch", "128"}, {"out", run}, {"overwrite", overwrite ? "1" : "0"}};
    cw_status status = CW_OK;
    for (size_t i = 0; i < sizeof settings / sizeof *settings && status == CW_OK; i++)
        status = cw_config_set(config, settings[i][0], settings[i][1], err);
    for (size_t i = 0; i < REPRO_KEYS && status == CW_OK; i++)
        status = keys->value[i] ? cw_config_set(config, keys_offered[i], keys->value[i], err) : CW_OK;
    return status;
}

int repro_configure(const char *name, const repro_keys *keys, int epochs, const char *out, bool overwrite,
                    cw_config **config)
{
    cw_error err;
    if (cw_config_create(config, &err) != CW_OK)
        return cli_fail(CLI_FAILURE, "%s: %s", name, err.message);
    int code = CLI_GO_ON;
    if (configure(keys, epochs, out, overwrite, *config, &err) != CW_OK)
        code = cli_fail(CLI_USAGE, "%s: --%s", name, err.message);
    else if (!overwrite)
        code = refuse_earlier(name, cw_config_string(*config, "out"));
    if (code != CLI_GO_ON)
        cw_config_destroy(config);
    return code;
}

/* ---- files ---- */

static cw_status fail_io(cw_error *err, const char *what, const char *path)
{
    snprintf(err->message, sizeof err->message, "%s %.200s: %s", what, path, strerror(errno));
    return err->status = CW_ERR_IO;
}

cw_status repro_folder(const char *path, cw_error *err)
{
    char part[512];
    size_t length = strlen(path);
    if (length >= sizeof part) {
        errno = ENAMETOOLONG;
        return fail_io(err, "cannot make folder", path);
    }
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return fail_io(err, "cannot make folder", part);
    }
    return CW_OK;
}

enum { NO_SUCH_PROGRAM = 127 };

static int run_gnuplot(const char *folder, const char *script)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(folder) == 0)
            execlp("gnuplot", "gnuplot", script, (char *)NULL);
        _exit(NO_SUCH_PROGRAM);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return NO_SUCH_PROGRAM;
    return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_FAILURE;
}

bool repro_plot(const char *folder, const char *script, const char *text)
{
    char path[600];
    cw_error err = {.message = ""};
    snprintf(path, sizeof path, "%s/%s", folder, script);
    cw_status status = cw_file_write(path, text, strlen(text), &err);
    if (status != CW_OK)
        return cli_fail_error("repro", status, &err) < 0;
    int code = run_gnuplot(folder, script);
    if (code == NO_SUCH_PROGRAM)
        fprintf(
            stderr,
            "cutwire: repro: no picture: gnuplot is not installed: install gnuplot-nox, then run `gnuplot %s` in %s\n",
            script, folder);
    else if (code != 0)
        fprintf(stderr, "cutwire: repro: no picture: gnuplot failed on %s: its message is above\n", path);
    return code == 0;
}
