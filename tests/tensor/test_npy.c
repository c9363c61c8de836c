/* test_npy.c - .npy files: what is saved loads, and hostile headers are refused with a reason. */
#include <unistd.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "io/npy.h"
#include "test.h"

static char path[] = "/tmp/cutwire-npy-XXXXXX";

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

/* What is encoded is the file's bytes, and decodes to the tensor. */
static void same_in_memory(const cw_tensor *a)
{
    uint8_t *encoded, *saved;
    size_t size, saved_size;
    cw_error err;
    cw_tensor b;
    assert_ok_err(cw_npy_encode(a, &encoded, &size, &err), err);
    assert_ok_err(cw_file_read(path, &saved, &saved_size, &err), err);
    assert_int_equal(size, saved_size);
    assert_memory_equal(encoded, saved, size);
    assert_ok_err(cw_npy_decode(encoded, size, &b, &err), err);
    assert_true(b.dtype == a->dtype && cw_shape_equal(&b.shape, &a->shape));
    size_t count;
    assert_ok(cw_shape_count(&b.shape, &count));
    assert_memory_equal(a->data, b.data, count * cw_dtype_size(b.dtype));
    cw_tensor_free(&b);
    assert_true(cw_npy_decode(encoded, size - 1, &b, &err) != CW_OK);
    assert_null(b.data);
    cw_bytes_free(encoded);
    cw_bytes_free(saved);
}

static void saved_tensors_load(void **state)
{
    (void)state;
    static const cw_dtype dtypes[] = {CW_F32, CW_F16, CW_U8, CW_I32, CW_I64};
    const cw_shape shapes[] = {
        cw_shape_of(0, NULL),
        cw_shape_of(1, (int64_t[]){1}),
        cw_shape_of(2, (int64_t[]){3, 0}),
        cw_shape_of(4, (int64_t[]){2, 3, 5, 7}),
        cw_shape_of(8, (int64_t[]){1, 2, 1, 2, 1, 2, 1, 3}),
    };
    for (size_t d = 0; d < CWI_COUNT(dtypes); d++) {
        for (size_t s = 0; s < CWI_COUNT(shapes); s++) {
            cw_tensor a, b;
            cw_error err;
            size_t count;
            assert_ok(cw_tensor_alloc(&a, dtypes[d], &shapes[s]));
            assert_ok(cw_shape_count(&shapes[s], &count));
            size_t bytes = count * cw_dtype_size(dtypes[d]);
            for (size_t i = 0; i < bytes; i++)
                ((uint8_t *)a.data)[i] = (uint8_t)(i * 37 + 11);
            assert_ok_err(cw_npy_save(path, &a, &err), err);
            assert_ok_err(cw_npy_load(path, &b, &err), err);
            assert_int_equal(b.dtype, dtypes[d]);
            assert_true(cw_shape_equal(&b.shape, &shapes[s]));
            assert_memory_equal(a.data, b.data, bytes);
            assert_int_equal((uintptr_t)b.data % 64, 0);
            same_in_memory(&a);
            cw_tensor_free(&a);
            cw_tensor_free(&b);
        }
    }
}

static void bf16_is_saved_as_bits(void **state)
{
    (void)state;
    uint16_t bits[3] = {0x3f80, 0, 0xc000};
    cw_shape s = cw_shape_of(1, (int64_t[]){3});
    cw_tensor t = cw_tensor_view(CW_BF16, &s, bits);
    cw_error err;
    uint8_t *bytes;
    size_t size;
    assert_ok_err(cw_npy_save(path, &t, &err), err);
    assert_ok_err(cw_file_read(path, &bytes, &size, &err), err);
    assert_int_equal(size, 128 + 6);
    bytes[127] = 0;
    assert_non_null(strstr((const char *)bytes + 10, "'<u2'"));
    assert_memory_equal(bytes + 128, bits, 6);
    cw_bytes_free(bytes);
}

static void an_invalid_tensor_is_not_saved(void **state)
{
    (void)state;
    cw_error err;
    cw_shape s = cw_shape_of(1, (int64_t[]){3});
    cw_tensor t = cw_tensor_view(CW_F32, &s, NULL);
    assert_status(cw_npy_save(path, &t, &err), CW_ERR_INVALID);
    float x[3] = {0};
    t = cw_tensor_view((cw_dtype)9, &s, x);
    assert_status(cw_npy_save(path, &t, &err), CW_ERR_INVALID);
}

/* Parses a version-1 file with this dict and this many bytes of elements. */
static cw_status parse(const char *dict, size_t data_size, cwi_npy_header *h, cw_error *err)
{
    static uint8_t file[1024];
    size_t n = strlen(dict);
    assert_true(10 + n + data_size <= sizeof file);
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    cwi_put_le(file + 8, n, 2);
    memcpy(file + 10, dict, n);
    uint8_t *exact = malloc(10 + n + data_size); /* so that a sanitizer sees any over-read */
    assert_non_null(exact);
    memcpy(exact, file, 10 + n + data_size);
    cw_status status = cwi_npy_parse(exact, 10 + n + data_size, h, err);
    free(exact);
    return status;
}

static void every_spelling_of_the_header_is_read(void **state)
{
    (void)state;
    cwi_npy_header h;
    cw_error err;
    assert_ok_err(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n", 24, &h, &err), err);
    assert_int_equal(h.shape.dim[1], 3);
    assert_int_equal(h.data_size, 24);
    assert_ok_err(parse("{\"shape\":(5,),\"fortran_order\":False,\"descr\":\"|u1\"}", 5, &h, &err), err);
    assert_int_equal(h.dtype, CW_U8);
    assert_ok_err(parse("{'descr':'<i8','fortran_order':False,'shape':()}", 8, &h, &err), err);
    assert_int_equal(h.shape.ndim, 0);
    assert_ok_err(parse("{'descr':'<i8','fortran_order':False,'shape':(1,1,)}", 8, &h, &err), err);
    assert_int_equal(h.shape.ndim, 2);
    assert_ok_err(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L), }", 48, &h, &err), err);
    assert_true(h.shape.dim[0] == 3 && h.shape.dim[1] == 4);
    assert_ok_err(parse("{u'shape': ( 3L , ), u'descr': u'<f4', u'fortran_order': False}", 12, &h, &err), err);
    assert_true(h.shape.ndim == 1 && h.shape.dim[0] == 3);
}

/* 0, 1, 2, ... in the order of a C program, whatever the file's. */
static void other_orders_are_made_ours(void **state)
{
    (void)state;
    enum { COUNT = 24 };
    static const char *const kinds[] = {"<f4", ">f4", "<i8", ">i8", "<f2", ">f2", "|u1", ">u1"};
    for (size_t k = 0; k < 2 * CWI_COUNT(kinds); k++) {
        const char *kind = kinds[k / 2];
        const bool fortran = k % 2;
        const size_t size = (size_t)(kind[2] - '0');
        uint8_t file[10 + 80 + COUNT * 8] = "\x93NUMPY\x01\x00\x50";
        char head[128];
        snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': %-5s, 'shape': (2, 3, 4), }%40s", kind,
                 fortran ? "True" : "False", "");
        memcpy(file + 10, head, 80);
        for (size_t i = 0; i < COUNT; i++) {
            const size_t at = fortran ? i / 12 + i / 4 % 3 * 2 + i % 4 * 6 : i;
            file[90 + at * size + (kind[0] == '>' ? size - 1 : 0)] = (uint8_t)(i + 1);
        }
        cw_error err;
        cw_tensor t;
        assert_ok_err(cw_file_write(path, file, 90 + COUNT * size, &err), err);
        assert_ok_err(cw_npy_load(path, &t, &err), err);
        assert_int_equal(t.shape.dim[2], 4);
        assert_int_equal((uintptr_t)t.data % 64, 0);
        for (size_t i = 0; i < COUNT * size; i++)
            assert_int_equal(((const uint8_t *)t.data)[i], i % size ? 0 : i / size + 1);
        cw_tensor_free(&t);
    }
}

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *dict;
        size_t data;
        cw_status status;
        const char *says;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 23, CW_ERR_TRUNCATED, "needs 24 bytes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 25, CW_ERR_CORRUPT, "needs 24 bytes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,)}", 8, CW_ERR_TRUNCATED, "holds 8"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999)}", 8, CW_ERR_CORRUPT,
         "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 8, CW_ERR_CORRUPT, "63 bits"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 8, CW_ERR_CORRUPT, "number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", 12, CW_ERR_CORRUPT, "tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': [3,]}", 12, CW_ERR_CORRUPT, "tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,", 12, CW_ERR_CORRUPT, "byte"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, CW_ERR_UNSUPPORTED, "8 dim"},
        {"{'descr': '<f4', 'fortran_order': Tru, 'shape': (3,)}", 12, CW_ERR_CORRUPT, "fortran_order"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", 12, CW_ERR_CORRUPT, "fortran_order"},
        {"{'descr': '=f4', 'fortran_order': False, 'shape': (3,)}", 12, CW_ERR_UNSUPPORTED, "'=f4'"},
        {"{'descr': '|f4', 'fortran_order': False, 'shape': (3,)}", 12, CW_ERR_UNSUPPORTED, "'|f4'"},
        {"{'descr': '>f8', 'fortran_order': False, 'shape': (3,)}", 24, CW_ERR_UNSUPPORTED, "'>f8'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3L)}", 12, CW_ERR_CORRUPT, "tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (L,)}", 12, CW_ERR_CORRUPT, "number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3LL,)}", 12, CW_ERR_CORRUPT, "tuple"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", 24, CW_ERR_UNSUPPORTED, "astype"},
        {"{'descr': [('a','<f4')], 'fortran_order': False, 'shape': (3,)}", 12, CW_ERR_UNSUPPORTED, "structured"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", 12, CW_ERR_CORRUPT, "repeated"},
        {"{'descr': '<f4', 'evil': 1, 'fortran_order': False, 'shape': (3,)}", 12, CW_ERR_CORRUPT, "key"},
        {"{'descr': '<f4', 'shape': (3,)}", 12, CW_ERR_CORRUPT, "missing"},
        {"{'descr': '<f4' 'shape': (3,)}", 12, CW_ERR_CORRUPT, "comma"},
        {"{'descr': '<f4", 12, CW_ERR_CORRUPT, "unterminated"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x", 12, CW_ERR_CORRUPT, "follows"},
        {"", 12, CW_ERR_CORRUPT, "dict"},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cwi_npy_header h;
        cw_error err = {.message = ""};
        cw_status status = parse(cases[i].dict, cases[i].data, &h, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("%s: %s: %s", cases[i].dict, cw_status_name(status), err.message);
    }
}

static void other_files_and_versions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        cw_status status;
    } cases[] = {
        {"", 0, CW_ERR_MAGIC},
        {"PK\3\4 this is a zip", 16, CW_ERR_MAGIC},
        {"\x93NUMPY", 6, CW_ERR_TRUNCATED},
        {"\x93NUMPY\x01\x00\xff\xff", 10, CW_ERR_TRUNCATED},
        {"\x93NUMPY\x02\x00\xff\xff\xff\xff", 12, CW_ERR_TRUNCATED},
        {"\x93NUMPY\x02\x00\xff\xff", 10, CW_ERR_TRUNCATED},
        {"\x93NUMPY\x04\x00\x00\x00\x00\x00", 12, CW_ERR_VERSION},
        {"\x93NUMPY\x00\x00\x00\x00\x00\x00", 12, CW_ERR_VERSION},
        {"\x93NUMPY\x01\x01\x00\x00\x00\x00", 12, CW_ERR_VERSION},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cwi_npy_header h;
        cw_error err;
        assert_status(cwi_npy_parse((const uint8_t *)cases[i].bytes, cases[i].size, &h, &err), cases[i].status);
    }
    cw_tensor t;
    cw_error err;
    assert_status(cw_npy_load("/nonexistent.npy", &t, &err), CW_ERR_NOT_FOUND);
    assert_ok_err(cw_file_write(path, "text", 4, &err), err);
    assert_status(cw_npy_load(path, &t, &err), CW_ERR_MAGIC);
    assert_non_null(strstr(err.message, path));
    assert_ok_err(cw_file_write(path, "PK\3\4 this is a zip", 16, &err), err);
    assert_status(cw_npy_load(path, &t, &err), CW_ERR_MAGIC);
    assert_non_null(strstr(err.message, ".npz"));
    assert_null(t.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_tensors_load),
        cmocka_unit_test(bf16_is_saved_as_bits),
        cmocka_unit_test(an_invalid_tensor_is_not_saved),
        cmocka_unit_test(every_spelling_of_the_header_is_read),
        cmocka_unit_test(other_orders_are_made_ours),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(other_files_and_versions_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
