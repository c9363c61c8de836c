/* safetensors.c - writing safetensors, and sets of named tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

const char *cwi_safetensors_dtype_name(cw_dtype dtype)
{
    switch (dtype) {
    case CW_F32:
        return "F32";
    case CW_BF16:
        return "BF16";
    case CW_F16:
        return "F16";
    case CW_U8:
        return "U8";
    case CW_I32:
        return "I32";
    case CW_I64:
        return "I64";
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const cw_named_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

cw_status cwi_named_tensors_repeated(const cw_named_tensor *items, size_t count, size_t *repeated)
{
    *repeated = count;
    const cw_named_tensor **sorted = cwi_alloc(count, sizeof *sorted);
    if (!sorted)
        return CW_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        sorted[i] = &items[i];
    qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 1; i < count && *repeated == count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            *repeated = (size_t)(sorted[i] - items);
    cwi_free(sorted);
    return CW_OK;
}

const cw_tensor *cw_tensor_set_find(const cw_tensor_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->items[i].name, name) == 0)
            return &set->items[i].tensor;
    return NULL;
}

void cw_tensor_set_free(cw_tensor_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        cw_tensor_free(&set->items[i].tensor);
    cwi_free(set->items);
    cwi_free(set->metadata);
    cwi_free(set->bytes);
    memset(set, 0, sizeof *set);
}

void cw_named_tensors_free(cw_named_tensor *items, size_t count)
{
    for (size_t i = 0; items && i < count; i++)
        cw_tensor_free(&items[i].tensor);
    cwi_free(items);
}

/* ---- writing ---- */

static cw_status check_items(const cw_named_tensor *items, size_t count, const char *metadata, cw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const cw_named_tensor *t = &items[i];
        size_t elements;
        size_t n = strnlen(t->name, sizeof t->name);
        if (n == 0 || n == sizeof t->name || !cwi_utf8_valid(t->name, n) || strcmp(t->name, CWI_METADATA_NAME) == 0)
            return cwi_fail(err, CW_ERR_INVALID, "tensor %zu has no valid name", i);
        if (!cwi_safetensors_dtype_name(t->tensor.dtype) || cw_shape_count(&t->tensor.shape, &elements) != CW_OK ||
            (elements > 0 && !t->tensor.data))
            return cwi_fail(err, CW_ERR_INVALID, "tensor \"%s\" has an invalid dtype, shape or no data", t->name);
    }
    size_t repeated;
    if (cwi_named_tensors_repeated(items, count, &repeated) != CW_OK)
        return cwi_fail_memory(err, count * sizeof(void *));
    if (repeated < count)
        return cwi_fail(err, CW_ERR_INVALID, "two tensors are named \"%s\"", items[repeated].name);
    if (metadata && !cwi_utf8_valid(metadata, strlen(metadata)))
        return cwi_fail(err, CW_ERR_INVALID, "the metadata is not valid UTF-8");
    return CW_OK;
}

static size_t bytes_of(const cw_tensor *t)
{
    size_t count;
    return cw_shape_count(&t->shape, &count) == CW_OK ? count * cw_dtype_size(t->dtype) : 0;
}

/* More than any entry needs beside its name: the fixed words, 8 dimensions and 2 offsets of 19 digits each. */
enum { ENTRY_BOUND = 320 };

static char *write_entry(char *p, const cw_named_tensor *t, size_t begin, size_t end)
{
    *p++ = '"';
    p = cwi_json_escape(p, t->name);
    p += sprintf(p, "\":{\"dtype\":\"%s\",\"shape\":[", cwi_safetensors_dtype_name(t->tensor.dtype));
    for (int d = 0; d < t->tensor.shape.ndim; d++)
        p += sprintf(p, "%s%lld", d ? "," : "", (long long)t->tensor.shape.dim[d]);
    return p + sprintf(p, "],\"data_offsets\":[%zu,%zu]}", begin, end);
}

/* The 8-byte length and the JSON, padded with blanks to a multiple of 8. The caller frees *head. */
static cw_status make_head(const cw_named_tensor *items, size_t count, const char *metadata, char **head,
                           size_t *head_size, cw_error *err)
{
    size_t bound = 64 + (metadata ? cwi_json_escaped_size(metadata) : 0);
    for (size_t i = 0; i < count; i++)
        bound += cwi_json_escaped_size(items[i].name) + ENTRY_BOUND;
    char *h = cwi_alloc(bound, 1);
    if (!h)
        return cwi_fail_memory(err, bound);
    char *p = h + 8;
    *p++ = '{';
    if (metadata) {
        p += sprintf(p, "\"%s\":{\"%s\":\"", CWI_METADATA_NAME, CWI_METADATA_KEY);
        p = cwi_json_escape(p, metadata);
        p += sprintf(p, "\"}");
    }
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        size_t end = offset + bytes_of(&items[i].tensor);
        if (i > 0 || metadata)
            *p++ = ',';
        p = write_entry(p, &items[i], offset, end);
        offset = end;
    }
    *p++ = '}';
    while ((p - h) % 8 != 0)
        *p++ = ' ';
    *head = h;
    *head_size = (size_t)(p - h);
    cwi_put_le((uint8_t *)h, *head_size - 8, 8);
    return CW_OK;
}

/* The head and each tensor's bytes as pieces. The caller frees *pieces and *head. */
static cw_status make_pieces(const cw_named_tensor *items, size_t count, const char *metadata, cwi_piece **pieces,
                             char **head, cw_error *err)
{
    CWI_TRY(check_items(items, count, metadata, err));
    size_t head_size = 0;
    CWI_TRY(make_head(items, count, metadata, head, &head_size, err));
    cwi_piece *list = cwi_alloc(count + 1, sizeof *list);
    if (!list) {
        cwi_free(*head);
        return cwi_fail_memory(err, (count + 1) * sizeof *list);
    }
    list[0] = (cwi_piece){*head, head_size};
    for (size_t i = 0; i < count; i++)
        list[i + 1] = (cwi_piece){items[i].tensor.data, bytes_of(&items[i].tensor)};
    *pieces = list;
    return CW_OK;
}

cw_status cw_safetensors_encode(const cw_named_tensor *items, size_t count, const char *metadata, uint8_t **bytes,
                                size_t *size, cw_error *err)
{
    *bytes = NULL;
    *size = 0;
    cwi_piece *pieces;
    char *head;
    CWI_TRY(make_pieces(items, count, metadata, &pieces, &head, err));
    size_t total = 0;
    for (size_t i = 0; i <= count; i++)
        total += pieces[i].size;
    uint8_t *out = cwi_alloc(total, 1);
    cw_status status = out ? CW_OK : cwi_fail_memory(err, total);
    for (size_t i = 0, at = 0; out && i <= count; at += pieces[i++].size)
        if (pieces[i].size > 0)
            memcpy(out + at, pieces[i].data, pieces[i].size);
    cwi_free(pieces);
    cwi_free(head);
    if (out) {
        *bytes = out;
        *size = total;
    }
    return status;
}

cw_status cw_safetensors_save(const char *path, const cw_named_tensor *items, size_t count, const char *metadata,
                              cw_error *err)
{
    cwi_piece *pieces;
    char *head;
    CWI_TRY(make_pieces(items, count, metadata, &pieces, &head, err));
    cw_status status = cwi_file_write_pieces(path, pieces, count + 1, err);
    cwi_free(pieces);
    cwi_free(head);
    return status;
}
