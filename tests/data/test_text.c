/* test_text.c - sentences as token ids: the vocabulary comes from the training split alone and can be kept. */
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

/* All rows of a split, one after the other. */
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

static void assert_row(const float *x, const int *expected, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal((int)x[i], expected[i]);
}

/* the: 4, cat: 3, dog: 2, '.': 2; "bird" once: unknown. */
static const char train[] = "label\ttext\n"
                            "1\tThe cat, the CAT.\r\n"
                            "0\tthe dog\\dog bird.\n"
                            "\n"
                            "1\tthe cat\n";

static void words_are_numbered_by_frequency(void **state)
{
    (void)state;
    write_text("train.tsv", train);
    write_text("test.tsv", "sentence\tlabel\nfish the dog\t0\nthe the the the the the the the the the\t1");
    cw_dataset *ds = open_set("sst-2@8", CW_SPLIT_TRAIN);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, 3);
    assert_string_equal(info->input, "tokens:6");
    assert_int_equal(info->sample.ndim, 1);
    assert_int_equal(info->sample.dim[0], 8);
    float x[24];
    load_rows(ds, x);
    assert_row(x, (int[]){2, 3, 1, 2, 3, 4, 0, 0}, 8);
    assert_row(x + 8, (int[]){2, 5, 5, 1, 4, 0, 0, 0}, 8);
    assert_int_equal(cw_dataset_label(ds, 1), 0);
    assert_string_equal(cw_dataset_recipe(ds), "cutwire-recipe 1 tokens 8\nthe\ncat\n.\ndog\n");
    cw_dataset_close(&ds);
    ds = open_set("sst-2@8", CW_SPLIT_TEST);
    load_rows(ds, x);
    assert_row(x, (int[]){1, 2, 5, 0, 0, 0, 0, 0}, 8);
    assert_row(x + 8, (int[]){2, 2, 2, 2, 2, 2, 2, 2}, 8);
    assert_int_equal(cw_dataset_label(ds, 1), 1);
    cw_dataset_close(&ds);
}

static void a_kept_recipe_stands_in_for_the_training_split(void **state)
{
    (void)state;
    write_text("train.tsv", train);
    write_text("test.tsv", "sentence\tlabel\nthe dog\t0\n");
    cw_dataset *ds = open_set("sst-2@8", CW_SPLIT_TRAIN), *test;
    cw_error err;
    char path[128];
    snprintf(path, sizeof path, "%s/train.tsv", test_folder);
    unlink(path);
    assert_status(cw_dataset_open(spec_of("sst-2"), CW_SPLIT_TEST, &test, &err), CW_ERR_NOT_FOUND);
    assert_ok_err(cw_dataset_open_with(spec_of("sst-2"), CW_SPLIT_TEST, cw_dataset_recipe(ds), &test, &err), err);
    assert_string_equal(cw_dataset_recipe(test), cw_dataset_recipe(ds));
    assert_string_equal(cw_dataset_get_info(test)->input, "tokens:6");
    float x[8];
    load_rows(test, x);
    assert_row(x, (int[]){2, 5, 0, 0, 0, 0, 0, 0}, 8);
    cw_dataset_close(&test);
    cw_dataset_close(&ds);
    static const char *const bad[] = {"",
                                      "x",
                                      "cutwire-recipe 1 tokens 0\n",
                                      "cutwire-recipe 1 tokens 99999999\n",
                                      "cutwire-recipe 1 table 3\n",
                                      "cutwire-recipe 1 tokens 8\na\na\n",
                                      "cutwire-recipe 1 tokens 8\n\na\n"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(cw_dataset_open_with(spec_of("sst-2"), CW_SPLIT_TEST, bad[i], &test, &err), CW_ERR_CORRUPT);
        assert_null(test);
    }
}

static void the_official_layouts_are_read(void **state)
{
    (void)state;
    write_text("train.csv", "\"3\",\"Oil \"\"up\"\"\",\"prices, prices\"\n\"1\",\"up\",\"two\nlines\"\n");
    write_text("test.csv", "\"4\",\"prices\",\"\"\n");
    cw_dataset *ds = open_set("ag-news@8", CW_SPLIT_TRAIN);
    float x[16];
    load_rows(ds, x);
    assert_int_equal(cw_dataset_get_info(ds)->count, 2);
    assert_int_equal(cw_dataset_label(ds, 0), 2);
    assert_string_equal(cw_dataset_recipe(ds), "cutwire-recipe 1 tokens 8\n\"\nprices\nup\n");
    assert_row(x, (int[]){1, 2, 4, 2, 3, 1, 3, 0}, 8);
    assert_row(x + 8, (int[]){4, 1, 1, 0, 0, 0, 0, 0}, 8);
    cw_dataset_close(&ds);
    ds = open_set("ag-news", CW_SPLIT_TEST);
    assert_int_equal(cw_dataset_label(ds, 0), 3);
    cw_dataset_close(&ds);
    write_text("train.tsv", train); /* GLUE's SST-2: the test split has no labels, dev takes its place */
    write_text("test.tsv", "index\tsentence\n0\tthe cat\n");
    write_text("dev.tsv", "sentence\tlabel\nthe cat\t1\n");
    ds = open_set("sst-2", CW_SPLIT_TEST);
    assert_int_equal(cw_dataset_get_info(ds)->count, 1);
    assert_int_equal(cw_dataset_label(ds, 0), 1);
    cw_dataset_close(&ds);
}

/* Excel and Notepad put a mark before the text, old Macs end lines by '\r'. */
static void marks_and_line_ends_are_passed_over(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "label\ttext\n1\tthe cat\n0\tthe cat\n",
        "\357\273\277label\ttext\n1\tthe cat\n0\tthe cat\n",
        "\357\273\277label\ttext\r\n1\tthe cat\r\n\r\n0\tthe cat\r\n\r\n",
        "label\ttext\r1\tthe cat\r0\tthe cat\r",
    };
    for (size_t i = 0; i < CWI_COUNT(texts); i++) {
        write_text("train.tsv", texts[i]);
        cw_dataset *ds = open_set("sst-2@8", CW_SPLIT_TRAIN);
        assert_int_equal(cw_dataset_get_info(ds)->count, 2);
        assert_string_equal(cw_dataset_recipe(ds), "cutwire-recipe 1 tokens 8\ncat\nthe\n");
        assert_null(cw_dataset_get_info(ds)->note);
        float x[16];
        load_rows(ds, x);
        assert_row(x, (int[]){3, 2, 0, 0, 0, 0, 0, 0, 3, 2}, 10);
        assert_int_equal(cw_dataset_label(ds, 0), 1);
        cw_dataset_close(&ds);
    }
    write_text("train.csv", "\xef\xbb\xbf\"3\",\"up\",\"\"\n\"1\",\"up\",\"two\"\n");
    char path[128];
    snprintf(path, sizeof path, "%s/train.tsv", test_folder);
    unlink(path);
    cw_dataset *ds = open_set("ag-news@8", CW_SPLIT_TRAIN);
    assert_int_equal(cw_dataset_label(ds, 0), 2);
    cw_dataset_close(&ds);
}

/* An empty text is a sample of padding; bytes of any encoding are words. */
static void odd_texts_are_read(void **state)
{
    (void)state;
    write_text("train.tsv", "label\ttext\n1\tcaf\xe9 caf\xe9\n0\t\n1\t \\ \n0\t\xff\xfe"
                            "a \xff\xfe"
                            "a\n");
    cw_dataset *ds = open_set("sst-2@8", CW_SPLIT_TRAIN);
    float x[32];
    load_rows(ds, x);
    for (size_t i = 0; i < 4; i++) {
        const int expected[4] = {2, 0, 0, 3};
        assert_row(x + 8 * i, (int[]){expected[i], expected[i], 0}, 3);
    }
    assert_non_null(strstr(cw_dataset_get_info(ds)->note, "train.tsv: 2 of its texts are empty"));
    cw_dataset_close(&ds);
    cw_error err;
    write_file("train.tsv", "\xff\xfel\0a\0b\0", 8, false);
    assert_status(cw_dataset_open(spec_of("sst-2"), CW_SPLIT_TRAIN, &ds, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is UTF-16 text: save it as UTF-8"));
}

static void wrong_files_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"label\ttext\n1\ta\n2\tb\n", "line 3: label 2 is not in 0..1"},
        {"label\ttext\n1\ta\n-1\tb\n", "line 3: label -1"},
        {"label\ttext\nx\ta\n", "line 2: the label is not a number"},
        {"label\ttext\n\n\n1\n", "line 4: fields are missing"},
        {"labels\ttexts\n1\ta\n", "no header"},
        {"", "no header"},
        {"label\ttext\n", "no sentences"},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cw_dataset *ds;
        cw_error err = {.message = ""};
        write_text("train.tsv", cases[i].text);
        assert_status(cw_dataset_open(spec_of("sst-2"), CW_SPLIT_TRAIN, &ds, &err), CW_ERR_CORRUPT);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s", err.message);
        assert_null(ds);
    }
    cw_dataset *ds;
    cw_error err;
    write_file("train.tsv", "label\ttext\n1\ta\0b\n", 17, false);
    assert_status(cw_dataset_open(spec_of("sst-2"), CW_SPLIT_TRAIN, &ds, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "NUL"));
    assert_int_equal(remove_folder(NULL), 0);
    assert_int_equal(make_folder(NULL), 0);
    write_text("train.csv", "\"1\",\"a\",\"b");
    assert_status(cw_dataset_open(spec_of("ag-news"), CW_SPLIT_TRAIN, &ds, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "a quote is not closed"));
}

static void check_real(const char *name, size_t train_count, size_t test_count, int classes)
{
    cw_dataset *ds;
    cw_error err;
    if (cw_dataset_open(name, CW_SPLIT_TRAIN, &ds, &err) == CW_ERR_NOT_FOUND) {
        print_message("SKIP: %s\n", err.message);
        skip();
    }
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    assert_int_equal(info->count, train_count);
    assert_int_equal(info->classes, classes);
    int words = atoi(info->input + strlen("tokens:"));
    assert_in_range(words, 5000, 20002);
    float *x = malloc(info->count * 64 * sizeof *x);
    assert_non_null(x);
    load_rows(ds, x);
    size_t unknown = 0, known = 0;
    for (size_t i = 0; i < info->count * 64; i++) {
        assert_true(x[i] >= 0 && x[i] < (float)words);
        unknown += x[i] == 1;
        known += x[i] > 1;
    }
    assert_true(unknown < known / 20);
    free(x);
    cw_dataset *test;
    assert_ok_err(cw_dataset_open(name, CW_SPLIT_TEST, &test, &err), err);
    assert_int_equal(cw_dataset_get_info(test)->count, test_count);
    assert_string_equal(cw_dataset_recipe(test), cw_dataset_recipe(ds));
    cw_dataset_close(&test);
    cw_dataset_close(&ds);
}

static void real_sst_2_loads(void **state)
{
    (void)state;
    check_real("sst-2", 60614, 872, 2);
}

static void real_ag_news_loads(void **state)
{
    (void)state;
    check_real("ag-news", 9991, 7600, 4);
}

static void failed_allocations_leak_nothing(void **state)
{
    (void)state;
    write_text("train.tsv", train);
    for (oom_scan scan = {0}; !scan.done;) {
        cw_dataset *ds;
        cw_error err;
        oom_begin(&scan);
        cw_status status = cw_dataset_open(spec_of("sst-2"), CW_SPLIT_TRAIN, &ds, &err);
        oom_end(&scan, status);
        cw_dataset_close(&ds);
    }
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(words_are_numbered_by_frequency),
        test(a_kept_recipe_stands_in_for_the_training_split),
        test(the_official_layouts_are_read),
        test(wrong_files_name_the_line),
        cmocka_unit_test(real_sst_2_loads),
        cmocka_unit_test(real_ag_news_loads),
        test(failed_allocations_leak_nothing),
        test(marks_and_line_ends_are_passed_over),
        test(odd_texts_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
