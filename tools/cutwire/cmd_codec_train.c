/* cmd_codec_train.c - cutwire codec train: learns a profile from tensors in .npy files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_files.h"
#include "commands.h"

enum { FILES_MOST = 4096 };

typedef struct tensors {
    cw_tensor tensor[FILES_MOST];
    const cw_tensor *list[FILES_MOST];
    int count;
} tensors;

static void free_tensors(tensors *t)
{
    for (int i = 0; t && i < t->count; i++)
        cw_tensor_free(&t->tensor[i]);
    free(t);
}

static int read_tensors(const char *command, const char *const *files, int count, tensors *t)
{
    for (int i = 0; i < count; i++) {
        const int code = cli_npy_read(command, files[i], &t->tensor[i]);
        if (code != CLI_GO_ON)
            return code;
        t->list[i] = &t->tensor[i];
        t->count = i + 1;
    }
    return CLI_GO_ON;
}

static int report_profile(const char *out, const cw_profile *profile, bool json)
{
    char hash[17];
    size_t size;
    cw_profile_bytes(profile, &size);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)cw_profile_hash(profile));
    if (cli_is_standard(out))
        return CLI_OK;
    if (!json) {
        printf("%s: profile %s, %zu bytes", out, hash, size);
        if (cw_profile_outputs(profile))
            printf(", with a transform of channels to %zu", cw_profile_outputs(profile));
        printf("\n");
        return CLI_OK;
    }
    json_t *object = json_object();
    json_object_set_new(object, "profile", json_string(hash));
    json_object_set_new(object, "bytes", json_integer((json_int_t)size));
    json_object_set_new(object, "outputs", json_integer((json_int_t)cw_profile_outputs(profile)));
    json_object_set_new(object, "out", cli_json_text(out));
    return cli_print_json(object);
}

static int train(const char *command, const char *spec, const char *out, bool json, const char *const *files, int count)
{
    cw_codec *codec = NULL;
    cw_profile *profile = NULL;
    cw_error err = {.message = ""};
    tensors *t = calloc(1, sizeof *t);
    int code = t ? CLI_GO_ON : cli_fail(CLI_FAILURE, "%s: out of memory", command);
    if (code == CLI_GO_ON && cw_codec_create(spec, &codec, &err) != CW_OK)
        code = cli_fail(CLI_USAGE, "%s: --codec: %s", command, err.message);
    if (code == CLI_GO_ON)
        code = read_tensors(command, files, count, t);
    if (code == CLI_GO_ON && cw_profile_train(codec, t->list, (size_t)count, &profile, &err) != CW_OK)
        code = cli_fail(CLI_FAILURE, "%s: %s: %s", command, cli_input_name(files[0]), err.message);
    if (code == CLI_GO_ON) {
        size_t size;
        const void *bytes = cw_profile_bytes(profile, &size);
        code = cli_output_write(command, out, bytes, size);
    }
    if (code == CLI_GO_ON)
        code = report_profile(out, profile, json);
    cw_profile_destroy(&profile);
    cw_codec_destroy(&codec);
    free_tensors(t);
    return code;
}

int cmd_codec_train(int argc, char **argv)
{
    static const char *files[FILES_MOST];
    const char *codec = NULL, *out = NULL;
    bool json = false;
    int count = 0;
    const cli_option table[] = {
        {"codec", "SPEC", "the codec that it is for, e.g. ec:err=0.15", CLI_STRING, &codec},
        {"out", "FILE", "where the profile goes, replacing what is there; -: standard output", CLI_STRING, &out},
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &json}};
    const cli_command command = {
        .name = "codec train",
        .args = "FILE.npy...",
        .summary =
            "Learns a profile from tensors of one cut, so that a single one costs what it does in a batch. They\n"
            "may differ in the first dimension alone.",
        .examples = "  cutwire codec train --codec ec:err=0.15 --out cut.profile maps/*.npy\n"
                    "  cutwire codec encode --codec ec:err=0.15,profile=cut.profile --in x.npy --out x.cw\n"
                    "  cutwire codec decode --profile cut.profile --in x.cw --out y.npy\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
        .min_args = 1,
        .max_args = FILES_MOST};
    int code = cli_parse(&command, argc, argv, files, &count);
    if (code != CLI_GO_ON)
        return code;
    if (!codec || !out)
        return cli_fail(CLI_USAGE, "codec train: --%s is missing: `cutwire codec train --help` shows the usage",
                        codec ? "out" : "codec");
    for (int i = 0; code == CLI_GO_ON && i < count; i++)
        code = cli_output_check(command.name, files[i], out, json);
    return code == CLI_GO_ON ? train(command.name, codec, out, json, files, count) : code;
}
