/* test_safetensors.c - what is encoded decodes, and hostile bytes are refused with a reason. */
#include <unistd.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "out_of_memory.h"
#include "test.h"

static cw_named_tensor named(const char *name, cw_dtype dtype, cw_shape shape, void *data)
{
    cw_named_tensor t = {.tensor = cw_tensor_view(dtype, &shape, data)};
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

static float weights[6] = {1, -2, 3.5f, 0, 1e-40f, 6};
static uint8_t bytes3[3] = {7, 8, 9};
static int64_t longs[2] = {-1, INT64_MAX};
static uint16_t halves[4] = {1, 2, 3, 4};

static size_t make_items(cw_named_tensor items[5])
{
    items[0] = named("features.0.weight", CW_F32, cw_shape_of(2, (int64_t[]){2, 3}), weights);
    items[1] = named("odd \"bytes\"\\\n\x01", CW_U8, cw_shape_of(1, (int64_t[]){3}), bytes3);
    items[2] = named("longs", CW_I64, cw_shape_of(1, (int64_t[]){2}), longs); /* misaligned in the file */
    items[3] = named("empty", CW_F32, cw_shape_of(2, (int64_t[]){0, 4}), NULL);
    items[4] = named("scalar", CW_BF16, cw_shape_of(0, NULL), halves);
    return 5;
}

static void assert_same(const cw_tensor_set *set, const cw_named_tensor *items, size_t count)
{
    assert_int_equal(set->count, count);
    for (size_t i = 0; i < count; i++) {
        const cw_tensor *a = &items[i].tensor, *b = cw_tensor_set_find(set, items[i].name);
        assert_non_null(b);
        assert_string_equal(set->items[i].name, items[i].name);
        assert_int_equal(a->dtype, b->dtype);
        assert_true(cw_shape_equal(&a->shape, &b->shape));
        size_t n;
        assert_ok(cw_shape_count(&a->shape, &n));
        if (n > 0) {
            assert_int_equal((uintptr_t)b->data % cw_dtype_size(b->dtype), 0);
            assert_memory_equal(a->data, b->data, n * cw_dtype_size(a->dtype));
        }
    }
}

static void what_is_encoded_decodes(void **state)
{
    (void)state;
    cw_named_tensor items[5];
    size_t count = make_items(items);
    static const char *const metadata[] = {NULL, "", "{\"epoch\": 3, \"text\": \"a\\b\n\t\xc3\xbc\"}"};
    for (size_t m = 0; m < CWI_COUNT(metadata); m++) {
        for (size_t n = 0; n <= count; n++) {
            uint8_t *bytes;
            size_t size;
            cw_error err;
            cw_tensor_set set;
            assert_ok_err(cw_safetensors_encode(items, n, metadata[m], &bytes, &size, &err), err);
            assert_int_equal(cwi_get_le(bytes, 8) % 8, 0);
            assert_ok_err(cw_safetensors_decode(bytes, size, &set, &err), err);
            cw_bytes_free(bytes);
            assert_same(&set, items, n);
            if (metadata[m])
                assert_string_equal(set.metadata, metadata[m]);
            else
                assert_null(set.metadata);
            assert_null(cw_tensor_set_find(&set, "absent"));
            cw_tensor_set_free(&set);
            cw_tensor_set_free(&set);
        }
    }
}

static void what_is_saved_loads(void **state)
{
    (void)state;
    char path[] = "/tmp/cutwire-st-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    cw_named_tensor items[5];
    size_t count = make_items(items);
    cw_error err;
    cw_tensor_set set;
    assert_ok_err(cw_safetensors_save(path, items, count, "run 1", &err), err);
    assert_ok_err(cw_safetensors_load(path, &set, &err), err);
    assert_same(&set, items, count);
    cw_tensor_set_free(&set);
    assert_ok_err(cw_file_write(path, "short", 5, &err), err);
    assert_status(cw_safetensors_load(path, &set, &err), CW_ERR_TRUNCATED);
    assert_non_null(strstr(err.message, path));
    unlink(path);
    assert_status(cw_safetensors_load(path, &set, &err), CW_ERR_NOT_FOUND);
}

static void unwritable_sets_are_refused(void **state)
{
    (void)state;
    cw_named_tensor items[5];
    uint8_t *bytes;
    size_t size;
    cw_error err;
    make_items(items);
    strcpy(items[3].name, "longs");
    assert_status(cw_safetensors_encode(items, 5, NULL, &bytes, &size, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "\"longs\""));
    assert_null(bytes);
    static const char *const names[] = {"", "__metadata__", "\xff\xfe", "\xc0\x80", "\xed\xa0\x80"};
    for (size_t i = 0; i < CWI_COUNT(names); i++) {
        strcpy(items[3].name, names[i]);
        assert_status(cw_safetensors_encode(items, 5, NULL, &bytes, &size, &err), CW_ERR_INVALID);
    }
    make_items(items);
    memset(items[0].name, 'x', sizeof items[0].name);
    assert_status(cw_safetensors_encode(items, 5, NULL, &bytes, &size, &err), CW_ERR_INVALID);
    make_items(items);
    items[0].tensor.data = NULL;
    assert_status(cw_safetensors_encode(items, 5, NULL, &bytes, &size, &err), CW_ERR_INVALID);
    make_items(items);
    assert_status(cw_safetensors_encode(items, 5, "\x80", &bytes, &size, &err), CW_ERR_INVALID);
}

static cw_status decode(const char *json, size_t data_size, cw_tensor_set *set, cw_error *err)
{
    size_t n = strlen(json), size = 8 + n + data_size;
    uint8_t *exact = calloc(size, 1); /* so that a sanitizer sees any over-read */
    assert_non_null(exact);
    cwi_put_le(exact, n, 8);
    memcpy(exact + 8, json, n);
    cw_status status = cw_safetensors_decode(exact, size, set, err);
    free(exact);
    return status;
}

static void foreign_but_valid_headers_are_read(void **state)
{
    (void)state;
    cw_tensor_set set;
    cw_error err;
    assert_ok_err(decode(" { } ", 0, &set, &err), err);
    assert_int_equal(set.count, 0);
    cw_tensor_set_free(&set);
    assert_ok_err(decode("{\"b\":{\"data_offsets\":[4,8],\"shape\":[1],\"dtype\":\"F32\"},\n \"\\u0061\\ud83d\\ude00\":"
                         "{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]},"
                         "\"__metadata__\":{\"format\":\"pt\",\"cutwire\":\"\\u00fc\\/\"}}   ",
                         8, &set, &err),
                  err);
    assert_int_equal(set.count, 2);
    assert_string_equal(set.items[1].name, "a\xf0\x9f\x98\x80");
    assert_string_equal(set.metadata, "\xc3\xbc/");
    cw_tensor_set_free(&set);
}

#define T(dtype, shape, offsets) "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        size_t data;
        cw_status status;
        const char *says;
    } cases[] = {
        {T("F32", "[2]", "[0,8]"), 7, CW_ERR_TRUNCATED, "\"t\" needs 8"},
        {T("F32", "[2]", "[0,8]"), 9, CW_ERR_CORRUPT, "hole"},
        {T("F32", "[2]", "[0,4]"), 4, CW_ERR_CORRUPT, "needs 8"},
        {T("F32", "[2]", "[8,0]"), 8, CW_ERR_CORRUPT, "8..0"},
        {T("F32", "[1]", "[4,8]"), 8, CW_ERR_CORRUPT, "hole"},
        {T("F32", "[9223372036854775807]", "[0,4]"), 4, CW_ERR_CORRUPT, "too large"},
        {T("F32", "[4294967296,4294967296]", "[0,4]"), 4, CW_ERR_CORRUPT, "too large"},
        {T("F32", "[9223372036854775808]", "[0,4]"), 4, CW_ERR_CORRUPT, "63 bits"},
        {T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, CW_ERR_CORRUPT, "too many"},
        {T("F32", "[-1]", "[0,4]"), 4, CW_ERR_CORRUPT, "integer"},
        {T("F32", "[01]", "[0,4]"), 4, CW_ERR_CORRUPT, "integer"},
        {T("F32", "[1.0]", "[0,4]"), 4, CW_ERR_CORRUPT, "']'"},
        {T("F32", "[1", "[0,4]"), 4, CW_ERR_CORRUPT, "at byte"},
        {T("F32", "[1]", "[0,4,8]"), 4, CW_ERR_CORRUPT, "too many"},
        {T("F32", "[1]", "[0]"), 4, CW_ERR_CORRUPT, "pair"},
        {T("F64", "[1]", "[0,8]"), 8, CW_ERR_UNSUPPORTED, "\"F64\""},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, CW_ERR_CORRUPT, "missing"},
        {"{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4, CW_ERR_CORRUPT, "repeated"},
        {"{\"t\":{\"evil\":\"F32\"}}", 4, CW_ERR_CORRUPT, "unknown"},
        {"{\"t\":{}}", 4, CW_ERR_CORRUPT, "expected"},
        {"{\"t\":[]}", 4, CW_ERR_CORRUPT, "'{'"},
        {"{\"t", 0, CW_ERR_CORRUPT, "expected"},
        {"{\"\\ud800\":1}", 0, CW_ERR_CORRUPT, "surrogate"},
        {"{\"\\u0000\":1}", 0, CW_ERR_CORRUPT, "character"},
        {"{\"\\", 0, CW_ERR_CORRUPT, "escape"},
        {"{\"\\q\":1}", 0, CW_ERR_CORRUPT, "escape"},
        {"{\"\xff\":1}", 0, CW_ERR_CORRUPT, "UTF-8"},
        {"{\"a\nb\":1}", 0, CW_ERR_CORRUPT, "control"},
        {"{\"__metadata__\":{\"cutwire\":\"a\",\"cutwire\":\"b\"}}", 0, CW_ERR_CORRUPT, "repeated"},
        {"{\"__metadata__\":{\"cutwire\":1}}", 0, CW_ERR_CORRUPT, "expected"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, CW_ERR_CORRUPT, "repeated"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, CW_ERR_CORRUPT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, CW_ERR_CORRUPT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, CW_ERR_CORRUPT, "two tensors"},
        {"{} x", 0, CW_ERR_CORRUPT, "follows"},
        {"", 0, CW_ERR_CORRUPT, "'{'"},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cw_tensor_set set;
        cw_error err = {.message = ""};
        cw_status status = decode(cases[i].json, cases[i].data, &set, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("%s: %s: %s", cases[i].json, cw_status_name(status), err.message);
        assert_null(set.items);
        assert_null(set.bytes);
    }
}

static void long_names_and_lengths_are_refused(void **state)
{
    (void)state;
    char json[256];
    cw_tensor_set set;
    cw_error err;
    snprintf(json, sizeof json, "{\"%0128d\":{}}", 1);
    assert_status(decode(json, 0, &set, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "longer"));
    uint8_t head[8];
    cwi_put_le(head, UINT64_MAX, 8);
    assert_status(cw_safetensors_decode(head, 8, &set, &err), CW_ERR_TRUNCATED);
    assert_status(cw_safetensors_decode(head, 7, &set, &err), CW_ERR_TRUNCATED);
    assert_status(cw_safetensors_decode(NULL, 0, &set, &err), CW_ERR_TRUNCATED);
}

/* Every truncation and every changed byte of a valid file: an error or a valid set, never a crash. */
static void damage_never_crashes(void **state)
{
    (void)state;
    cw_named_tensor items[5];
    size_t count = make_items(items), size;
    uint8_t *bytes;
    cw_error err;
    cw_tensor_set set;
    assert_ok_err(cw_safetensors_encode(items, count, "m", &bytes, &size, &err), err);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n + 1);
        assert_non_null(cut);
        memcpy(cut, bytes, n);
        assert_true(cw_safetensors_decode(cut, n, &set, &err) != CW_OK);
        free(cut);
    }
    for (size_t i = 0; i < size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1u << bit);
            if (cw_safetensors_decode(bytes, size, &set, &err) == CW_OK)
                cw_tensor_set_free(&set);
            bytes[i] ^= (uint8_t)(1u << bit);
        }
    }
    cw_bytes_free(bytes);
}

static void failed_allocations_leak_nothing(void **state)
{
    (void)state;
    cw_named_tensor items[5];
    size_t count = make_items(items), size;
    cw_error err;
    for (oom_scan scan = {0}; !scan.done;) {
        uint8_t *bytes;
        cw_tensor_set set;
        oom_begin(&scan);
        cw_status status = cw_safetensors_encode(items, count, "m", &bytes, &size, &err);
        if (status == CW_OK) {
            status = cw_safetensors_decode(bytes, size, &set, &err);
            cw_bytes_free(bytes);
        }
        oom_end(&scan, status);
        if (status == CW_OK)
            cw_tensor_set_free(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_decodes),     cmocka_unit_test(what_is_saved_loads),
        cmocka_unit_test(unwritable_sets_are_refused), cmocka_unit_test(foreign_but_valid_headers_are_read),
        cmocka_unit_test(hostile_headers_are_refused), cmocka_unit_test(long_names_and_lengths_are_refused),
        cmocka_unit_test(damage_never_crashes),        cmocka_unit_test(failed_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
