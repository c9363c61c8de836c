/* greeting.c - WELCOME's blob of a server that answers requests: JSON, a zero byte, nothing, a zero byte, the names of
 * classes (docs/formats/protocol.md). It has the parts that the WELCOME of a training has, so that a client of the
 * other kind can say what is wrong. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infer/greeting.h"

void cwi_greeting_free(cwi_greeting *g)
{
    cwi_classes_free(&g->classes);
    cw_profile_destroy(&g->profile);
    *g = (cwi_greeting){0};
}

uint64_t cwi_greeting_fingerprint(const cwi_greeting *g)
{
    return g->head_print ^ (g->tail_print << 32 | g->tail_print >> 32);
}

char *cwi_model_words(const char *model, int cut, uint64_t head_print, uint64_t tail_print, char *text, size_t size)
{
    snprintf(text, size, "%s cut at %d (weights %016llx before and %016llx after it)", *model ? model : "a network",
             cut, (unsigned long long)head_print, (unsigned long long)tail_print);
    return text;
}

/* ---- writing ---- */

static json_t *print_json(uint64_t print)
{
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)print);
    return json_string(text);
}

static json_t *shape_json(const cw_shape *shape)
{
    json_t *dims = json_array();
    for (int i = 0; i < shape->ndim; i++)
        json_array_append_new(dims, json_integer((json_int_t)shape->dim[i]));
    return dims;
}

/* RFC 4648; NULL: no profile, or no memory. */
static json_t *profile_json(const cw_profile *profile)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = 0, used = 0;
    const uint8_t *bytes = profile ? cw_profile_bytes(profile, &size) : NULL;
    char *text = bytes ? cwi_alloc(size / 3 * 4 + 5, 1) : NULL;
    if (!text)
        return NULL;
    for (size_t i = 0; i < size; i += 3) {
        const size_t have = CWI_MIN(size - i, (size_t)3);
        uint32_t three = 0;
        for (size_t j = 0; j < 3; j++)
            three = three << 8 | (j < have ? bytes[i + j] : 0u);
        for (size_t j = 0; j < 4; j++)
            text[used++] = j <= have ? digits[three >> (18 - 6 * j) & 63] : '=';
    }
    json_t *value = json_stringn(text, used);
    cwi_free(text);
    return value;
}

static char *head_text(const cwi_greeting *g)
{
    json_t *serves =
        json_pack("{s:s,s:i,s:o,s:I,s:o,s:o,s:I,s:I,s:s,s:b}", "model", g->model, "cut", g->cut, "smashed",
                  shape_json(&g->smashed), "outputs", (json_int_t)g->outputs, "head", print_json(g->head_print), "tail",
                  print_json(g->tail_print), "credit", (json_int_t)g->credit, "samples", (json_int_t)g->max_samples,
                  "uplink", g->uplink, "short", (int)g->takes_short);
    if (g->profile)
        json_object_set_new(serves, "profile", profile_json(g->profile));
    json_t *head = json_pack("{s:s,s:[s],s:{},s:o}", "mode", CWI_INFER_MODE, "requires", CWI_INFER_FEATURE, "settings",
                             "serves", serves);
    char *text = head ? json_dumps(head, JSON_COMPACT) : NULL;
    json_decref(head);
    return text;
}

static cw_status join(const char *head, const char *classes, uint8_t **blob, size_t *size, cw_error *err)
{
    const size_t h = strlen(head), c = strlen(classes);
    *size = h + 2 + c;
    uint8_t *at = *blob = cwi_alloc(*size, 1);
    if (!at)
        return cwi_fail_memory(err, *size);
    memcpy(at, head, h);
    memset(at + h, 0, 2);
    memcpy(at + h + 2, classes, c);
    return CW_OK;
}

cw_status cwi_greeting_write(const cwi_greeting *g, uint8_t **blob, size_t *size, cw_error *err)
{
    char *classes;
    *blob = NULL;
    CWI_TRY(cwi_classes_format(&g->classes, &classes, err));
    char *text = head_text(g);
    const cw_status status = text
                                 ? join(text, classes, blob, size, err)
                                 : cwi_fail(err, CW_ERR_INVALID, "the server's name of its model or codec is no UTF-8");
    free(text);
    cwi_free(classes);
    return status;
}

/* ---- reading ---- */

static cw_status wrong(const char *what, cw_error *err)
{
    return cwi_fail(err, CW_ERR_PROTOCOL, "the server's WELCOME: its %s is missing or out of range", what);
}

static cw_status take_text(const json_t *object, const char *key, char *text, size_t size, cw_error *err)
{
    const char *value = json_string_value(json_object_get(object, key));
    if (!value || strlen(value) >= size)
        return wrong(key, err);
    snprintf(text, size, "%s", value);
    return CW_OK;
}

static cw_status take_count(const json_t *object, const char *key, size_t min, size_t max, size_t *out, cw_error *err)
{
    const json_t *value = json_object_get(object, key);
    const json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < (json_int_t)min || number > (json_int_t)max)
        return wrong(key, err);
    *out = (size_t)number;
    return CW_OK;
}

static cw_status take_print(const json_t *object, const char *key, uint64_t *print, cw_error *err)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return wrong(key, err);
    *print = strtoull(text, NULL, 16);
    return CW_OK;
}

static cw_status take_shape(const json_t *object, cw_shape *shape, cw_error *err)
{
    const json_t *dims = json_object_get(object, "smashed");
    size_t count;
    *shape = (cw_shape){.ndim = (int32_t)CWI_MIN(json_array_size(dims), (size_t)CW_MAX_DIMS)};
    if (!json_is_array(dims) || json_array_size(dims) < 1 || json_array_size(dims) >= CW_MAX_DIMS)
        return wrong("smashed", err);
    for (int i = 0; i < shape->ndim; i++) {
        const json_t *dim = json_array_get(dims, (size_t)i);
        shape->dim[i] = (int64_t)json_integer_value(dim);
        if (!json_is_integer(dim) || shape->dim[i] < 1 || shape->dim[i] > INT32_MAX)
            return wrong("smashed", err);
    }
    return cw_shape_count(shape, &count) == CW_OK && count <= INT32_MAX ? CW_OK : wrong("smashed", err);
}

static int digit_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Bytes of `text`, as many as there are at most 3/4 of its characters; SIZE_MAX: it is no base64. */
static size_t decode_text(const char *text, size_t length, uint8_t *bytes)
{
    uint32_t bits = 0;
    size_t used = 0, pad = length > 1 ? (size_t)(text[length - 1] == '=') + (text[length - 2] == '=') : 0;
    if (length % 4)
        return SIZE_MAX;
    for (size_t i = 0; i < length - pad; i++) {
        const int digit = digit_of(text[i]);
        if (digit < 0)
            return SIZE_MAX;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4)
            bytes[used++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return used;
}

/* What an earlier server does not send. */
static cw_status take_profile(const json_t *serves, cwi_greeting *g, cw_error *err)
{
    const json_t *value = json_object_get(serves, "profile");
    const size_t length = json_string_length(value);
    if (!value)
        return CW_OK;
    if (!json_is_string(value) || !length || length > CWI_PROFILE_MAX)
        return wrong("profile", err);
    uint8_t *bytes = cwi_alloc(length, 1);
    if (!bytes)
        return cwi_fail_memory(err, length);
    const size_t size = decode_text(json_string_value(value), length, bytes);
    const bool good = size != SIZE_MAX && cw_profile_create(bytes, size, &g->profile, NULL) == CW_OK;
    cwi_free(bytes);
    return good ? CW_OK : wrong("profile", err);
}

static cw_status take_serves(const json_t *serves, cwi_greeting *g, cw_error *err)
{
    size_t cut;
    CWI_TRY(take_text(serves, "model", g->model, sizeof g->model, err));
    CWI_TRY(take_text(serves, "uplink", g->uplink, sizeof g->uplink, err));
    CWI_TRY(take_count(serves, "cut", 0, INT32_MAX, &cut, err));
    CWI_TRY(take_shape(serves, &g->smashed, err));
    CWI_TRY(take_count(serves, "outputs", 1, CWI_OUTPUTS_MAX, &g->outputs, err));
    CWI_TRY(take_print(serves, "head", &g->head_print, err));
    CWI_TRY(take_print(serves, "tail", &g->tail_print, err));
    CWI_TRY(take_count(serves, "credit", 1, CWI_CREDIT_MAX, &g->credit, err));
    g->cut = (int)cut;
    g->takes_short = json_is_true(json_object_get(serves, "short")); /* an earlier server says nothing of it */
    CWI_TRY(take_profile(serves, g, err));
    return take_count(serves, "samples", 1, CWI_REQUEST_MAX, &g->max_samples, err);
}

static cw_status take_head(const json_t *head, cwi_greeting *g, cw_error *err)
{
    size_t i;
    const json_t *item, *requires = json_object_get(head, "requires");
    const char *mode = json_string_value(json_object_get(head, "mode"));
    if (!mode || strcmp(mode, CWI_INFER_MODE) != 0)
        return cwi_fail(err, CW_ERR_PROTOCOL,
                        "the server there trains (mode %.20s) and answers no requests: `cutwire client` joins it, "
                        "`cutwire serve` answers",
                        mode ? mode : "?");
    json_array_foreach(requires, i, item)
    {
        const char *name = json_string_value(item);
        if (!name || strcmp(name, CWI_INFER_FEATURE) != 0)
            return cwi_fail(err, CW_ERR_UNSUPPORTED,
                            "the server requires '%.40s', which this client does not know: use the same version",
                            name ? name : "?");
    }
    return take_serves(json_object_get(head, "serves"), g, err);
}

static cw_status take_classes(const uint8_t *text, size_t size, cwi_greeting *g, cw_error *err)
{
    const cw_status status = cwi_classes_parse(text, size, g->outputs, &g->classes, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, CW_ERR_PROTOCOL, "the server's WELCOME");
    return !g->classes.count || g->classes.count == g->outputs ? CW_OK : wrong("list of classes", err);
}

static cw_status read_parts(const uint8_t *blob, size_t size, cwi_greeting *g, cw_error *err)
{
    const uint8_t *end = blob + size, *first = size ? memchr(blob, '\0', size) : NULL;
    const uint8_t *second = first ? memchr(first + 1, '\0', (size_t)(end - first - 1)) : NULL;
    json_t *head = second ? json_loadb((const char *)blob, (size_t)(first - blob), JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!head)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server's WELCOME is not made of JSON and names of classes");
    const cw_status status = take_head(head, g, err);
    json_decref(head);
    return status == CW_OK ? take_classes(second + 1, (size_t)(end - second - 1), g, err) : status;
}

cw_status cwi_greeting_read(const uint8_t *blob, size_t size, cwi_greeting *g, cw_error *err)
{
    *g = (cwi_greeting){0};
    const cw_status status = read_parts(blob, size, g, err);
    if (status != CW_OK)
        cwi_greeting_free(g);
    return status;
}
