/* test_classes.c - clients whose data number their classes otherwise: labels go by the names. */
#include <png.h>

#include "config/setup.h"
#include "cutwire/train.h"
#include "data/data_files.h"
#include "scene.h"

#include "test.h"

/* ---- the names themselves ---- */

static cwi_classes classes_of(const char *const *names, size_t count)
{
    cwi_classes c;
    cw_error err;
    assert_ok_err(cwi_classes_copy(names, count, &c, &err), err);
    return c;
}

static void names_survive_as_text(void **state)
{
    (void)state;
    static const char *const names[] = {"zebra", "a b", "\\", "two\nlines", "\\n", "caf\xc3\xa9", "\xff\x01", " "};
    cwi_classes c = classes_of(names, CWI_COUNT(names)), back;
    cw_error err;
    char *text;
    assert_ok_err(cwi_classes_format(&c, &text, &err), err);
    assert_string_equal(text, "zebra\na b\n\\\\\ntwo\\nlines\n\\\\n\ncaf\xc3\xa9\n\xff\x01\n \n");
    assert_ok_err(cwi_classes_parse(text, strlen(text), CWI_COUNT(names), &back, &err), err);
    assert_true(cwi_classes_equal(&c, &back));
    for (size_t i = 0; i < CWI_COUNT(names); i++)
        assert_int_equal(cwi_classes_find(&back, names[i]), i);
    assert_int_equal(cwi_classes_find(&back, "lines"), -1);
    cwi_free(text);
    text = cwi_classes_list(&back);
    assert_string_equal(text, "\"zebra\", \"a b\", \"\\\", \"two?lines\", \"\\n\", \"caf\xc3\xa9\", \"??\", \" \"");
    cwi_free(text);
    cwi_classes_free(&back);
    cwi_classes_free(&c);
}

static void hostile_texts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size;
        const char *words;
    } cases[] = {{"cat", 3, "not the lines"},       {"cat\n\0\n", 6, "not the lines"},
                 {"cat\n\n", 5, "no name"},         {"cat\ndog\ncat\n", 12, "two classes of the name \"cat\""},
                 {"c\\at\n", 5, "neither"},         {"cat\\\n", 5, "neither"},
                 {"a\nb\nc\nd\ne\n", 10, "5 names"}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cwi_classes c;
        cw_error err;
        assert_status(cwi_classes_parse(cases[i].text, cases[i].size, 4, &c, &err), CW_ERR_CORRUPT);
        if (!strstr(err.message, cases[i].words))
            fail_msg("'%s' says '%s'", cases[i].text, err.message);
        assert_int_equal(c.count, 0);
        assert_null(c.names);
    }
    cwi_classes none;
    assert_ok(cwi_classes_parse(NULL, 0, 4, &none, NULL));
    assert_int_equal(none.count, 0);
}

static void labels_are_mapped_by_name(void **state)
{
    (void)state;
    static const char *const run_names[] = {"bird", "cat", "dog"}, *const own_names[] = {"cat", "dog"},
                             *const more_names[] = {"dog", "eel", "cat", "ant"};
    cwi_classes run = classes_of(run_names, 3), own = classes_of(own_names, 2), more = classes_of(more_names, 4);
    cw_error err;
    int32_t *map;
    assert_ok(cwi_classes_map(&run, &own, &map, &err));
    assert_true(map[0] == 1 && map[1] == 2);
    cwi_free(map);
    assert_ok(cwi_classes_map(&run, &run, &map, &err));
    assert_null(map);
    assert_int_equal(cwi_classes_unknown(&run, &own), 0);
    assert_int_equal(cwi_classes_unknown(&run, &more), 2);
    char *both;
    assert_status(cwi_classes_refuse(&run, &more, &both, &err), CW_ERR_MISMATCH);
    assert_string_equal(err.message, "\"eel\", \"ant\" of its data are none of this run's: its classes are \"dog\", "
                                     "\"eel\", \"cat\", \"ant\", the run's are \"bird\", \"cat\", \"dog\"");
    assert_string_equal(both, err.message);
    cwi_free(both);
    assert_ok(cwi_classes_add(&run, &more, &err));
    assert_int_equal(run.count, 5);
    assert_int_equal(cwi_classes_find(&run, "bird"), 0);
    assert_int_equal(cwi_classes_find(&run, "eel"), 3);
    assert_int_equal(cwi_classes_find(&run, "ant"), 4);
    cwi_classes_free(&run);
    cwi_classes_free(&own);
    cwi_classes_free(&more);
}

/* A thousand classes: the error names what is wrong, and the lists are whole elsewhere. */
static void long_lists_are_never_cut_off(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static char text[MANY][16];
    const char *names[MANY + 1];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(text[i], sizeof text[i], "n%08zu", i * 7919);
        names[i] = text[i];
    }
    names[MANY] = "eel";
    cwi_classes run = classes_of(names, MANY), own = classes_of(names + 500, MANY - 499);
    cw_error err;
    char *both;
    assert_status(cwi_classes_refuse(&run, &own, &both, &err), CW_ERR_MISMATCH);
    assert_string_equal(err.message, "\"eel\" of its data is none of this run's 1000 classes: the log has both lists");
    assert_non_null(strstr(both, "\"n00000000\", "));
    assert_string_equal(both + strlen(both) - strlen("\"n07911081\""), "\"n07911081\"");
    cwi_free(both);
    cwi_classes_free(&run);
    cwi_classes_free(&own);
}

/* ---- photos of classes by colour, in folders ---- */

enum { SIDE = 16, TRAIN_PHOTOS = 16, TEST_PHOTOS = 8 };

static const struct {
    const char *name;
    uint8_t rgb[3];
} colours[] = {{"bird", {250, 20, 20}}, {"cat", {20, 250, 20}}, {"dog", {20, 20, 250}}, {"eel", {250, 250, 20}}};

static void write_photo(const char *path, const uint8_t rgb[3], int shade)
{
    static uint8_t pixels[SIDE * SIDE * 3], bytes[8192];
    png_image image = {.version = PNG_IMAGE_VERSION, .width = SIDE, .height = SIDE, .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = sizeof bytes;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(rgb[i % 3] / 2 + 100 + shade);
    assert_true(png_image_write_to_memory(&image, bytes, &size, 0, pixels, 0, NULL));
    write_file(path, bytes, size, false);
}

/* test_folder/WHO with photos of the classes whose letters are given. */
static const char *make_photos(const char *who, const char *letters)
{
    static char paths[8][128];
    static int used;
    char name[128];
    char *path = paths[used++ % 8];
    for (int split = 0; split < 2; split++)
        for (size_t k = 0; k < CWI_COUNT(colours); k++) {
            if (!strchr(letters, colours[k].name[0]))
                continue;
            snprintf(name, sizeof name, "%s/%s/%s", who, split ? "val" : "train", colours[k].name);
            make_subfolder(name);
            for (int i = 0; i < (split ? TEST_PHOTOS : TRAIN_PHOTOS); i++) {
                snprintf(name, sizeof name, "%s/%s/%s/%d.png", who, split ? "val" : "train", colours[k].name, i);
                write_photo(name, colours[k].rgb, i);
            }
        }
    snprintf(path, sizeof paths[0], "%s/%s", test_folder, who);
    return path;
}

/* A server with the photos of that folder, or with none. */
static scene *photo_scene(const char *name, int clients, const char *data)
{
    scene *s = make_scene(name, clients, 60);
    cw_config *c = &s->config;
    if (data) {
        snprintf(c->data, sizeof c->data, "imagefolder@16:%s", data);
    } else {
        snprintf(c->data, sizeof c->data, "imagefolder@16");
        snprintf(c->sample, sizeof c->sample, "3x16x16");
        c->classes = 3;
    }
    snprintf(c->uplink, sizeof c->uplink, "none");
    c->train_limit = c->test_limit = 0;
    c->batch = 8;
    c->lr = 0.02;
    c->epochs = 4;
    c->max_samples = 1000;
    use_folder(c, name);
    return s;
}

static void assert_classes_file(const cw_config *config, const char *text)
{
    char path[600];
    uint8_t *bytes;
    size_t size;
    cw_error err;
    snprintf(path, sizeof path, "%s/classes.txt", config->out);
    assert_ok_err(cw_file_read(path, &bytes, &size, &err), err);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(bytes, text, size);
    cw_bytes_free(bytes);
}

static void assert_both_learn(scene *s)
{
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    for (int i = 0; i < s->honest_count; i++)
        assert_ok_err(s->honest_status[i], s->honest_err[i]);
    if (!(s->result.last.test_accuracy > 0.95))
        fail_msg("accuracy %g: labels are mixed up\n%s", s->result.last.test_accuracy, s->log);
}

/* Cat is 1 there and 0 here. */
static void a_client_without_some_class_is_mapped(void **state)
{
    (void)state;
    const char *all = make_photos("all", "bcd"), *some = make_photos("some", "cd");
    scene *s = photo_scene("mapped", 2, all);
    s->own_data[0] = all;
    s->own_data[1] = some;
    start_scene(s);
    add_honest(s);
    add_honest(s);
    assert_both_learn(s);
    assert_classes_file(&s->config, "bird\ncat\ndog\n");
    close_scene(s);
}

/* The names come with the first client, here one that lacks a class; what follows takes the numbers that are left. */
static void a_server_without_data_takes_the_names_of_its_clients(void **state)
{
    (void)state;
    scene *s = photo_scene("learned", 2, NULL);
    s->own_data[0] = make_photos("some", "cd");
    s->own_data[1] = make_photos("all", "bcd");
    start_scene(s);
    add_honest(s);
    while (!s->joined)
        nap(10);
    add_honest(s);
    assert_both_learn(s);
    assert_logged(s, "the run's classes, by client 1's data: \"cat\", \"dog\"");
    assert_logged(s, "the run's classes, by client 2's data: \"cat\", \"dog\", \"bird\"");
    assert_classes_file(&s->config, "cat\ndog\nbird\n");

    /* The run goes on by the same names, with other clients. */
    scene *again = photo_scene("learned-again", 1, NULL);
    snprintf(again->config.resume, sizeof again->config.resume, "%s", s->config.out);
    snprintf(again->config.out, sizeof again->config.out, "%s", s->config.out);
    again->config.clients = 1;
    again->config.epochs = 5;
    again->own_data[0] = make_photos("all", "bcd");
    start_scene(again);
    add_honest(again);
    assert_both_learn(again);
    assert_classes_file(&again->config, "cat\ndog\nbird\n");
    close_scene(again);
    close_scene(s);
}

static const char unknown_eel[] =
    "\"eel\" of its data is none of this run's: its classes are \"cat\", \"dog\", \"eel\", "
    "the run's are \"bird\", \"cat\", \"dog\"";

static void an_unknown_class_is_refused_by_name(void **state)
{
    (void)state;
    const char *all = make_photos("all", "bcd");
    scene *s = photo_scene("unknown", 1, all);
    s->own_data[0] = make_photos("other", "cde");
    s->own_data[1] = all;
    start_scene(s);
    add_honest(s);
    pthread_join(s->honest[0], NULL);
    assert_int_equal(s->honest_status[0], CW_ERR_MISMATCH);
    assert_string_equal(s->honest_err[0].message, unknown_eel);
    add_honest(s);
    pthread_join(s->honest[1], NULL);
    pthread_join(s->server, NULL);
    assert_ok_err(s->honest_status[1], s->honest_err[1]);
    assert_ok_err(s->server_status, s->server_err);
    assert_logged(s, unknown_eel);
    close_scene(s);
}

/* Only the end of training shows an unknown class of the test photos alone, but for this. */
static void an_unknown_class_of_the_test_photos_is_refused_too(void **state)
{
    (void)state;
    const char *all = make_photos("all", "bcd");
    scene *s = photo_scene("unknown-test", 1, all);
    s->own_data[0] = make_photos("odd", "cd");
    make_subfolder("odd/val/eel");
    write_photo("odd/val/eel/0.png", colours[3].rgb, 0);
    s->config.join_timeout = 3;
    start_scene(s);
    add_honest(s);
    join_scene(s);
    assert_true(s->honest_status[0] != CW_OK);
    assert_non_null(strstr(s->honest_err[0].message, "\"eel\""));
    assert_logged(s, "\"eel\"");
    close_scene(s);
}

static void ready_with_names(actor *a, const char *names)
{
    actor_send(a, (cw_msg){.type = CW_MSG_READY,
                           .fingerprint = a->welcome.fingerprint,
                           .samples = 8,
                           .blob = (const uint8_t *)names,
                           .blob_size = strlen(names)});
}

/* Those who came before the run knew its names are compared by them all the same; and names of somebody who has left
 * before anybody else was ready bind nobody. */
static void names_are_compared_whenever_they_come(void **state)
{
    (void)state;
    scene *s = photo_scene("compared", 3, NULL);
    actor a[5];
    start_scene(s);
    for (int i = 0; i < 3; i++)
        actor_hello(&a[i], s);
    ready_with_names(&a[0], "x\ny\nz\n");
    actor_send(&a[0], (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
    actor_await(&a[0], CW_MSG_ERROR);
    ready_with_names(&a[1], "bird\ncat\ndog\n");
    ready_with_names(&a[2], "cat\ndog\neel\n");
    actor_await(&a[2], CW_MSG_ERROR);
    assert_int_equal(a[2].msg.status, CW_ERR_MISMATCH);
    assert_told(&a[2], unknown_eel);
    actor_hello(&a[3], s);
    ready_with_names(&a[3], "dog\ndog\n");
    actor_await(&a[3], CW_MSG_ERROR);
    assert_told(&a[3], "two classes of the name \"dog\"");
    actor_hello(&a[4], s);
    ready_with_names(&a[4], "dog\ncat\n");
    while (s->joined < 3) /* one of them has left */
        nap(10);
    s->stop = 1;
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_classes_file(&s->config, "bird\ncat\ndog\n");
    for (int i = 0; i < 5; i++)
        actor_close(&a[i]);
    close_scene(s);
}

static void more_classes_than_the_run_has_are_refused(void **state)
{
    (void)state;
    scene *s = photo_scene("more", 1, NULL);
    actor a;
    start_scene(s);
    actor_hello(&a, s);
    ready_with_names(&a, "ant\nbird\ncat\ndog\n");
    actor_await(&a, CW_MSG_ERROR);
    assert_told(&a, "its data have 4 classes, this run has 3");
    assert_logged(s, "\"ant\", \"bird\", \"cat\", \"dog\"");
    s->stop = 1;
    join_scene(s);
    actor_close(&a);
    close_scene(s);
}

static void unsplit_runs_record_their_classes(void **state)
{
    (void)state;
    scene *s = photo_scene("unsplit-classes", 1, make_photos("all", "bcd"));
    cw_config again = s->config;
    cw_result result;
    cw_error err;
    assert_ok_err(cw_train_unsplit(&s->config, NULL, &result, &err), err);
    assert_classes_file(&s->config, "bird\ncat\ndog\n");
    /* Other folders: the same labels would mean other classes. */
    snprintf(again.resume, sizeof again.resume, "%s", s->config.out);
    snprintf(again.data, sizeof again.data, "imagefolder@16:%s", make_photos("other", "cde"));
    snprintf(again.sample, sizeof again.sample, "3x16x16");
    again.classes = 3;
    again.epochs = 9;
    assert_status(cw_train_unsplit(&again, NULL, &result, &err), CW_ERR_MISMATCH);
    assert_string_equal(err.message, unknown_eel);
    close_scene(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_survive_as_text),
        cmocka_unit_test(hostile_texts_are_refused),
        cmocka_unit_test(labels_are_mapped_by_name),
        cmocka_unit_test(long_lists_are_never_cut_off),
        cmocka_unit_test_setup_teardown(a_client_without_some_class_is_mapped, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_server_without_data_takes_the_names_of_its_clients, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(an_unknown_class_is_refused_by_name, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(an_unknown_class_of_the_test_photos_is_refused_too, make_folder, remove_folder),
        cmocka_unit_test(names_are_compared_whenever_they_come),
        cmocka_unit_test(more_classes_than_the_run_has_are_refused),
        cmocka_unit_test_setup_teardown(unsplit_runs_record_their_classes, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
