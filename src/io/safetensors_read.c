/* safetensors_read.c - reading safetensors from untrusted bytes.
 *
 * Every offset is checked against the bytes at hand, and the tensors must tile the data section exactly, without holes
 * or overlaps, as the format demands. Memory used is bounded by a small multiple of the input's length.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "io/json.h"
#include "io/safetensors.h"

/* Where an item's bytes lie in the data section. */
typedef struct span {
    uint64_t begin, end;
} span;

typedef struct reader {
    cwi_json json;
    cw_tensor_set *set;
    span *spans; /* beside set->items */
    size_t capacity;
    size_t data_size;
} reader;

/* ---- one tensor's entry ---- */

static cw_status read_dtype(reader *r, cw_tensor *t)
{
    static const cw_dtype all[] = {CW_F32, CW_BF16, CW_F16, CW_U8, CW_I32, CW_I64};
    char name[16];
    CWI_TRY(cwi_json_string(&r->json, name, sizeof name));
    for (size_t i = 0; i < CWI_COUNT(all); i++) {
        if (strcmp(name, cwi_safetensors_dtype_name(all[i])) == 0) {
            t->dtype = all[i];
            return CW_OK;
        }
    }
    return cwi_fail_at(r->json.err, CW_ERR_UNSUPPORTED, (uint64_t)(r->json.p - r->json.base),
                       "dtype \"%s\" is not one of F32 BF16 F16 U8 I32 I64", name);
}

/* An array of at most `max` integers. */
static cw_status read_ints(reader *r, int64_t *out, int max, int *count)
{
    cwi_json *j = &r->json;
    *count = 0;
    CWI_TRY(cwi_json_expect(j, '['));
    if (cwi_json_take(j, ']'))
        return CW_OK;
    bool more = true;
    while (more) {
        if (*count == max)
            return cwi_json_fail(j, "too many numbers in an array");
        CWI_TRY(cwi_json_int(j, &out[(*count)++]));
        CWI_TRY(cwi_json_more(j, ']', &more));
    }
    return CW_OK;
}

static cw_status read_field(reader *r, cw_tensor *t, span *s, unsigned *seen)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    cwi_json *j = &r->json;
    char key[16];
    unsigned k = 0;
    CWI_TRY(cwi_json_string(j, key, sizeof key));
    while (k < CWI_COUNT(keys) && strcmp(key, keys[k]) != 0)
        k++;
    if (k == CWI_COUNT(keys) || (*seen >> k & 1))
        return cwi_json_fail(j, "an unknown or repeated key");
    *seen |= 1u << k;
    CWI_TRY(cwi_json_expect(j, ':'));
    if (k == 0)
        return read_dtype(r, t);
    if (k == 1) {
        int ndim;
        CWI_TRY(read_ints(r, t->shape.dim, CW_MAX_DIMS, &ndim));
        t->shape.ndim = ndim;
        return CW_OK;
    }
    int64_t offsets[2];
    int n;
    CWI_TRY(read_ints(r, offsets, 2, &n));
    if (n != 2)
        return cwi_json_fail(j, "data_offsets is not a pair");
    *s = (span){(uint64_t)offsets[0], (uint64_t)offsets[1]};
    return CW_OK;
}

static cw_status read_entry(reader *r, const char *name, cw_tensor *t, span *s)
{
    cwi_json *j = &r->json;
    unsigned seen = 0;
    bool more = true;
    CWI_TRY(cwi_json_expect(j, '{'));
    while (more) {
        CWI_TRY(read_field(r, t, s, &seen));
        CWI_TRY(cwi_json_more(j, '}', &more));
    }
    if (seen != 7)
        return cwi_json_fail(j, "dtype, shape or data_offsets is missing");
    size_t count;
    if (cw_shape_count(&t->shape, &count) != CW_OK)
        return cwi_fail(j->err, CW_ERR_CORRUPT, "tensor \"%s\" has a shape too large to exist", name);
    if (s->begin > s->end || s->end > r->data_size || s->end - s->begin != count * cw_dtype_size(t->dtype))
        return cwi_fail(j->err, s->begin <= s->end && s->end > r->data_size ? CW_ERR_TRUNCATED : CW_ERR_CORRUPT,
                        "tensor \"%s\" needs %zu bytes, its offsets are %llu..%llu, the file holds %zu", name,
                        count * cw_dtype_size(t->dtype), (unsigned long long)s->begin, (unsigned long long)s->end,
                        r->data_size);
    return CW_OK;
}

/* ---- the header ---- */

static cw_status read_metadata(reader *r)
{
    cwi_json *j = &r->json;
    CWI_TRY(cwi_json_expect(j, '{'));
    if (cwi_json_take(j, '}'))
        return CW_OK;
    bool more = true;
    while (more) {
        char key[sizeof CWI_METADATA_KEY + 1] = "";
        bool ours = cwi_json_string_bound(j) == sizeof CWI_METADATA_KEY;
        CWI_TRY(cwi_json_string(j, ours ? key : NULL, sizeof key));
        CWI_TRY(cwi_json_expect(j, ':'));
        ours = strcmp(key, CWI_METADATA_KEY) == 0;
        size_t bound = cwi_json_string_bound(j);
        if (ours && r->set->metadata)
            return cwi_json_fail(j, "repeated metadata");
        if (ours && !(r->set->metadata = cwi_alloc(bound, 1)))
            return cwi_fail_memory(j->err, bound);
        CWI_TRY(cwi_json_string(j, ours ? r->set->metadata : NULL, bound));
        CWI_TRY(cwi_json_more(j, '}', &more));
    }
    return CW_OK;
}

static cw_status grow(reader *r)
{
    if (r->set->count < r->capacity)
        return CW_OK;
    size_t now = r->capacity, next = now ? 2 * now : 16;
    cw_named_tensor *items = cwi_realloc(r->set->items, now * sizeof *items, next * sizeof *items);
    if (!items)
        return cwi_fail_memory(r->json.err, next * sizeof *items);
    r->set->items = items;
    span *spans = cwi_realloc(r->spans, now * sizeof *spans, next * sizeof *spans);
    if (!spans)
        return cwi_fail_memory(r->json.err, next * sizeof *spans);
    r->spans = spans;
    r->capacity = next;
    return CW_OK;
}

static cw_status read_header(reader *r)
{
    cwi_json *j = &r->json;
    bool metadata = false, more = true;
    CWI_TRY(cwi_json_expect(j, '{'));
    if (cwi_json_take(j, '}'))
        return cwi_json_end(j);
    while (more) {
        cw_named_tensor item = {.name = ""};
        span s = {0, 0};
        CWI_TRY(cwi_json_string(j, item.name, sizeof item.name));
        CWI_TRY(cwi_json_expect(j, ':'));
        if (strcmp(item.name, CWI_METADATA_NAME) == 0) {
            if (metadata)
                return cwi_json_fail(j, "repeated metadata");
            metadata = true;
            CWI_TRY(read_metadata(r));
        } else {
            CWI_TRY(read_entry(r, item.name, &item.tensor, &s));
            CWI_TRY(grow(r));
            r->spans[r->set->count] = s;
            r->set->items[r->set->count++] = item;
        }
        CWI_TRY(cwi_json_more(j, '}', &more));
    }
    return cwi_json_end(j);
}

/* ---- the data section ---- */

static int by_begin(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static cw_status check_tiling(reader *r)
{
    size_t count = r->set->count, repeated;
    if (cwi_named_tensors_repeated(r->set->items, count, &repeated) != CW_OK)
        return cwi_fail_memory(r->json.err, count * sizeof(void *));
    if (repeated < count)
        return cwi_fail(r->json.err, CW_ERR_CORRUPT, "two tensors are named \"%s\"", r->set->items[repeated].name);
    span *sorted = cwi_alloc(count, sizeof *sorted);
    if (!sorted)
        return cwi_fail_memory(r->json.err, count * sizeof *sorted);
    if (count > 0)
        memcpy(sorted, r->spans, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_begin);
    uint64_t at = 0;
    size_t tiles = 0;
    for (; tiles < count && sorted[tiles].begin == at; tiles++)
        at = sorted[tiles].end;
    cwi_free(sorted);
    if (tiles == count && at == r->data_size)
        return CW_OK;
    return cwi_fail(r->json.err, CW_ERR_CORRUPT, "the tensors leave a hole or overlap at byte %llu of %zu of the data",
                    (unsigned long long)at, r->data_size);
}

/* Points each tensor into the data section; one whose elements would be misaligned there gets its own copy. */
static cw_status attach(reader *r, uint8_t *data)
{
    for (size_t i = 0; i < r->set->count; i++) {
        cw_tensor *t = &r->set->items[i].tensor;
        const span s = r->spans[i];
        if (s.begin % cw_dtype_size(t->dtype) == 0) {
            t->data = data + s.begin;
            continue;
        }
        cw_shape shape = t->shape;
        if (cw_tensor_alloc(t, t->dtype, &shape) != CW_OK)
            return cwi_fail_memory(r->json.err, (size_t)(s.end - s.begin));
        memcpy(t->data, data + s.begin, (size_t)(s.end - s.begin));
    }
    return CW_OK;
}

static cw_status read_length(const uint8_t *bytes, size_t size, size_t *length, cw_error *err)
{
    if (size < 8)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, size, "%zu bytes are too few for a safetensors file", size);
    uint64_t n = cwi_get_le(bytes, 8);
    if (n > size - 8)
        return cwi_fail_at(err, CW_ERR_TRUNCATED, 0, "the header claims %llu bytes, the file has %zu",
                           (unsigned long long)n, size - 8);
    *length = (size_t)n;
    return CW_OK;
}

/* Takes over `bytes` (made by cwi_alloc), also on failure. */
static cw_status decode_owned(uint8_t *bytes, size_t size, cw_tensor_set *out, cw_error *err)
{
    out->bytes = bytes;
    size_t length = 0;
    reader r = {.set = out};
    cw_status status = read_length(bytes, size, &length, err);
    if (status == CW_OK) {
        r.json = (cwi_json){bytes, bytes + 8, bytes + 8 + length, err};
        r.data_size = size - 8 - length;
        status = read_header(&r);
    }
    if (status == CW_OK)
        status = check_tiling(&r);
    if (status == CW_OK) {
        memmove(bytes, bytes + 8 + length, r.data_size); /* to the aligned start */
        status = attach(&r, bytes);
    }
    cwi_free(r.spans);
    if (status != CW_OK)
        cw_tensor_set_free(out);
    return status;
}

cw_status cw_safetensors_decode(const void *bytes, size_t size, cw_tensor_set *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    uint8_t *copy = cwi_alloc(size, 1);
    if (!copy)
        return cwi_fail_memory(err, size);
    if (size > 0)
        memcpy(copy, bytes, size);
    return decode_owned(copy, size, out, err);
}

cw_status cw_safetensors_load(const char *path, cw_tensor_set *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    cw_status status = decode_owned(bytes, size, out, err);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}
