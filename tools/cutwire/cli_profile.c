/* cli_profile.c - codecs whose spec names a profile's file. */
#include "cli_profile.h"

#include <stdlib.h>
#include <string.h>

#include "cli_files.h"

static const char key[] = "profile=";

int cli_profile_read(const char *command, const char *path, cw_profile **profile)
{
    cw_error err = {.message = ""};
    cli_input in;
    *profile = NULL;
    if (!path)
        return CLI_GO_ON;
    const int code = cli_input_read(command, path, &in);
    if (code != CLI_GO_ON)
        return code;
    const cw_status status = cw_profile_create(in.data, in.size, profile, &err);
    cli_input_free(&in);
    return status == CW_OK ? CLI_GO_ON
                           : cli_fail(CLI_FAILURE, "%s: %s: %s", command, cli_input_name(path), err.message);
}

/* Takes the pair profile=PATH out of a spec; *path is what follows it, or NULL. NULL when out of memory. */
static char *take_path(const char *spec, char **path)
{
    char *rest = strdup(spec);
    *path = NULL;
    for (char *p = rest ? strpbrk(rest, ":,") : NULL; p; p = strpbrk(p + 1, ",")) {
        if (strncmp(p + 1, key, sizeof key - 1) != 0)
            continue;
        char *value = p + sizeof key;
        const size_t length = strcspn(value, ",");
        *path = strndup(value, length);
        if (!*path) {
            free(rest);
            return NULL;
        }
        const char *more = value + length; /* the first pair leaves its colon behind, if others follow */
        memmove(*p == ':' && *more ? p + 1 : p, *p == ':' && *more ? more + 1 : more,
                strlen(more) + (*p != ':' || !*more));
        break;
    }
    return rest;
}

int cli_codec_open(const char *command, const char *spec, cw_codec **codec, cw_profile **profile)
{
    char *path;
    cw_error err = {.message = ""};
    *codec = NULL;
    *profile = NULL;
    char *rest = take_path(spec, &path);
    if (!rest)
        return cli_fail(CLI_FAILURE, "%s: out of memory", command);
    int code = cw_codec_create(rest, codec, &err) == CW_OK
                   ? CLI_GO_ON
                   : cli_fail(CLI_USAGE, "%s: --codec: %s", command, err.message);
    if (code == CLI_GO_ON && path && strncmp(cw_codec_spec(*codec), "ec:", 3) != 0)
        code = cli_fail(CLI_USAGE, "%s: --codec: only codec ec takes a profile", command);
    if (code == CLI_GO_ON)
        code = cli_profile_read(command, path, profile);
    free(path);
    free(rest);
    return code;
}
