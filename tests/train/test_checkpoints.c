/* test_checkpoints.c - checkpoints on a full disk, damaged ones, those of other versions, networks and divisions, and
 * weights that a run begins with. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "train_test.h"

#include "test.h"

/* ---- a full disk ---- */

static void a_full_disk_keeps_the_last_checkpoint_and_the_run(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "none", "none");
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
    cw_config config = tiny_config(1, "none", "none"), again;
    cw_result result;
    cw_error err;
    cwi_config_init(&again);
    assert_true(cw_config_from_run(&again, "test-runs/nowhere", &err) != CW_OK);
    assert_non_null(strstr(err.message, "nowhere"));
    assert_non_null(strstr(err.message, "a run has a checkpoint after an epoch"));
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
    assert_non_null(strstr(err.message, "it is damaged, and there is no good one before it"));
    assert_non_null(strstr(err.message, "begin anew with another --out"));
}

/* ---- the checkpoint before the last ---- */

static void damage_last(const cw_config *config, bool cut_short)
{
    char path[600];
    uint8_t *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", config->out);
    assert_ok(cw_file_read(path, &bytes, &size, NULL));
    memset(bytes + size - 4096, 0xff, 4096); /* floats that are NaN */
    assert_ok(cw_file_write(path, bytes, cut_short ? size / 2 : size, NULL));
    cw_bytes_free(bytes);
}

static void a_damaged_checkpoint_leaves_the_one_before_it(void **state)
{
    (void)state;
    for (int cut_short = 0; cut_short < 2; cut_short++) {
        cw_config whole = tiny_config(2, "ms:r=0.99,b=2", "none"), again;
        cw_result a, b;
        cw_error err;
        whole.epochs = 3;
        use_folder(&whole, cut_short ? "cut-short" : "overwritten");
        assert_ok_err(cw_train_inproc(&whole, NULL, &a, &err), err);
        damage_last(&whole, cut_short);
        bool split;
        assert_ok_err(cw_run_is_split(whole.out, &split, &err), err);
        assert_true(split);
        resume_from(&again, whole.out);
        stopper s = {.epochs = -1};
        assert_ok_err(cw_train_inproc(&again, &(cw_hooks){.ctx = &s, .event = stop_after}, &b, &err), err);
        assert_non_null(strstr(s.log, "the last checkpoint is of no use"));
        assert_non_null(strstr(s.log, "checkpoint.previous.safetensors"));
        assert_non_null(strstr(s.log, "going on after epoch 2 of"));
        assert_same_report(&a, &b);
        assert_int_equal(count_lines(whole.out, "metrics.jsonl"), 3);
        resume_from(&again, whole.out); /* the last is good again */
        memset(&s, 0, sizeof s);
        assert_ok_err(cw_train_inproc(&again, &(cw_hooks){.ctx = &s, .event = stop_after}, &b, &err), err);
        assert_non_null(strstr(s.log, "going on after epoch 3 of"));
    }
}

/* A folder used again: what another run has left there is nothing to fall back on. */
static void a_run_falls_back_on_checkpoints_of_its_own(void **state)
{
    (void)state;
    cw_config first = tiny_config(1, "none", "none"), again;
    cw_result result;
    cw_error err;
    use_folder(&first, "used-again");
    assert_ok_err(cw_train_inproc(&first, NULL, &result, &err), err);
    resume_from(&again, first.out);
    first.epochs = 1;
    first.overwrite = true;
    assert_ok_err(cw_train_inproc(&first, NULL, &result, &err), err);
    damage_last(&first, true);
    assert_true(cw_config_from_run(&again, first.out, &err) != CW_OK);
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

/* Trains for an epoch and opens the checkpoint, at `path`, to be written again with other metadata. */
static void train_and_open(cw_config *config, const char *name, char path[600], cw_tensor_set *set)
{
    cw_result result;
    cw_error err;
    config->epochs = 1;
    use_folder(config, name);
    assert_ok_err(cw_train_inproc(config, NULL, &result, &err), err);
    snprintf(path, 600, "%s/checkpoint.safetensors", config->out);
    assert_ok_err(cw_safetensors_load(path, set, &err), err);
}

/* Of a version that is not known, and of none. */
static void other_formats_are_refused(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "none", "none"), again;
    cw_error err;
    char path[600];
    cw_tensor_set set;
    train_and_open(&config, "formats", path, &set);
    char *digit = strstr(set.metadata, "\"format\":");
    assert_non_null(digit);
    digit += strlen("\"format\":");
    for (const char *d = "2190"; *d; d++) {
        *digit = *d;
        assert_ok_err(cw_safetensors_save(path, set.items, set.count, set.metadata, &err), err);
        assert_int_equal(cw_config_from_run(&again, config.out, &err), *d == '1' || *d == '2' ? CW_OK : CW_ERR_VERSION);
    }
    cw_tensor_set_free(&set);
}

static void blank(char *text, const char *what)
{
    char *at = strstr(text, what);
    assert_non_null(at);
    memset(at, ' ', strlen(what));
}

/* A run from before a key was there goes on as it began, not by what is the default now. */
static void a_run_without_newer_keys_goes_on_as_it_began(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "ec:err=0.15", "bf16"), again;
    cw_error err;
    char path[600];
    cw_tensor_set set;
    train_and_open(&config, "older", path, &set);
    blank(set.metadata, "\"mask-gradient\":\"0\",");
    blank(set.metadata, "\"update\":\"none\",");
    assert_ok_err(cw_safetensors_save(path, set.items, set.count, set.metadata, &err), err);
    cw_tensor_set_free(&set);
    resume_from(&again, config.out);
    assert_string_equal(again.update, "none");
    assert_string_equal(again.mask_gradient, "0");
    assert_string_equal(again.downlink, "bf16");
}

/* Another division of the layers would begin without the optimizer's state. */
static void a_run_goes_on_divided_as_it_was(void **state)
{
    (void)state;
    cw_config whole = tiny_config(1, "none", "none"), halves = whole, again;
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
    cw_config first = tiny_config(1, "none", "none");
    cw_result trained, whole, split;
    cw_error err;
    stopper s = {0};
    const cw_hooks hooks = {.ctx = &s, .event = stop_after};
    use_folder(&first, "first");
    assert_ok_err(cw_train_unsplit(&first, NULL, &trained, &err), err);

    cw_config next = tiny_config(1, "none", "none");
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
        cmocka_unit_test(a_full_disk_keeps_the_last_checkpoint_and_the_run),
        cmocka_unit_test(what_is_no_checkpoint_is_refused),
        cmocka_unit_test(a_damaged_checkpoint_leaves_the_one_before_it),
        cmocka_unit_test(a_run_falls_back_on_checkpoints_of_its_own),
        cmocka_unit_test(other_formats_are_refused),
        cmocka_unit_test(a_run_without_newer_keys_goes_on_as_it_began),
        cmocka_unit_test(a_run_goes_on_divided_as_it_was),
        cmocka_unit_test(a_run_begins_with_the_weights_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
