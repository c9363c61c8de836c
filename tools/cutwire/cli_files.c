/* cli_files.c - see cli_files.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_files.h"

bool cli_is_standard(const char *path)
{
    return strcmp(path, "-") == 0;
}

const char *cli_input_name(const char *path)
{
    return cli_is_standard(path) ? "standard input" : path;
}

/* ---- reading ---- */

static int read_standard(const char *command, cli_input *in)
{
    size_t capacity = 0;
    in->standard = true;
    for (;;) {
        if (in->size == capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            uint8_t *more = realloc(in->data, capacity);
            if (!more)
                return cli_fail(CLI_FAILURE, "%s: standard input: out of memory (%zu bytes)", command, capacity);
            in->data = more;
        }
        const ssize_t n = read(STDIN_FILENO, in->data + in->size, capacity - in->size);
        if (n < 0 && errno != EINTR)
            return cli_fail(CLI_FAILURE, "%s: cannot read standard input: %s", command, strerror(errno));
        if (n == 0)
            return CLI_GO_ON;
        in->size += n > 0 ? (size_t)n : 0;
    }
}

int cli_input_read(const char *command, const char *path, cli_input *in)
{
    *in = (cli_input){.data = NULL};
    if (cli_is_standard(path)) {
        const int code = read_standard(command, in);
        if (code != CLI_GO_ON)
            cli_input_free(in);
        return code;
    }
    cw_error err;
    cw_status status = cw_file_read(path, &in->data, &in->size, &err);
    return status == CW_OK ? CLI_GO_ON : cli_fail_error(command, status, &err);
}

void cli_input_free(cli_input *in)
{
    if (in->standard)
        free(in->data);
    else
        cw_bytes_free(in->data);
    *in = (cli_input){.data = NULL};
}

int cli_npy_read(const char *command, const char *path, cw_tensor *out)
{
    cli_input in;
    cw_error err;
    if (!cli_is_standard(path)) {
        cw_status status = cw_npy_load(path, out, &err);
        return status == CW_OK ? CLI_GO_ON : cli_fail_error(command, status, &err);
    }
    int code = cli_input_read(command, path, &in);
    if (code == CLI_GO_ON && cw_npy_decode(in.data, in.size, out, &err) != CW_OK)
        code = cli_fail(CLI_FAILURE, "%s: standard input: %s", command, err.message);
    cli_input_free(&in);
    return code;
}

/* ---- writing ---- */

static bool is_same_file(const char *a, const char *b)
{
    struct stat s, t;
    return stat(a, &s) == 0 && stat(b, &t) == 0 && S_ISREG(s.st_mode) && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
}

int cli_output_check(const char *command, const char *in, const char *out, bool json)
{
    if (!out)
        return CLI_GO_ON;
    if (!cli_is_standard(out) && !cli_is_standard(in) && is_same_file(in, out))
        return cli_fail(CLI_USAGE, "%s: --in and --out are the same file, %s: name another", command, out);
    if (cli_is_standard(out) && json)
        return cli_fail(CLI_USAGE, "%s: --json and --out - both take standard output: leave one out", command);
    if (cli_is_standard(out) && isatty(STDOUT_FILENO))
        return cli_fail(CLI_USAGE, "%s: --out -: standard output is a terminal: pipe it somewhere, or name a file",
                        command);
    return CLI_GO_ON;
}

int cli_output_write(const char *command, const char *path, const void *bytes, size_t size)
{
    if (cli_is_standard(path)) {
        (void)fwrite(bytes, 1, size, stdout);
        return CLI_GO_ON;
    }
    cw_error err;
    cw_status status = cw_file_write(path, bytes, size, &err);
    return status == CW_OK ? CLI_GO_ON : cli_fail_error(command, status, &err);
}

int cli_npy_write(const char *command, const char *path, const cw_tensor *t)
{
    cw_error err;
    cw_status status;
    if (!cli_is_standard(path)) {
        status = cw_npy_save(path, t, &err);
        return status == CW_OK ? CLI_GO_ON : cli_fail_error(command, status, &err);
    }
    uint8_t *bytes;
    size_t size;
    status = cw_npy_encode(t, &bytes, &size, &err);
    if (status != CW_OK)
        return cli_fail_error(command, status, &err);
    const int code = cli_output_write(command, path, bytes, size);
    cw_bytes_free(bytes);
    return code;
}
