/* test_folder.c - a run's folder: one that holds a run is not replaced, and two runs do not share one. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "train_test.h"

#include "test.h"

static void refused_in(train_fn train, const cw_config *config, cw_status wanted, const char *words)
{
    cw_result result;
    cw_error err;
    assert_status(train(config, NULL, &result, &err), wanted);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

static void write_in(const cw_config *config, const char *file, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", config->out, file);
    assert_ok(cw_file_write(path, text, strlen(text), NULL));
}

static void an_earlier_run_is_not_replaced(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "none", "none"), again;
    cw_result result;
    cw_error err;
    config.epochs = 1;
    config.train_limit = config.test_limit = 48;
    use_folder(&config, "kept");
    mkdir("test-runs", 0777);
    assert_int_equal(mkdir(config.out, 0777), 0);
    write_in(&config, "notes.txt", "mine"); /* which nobody writes is no run */
    assert_ok_err(cw_train_inproc(&config, NULL, &result, &err), err);
    again = config;
    again.seed = 2;
    refused_in(cw_train_inproc, &again, CW_ERR_INVALID, "model.safetensors");
    refused_in(cw_train_unsplit, &again, CW_ERR_INVALID, "--overwrite");
    assert_status(cw_config_check(&again, &err), CW_ERR_INVALID);
    /* By another name it is still the folder of the run that goes on; and then nothing is replaced. */
    snprintf(again.resume, sizeof again.resume, "%.400s/.", config.out);
    again.overwrite = true;
    refused_in(cw_train_inproc, &again, CW_ERR_SPEC, "exclude each other");
    again.overwrite = false;
    again.epochs = 2;
    assert_ok_err(cw_train_inproc(&again, NULL, &result, &err), err);
    assert_int_equal(count_lines(config.out, "metrics.jsonl"), 2);
    /* Replaced, nothing of the earlier run is left, be it only what the new one does not write. */
    again = config;
    again.overwrite = true;
    again.checkpoint_every = 0;
    assert_ok_err(cw_train_unsplit(&again, NULL, &result, &err), err);
    assert_int_equal(count_lines(config.out, "metrics.jsonl"), 1);
    assert_status(cw_config_from_run(&again, config.out, &err), CW_ERR_NOT_FOUND);
    assert_int_equal(count_lines(config.out, "notes.txt"), 0);
}

static void where_no_run_can_be_written_none_begins(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "none", "none");
    char folder[sizeof config.out];
    use_folder(&config, "place");
    memcpy(folder, config.out, sizeof folder);
    mkdir("test-runs", 0777);
    assert_int_equal(mkdir(folder, 0777), 0);
    write_in(&config, "file", "text");
    snprintf(config.out, sizeof config.out, "%.400s/file", folder);
    refused_in(cw_train_inproc, &config, CW_ERR_IO, "file is a file");
    snprintf(config.out, sizeof config.out, "%.400s/file/below/", folder);
    refused_in(cw_train_unsplit, &config, CW_ERR_IO, "file is a file");
    snprintf(config.out, sizeof config.out, "/proc/nowhere");
    refused_in(cw_train_unsplit, &config, CW_ERR_IO, "/proc");
}

/* Whoever holds the lock on the metrics is a run that is not finished. */
static void two_runs_do_not_share_a_folder(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "none", "none");
    char path[600];
    use_folder(&config, "shared");
    mkdir("test-runs", 0777);
    assert_int_equal(mkdir(config.out, 0777), 0);
    snprintf(path, sizeof path, "%s/metrics.jsonl", config.out);
    const int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    refused_in(cw_train_unsplit, &config, CW_ERR_IO, "not finished");
    snprintf(path, sizeof path, "%s/summary.json", config.out);
    assert_int_not_equal(access(path, F_OK), 0); /* what the other writes is left alone */
    close(fd);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_earlier_run_is_not_replaced),
        cmocka_unit_test(where_no_run_can_be_written_none_begins),
        cmocka_unit_test(two_runs_do_not_share_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
