/* identity.c - see identity.h. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/identity.h"

enum { DIGITS = 16, TEXT_SIZE = 64 };

static cw_status io_failed(const char *path, const char *what, cw_error *err)
{
    return cwi_fail(err, CW_ERR_IO, "cannot %s the identity %s: %s", what, path, strerror(errno));
}

/* "client N", and a newline; or nothing. */
static bool parse_place(const char *text, uint32_t *place)
{
    static const char word[] = "client ";
    *place = UINT32_MAX;
    if (!*text)
        return true;
    if (strncmp(text, word, strlen(word)) != 0 || !isdigit((unsigned char)text[strlen(word)]))
        return false;
    char *end;
    const unsigned long number = strtoul(text + strlen(word), &end, 10);
    *place = (uint32_t)(number - 1);
    return number >= 1 && number < UINT32_MAX && strcmp(end, "\n") == 0;
}

static cw_status parse(const char *path, const char *text, cwi_identity *id, cw_error *err)
{
    bool good = strlen(text) > DIGITS && text[DIGITS] == '\n';
    for (size_t i = 0; good && i < DIGITS; i++)
        good = isxdigit((unsigned char)text[i]);
    id->token = good ? strtoull(text, NULL, 16) : 0;
    if (id->token && parse_place(text + DIGITS + 1, &id->place))
        return CW_OK;
    return cwi_fail(err, CW_ERR_CORRUPT, "%s is no client's identity: name a file that is not there yet", path);
}

static cw_status read_identity(const char *path, cwi_identity *id, cw_error *err)
{
    char text[TEXT_SIZE] = "";
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_failed(path, "read", err);
    const ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got < 0 ? io_failed(path, "read", err) : parse(path, text, id, err);
}

/* Closes fd; a file that could not be written is removed. */
static cw_status write_identity(int fd, const char *path, const cwi_identity *id, cw_error *err)
{
    char text[TEXT_SIZE];
    int size = snprintf(text, sizeof text, "%016llx\n", (unsigned long long)id->token);
    if (id->place != UINT32_MAX)
        size += snprintf(text + size, sizeof text - (size_t)size, "client %llu\n", (unsigned long long)id->place + 1);
    const bool written = write(fd, text, (size_t)size) == size && fsync(fd) == 0;
    const int reason = errno;
    close(fd);
    errno = reason;
    if (written)
        return CW_OK;
    const cw_status status = io_failed(path, "write", err);
    unlink(path);
    return status;
}

cw_status cwi_identity_open(const char *path, cwi_identity *id, cw_error *err)
{
    *id = (cwi_identity){.place = UINT32_MAX};
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST ? read_identity(path, id, err) : io_failed(path, "write", err);
    do
        CWI_TRY(cwi_random_id(&id->token, err));
    while (!id->token);
    return write_identity(fd, path, id, err);
}

cw_status cwi_identity_keep_place(const char *path, cwi_identity *id, uint32_t place, cw_error *err)
{
    char fresh[400];
    if (id->place == place)
        return CW_OK;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    const int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_failed(path, "write", err);
    id->place = place;
    CWI_TRY(write_identity(fd, fresh, id, err));
    return rename(fresh, path) == 0 ? CW_OK : io_failed(path, "replace", err);
}
