/* test_resume.c - a run that stops, is killed or meets a full disk goes on from its checkpoint, to the bit. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "train_test.h"

#include "test.h"

typedef cw_status (*train_fn)(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err);

/* ---- stopping after a number of epochs ---- */

typedef struct stopper {
    volatile sig_atomic_t stop;
    int epochs;
    char log[2000];
} stopper;

static void stop_after(void *ctx, const cw_event *e)
{
    stopper *s = ctx;
    if (e->kind == CW_EVENT_EPOCH && e->epoch + 1 == s->epochs)
        s->stop = 1;
    if (e->kind == CW_EVENT_LOG)
        snprintf(s->log + strlen(s->log), sizeof s->log - strlen(s->log), "%s\n", e->text);
}

static void resume_from(cw_config *config, const char *folder)
{
    cw_error err;
    char copy[512];
    snprintf(copy, sizeof copy, "%s", folder);
    cw_config_init(config);
    assert_ok_err(cw_config_from_run(config, copy, &err), err);
    snprintf(config->resume, sizeof config->resume, "%s", copy);
    snprintf(config->out, sizeof config->out, "%s", copy);
}

static size_t count_lines(const char *folder, const char *file)
{
    char path[600];
    uint8_t *bytes;
    size_t size, lines = 0;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_ok(cw_file_read(path, &bytes, &size, NULL));
    for (size_t i = 0; i < size; i++)
        lines += bytes[i] == '\n';
    cw_bytes_free(bytes);
    return lines;
}

static void stopped_and_resumed_is_never_stopped(train_fn train, const char *name, int clients, const char *uplink,
                                                 const char *optimizer)
{
    char folder[64];
    cw_config whole = small_config(clients, uplink, "none"), half;
    whole.epochs = 3;
    whole.flip = true;
    snprintf(whole.optimizer, sizeof whole.optimizer, "%s", optimizer);
    whole.lr = strcmp(optimizer, "sgd") == 0 ? 0.1 : 0.002;
    half = whole;
    cw_result a, b;
    cw_error err;
    snprintf(folder, sizeof folder, "whole-%s", name);
    use_folder(&whole, folder);
    snprintf(folder, sizeof folder, "half-%s", name);
    use_folder(&half, folder);
    assert_ok_err(train(&whole, NULL, &a, &err), err);

    stopper s = {.epochs = 1};
    cw_hooks hooks = {.ctx = &s, .event = stop_after, .stop = &s.stop};
    assert_ok_err(train(&half, &hooks, &b, &err), err);
    assert_true(b.stopped && b.epochs_done == 1);
    cw_config again;
    resume_from(&again, half.out);
    assert_ok_err(train(&again, NULL, &b, &err), err);
    assert_same_report(&a, &b);
    assert_same_model(&whole, &half);
    assert_true(a.last.up.payload == b.last.up.payload && a.best_accuracy == b.best_accuracy);
    assert_int_equal(count_lines(half.out, "metrics.jsonl"), 3);
}

static void unsplit_runs_resume(void **state)
{
    (void)state;
    stopped_and_resumed_is_never_stopped(cw_train_unsplit, "unsplit", 1, "none", "sgd");
    stopped_and_resumed_is_never_stopped(cw_train_unsplit, "unsplit-adam", 1, "none", "adam");
}

static void split_runs_resume(void **state)
{
    (void)state;
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "split", 2, "ms:r=0.99,b=2", "sgd");
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "split-adamw", 2, "ms:r=0.99,b=2", "adamw");
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "drawn", 1, "ec:step=1,round=stochastic", "sgd");
}

/* ---- kill -9 ---- */

static pid_t train_in_child(const cw_config *config)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        cw_result result;
        cw_error err;
        _exit(cw_train_unsplit(config, NULL, &result, &err) != CW_OK);
    }
    assert_true(pid > 0);
    return pid;
}

static void a_killed_run_resumes_whenever_it_was_killed(void **state)
{
    (void)state;
    cw_config whole = small_config(1, "none", "none"), killed;
    whole.epochs = 4;
    whole.train_limit = 200;
    whole.test_limit = 50;
    killed = whole;
    cw_result a, b;
    cw_error err;
    use_folder(&whole, "never-killed");
    use_folder(&killed, "killed");
    assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
    for (int i = 0; i < 6; i++) {
        pid_t pid = train_in_child(&killed);
        const struct timespec life = {.tv_nsec = 100000000 + 57000000 * i};
        nanosleep(&life, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        cw_config again;
        cw_config_init(&again);
        if (cw_config_from_run(&again, killed.out, &err) == CW_OK)
            resume_from(&killed, killed.out);
        else /* before the first checkpoint: there must be none, not a broken one */
            assert_true(err.status == CW_ERR_NOT_FOUND || err.status == CW_ERR_IO);
    }
    assert_ok_err(cw_train_unsplit(&killed, NULL, &b, &err), err);
    assert_same_report(&a, &b);
    assert_same_model(&whole, &killed);
}

/* ---- a full disk ---- */

static void a_full_disk_keeps_the_last_checkpoint_and_the_run(void **state)
{
    (void)state;
    cw_config config = small_config(1, "none", "none");
    config.epochs = 1;
    use_folder(&config, "full-disk");
    cw_result result;
    cw_error err;
    assert_ok_err(cw_train_unsplit(&config, NULL, &result, &err), err);
    pid_t pid = fork();
    if (pid == 0) {
        /* Files of this process may not grow beyond a size that a checkpoint exceeds. */
        signal(SIGXFSZ, SIG_IGN);
        const struct rlimit limit = {20000, 20000};
        setrlimit(RLIMIT_FSIZE, &limit);
        stopper s = {.epochs = -1};
        cw_hooks hooks = {.ctx = &s, .event = stop_after};
        cw_config again;
        resume_from(&again, config.out);
        again.epochs = 2;
        cw_status status = cw_train_unsplit(&again, &hooks, &result, &err);
        bool good = status == CW_ERR_IO && result.epochs_done == 2 && strstr(s.log, "cannot save a checkpoint") &&
                    strstr(s.log, "training goes on");
        _exit(good ? 0 : 1);
    }
    int child;
    waitpid(pid, &child, 0);
    assert_true(WIFEXITED(child) && WEXITSTATUS(child) == 0);
    cw_config again;
    resume_from(&again, config.out); /* still there, still good */
    again.epochs = 2;
    assert_ok_err(cw_train_unsplit(&again, NULL, &result, &err), err);
    assert_int_equal(result.epochs_done, 2);
}

/* The files that say what a run was, one after the other. */
static char *files_of(const char *folder)
{
    static const char *const names[] = {"config.json", "metrics.jsonl", "summary.json"};
    char *all = calloc(1, 20000);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[600];
        uint8_t *bytes;
        size_t size, used = strlen(all);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_ok(cw_file_read(path, &bytes, &size, NULL));
        snprintf(all + used, 20000 - used, "%.*s\n", (int)size, (const char *)bytes);
        cw_bytes_free(bytes);
    }
    return all;
}

static void what_is_no_checkpoint_is_refused(void **state)
{
    (void)state;
    cw_config config = small_config(1, "none", "none"), again;
    cw_result result;
    cw_error err;
    cw_config_init(&again);
    assert_true(cw_config_from_run(&again, "test-runs/nowhere", &err) != CW_OK);
    assert_non_null(strstr(err.message, "nowhere"));
    config.epochs = 1;
    use_folder(&config, "other-model");
    assert_ok_err(cw_train_unsplit(&config, NULL, &result, &err), err);
    snprintf(config.resume, sizeof config.resume, "%s", config.out);
    snprintf(config.data, sizeof config.data, "cifar-10"); /* three channels: the first layer has another shape */
    snprintf(config.sample, sizeof config.sample, "3x32x32");
    config.classes = 10;
    char *before = files_of(config.out);
    assert_true(cw_train_unsplit(&config, NULL, &result, &err) != CW_OK);
    assert_true(cw_train_inproc(&config, NULL, &result, &err) != CW_OK);
    assert_non_null(strstr(err.message, "cannot resume"));
    char *after = files_of(config.out);
    assert_string_equal(before, after);
    free(before);
    free(after);
    /* A file cut short, as by a copy that failed. */
    char path[600];
    uint8_t *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", config.out);
    assert_ok(cw_file_read(path, &bytes, &size, NULL));
    assert_ok(cw_file_write(path, bytes, size - 1, NULL));
    cw_bytes_free(bytes);
    assert_true(cw_config_from_run(&again, config.out, &err) != CW_OK);
    assert_non_null(strstr(err.message, "checkpoint.safetensors"));
}

/* Parameters come first in a checkpoint. */
static void drop_optimizer(const char *folder)
{
    char path[600];
    cw_tensor_set set;
    cw_error err;
    size_t kept = 0;
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", folder);
    assert_ok_err(cw_safetensors_load(path, &set, &err), err);
    while (kept < set.count && !strstr(set.items[kept].name, "optimizer."))
        kept++;
    assert_true(kept > 0 && kept < set.count);
    assert_ok_err(cw_safetensors_save(path, set.items, kept, set.metadata, &err), err);
    cw_tensor_set_free(&set);
}

/* Another division of the layers would begin without the optimizer's state. */
static void a_run_goes_on_divided_as_it_was(void **state)
{
    (void)state;
    cw_config whole = small_config(1, "none", "none"), halves = whole, again;
    cw_result result;
    cw_error err;
    bool split;
    whole.epochs = halves.epochs = 1;
    use_folder(&whole, "whole");
    use_folder(&halves, "halves");
    assert_ok_err(cw_train_unsplit(&whole, NULL, &result, &err), err);
    assert_ok_err(cw_train_inproc(&halves, NULL, &result, &err), err);
    assert_ok_err(cw_run_is_split(whole.out, &split, &err), err);
    assert_false(split);
    assert_ok_err(cw_run_is_split(halves.out, &split, &err), err);
    assert_true(split);
    assert_true(cw_run_is_split("test-runs/nowhere", &split, &err) != CW_OK);

    resume_from(&again, whole.out);
    *again.out = '\0';
    again.epochs = 2;
    assert_status(cw_train_inproc(&again, NULL, &result, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "was not split: go on by train --local"));
    snprintf(again.optimizer, sizeof again.optimizer, "adam");
    assert_status(cw_train_unsplit(&again, NULL, &result, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "--optimizer"));
    resume_from(&again, halves.out);
    *again.out = '\0';
    again.epochs = 2;
    assert_status(cw_train_unsplit(&again, NULL, &result, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "was split: go on by train --split"));
    drop_optimizer(whole.out);
    assert_status(cw_run_is_split(whole.out, &split, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "no optimizer"));
    snprintf(again.cut, sizeof again.cut, "3");
    assert_status(cw_train_inproc(&again, NULL, &result, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "its own --cut"));
}

/* An epoch at rate 0 changes nothing but the running statistics. */
static void a_run_begins_with_the_weights_of_another(void **state)
{
    (void)state;
    cw_config first = small_config(1, "none", "none");
    cw_result trained, whole, split;
    cw_error err;
    stopper s = {0};
    const cw_hooks hooks = {.ctx = &s, .event = stop_after};
    use_folder(&first, "first");
    assert_ok_err(cw_train_unsplit(&first, NULL, &trained, &err), err);

    cw_config next = small_config(1, "none", "none");
    snprintf(next.weights, sizeof next.weights, "%.400s/model.safetensors", first.out);
    next.epochs = 1;
    next.lr = 0;
    next.seed = 7; /* of weights that are not used */
    assert_ok_err(cw_train_unsplit(&next, &hooks, &whole, &err), err);
    assert_non_null(strstr(s.log, "begins with the weights of"));
    assert_ok_err(cw_train_inproc(&next, NULL, &split, &err), err);
    assert_same_report(&whole, &split);
    assert_true(whole.last.train_loss < 1.2 * trained.last.train_loss);

    snprintf(next.weights, sizeof next.weights, "test-runs/nowhere.safetensors");
    assert_status(cw_train_unsplit(&next, NULL, &whole, &err), CW_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "nowhere.safetensors"));
    assert_status(cw_train_inproc(&next, NULL, &split, &err), CW_ERR_NOT_FOUND);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_run_resumes_whenever_it_was_killed),
        cmocka_unit_test(a_full_disk_keeps_the_last_checkpoint_and_the_run),
        cmocka_unit_test(unsplit_runs_resume),
        cmocka_unit_test(split_runs_resume),
        cmocka_unit_test(what_is_no_checkpoint_is_refused),
        cmocka_unit_test(a_run_goes_on_divided_as_it_was),
        cmocka_unit_test(a_run_begins_with_the_weights_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
