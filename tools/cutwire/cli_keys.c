/* cli_keys.c - reads key files. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli_keys.h"

static int read_keys(const char *file, const char *command, cw_key **keys, size_t *count)
{
    cw_error err;
    cw_status status = cw_net_read_keys(file, keys, count, &err);
    return status == CW_OK ? CLI_GO_ON : cli_fail_error(command, status, &err);
}

static void warn_if_readable(const char *file, const char *command)
{
    struct stat s;
    if (stat(file, &s) == 0 && S_ISREG(s.st_mode) && (s.st_mode & (S_IRWXG | S_IRWXO)))
        fprintf(stderr, "%s: others may read the secret key in %s: `chmod 600 %s`\n", command, file, file);
}

int cli_keys_open(cli_keyring *keys, const char *own_file, const char *others_file, const char *command,
                  const char *others_option)
{
    memset(keys, 0, sizeof *keys);
    if (!own_file && !others_file)
        return CLI_GO_ON;
    if (!own_file || !others_file)
        return cli_fail(CLI_USAGE, "%s: --key and --%s go together: make keys with `cutwire keygen`", command,
                        others_option);
    warn_if_readable(own_file, command);
    int code = read_keys(own_file, command, &keys->own, &keys->own_count);
    if (code == CLI_GO_ON)
        code = read_keys(others_file, command, &keys->others, &keys->other_count);
    if (code != CLI_GO_ON)
        cli_keys_close(keys);
    return code;
}

void cli_keys_close(cli_keyring *keys)
{
    cw_net_free_keys(keys->own, keys->own_count);
    cw_net_free_keys(keys->others, keys->other_count);
    memset(keys, 0, sizeof *keys);
}
