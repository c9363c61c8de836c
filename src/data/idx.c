/* idx.c - IDX: bytes 0 0 8 ndim, then ndim big-endian 32-bit sizes, then the elements. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/base.h"
#include "data/idx.h"

/* No deflate stream expands further than this (1032:1), so that a small file cannot ask for much memory. */
enum { MAX_EXPANSION = 1032 };

/* Exactly `size` bytes, or the reason why not. */
static cw_status read_exactly(gzFile f, const char *path, uint8_t *data, size_t size, cw_error *err)
{
    for (size_t done = 0; done < size;) {
        int n = gzread(f, data + done, (unsigned)CWI_MIN(size - done, (size_t)1 << 24));
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        int code;
        const char *why = gzerror(f, &code);
        if (code == Z_ERRNO)
            return cwi_fail(err, CW_ERR_IO, "cannot read %s: %s", path, strerror(errno));
        if (code == Z_OK || code == Z_BUF_ERROR)
            return cwi_fail(err, CW_ERR_TRUNCATED, "%s ends %zu bytes too early", path, size - done);
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds damaged gzip data (%s)", path, why);
    }
    return CW_OK;
}

/* Nothing may follow; reading to the end also makes zlib check the gzip checksum. */
static cw_status expect_end(gzFile f, const char *path, cw_error *err)
{
    uint8_t extra;
    int n = gzread(f, &extra, 1), code;
    const char *why = gzerror(f, &code);
    if (n > 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s is longer than its header says", path);
    if (code == Z_BUF_ERROR)
        return cwi_fail(err, CW_ERR_TRUNCATED, "%s ends before its gzip checksum", path);
    if (n < 0 || code != Z_OK)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds damaged gzip data (%s)", path, why);
    return CW_OK;
}

static cw_status read_header(gzFile f, const char *path, int ndim, cw_shape *shape, cw_error *err)
{
    uint8_t head[4 + 4 * CW_MAX_DIMS];
    CWI_TRY(read_exactly(f, path, head, 4, err));
    if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != ndim)
        return cwi_fail_at(err, CW_ERR_MAGIC, 0,
                           "%s begins with %02x%02x%02x%02x, not with 000008%02x: no IDX file of %s", path, head[0],
                           head[1], head[2], head[3], ndim, ndim == 1 ? "labels" : "images");
    CWI_TRY(read_exactly(f, path, head + 4, 4 * (size_t)ndim, err));
    shape->ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        const uint8_t *p = head + 4 + 4 * d;
        shape->dim[d] = (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    }
    return CW_OK;
}

static cw_status load(gzFile f, const char *path, uint64_t file_size, int ndim, cw_tensor *out, cw_error *err)
{
    cw_shape shape = {0};
    size_t count;
    CWI_TRY(read_header(f, path, ndim, &shape, err));
    if (cw_shape_count(&shape, &count) != CW_OK || count / MAX_EXPANSION > file_size)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, 4, "%s: its header promises more than %llu bytes can hold", path,
                           (unsigned long long)file_size);
    if (cw_tensor_alloc(out, CW_U8, &shape) != CW_OK)
        return cwi_fail_memory(err, count);
    cw_status status = read_exactly(f, path, out->data, count, err);
    if (status == CW_OK)
        status = expect_end(f, path, err);
    if (status != CW_OK)
        cw_tensor_free(out);
    return status;
}

cw_status cwi_idx_load(const char *path, int ndim, cw_tensor *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    struct stat st;
    gzFile f = stat(path, &st) == 0 ? gzopen(path, "rb") : NULL;
    if (!f)
        return cwi_fail(err, errno == ENOENT ? CW_ERR_NOT_FOUND : CW_ERR_IO, "cannot open %s: %s", path,
                        strerror(errno));
    cw_status status = load(f, path, (uint64_t)st.st_size, ndim, out, err);
    gzclose(f);
    return status;
}
