/* identity.c - see identity.h. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/identity.h"

enum { DIGITS = 16 };

static cw_status io_failed(const char *path, const char *what, cw_error *err)
{
    return cwi_fail(err, CW_ERR_IO, "cannot %s the identity %s: %s", what, path, strerror(errno));
}

static cw_status parse(const char *path, const char *text, ssize_t size, uint64_t *token, cw_error *err)
{
    bool good = size == DIGITS + 1 && text[DIGITS] == '\n';
    for (size_t i = 0; good && i < DIGITS; i++)
        good = isxdigit((unsigned char)text[i]);
    *token = good ? strtoull(text, NULL, 16) : 0;
    return *token
               ? CW_OK
               : cwi_fail(err, CW_ERR_CORRUPT, "%s is no client's identity: name a file that is not there yet", path);
}

static cw_status read_token(const char *path, uint64_t *token, cw_error *err)
{
    char text[DIGITS + 3] = "";
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_failed(path, "read", err);
    const ssize_t got = read(fd, text, DIGITS + 2);
    close(fd);
    return got < 0 ? io_failed(path, "read", err) : parse(path, text, got, token, err);
}

static cw_status write_token(int fd, const char *path, uint64_t token, cw_error *err)
{
    char text[DIGITS + 2];
    snprintf(text, sizeof text, "%016llx\n", (unsigned long long)token);
    const bool written = write(fd, text, DIGITS + 1) == DIGITS + 1 && fsync(fd) == 0;
    const int reason = errno;
    close(fd);
    errno = reason;
    if (written)
        return CW_OK;
    const cw_status status = io_failed(path, "write", err);
    unlink(path);
    return status;
}

cw_status cwi_identity_token(const char *path, uint64_t *token, cw_error *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST ? read_token(path, token, err) : io_failed(path, "write", err);
    do
        CWI_TRY(cwi_random_id(token, err));
    while (!*token);
    return write_token(fd, path, *token, err);
}
