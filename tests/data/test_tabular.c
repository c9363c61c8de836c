/* test_tabular.c - tables: columns typed and scaled by the training split alone, unknown and missing values by rule. */
#include <locale.h>
#include <math.h>

#include "cutwire/data.h"
#include "data_files.h"
#include "out_of_memory.h"

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
                             "numeric 2 0.81649658092772603\n"
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
        {"\xef\xbb\xbf", "", "is empty"},
        {"a,class\n\"1,x\n", "", "a quote is not closed"},
        {"a,class\n1,x\n", "a,class\nred,x\n", "test.csv, line 2: 'red' in column 1, which is numeric"},
        {"a,class\n1,x\n", "a,class\n1,z\n", "test.csv, line 2: the training split has no class 'z'"},
        {"a,class\n1,x\n", "a,b,class\n1,1,x\n", "not as many columns"},
        {"a,class\n1.7e308,x\n-1.7e308,x\n", "", "train.csv: column 1: its mean or deviation is beyond"},
        {"a,class\n1,x\n-inf,x\n2,x\n", "", "train.csv, line 3: column 1 is infinite there"},
        {"a,class\n1,x\n1e999,x\n2,x\n", "", "train.csv, line 3: column 1 is infinite there"},
        {"a,class\n1,x\n2,x\n", "a,class\n1,x\n1e999,x\n", "test.csv, line 3: '1e999' in column 1"},
        {"a,class\n1,x\n2,\n", "", "train.csv, line 3: the class, which is the last field, is missing"},
        {"a;b;class\n1;2;x\n", "", "line 1: its fields are separated by semicolons"},
        {"a\tb\tclass\n1\t2\tx\n", "", "line 1: its fields are separated by tabs"},
        {"a,class\n\"1\";x\n", "", "line 2: a closing quote is followed by ';'"},
        {"a,class\n\"1\"2,x\n", "", "line 2: a closing quote is followed by '2'"},
        {"\xff\xfe"
         "a,class\n1,x\n",
         "", "train.csv is UTF-16 text: save it as UTF-8"},
        {"5.1,3.5,setosa\n4.9,3,setosa\n7,3.2,other\n", "", "train.csv, line 1: a row of data stands where"},
        {"red,a\nred,a\nblue,b\n", "", "train.csv, line 1: a row of data stands where"},
        {"a,class\n1,x\n2,y\n", "1,y\n2,x\n", "test.csv, line 1: a row of data stands where"},
        {"a,b,class\n1,2,x\n", "b,a,class\n2,1,x\n", "test.csv: column 1 is 'b', in the training split it is 'a'"},
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

/* ---- files as people have them ---- */

/* The training split's input and numbers, opened as `spec` from this file. */
static const char *read_train(const char *spec, const char *file, const char *text, float *x)
{
    static char input[256];
    write_text(file, text);
    cw_dataset *ds = open_set(spec, CW_SPLIT_TRAIN);
    snprintf(input, sizeof input, "%s %zu %d", cw_dataset_get_info(ds)->input, cw_dataset_get_info(ds)->count,
             cw_dataset_get_info(ds)->classes);
    load_rows(ds, x);
    cw_dataset_close(&ds);
    return input;
}

/* Whatever the offset and the spread, a column comes out with mean 0 and deviation 1. */
static void offsets_and_spreads_do_not_matter(void **state)
{
    (void)state;
    enum { N = 200 };
    static const struct {
        double offset, spread;
    } cases[] = {{1700000000007, 1000}, {1.7e18, 4096},   {1000, 1e-4}, {-1e15, 0.25}, {0, 1e-60}, {0, 1e150},
                 {5e299, 1e299},        {1e-300, 1e-301}, {-3, 7},      {1e9, 1e-4}};
    for (size_t c = 0; c < CWI_COUNT(cases); c++) {
        static char text[N * 48];
        static float x[N];
        double value[N], mean = 0, squares = 0;
        size_t used = (size_t)snprintf(text, sizeof text, "t,class\n");
        for (size_t i = 0; i < N; i++) {
            value[i] = cases[c].offset + cases[c].spread * (double)(i * 37 % N);
            used += (size_t)snprintf(text + used, sizeof text - used, "%.17g,%zu\n", value[i], i % 2);
            mean += (value[i] - cases[c].offset) / cases[c].spread / N;
        }
        for (size_t i = 0; i < N; i++)
            squares += pow((value[i] - cases[c].offset) / cases[c].spread - mean, 2) / N;
        assert_string_equal(read_train("csv", "train.csv", text, x), "table:1 200 2");
        for (size_t i = 0; i < N; i++) {
            double want = ((value[i] - cases[c].offset) / cases[c].spread - mean) / sqrt(squares);
            if (!(fabs(x[i] - want) < 1e-4))
                fail_msg("case %zu, row %zu: %g is not %g", c, i, (double)x[i], want);
        }
    }
}

static void rounding_alone_is_no_spread(void **state)
{
    (void)state;
    float x[3];
    assert_string_equal(read_train("csv", "train.csv", "a,class\n0.3,x\n0.30000000000000004,y\n0.3,x\n", x),
                        "table:1 3 2");
    for (size_t i = 0; i < 3; i++)
        assert_true(fabsf(x[i]) < 1e-6f);
    read_train("csv", "train.csv", "a,class\n1700000000000,x\n1700000000000,y\n1700000000000,x\n", x);
    for (size_t i = 0; i < 3; i++)
        assert_true(x[i] == 0);
    read_train("csv", "train.csv", "a,class\n4503599627370496,x\n4503599627370512,y\n4503599627370528,x\n", x);
    assert_row(x, (float[]){-sqrtf(1.5f), 0, sqrtf(1.5f)}, 3);
}

static void marks_and_line_ends_are_passed_over(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "a,b,class\n1,u,x\n3,v,y\n",
        "\357\273\277a,b,class\n1,u,x\n3,v,y\n",
        "\xef\xbb\xbf\"a, too\",b,class\r\n1,u,x\r\n3,v,y\r\n",
        "a,b,class\r1,u,x\r3,v,y\r",
        "a,b,class\r1,u,x\r3,v,y",
        "\r\n\na,b,class\n\n1,u,x\n   \n3,v,y\n\n\n",
        "a,b,class\r\n1,u,x\r\n3,v,y\r\n,,\r\n,,\r\n",
        "sep=,\r\na,b,class\r\n1,u,x\r\n3,v,y\r\n",
        "\"a\r\nb\",b,class\r\n\"1\",\"u\",\"x\"\r\n \"3\" , \"v\" , \"y\" \r\n",
    };
    float x[4];
    for (size_t i = 0; i < CWI_COUNT(texts); i++) {
        assert_string_equal(read_train("csv", "train.csv", texts[i], x), "table:1/3 2 2");
        assert_row(x, (float[]){-1, 1, 1, 2}, 4);
    }
}

static void a_mark_makes_no_number_a_word(void **state)
{
    (void)state;
    float x[9];
    assert_string_equal(
        read_train("adult", "adult.data", "\357\273\27739,State,13,<=50K\n40,Private,12,>50K\n41,Private,12,>50K\n", x),
        "table:2/3 3 2");
}

/* What UCI's adult.test has, a remark on top and full stops, other files may have as data. */
static void rules_for_one_file_hold_for_it_alone(void **state)
{
    (void)state;
    float x[8];
    assert_string_equal(read_train("csv", "train.csv", "op,b,class\n|,1,x\n||,2,y\n#,3,x.\n\"|\",4,y\n", x),
                        "table:1/4 4 3");
    assert_true(x[1] == 1 && x[7] == 1); /* the commonest */
    write_text("test.csv", "op,b,class\n|1x3 Cross validator,1,x.\n#,2,y\n");
    cw_dataset *ds = open_set("csv", CW_SPLIT_TEST);
    assert_int_equal(cw_dataset_get_info(ds)->count, 2);
    assert_string_equal(cw_dataset_get_info(ds)->class_names[cw_dataset_label(ds, 0)], "x.");
    cw_dataset_close(&ds);
}

static void quoted_fields_hold_anything(void **state)
{
    (void)state;
    float x[4];
    assert_string_equal(read_train("csv", "train.csv",
                                   "a,b,class\n\"one, \"\"two\"\"\",1,\"New York\"\n\"three\r\nfour\",2,\"New York\"\n"
                                   "\"three\nfour\",3,Old York\n\"one, \"\"two\"\"\",4,Old York\n",
                                   (float[8]){0}),
                        "table:1/3 4 2");
    cw_dataset *ds = open_set("csv", CW_SPLIT_TRAIN);
    assert_non_null(strstr(cw_dataset_recipe(ds), "values 2\none, \"two\"\nthree four\n"));
    assert_string_equal(cw_dataset_get_info(ds)->class_names[0], "New York");
    write_text("test.csv", "a,b,class\n\"three\n\nfour\",2.5,New York\n");
    cw_dataset *test;
    cw_error err;
    assert_ok_err(cw_dataset_open_with(spec_of("csv"), CW_SPLIT_TEST, cw_dataset_recipe(ds), &test, &err), err);
    load_rows(test, x);
    assert_row(x, (float[]){0, 2}, 2);
    cw_dataset_close(&test);
    cw_dataset_close(&ds);
}

static void numbers_are_told_from_words(void **state)
{
    (void)state;
    static const char *const missing[] = {"",    "?",   "nan",  "NaN",  "NAN",  "-nan", "NA",
                                          "N/A", "n/a", "<NA>", "#N/A", "null", "NULL"};
    float x[6];
    char text[256];
    for (size_t i = 0; i < CWI_COUNT(missing); i++) {
        snprintf(text, sizeof text, "a,b,class\n1e3,1,x\n%s,2,y\n+3.0E+03,3,x\n", missing[i]);
        assert_string_equal(read_train("csv", "train.csv", text, x), "table:2 3 2");
        assert_true(fabsf(x[0] + 1) < 1e-6f && x[2] == 0 && fabsf(x[4] - 1) < 1e-6f);
    }
    static const char *const words[] = {"0x10", "1,5", "1e", "--1", "1.2.3", "1 2", "12O", "1_0", "None", "none"};
    for (size_t i = 0; i < CWI_COUNT(words); i++) {
        snprintf(text, sizeof text, "a,b,class\n1,1,x\n\"%s\",2,y\n3,3,x\n", words[i]);
        assert_string_equal(read_train("csv", "train.csv", text, x), "table:1/4 3 2");
        cw_dataset *ds = open_set("csv", CW_SPLIT_TRAIN), *again;
        cw_error err;
        const char *note = cw_dataset_get_info(ds)->note;
        assert_non_null(note);
        assert_non_null(strstr(note, "column 1 counts as words because of '"));
        assert_non_null(strstr(note, "' in line 3, though 2 of its values are numbers"));
        assert_ok_err(cw_dataset_open_with(spec_of("csv"), CW_SPLIT_TRAIN, cw_dataset_recipe(ds), &again, &err), err);
        assert_string_equal(cw_dataset_get_info(again)->note, note);
        cw_dataset_close(&again);
        cw_dataset_close(&ds);
    }
    assert_string_equal(read_train("csv", "train.csv", "a,b,class\nNA,1,x\nDE,2,y\nNA,3,x\n", x), "table:1/3 3 2");
}

/* Data frames number the columns that nobody named; headers of other names are as good. */
static void headers_need_not_be_names(void **state)
{
    (void)state;
    float x[4];
    assert_string_equal(read_train("csv", "train.csv", "0,1,2\n0,5,2\n1,4,0\n", x), "table:2 2 2");
    write_text("test.csv", "x,y,z\n0,5,2\n");
    cw_dataset *ds = open_set("csv", CW_SPLIT_TEST);
    cw_dataset_close(&ds);
}

static void recipes_of_before_are_read(void **state)
{
    (void)state;
    static const char *const recipes[] = {
        "cutwire-recipe 1 table 2\nvalues 2\nred\nblue\nnumeric 1.70000003e+09 577.350281\nclasses 2\nno\nyes\n",
        "cutwire-recipe 1 table 2\r\nvalues 2\r\nred\r\nblue\r\nnumeric 1.70000003e+09 577.350281\r\nclasses 2\r\n"
        "no\r\nyes\r\n",
        "\357\273\277cutwire-recipe 1 table 2\nvalues 2\nred\nblue\nnumeric 1700000030 577.350281\nclasses "
        "2\nno\nyes\n"};
    write_text("test.csv", "a,b,class\nblue,1700000030,yes\n");
    for (size_t i = 0; i < CWI_COUNT(recipes); i++) {
        cw_dataset *ds;
        cw_error err;
        float x[2];
        assert_ok_err(cw_dataset_open_with(spec_of("csv"), CW_SPLIT_TEST, recipes[i], &ds, &err), err);
        load_rows(ds, x);
        assert_row(x, (float[]){0, 2}, 2);
        assert_int_equal(cw_dataset_label(ds, 0), 1);
        cw_dataset_close(&ds);
    }
}

/* German numbers in this process, made in the test's folder where the system has no such language. */
static bool speak_german(void)
{
    char command[256];
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8"))
        return true;
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/log 2>&1", test_folder,
             test_folder);
    if (system(command) != 0)
        return false;
    setenv("LOCPATH", test_folder, 1);
    const bool set = setlocale(LC_NUMERIC, "de_DE.UTF-8");
    unsetenv("LOCPATH");
    return set;
}

/* A program's language decides how strtod reads and printf writes, unless one takes care. */
static void numbers_have_a_point_in_every_language(void **state)
{
    (void)state;
    char number[16];
    if (!speak_german()) {
        print_message("SKIP: no language with a decimal comma is installed, nor what makes one (Debian: locales)\n");
        skip();
    }
    snprintf(number, sizeof number, "%.1f", 0.5);
    assert_string_equal(number, "0,5");
    float x[2];
    assert_string_equal(read_train("csv", "train.csv", "a,class\n1.5,x\n2.5,y\n", x), "table:1 2 2");
    assert_row(x, (float[]){-1, 1}, 2);
    cw_dataset *ds = open_set("csv", CW_SPLIT_TRAIN);
    assert_string_equal(cw_dataset_recipe(ds), "cutwire-recipe 1 table 1\nnumeric 2 0.5\nclasses 2\nx\ny\n");
    cw_dataset_close(&ds);
    snprintf(number, sizeof number, "%.1f", 0.5);
    assert_string_equal(number, "0,5"); /* the program keeps its own */
    setlocale(LC_NUMERIC, "C");
}

static void the_missing_half_is_named(void **state)
{
    (void)state;
    cw_dataset *ds;
    cw_error err;
    write_text("train.csv", "a,class\n1,x\n");
    assert_status(cw_dataset_open(spec_of("csv"), CW_SPLIT_TEST, &ds, &err), CW_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, " has train.csv but no test.csv"));
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

static void failed_allocations_leak_nothing(void **state)
{
    (void)state;
    write_text("train.csv", train);
    for (oom_scan scan = {0}; !scan.done;) {
        cw_dataset *ds;
        cw_error err;
        oom_begin(&scan);
        cw_status status = cw_dataset_open(spec_of("csv"), CW_SPLIT_TRAIN, &ds, &err);
        oom_end(&scan, status);
        cw_dataset_close(&ds);
    }
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(columns_are_typed_and_scaled),
        test(a_kept_recipe_stands_in_for_the_training_split),
        test(the_official_layout_of_adult_is_read),
        test(wrong_files_name_the_line),
        test(offsets_and_spreads_do_not_matter),
        test(rounding_alone_is_no_spread),
        test(marks_and_line_ends_are_passed_over),
        test(a_mark_makes_no_number_a_word),
        test(rules_for_one_file_hold_for_it_alone),
        test(quoted_fields_hold_anything),
        test(numbers_are_told_from_words),
        test(headers_need_not_be_names),
        test(recipes_of_before_are_read),
        test(numbers_have_a_point_in_every_language),
        test(the_missing_half_is_named),
        cmocka_unit_test(real_adult_loads),
        test(failed_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
