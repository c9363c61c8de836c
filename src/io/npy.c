/* npy.c - NumPy's .npy files (NEP 1): a magic, a version, a Python dict literal, the elements.
 *
 * The dict is {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }; only this grammar is accepted, with its keys
 * in any order, and what Python 2 made of it: u'descr', (3L, 4L).
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "io/file.h"
#include "io/npy.h"

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
static const uint8_t zip[4] = {'P', 'K', 3, 4};

/* ---- the dict literal ---- */

typedef struct cursor {
    const uint8_t *base, *p, *end;
    cw_error *err;
} cursor;

static cw_status bad(const cursor *c, cw_status status, const char *what)
{
    return cwi_fail_at(c->err, status, (uint64_t)(c->p - c->base), "%s at byte %td of the header", what,
                       c->p - c->base);
}

static void skip_space(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r'))
        c->p++;
}

/* Takes the character, after white space, if it is next. */
static bool take(cursor *c, char ch)
{
    skip_space(c);
    if (c->p == c->end || *c->p != (uint8_t)ch)
        return false;
    c->p++;
    return true;
}

static bool take_word(cursor *c, const char *word)
{
    skip_space(c);
    size_t n = strlen(word);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

static cw_status take_string(cursor *c, char *out, size_t size)
{
    take(c, 'u');
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return bad(c, CW_ERR_CORRUPT, "a quoted string is missing");
    const uint8_t quote = *c->p++;
    size_t n = 0;
    while (c->p < c->end && *c->p != quote) {
        if (*c->p < 0x20 || *c->p == '\\' || n + 1 >= size)
            return bad(c, CW_ERR_CORRUPT, "an unexpected string");
        out[n++] = (char)*c->p++;
    }
    if (c->p == c->end)
        return bad(c, CW_ERR_CORRUPT, "an unterminated string");
    c->p++;
    out[n] = '\0';
    return CW_OK;
}

static cw_status take_shape(cursor *c, cw_shape *shape)
{
    memset(shape, 0, sizeof *shape);
    if (!take(c, '('))
        return bad(c, CW_ERR_CORRUPT, "the shape is not a tuple");
    while (!take(c, ')')) {
        if (shape->ndim == CW_MAX_DIMS)
            return bad(c, CW_ERR_UNSUPPORTED, "more than 8 dimensions");
        int64_t dim = 0;
        const uint8_t *first = c->p;
        for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
            if (__builtin_mul_overflow(dim, 10, &dim) || __builtin_add_overflow(dim, *c->p - '0', &dim))
                return bad(c, CW_ERR_CORRUPT, "a dimension overflows 63 bits");
        if (c->p == first)
            return bad(c, CW_ERR_CORRUPT, "a dimension is not a number");
        shape->dim[shape->ndim++] = dim;
        c->p += c->p < c->end && *c->p == 'L';
        if (!take(c, ',')) {
            if (shape->ndim == 1 || !take(c, ')')) /* Python's (3) is no tuple */
                return bad(c, CW_ERR_CORRUPT, "the shape is not a tuple");
            break;
        }
        skip_space(c);
    }
    return CW_OK;
}

static cw_status take_dtype(cursor *c, cwi_npy_header *out)
{
    static const struct {
        char text[4];
        cw_dtype dtype;
    } known[] = {{"f4", CW_F32}, {"f2", CW_F16}, {"u1", CW_U8}, {"i4", CW_I32}, {"i8", CW_I64}};
    char text[32];
    if (take(c, '['))
        return bad(c, CW_ERR_UNSUPPORTED, "a structured dtype");
    CWI_TRY(take_string(c, text, sizeof text));
    const bool ordered = *text == '<' || *text == '>', bytes = *text == '|' && strcmp(text + 1, "u1") == 0;
    for (size_t i = 0; i < CWI_COUNT(known); i++) {
        if ((ordered || bytes) && strcmp(text + 1, known[i].text) == 0) {
            out->dtype = known[i].dtype;
            out->swapped = *text == '>';
            return CW_OK;
        }
    }
    return cwi_fail(c->err, CW_ERR_UNSUPPORTED,
                    "dtype '%s' is not one of <f4 <f2 |u1 <i4 <i8; convert with x.astype('<f4') before saving", text);
}

static cw_status take_order(cursor *c, bool *fortran)
{
    *fortran = take_word(c, "True");
    return *fortran || take_word(c, "False") ? CW_OK
                                             : bad(c, CW_ERR_CORRUPT, "fortran_order is neither True nor False");
}

static cw_status take_dict(cursor *c, cwi_npy_header *out)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    unsigned seen = 0;
    if (!take(c, '{'))
        return bad(c, CW_ERR_CORRUPT, "no dict");
    while (!take(c, '}')) {
        char key[32];
        unsigned k = 0;
        CWI_TRY(take_string(c, key, sizeof key));
        while (k < CWI_COUNT(keys) && strcmp(key, keys[k]) != 0)
            k++;
        if (k == CWI_COUNT(keys) || (seen >> k & 1) || !take(c, ':'))
            return bad(c, CW_ERR_CORRUPT, "an unexpected or repeated key");
        seen |= 1u << k;
        CWI_TRY(k == 0 ? take_dtype(c, out) : k == 1 ? take_order(c, &out->fortran) : take_shape(c, &out->shape));
        if (!take(c, ',')) {
            if (!take(c, '}'))
                return bad(c, CW_ERR_CORRUPT, "a comma is missing");
            break;
        }
    }
    skip_space(c);
    if (c->p != c->end)
        return bad(c, CW_ERR_CORRUPT, "something follows the dict");
    return seen == 7 ? CW_OK : bad(c, CW_ERR_CORRUPT, "descr, fortran_order or shape is missing");
}

/* ---- the file ---- */

cw_status cwi_npy_parse(const uint8_t *bytes, size_t size, cwi_npy_header *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    if (size >= sizeof zip && memcmp(bytes, zip, sizeof zip) == 0)
        return cwi_fail_at(
            err, CW_ERR_MAGIC, 0,
            "an archive of arrays (.npz), where one array is wanted (.npy): in Python numpy.load(FILE) has "
            "them by name, and numpy.save writes one");
    if (size < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)
        return cwi_fail_at(err, CW_ERR_MAGIC, 0, "not a .npy file (it does not begin with \\x93NUMPY)");
    if (size < 10)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "the file ends inside its header");
    unsigned major = bytes[6], minor = bytes[7];
    if (major < 1 || major > 3 || minor != 0)
        return cwi_fail_at(err, CW_ERR_VERSION, 6, "format version %u.%u is not 1.0, 2.0 or 3.0", major, minor);
    size_t begin = major == 1 ? 10 : 12;
    if (size < begin)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "the file ends inside its header");
    uint64_t length = cwi_get_le(bytes + 8, major == 1 ? 2 : 4);
    if (length > size - begin)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "the header claims %llu bytes, the file has %zu left",
                           (unsigned long long)length, size - begin);
    cursor c = {bytes, bytes + begin, bytes + begin + length, err};
    CWI_TRY(take_dict(&c, out));
    size_t count;
    if (cw_shape_count(&out->shape, &count) != CW_OK)
        return cwi_fail_at(err, CW_ERR_CORRUPT, begin, "the shape is too large to exist");
    out->data_offset = begin + (size_t)length;
    out->data_size = count * cw_dtype_size(out->dtype);
    size_t have = size - out->data_offset;
    if (have != out->data_size)
        return cwi_fail_at(err, have < out->data_size ? CW_ERR_TRUNCATED : CW_ERR_CORRUPT, out->data_offset,
                           "the shape needs %zu bytes of elements, the file holds %zu", out->data_size, have);
    return CW_OK;
}

/* One element, its bytes in the file's order, to this machine's. */
static void copy_element(uint8_t *dst, const uint8_t *src, size_t size, bool swapped)
{
    for (size_t k = 0; k < size; k++)
        dst[k] = src[swapped ? size - 1 - k : k];
}

/* The elements of a file as a tensor has them: little-endian, the last index running fastest. */
static void place_elements(const uint8_t *src, const cwi_npy_header *h, uint8_t *dst)
{
    const size_t size = cw_dtype_size(h->dtype), count = h->data_size / size;
    int64_t index[CW_MAX_DIMS] = {0};
    size_t stride[CW_MAX_DIMS] = {0}, at = 0;
    const int ndim = h->fortran ? h->shape.ndim : 0;
    for (int d = 0; d < ndim; d++)
        stride[d] = d ? stride[d - 1] * (size_t)h->shape.dim[d - 1] : 1;
    for (size_t i = 0; i < count; i++) {
        copy_element(dst + i * size, src + (ndim ? at : i) * size, size, h->swapped);
        for (int d = ndim - 1; d >= 0; d--) {
            at += stride[d];
            if (++index[d] < h->shape.dim[d])
                break;
            at -= (size_t)index[d] * stride[d];
            index[d] = 0;
        }
    }
}

/* The file's memory becomes the tensor's where its elements are as a tensor has them: they move to its aligned start.
 */
static cw_status take_elements(uint8_t **bytes, const cwi_npy_header *h, cw_error *err)
{
    if (!h->swapped && !h->fortran) {
        memmove(*bytes, *bytes + h->data_offset, h->data_size);
        return CW_OK;
    }
    uint8_t *placed = cwi_alloc(h->data_size, 1);
    if (!placed)
        return cwi_fail_memory(err, h->data_size);
    place_elements(*bytes + h->data_offset, h, placed);
    cwi_free(*bytes);
    *bytes = placed;
    return CW_OK;
}

cw_status cw_npy_load(const char *path, cw_tensor *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    cwi_npy_header h;
    cw_status status = cwi_npy_parse(bytes, size, &h, err);
    if (status == CW_OK)
        status = take_elements(&bytes, &h, err);
    if (status != CW_OK) {
        cwi_free(bytes);
        return cwi_fail_prefix(err, status, "%s", path);
    }
    *out = (cw_tensor){.dtype = h.dtype, .shape = h.shape, .data = bytes, .owned = true};
    return CW_OK;
}

cw_status cw_npy_decode(const void *bytes, size_t size, cw_tensor *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    cwi_npy_header h;
    CWI_TRY(cwi_npy_parse(bytes, size, &h, err));
    if (cw_tensor_alloc(out, h.dtype, &h.shape) != CW_OK)
        return cwi_fail_memory(err, h.data_size);
    if (h.data_size)
        place_elements((const uint8_t *)bytes + h.data_offset, &h, out->data);
    return CW_OK;
}

static const char *descr_of(cw_dtype dtype)
{
    switch (dtype) {
    case CW_F32:
        return "<f4";
    case CW_BF16:
        return "<u2";
    case CW_F16:
        return "<f2";
    case CW_U8:
        return "|u1";
    case CW_I32:
        return "<i4";
    case CW_I64:
        return "<i8";
    }
    return NULL;
}

/* Version 1.0, padded with blanks so that the elements begin at a multiple of 64. Returns the size. */
static size_t format_header(const cw_tensor *t, char *head, size_t capacity)
{
    char dims[8 * 22 + 1] = "";
    size_t used = 0;
    for (int i = 0; i < t->shape.ndim; i++)
        used += (size_t)snprintf(dims + used, sizeof dims - used, "%s%lld", i ? ", " : "", (long long)t->shape.dim[i]);
    int n = snprintf(head + 10, capacity - 10, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }",
                     descr_of(t->dtype), dims, t->shape.ndim == 1 ? "," : "");
    size_t end = 10 + (size_t)n;
    size_t size = (end + 1 + 63) / 64 * 64;
    memset(head + end, ' ', size - end);
    head[size - 1] = '\n';
    memcpy(head, magic, sizeof magic);
    head[6] = 1;
    head[7] = 0;
    head[8] = (char)((size - 10) & 0xff);
    head[9] = (char)((size - 10) >> 8);
    return size;
}

/* Header and elements of a .npy file, over `head`. */
static cw_status pieces_of(const cw_tensor *t, char *head, size_t capacity, cwi_piece pieces[2])
{
    size_t count;
    if (!descr_of(t->dtype) || cw_shape_count(&t->shape, &count) != CW_OK || (count > 0 && !t->data))
        return CW_ERR_INVALID;
    pieces[0] = (cwi_piece){head, format_header(t, head, capacity)};
    pieces[1] = (cwi_piece){t->data, count * cw_dtype_size(t->dtype)};
    return CW_OK;
}

cw_status cw_npy_save(const char *path, const cw_tensor *t, cw_error *err)
{
    char head[512];
    cwi_piece pieces[2];
    if (pieces_of(t, head, sizeof head, pieces) != CW_OK)
        return cwi_fail(err, CW_ERR_INVALID, "cannot save %s: not a valid tensor", path);
    return cwi_file_write_pieces(path, pieces, 2, err);
}

cw_status cw_npy_encode(const cw_tensor *t, uint8_t **bytes, size_t *size, cw_error *err)
{
    char head[512];
    cwi_piece pieces[2];
    *bytes = NULL;
    *size = 0;
    if (pieces_of(t, head, sizeof head, pieces) != CW_OK)
        return cwi_fail(err, CW_ERR_INVALID, "not a valid tensor");
    const size_t total = pieces[0].size + pieces[1].size;
    uint8_t *all = cwi_alloc(total, 1);
    if (!all)
        return cwi_fail_memory(err, total);
    memcpy(all, pieces[0].data, pieces[0].size);
    if (pieces[1].size)
        memcpy(all + pieces[0].size, pieces[1].data, pieces[1].size);
    *bytes = all;
    *size = total;
    return CW_OK;
}
