/* test_cifar.c - the real CIFAR sets where unpacked ($CUTWIRE_DATA or ~/.cache/cutwire/data), and wrong files. */
#include <math.h>

#include "base/base.h"
#include "cutwire/data.h"
#include "data_files.h"

static void check_counts(const char *name, cw_split split, size_t count, int classes)
{
    cw_dataset *ds;
    cw_error err;
    cw_status status = cw_dataset_open(name, split, &ds, &err);
    if (status == CW_ERR_NOT_FOUND) {
        assert_non_null(strstr(err.message, "cutwire data fetch"));
        print_message("SKIP: %s\n", err.message);
        skip();
    }
    assert_ok_err(status, err);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, count);
    assert_int_equal(info->classes, classes);
    size_t of_class[100] = {0};
    for (size_t i = 0; i < count; i++)
        of_class[cw_dataset_label(ds, i)]++;
    for (int k = 0; k < classes; k++)
        assert_int_equal(of_class[k], count / (size_t)classes);
    cw_dataset_close(&ds);
}

static void real_cifar_10_has_its_counts(void **state)
{
    (void)state;
    check_counts("cifar-10", CW_SPLIT_TRAIN, 50000, 10);
    check_counts("cifar-10", CW_SPLIT_TEST, 10000, 10);
}

static void real_cifar_100_has_its_counts(void **state)
{
    (void)state;
    check_counts("cifar-100", CW_SPLIT_TRAIN, 50000, 100);
    check_counts("cifar-100", CW_SPLIT_TEST, 10000, 100);
}

/* The training split, normalized, has mean 0 and variance 1 in each channel. */
static void check_constants(const char *name)
{
    cw_dataset *ds;
    cw_loader *l;
    cw_error err;
    if (cw_dataset_open(name, CW_SPLIT_TRAIN, &ds, &err) == CW_ERR_NOT_FOUND) {
        print_message("SKIP: %s\n", err.message);
        skip();
    }
    assert_ok_err(cw_loader_create(ds, NULL, 0, &(cw_loader_options){.batch = 500, .threads = 2}, &l, &err), err);
    double sum[3] = {0}, squares[3] = {0}, n = 50000.0 * 1024;
    cw_batch b;
    while (cw_loader_next(l, &b, &err) == CW_OK)
        for (size_t i = 0; i < b.n * 3072; i++) {
            sum[i / 1024 % 3] += b.x[i];
            squares[i / 1024 % 3] += (double)b.x[i] * b.x[i];
        }
    for (int c = 0; c < 3; c++) {
        assert_true(fabs(sum[c] / n) < 1e-5);
        assert_true(fabs(squares[c] / n - 1) < 1e-5);
    }
    cw_loader_destroy(&l);
    cw_dataset_close(&ds);
}

static void the_constants_are_those_of_the_training_splits(void **state)
{
    (void)state;
    check_constants("cifar-10");
    check_constants("cifar-100");
}

/* A CIFAR-100 test file of 10,000 records whose bytes are known. */
static void write_records(size_t records, uint8_t fine)
{
    size_t size = records * 3074;
    uint8_t *b = malloc(size + 1);
    assert_non_null(b);
    for (size_t i = 0; i < size; i++)
        b[i] = (uint8_t)(i / 3074);
    for (size_t i = 0; i < records; i++) {
        b[i * 3074] = 19;
        b[i * 3074 + 1] = i == 77 ? fine : (uint8_t)(i % 100);
    }
    write_file("test.bin", b, size, false);
    free(b);
}

static void the_fine_label_and_the_planes_are_read(void **state)
{
    (void)state;
    write_records(10000, 77);
    cw_dataset *ds;
    cw_loader *l;
    cw_batch b;
    cw_error err;
    assert_ok_err(cw_dataset_open(spec_of("cifar-100"), CW_SPLIT_TEST, &ds, &err), err);
    assert_ok_err(cw_loader_create(ds, (uint32_t[]){201}, 1, &(cw_loader_options){.batch = 1}, &l, &err), err);
    assert_ok(cw_loader_next(l, &b, &err));
    assert_int_equal(b.labels[0], 1);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_string_equal(info->class_names[1], "aquarium_fish");
    for (int i = 0; i < 3072; i++)
        assert_true(fabsf(b.x[i] - (201 / 255.0f - info->mean[i / 1024]) / info->std[i / 1024]) < 1e-5f);
    cw_loader_destroy(&l);
    cw_dataset_close(&ds);
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    cw_dataset *ds;
    cw_error err;
    assert_status(cw_dataset_open(spec_of("cifar-100"), CW_SPLIT_TEST, &ds, &err), CW_ERR_NOT_FOUND);
    write_records(9999, 77);
    assert_status(cw_dataset_open(spec_of("cifar-100"), CW_SPLIT_TEST, &ds, &err), CW_ERR_TRUNCATED);
    assert_non_null(strstr(err.message, "30736926 bytes"));
    write_records(10001, 77);
    assert_status(cw_dataset_open(spec_of("cifar-100"), CW_SPLIT_TEST, &ds, &err), CW_ERR_CORRUPT);
    write_records(10000, 100);
    assert_status(cw_dataset_open(spec_of("cifar-100"), CW_SPLIT_TEST, &ds, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "label 100 of sample 77"));
    assert_null(ds);
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_cifar_10_has_its_counts),
        cmocka_unit_test(real_cifar_100_has_its_counts),
        cmocka_unit_test(the_constants_are_those_of_the_training_splits),
        test(the_fine_label_and_the_planes_are_read),
        test(wrong_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
