/* file.c - whole files as bytes; writing is atomic: a reader sees the old file or the whole new one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "io/file.h"

static cw_status fail_errno(cw_error *err, const char *action, const char *path, int error)
{
    cw_status status = error == ENOENT ? CW_ERR_NOT_FOUND : CW_ERR_IO;
    return cwi_fail(err, status, "cannot %s %s: %s", action, path, strerror(error));
}

/* ---- reading ---- */

/* Reads to the end, growing the buffer: the size a file claims is a hint only (pipes claim none). */
static cw_status read_all(int fd, const char *path, size_t hint, uint8_t **data, size_t *size, cw_error *err)
{
    size_t capacity = hint + 1; /* one more than expected, so that the end is seen without growing */
    size_t used = 0;
    uint8_t *buf = cwi_alloc(capacity, 1);
    if (!buf)
        return cwi_fail_memory(err, capacity);
    for (;;) {
        if (used == capacity) {
            uint8_t *more = capacity <= SIZE_MAX / 2 ? cwi_realloc(buf, capacity, 2 * capacity) : NULL;
            if (!more) {
                cwi_free(buf);
                return cwi_fail_memory(err, capacity);
            }
            buf = more;
            capacity *= 2;
        }
        ssize_t n = read(fd, buf + used, capacity - used);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR) {
            cwi_free(buf);
            return fail_errno(err, "read", path, errno);
        }
        used += n > 0 ? (size_t)n : 0;
    }
    *data = buf;
    *size = used;
    return CW_OK;
}

cw_status cw_file_read(const char *path, uint8_t **data, size_t *size, cw_error *err)
{
    *data = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open", path, errno);
    struct stat st;
    cw_status status;
    if (fstat(fd, &st) != 0)
        status = fail_errno(err, "read", path, errno);
    else if (S_ISDIR(st.st_mode))
        status = fail_errno(err, "read", path, EISDIR);
    else
        status = read_all(fd, path, S_ISREG(st.st_mode) ? (size_t)st.st_size : 65535, data, size, err);
    close(fd);
    return status;
}

void cw_bytes_free(uint8_t *data)
{
    cwi_free(data);
}

/* ---- writing ---- */

/* 0 or errno. */
static int write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, CWI_MIN(size, (size_t)1 << 30));
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

/* Makes the new name itself survive a power cut. Some file systems cannot sync a folder; the data is safe anyway. */
static void sync_folder_of(const char *path)
{
    char *folder = cwi_strdup(path);
    if (!folder)
        return;
    char *slash = strrchr(folder, '/');
    const char *name = ".";
    if (slash) {
        slash[slash == folder] = '\0'; /* "/x" lies in "/" */
        name = folder;
    }
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    cwi_free(folder);
}

/* Where descriptors have run out, for a server that sheds connections within moments. */
static int open_patiently(const char *path, int flags)
{
    enum { TRIES = 100 };
    const struct timespec nap = {.tv_nsec = 20000000};
    int fd = open(path, flags, 0666);
    for (int i = 0; i < TRIES && fd < 0 && errno == EMFILE; i++) {
        nanosleep(&nap, NULL);
        fd = open(path, flags, 0666);
    }
    return fd;
}

/* Writes and syncs; 0 or errno. */
static int write_to(const char *path, int flags, const cwi_piece *pieces, size_t count)
{
    int fd = open_patiently(path, O_WRONLY | O_CLOEXEC | flags);
    if (fd < 0)
        return errno;
    int error = 0;
    for (size_t i = 0; i < count && error == 0; i++)
        error = write_all(fd, pieces[i].data, pieces[i].size);
    if (error == 0 && fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        error = errno;
    if (close(fd) != 0 && error == 0)
        error = errno;
    return error;
}

/* Devices and pipes are written as they are: a file in their place is not what anybody wants. */
static bool is_special(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
}

cw_status cwi_file_write_pieces(const char *path, const cwi_piece *pieces, size_t count, cw_error *err)
{
    if (is_special(path)) {
        const int failed = write_to(path, 0, pieces, count);
        return failed ? fail_errno(err, "write", path, failed) : CW_OK;
    }
    size_t tmp_size = strlen(path) + sizeof ".tmp";
    char *tmp = cwi_alloc(tmp_size, 1);
    if (!tmp)
        return cwi_fail_memory(err, tmp_size);
    snprintf(tmp, tmp_size, "%s.tmp", path);
    int error = write_to(tmp, O_CREAT | O_TRUNC, pieces, count);
    if (error == 0 && rename(tmp, path) != 0)
        error = errno;
    cw_status status = CW_OK;
    if (error == 0) {
        sync_folder_of(path);
    } else {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++)
            bytes += pieces[i].size;
        unlink(tmp);
        status =
            cwi_fail(err, CW_ERR_IO, "cannot write %s (%zu bytes): %s; a file of that name from before is unchanged",
                     path, bytes, strerror(error));
    }
    cwi_free(tmp);
    return status;
}

cw_status cw_file_write(const char *path, const void *data, size_t size, cw_error *err)
{
    return cwi_file_write_pieces(path, &(cwi_piece){data, size}, 1, err);
}
