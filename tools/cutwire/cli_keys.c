/* cli_keys.c - reads key files. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli_keys.h"

/* A file that an option names, and what belongs there. */
typedef struct key_file {
    const char *command, *option, *path;
    cw_key_kind kind;
    bool one;                  /* not a list */
    const char *if_other_kind; /* what to do with the key that is there */
} key_file;

static int read_keys(const key_file *f, cw_key **keys, size_t *count)
{
    cw_error err;
    cw_status status = cw_net_read_keys_of(f->path, f->kind, keys, count, &err);
    if (status == CW_ERR_MISMATCH)
        return cli_fail(CLI_FAILURE, "%s: --%s: %s: %s", f->command, f->option, err.message, f->if_other_kind);
    if (status != CW_OK)
        return cli_fail(CLI_FAILURE, "%s: --%s: %s", f->command, f->option, err.message);
    if (!f->one || *count == 1)
        return CLI_GO_ON;
    return cli_fail(CLI_FAILURE, "%s: --%s: %s holds %zu keys, and one is wanted", f->command, f->option, f->path,
                    *count);
}

static void warn_if_readable(const char *file, const char *command)
{
    struct stat s;
    if (stat(file, &s) == 0 && S_ISREG(s.st_mode) && (s.st_mode & (S_IRWXG | S_IRWXO))) {
        fprintf(stderr, "%s: others may read this secret key: chmod 600 ", command);
        cli_put_clean(stderr, file);
        fputc('\n', stderr);
    }
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
    const bool server = strcmp(others_option, "client-keys") == 0;
    const key_file own = {command,
                          "key",
                          own_file,
                          CW_KEY_SECRET,
                          true,
                          server
                              ? "this server's own is at the clients' --server-key; those of clients go to "
                                "--client-keys"
                              : "the server's goes to --server-key; this client's own, to the server's --client-keys"};
    const key_file others = {command,
                             others_option,
                             others_file,
                             CW_KEY_PUBLIC,
                             !server,
                             "a secret key goes to --key, on the machine that made it, and nowhere else: here belongs "
                             "the .pub file beside it"};
    int code = read_keys(&own, &keys->own, &keys->own_count);
    if (code == CLI_GO_ON)
        code = read_keys(&others, &keys->others, &keys->other_count);
    if (code != CLI_GO_ON)
        cli_keys_close(keys);
    else
        warn_if_readable(own_file, command);
    return code;
}

void cli_keys_close(cli_keyring *keys)
{
    cw_net_free_keys(keys->own, keys->own_count);
    cw_net_free_keys(keys->others, keys->other_count);
    memset(keys, 0, sizeof *keys);
}
