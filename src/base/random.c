/* random.c - bytes that nobody can guess: names of sessions and clients, keys of tables. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/base.h"

cw_status cwi_random(void *bytes, size_t size, cw_error *err)
{
    uint8_t *at = bytes;
    while (size) {
        const ssize_t got = getrandom(at, size, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cwi_fail(err, CW_ERR_IO, "the system gives no random bytes: %s", strerror(errno));
        at += got;
        size -= (size_t)got;
    }
    return CW_OK;
}

cw_status cwi_random_id(uint64_t *id, cw_error *err)
{
    do
        CWI_TRY(cwi_random(id, sizeof *id, err));
    while (!*id);
    return CW_OK;
}
