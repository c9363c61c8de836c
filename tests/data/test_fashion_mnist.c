/* test_fashion_mnist.c - the real data set where installed, and damaged ones, each refused with its reason. */
#include <math.h>

#include "base/base.h"
#include "cutwire/data.h"
#include "data_files.h"

/* ---- the real thing ---- */

static bool installed(void)
{
    return access("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", R_OK) == 0;
}

static void check_counts(cw_split split, size_t count)
{
    cw_dataset *ds;
    cw_error err;
    assert_ok_err(cw_dataset_open("fashion-mnist", split, &ds, &err), err);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, count);
    assert_int_equal(info->classes, 10);
    assert_string_equal(info->class_names[9], "Ankle boot");
    cw_shape expected = cw_shape_of(3, (int64_t[]){1, 28, 28});
    assert_true(cw_shape_equal(&info->sample, &expected));
    size_t of_class[10] = {0};
    for (size_t i = 0; i < count; i++)
        of_class[cw_dataset_label(ds, i)]++;
    for (int k = 0; k < 10; k++)
        assert_int_equal(of_class[k], count / 10);
    cw_dataset_close(&ds);
    cw_dataset_close(&ds);
}

static void the_real_set_has_its_counts(void **state)
{
    (void)state;
    if (!installed()) {
        print_message("SKIP: dataset-fashion-mnist is not installed\n");
        skip();
    }
    check_counts(CW_SPLIT_TRAIN, 60000);
    check_counts(CW_SPLIT_TEST, 10000);
}

/* The training split, normalized, has mean 0 and variance 1 to the digits of the constants. */
static void the_constants_are_those_of_the_training_split(void **state)
{
    (void)state;
    if (!installed()) {
        print_message("SKIP: dataset-fashion-mnist is not installed\n");
        skip();
    }
    cw_dataset *ds;
    cw_loader *l;
    cw_error err;
    assert_ok_err(cw_dataset_open("fashion-mnist", CW_SPLIT_TRAIN, &ds, &err), err);
    assert_true(fabsf(cw_dataset_get_info(ds)->mean[0] - 0.2860f) < 1e-4f);
    assert_true(fabsf(cw_dataset_get_info(ds)->std[0] - 0.3530f) < 1e-4f);
    assert_ok_err(cw_loader_create(ds, NULL, 0, &(cw_loader_options){.batch = 1000}, &l, &err), err);
    double sum = 0, squares = 0;
    cw_batch b;
    while (cw_loader_next(l, &b, &err) == CW_OK)
        for (size_t i = 0; i < b.n * 784; i++) {
            sum += b.x[i];
            squares += (double)b.x[i] * b.x[i];
        }
    double n = 60000.0 * 784;
    assert_true(fabs(sum / n) < 1e-6);
    assert_true(fabs(squares / n - 1) < 1e-6);
    cw_loader_destroy(&l);
    cw_dataset_close(&ds);
}

/* ---- small ones ---- */

static void plain_and_gzipped_files_are_the_same(void **state)
{
    (void)state;
    for (int gzip = 0; gzip < 2; gzip++) {
        write_fashion(7, 7, gzip);
        cw_dataset *ds;
        cw_error err;
        assert_ok_err(cw_dataset_open(spec_of("fashion-mnist"), CW_SPLIT_TRAIN, &ds, &err), err);
        assert_int_equal(cw_dataset_get_info(ds)->count, 7);
        assert_int_equal(cw_dataset_label(ds, 6), 6);
        cw_dataset_close(&ds);
        assert_int_equal(remove_folder(NULL), 0);
        assert_int_equal(make_folder(NULL), 0);
    }
}

static void open_fails(cw_split split, cw_status status, const char *says)
{
    cw_dataset *ds;
    cw_error err = {.message = ""};
    cw_status got = cw_dataset_open(spec_of("fashion-mnist"), split, &ds, &err);
    if (got != status || !strstr(err.message, says))
        fail_msg("expected %s, ...%s...; got %s, %s", cw_status_name(status), says, cw_status_name(got), err.message);
    assert_null(ds);
}

static void missing_files_say_how_to_get_them(void **state)
{
    (void)state;
    open_fails(CW_SPLIT_TRAIN, CW_ERR_NOT_FOUND, "apt-get install dataset-fashion-mnist");
    write_fashion(3, 3, true);
    open_fails(CW_SPLIT_TEST, CW_ERR_NOT_FOUND, "apt-get install");
    char path[128];
    snprintf(path, sizeof path, "%s/train-labels-idx1-ubyte.gz", test_folder);
    unlink(path);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_NOT_FOUND, "labels");
}

static void unknown_names_list_the_known_ones(void **state)
{
    (void)state;
    cw_dataset *ds;
    cw_error err;
    assert_status(cw_dataset_open("fashion", CW_SPLIT_TRAIN, &ds, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "fashion-mnist"));
    assert_status(cw_dataset_open("fashion-mnist:", CW_SPLIT_TRAIN, &ds, &err), CW_ERR_SPEC);
    assert_status(cw_dataset_open("", CW_SPLIT_TRAIN, &ds, &err), CW_ERR_SPEC);
    assert_non_null(cw_dataset_known_at(0));
    assert_null(cw_dataset_known_at(cw_dataset_known_count()));
}

static void counts_that_differ_are_refused(void **state)
{
    (void)state;
    write_fashion(5, 4, true);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "4 labels for 5 images");
}

static void a_file_without_images_says_so(void **state)
{
    (void)state;
    write_fashion(0, 0, true);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "images-idx3-ubyte.gz holds no images");
}

/* As gzip reads them: several members are one file, and padding behind the last one is no part of it. */
static void gzip_files_may_come_in_pieces(void **state)
{
    (void)state;
    char path[128];
    uint8_t *plain;
    size_t size;
    write_fashion(9, 9, false);
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", test_folder);
    assert_ok(cw_file_read(path, &plain, &size, NULL));
    unlink(path);
    strcat(path, ".gz");
    for (int padded = 0; padded < 2; padded++) {
        unlink(path);
        for (size_t from = 0, to = 7; from < size; from = to, to = CWI_MIN(size, 3 * to)) {
            gzFile f = gzopen(path, "ab");
            assert_non_null(f);
            assert_int_equal(gzwrite(f, plain + from, (unsigned)(to - from)), to - from);
            assert_int_equal(gzclose(f), Z_OK);
        }
        FILE *f = fopen(path, "ab");
        assert_non_null(f);
        for (int i = 0; padded && i < 512; i++)
            fputc(0, f);
        assert_int_equal(fclose(f), 0);
        cw_dataset *ds;
        cw_error err;
        assert_ok_err(cw_dataset_open(spec_of("fashion-mnist"), CW_SPLIT_TRAIN, &ds, &err), err);
        assert_int_equal(cw_dataset_get_info(ds)->count, 9);
        cw_loader *l;
        cw_batch b;
        const cw_dataset_info *info = cw_dataset_get_info(ds);
        assert_ok(cw_loader_create(ds, NULL, 0, &(cw_loader_options){.batch = 9}, &l, NULL));
        assert_ok(cw_loader_next(l, &b, NULL));
        for (size_t i = 0; i < 9 * 784; i++)
            assert_true(fabsf(b.x[i] * info->std[0] + info->mean[0] - (float)plain[16 + i] / 255) < 1e-5f);
        cw_loader_destroy(&l);
        cw_dataset_close(&ds);
    }
    cw_bytes_free(plain);
}

static void labels_out_of_range_are_refused(void **state)
{
    (void)state;
    write_fashion(3, 3, false);
    uint8_t b[11] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 10, 2};
    write_file("train-labels-idx1-ubyte", b, sizeof b, false);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "label 10 of sample 1");
}

/* Rewrites the images' file, gzipped or plain, changed by the given function. */
static void change_images(bool gzip, void (*change)(uint8_t **data, size_t *size))
{
    assert_int_equal(remove_folder(NULL), 0);
    assert_int_equal(make_folder(NULL), 0);
    write_fashion(20, 20, gzip);
    char path[128];
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte%s", test_folder, gzip ? ".gz" : "");
    uint8_t *data;
    size_t size;
    cw_error err;
    assert_ok_err(cw_file_read(path, &data, &size, &err), err);
    change(&data, &size);
    assert_ok_err(cw_file_write(path, data, size, &err), err);
    cw_bytes_free(data);
}

static void cut_short(uint8_t **data, size_t *size)
{
    (void)data;
    *size -= 6;
}

static void cut_to_header(uint8_t **data, size_t *size)
{
    (void)data;
    *size = 9;
}

static void flip_middle(uint8_t **data, size_t *size)
{
    (*data)[*size / 2] ^= 0x5a;
}

static void flip_checksum(uint8_t **data, size_t *size)
{
    (*data)[*size - 8] ^= 1;
}

static void change_magic(uint8_t **data, size_t *size)
{
    (void)size;
    (*data)[3] = 1;
}

static void promise_much(uint8_t **data, size_t *size)
{
    (void)size;
    put_be32(*data + 4, 0xffffffff);
}

static void other_size(uint8_t **data, size_t *size)
{
    (void)size;
    put_be32(*data + 4, 10);
    put_be32(*data + 8, 56);
}

static void promise_less(uint8_t **data, size_t *size)
{
    (void)size;
    put_be32(*data + 4, 19);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    change_images(false, cut_short);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_TRUNCATED, "6 bytes too early; to get it again: apt-get");
    change_images(true, cut_short);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_TRUNCATED, "before its gzip checksum");
    change_images(true, cut_to_header);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_TRUNCATED, "too early");
    change_images(false, cut_to_header);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_TRUNCATED, "too early");
    change_images(true, flip_checksum);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "incorrect data check");
    change_images(true, flip_middle);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "gzip");
    change_images(false, change_magic);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_MAGIC, "00000801");
    change_images(false, promise_much);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_TRUNCATED, "promises more");
    change_images(false, other_size);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "56x28");
    change_images(false, promise_less);
    open_fails(CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "longer than its header");
}

static void the_environment_names_a_place(void **state)
{
    (void)state;
    write_fashion(4, 4, false);
    char link_path[128], parent[64] = "/tmp/cutwire-place-XXXXXX";
    assert_non_null(mkdtemp(parent));
    snprintf(link_path, sizeof link_path, "%s/fashion-mnist", parent);
    assert_int_equal(symlink(test_folder, link_path), 0);
    setenv("CUTWIRE_DATA", parent, 1);
    cw_dataset *ds;
    cw_error err;
    cw_status status = cw_dataset_open("fashion-mnist", CW_SPLIT_TRAIN, &ds, &err);
    unsetenv("CUTWIRE_DATA");
    unlink(link_path);
    rmdir(parent);
    assert_ok_err(status, err);
    assert_int_equal(cw_dataset_get_info(ds)->count, 4);
    cw_dataset_close(&ds);
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(the_real_set_has_its_counts),          test(the_constants_are_those_of_the_training_split),
        test(plain_and_gzipped_files_are_the_same), test(missing_files_say_how_to_get_them),
        test(unknown_names_list_the_known_ones),    test(counts_that_differ_are_refused),
        test(labels_out_of_range_are_refused),      test(damaged_files_are_refused),
        test(the_environment_names_a_place),        test(a_file_without_images_says_so),
        test(gzip_files_may_come_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
