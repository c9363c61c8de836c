/* test_tabular.c - tables: columns typed and scaled by the training split alone, unknown and missing values by rule. */
#include <math.h>

#include "base/base.h"
#include "cutwire/data.h"
#include "data_files.h"

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text), false);
}

static cw_dataset *open_set(const char *spec, cw_split split)
{
    cw_dataset *ds;
    cw_error err;
    assert_ok_err(cw_dataset_open(spec_of(spec), split, &ds, &err), err);
    return ds;
}

static void load_rows(const cw_dataset *ds, float *x)
{
    cw_loader *l;
    cw_batch b;
    size_t n = cw_dataset_get_info(ds)->count;
    assert_ok(cw_loader_create(ds, NULL, 0, &(cw_loader_options){.batch = n}, &l, NULL));
    assert_ok(cw_loader_next(l, &b, NULL));
    memcpy(x, b.x, n * (size_t)cw_dataset_get_info(ds)->sample.dim[0] * sizeof *x);
    cw_loader_destroy(&l);
}

static void assert_row(const float *x, const float *expected, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(x[i] - expected[i]) < 1e-6f);
}

static const char train[] = "color,weight,shape,constant,class\n"
                            "red,1,round,7,yes\n"
                            "blue,3,\"long, thin\",7,no\n"
                            "red,?,round,7,yes\n"
                            "red,2,?,7,no\n";

static const char recipe[] = "cutwire-recipe 1 table 4\n"
                             "values 2\nred\nblue\n"
                             "numeric 2 0.816496611\n"
                             "values 3\nround\n?\nlong, thin\n"
                             "numeric 7 1\n"
                             "classes 2\nno\nyes\n";

static void columns_are_typed_and_scaled(void **state)
{
    (void)state;
    write_text("train.csv", train);
    write_text("test.csv", "color,weight,shape,constant,class\r\ngreen,-1, round ,8,yes\r\n");
    cw_dataset *ds = open_set("csv", CW_SPLIT_TRAIN);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, 4);
    assert_int_equal(info->classes, 2);
    assert_string_equal(info->class_names[1], "yes");
    assert_string_equal(info->input, "table:2/3/4");
    assert_string_equal(cw_dataset_recipe(ds), recipe);
    float x[16];
    load_rows(ds, x);
    float unit = 1 / sqrtf(2.0f / 3);
    assert_row(x, (float[]){-unit, 0, 1, 1}, 4);
    assert_row(x + 4, (float[]){unit, 0, 2, 3}, 4);
    assert_row(x + 8, (float[]){0, 0, 1, 1}, 4);
    assert_row(x + 12, (float[]){0, 0, 1, 2}, 4);
    assert_int_equal(cw_dataset_label(ds, 0), 1);
    cw_dataset_close(&ds);
    ds = open_set("csv", CW_SPLIT_TEST);
    load_rows(ds, x);
    assert_row(x, (float[]){-3 * unit, 1, 0, 1}, 4);
    assert_int_equal(cw_dataset_label(ds, 0), 1);
    cw_dataset_close(&ds);
}

static void a_kept_recipe_stands_in_for_the_training_split(void **state)
{
    (void)state;
    write_text("test.csv", "color,weight,shape,constant,class\nblue,4,round,7,no\n");
    cw_dataset *ds;
    cw_error err;
    assert_ok_err(cw_dataset_open_with(spec_of("csv"), CW_SPLIT_TEST, recipe, &ds, &err), err);
    assert_string_equal(cw_dataset_recipe(ds), recipe);
    float x[4];
    load_rows(ds, x);
    assert_row(x, (float[]){2 / sqrtf(2.0f / 3), 0, 2, 1}, 4);
    cw_dataset_close(&ds);
    for (size_t n = 0; n + 1 < sizeof recipe - 1; n++) { /* every truncation is seen */
        char cut[sizeof recipe];
        memcpy(cut, recipe, n);
        cut[n] = '\0';
        cw_status status = cw_dataset_open_with(spec_of("csv"), CW_SPLIT_TEST, cut, &ds, &err);
        if (status == CW_OK && n < sizeof recipe - 5) /* a class name may end early unseen */
            fail_msg("a recipe cut at byte %zu was taken", n);
        cw_dataset_close(&ds);
    }
}

static void the_official_layout_of_adult_is_read(void **state)
{
    (void)state;
    write_text("adult.data", "39, State-gov, <=50K\n50, ?, >50K\n\n");
    write_text("adult.test", "|1x3 Cross validator\n25, State-gov, <=50K.\n38, Private, >50K.\n\n");
    cw_dataset *ds = open_set("adult", CW_SPLIT_TEST);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, 2);
    assert_string_equal(info->class_names[0], "<=50K");
    assert_string_equal(info->input, "table:1/3");
    assert_int_equal(cw_dataset_label(ds, 0), 0);
    assert_int_equal(cw_dataset_label(ds, 1), 1);
    float x[4];
    load_rows(ds, x);
    assert_true(x[1] == 2 && x[3] == 0);
    cw_dataset_close(&ds);
}

static void wrong_files_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *train, *test, *says;
    } cases[] = {
        {"a,class\n1,x\n2\n", "", "train.csv, line 3: 1 fields, not 2"},
        {"a,class\n1,x\n2,y,z\n", "", "line 3: 3 fields"},
        {"a\n1\n", "", "line 2: 1 fields, not 2"},
        {"a,class\n", "", "no rows"},
        {"", "", "is empty"},
        {"a,class\n\"1,x\n", "", "a quote is not closed"},
        {"a,class\n1,x\n", "a,class\nred,x\n", "test.csv, line 2: 'red' in column 1, which is numeric"},
        {"a,class\n1,x\n", "a,class\n1,z\n", "test.csv, line 2: the training split has no class 'z'"},
        {"a,class\n1,x\n", "a,b,class\n1,1,x\n", "not as many columns"},
        {"a,b,class\n1,1e300,x\n1,2,x\n", "", "train.csv: column 2: its mean or deviation is beyond"},
        {"a,class\n1e300,x\n-1e300,x\n", "", "train.csv: column 1: its mean or deviation is beyond"},
        {"a,class\n1e150,x\n2e150,x\n", "", "train.csv: column 1: its mean or deviation is beyond"},
        {"a,class\n1e-60,x\n2e-60,x\n", "", "train.csv: column 1: its mean or deviation is beyond"},
        {"a,class\n1,x\n2,x\n", "a,class\n1,x\n1e300,x\n", "test.csv, line 3: '1e300' in column 1 is too far"},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cw_dataset *ds;
        cw_error err = {.message = ""};
        write_text("train.csv", cases[i].train);
        write_text("test.csv", cases[i].test);
        cw_status status = cw_dataset_open(spec_of("csv"), CW_SPLIT_TEST, &ds, &err);
        if (status != CW_ERR_CORRUPT || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %s: %s", i, cw_status_name(status), err.message);
        assert_null(ds);
    }
}

static void real_adult_loads(void **state)
{
    (void)state;
    cw_dataset *ds, *test;
    cw_error err;
    if (cw_dataset_open("adult", CW_SPLIT_TRAIN, &ds, &err) == CW_ERR_NOT_FOUND) {
        print_message("SKIP: %s\n", err.message);
        skip();
    }
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, 32561);
    assert_string_equal(info->input, "table:6/10/17/8/16/7/6/3/43");
    size_t rich = 0;
    for (size_t i = 0; i < info->count; i++)
        rich += cw_dataset_label(ds, i) == 1;
    assert_int_equal(rich, 7841);
    float *x = malloc(info->count * 14 * sizeof *x);
    assert_non_null(x);
    load_rows(ds, x);
    for (size_t c = 0; c < 6; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < info->count; i++) {
            sum += x[i * 14 + c];
            squares += (double)x[i * 14 + c] * x[i * 14 + c];
        }
        assert_true(fabs(sum / (double)info->count) < 1e-4);
        assert_true(fabs(squares / (double)info->count - 1) < 1e-4);
    }
    free(x);
    assert_ok_err(cw_dataset_open("adult", CW_SPLIT_TEST, &test, &err), err);
    assert_int_equal(cw_dataset_get_info(test)->count, 16281);
    assert_string_equal(cw_dataset_recipe(test), cw_dataset_recipe(ds));
    cw_dataset_close(&test);
    cw_dataset_close(&ds);
}

static bool nth(void *ctx, size_t bytes)
{
    (void)bytes;
    return (*(int *)ctx)-- == 0;
}

static void failed_allocations_leak_nothing(void **state)
{
    (void)state;
    write_text("train.csv", train);
    cw_status status = CW_ERR_NO_MEMORY;
    for (int n = 0; status != CW_OK; n++) {
        cw_dataset *ds;
        cw_error err;
        int left = n;
        cwi_alloc_set_fault(nth, &left);
        status = cw_dataset_open(spec_of("csv"), CW_SPLIT_TRAIN, &ds, &err);
        cwi_alloc_set_fault(NULL, NULL);
        if (status != CW_OK)
            assert_int_equal(status, CW_ERR_NO_MEMORY);
        cw_dataset_close(&ds);
        assert_true(n < 100);
    }
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(columns_are_typed_and_scaled),         test(a_kept_recipe_stands_in_for_the_training_split),
        test(the_official_layout_of_adult_is_read), test(wrong_files_name_the_line),
        cmocka_unit_test(real_adult_loads),         test(failed_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
