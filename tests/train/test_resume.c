/* test_resume.c - a run that stops or is killed goes on from its checkpoint, to the bit. */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "record/own_statistics.h"
#include "train_test.h"

#include "test.h"

/* ---- stopping after a number of epochs ---- */

static void stopped_and_resumed_is_never_stopped(train_fn train, const char *name, cw_config whole)
{
    char folder[64];
    cw_config half;
    whole.epochs = 3;
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

static cw_config flipped_config(int clients, const char *uplink, const char *optimizer)
{
    cw_config config = tiny_config(clients, uplink, "none");
    config.flip = true;
    snprintf(config.optimizer, sizeof config.optimizer, "%s", optimizer);
    config.lr = strcmp(optimizer, "sgd") == 0 ? 0.1 : 0.002;
    return config;
}

/* ---- within an epoch ---- */

/* Stops at a step, and counts those that there were. */
typedef struct step_stopper {
    volatile sig_atomic_t stop;
    int epoch;
    size_t step;
    size_t seen;
    char log[2000];
} step_stopper;

static void stop_at_step(void *ctx, const cw_event *e)
{
    step_stopper *s = ctx;
    s->seen += e->kind == CW_EVENT_STEP;
    if (e->kind == CW_EVENT_STEP && e->epoch == s->epoch && e->step == s->step)
        s->stop = 1;
    if (e->kind == CW_EVENT_LOG)
        snprintf(s->log + strlen(s->log), sizeof s->log - strlen(s->log), "%s\n", e->text);
}

/* Five steps an epoch at least, where a checkpoint comes after every second. */
static void stopped_within_an_epoch_is_never_stopped(train_fn train, const char *name, cw_config whole, int epoch)
{
    char folder[64];
    cw_config plain, parts, again;
    cw_result a, b, c;
    cw_error err;
    whole.epochs = 3;
    whole.checkpoint_steps = 2;
    plain = parts = whole;
    plain.checkpoint_steps = 0;
    snprintf(folder, sizeof folder, "steps-whole-%s", name);
    use_folder(&whole, folder);
    snprintf(folder, sizeof folder, "steps-parts-%s", name);
    use_folder(&parts, folder);
    assert_ok_err(train(&plain, NULL, &a, &err), err);
    step_stopper all = {.epoch = -1};
    assert_ok_err(train(&whole, &(cw_hooks){.ctx = &all, .event = stop_at_step}, &b, &err), err);
    assert_true(a.last.train_loss == b.last.train_loss); /* checkpoints change no gradient */

    step_stopper s = {.epoch = epoch, .step = 3};
    cw_hooks hooks = {.ctx = &s, .event = stop_at_step, .stop = &s.stop};
    assert_ok_err(train(&parts, &hooks, &c, &err), err);
    if (!c.stopped || c.epochs_done != epoch)
        fail_msg("%s: stopped %d after %d epochs", name, c.stopped, c.epochs_done);
    resume_from(&again, parts.out);
    step_stopper rest = {.epoch = -1};
    assert_ok_err(train(&again, &(cw_hooks){.ctx = &rest, .event = stop_at_step}, &c, &err), err);
    char says[64];
    snprintf(says, sizeof says, "going on after step 2 of epoch %d of", epoch + 1);
    assert_non_null(strstr(rest.log, says));
    assert_int_equal(rest.seen, all.seen - (size_t)epoch * (all.seen / 3) - 2);
    assert_same_report(&b, &c);
    assert_same_model(&whole, &parts);
    assert_true(b.last.up.payload == c.last.up.payload && b.last.down.payload == c.last.down.payload);
    assert_true(b.last.train_samples == c.last.train_samples && b.best_accuracy == c.best_accuracy);
    assert_int_equal(count_lines(parts.out, "metrics.jsonl"), 3);
}

static void runs_resume_within_an_epoch(void **state)
{
    (void)state;
    cw_config skewed = flipped_config(3, "ec:step=1,round=stochastic", "sgd");
    skewed.dirichlet = 0.3; /* shards that end long before the others do */
    stopped_within_an_epoch_is_never_stopped(cw_train_unsplit, "unsplit", flipped_config(1, "none", "sgd"), 0);
    stopped_within_an_epoch_is_never_stopped(cw_train_unsplit, "unsplit-skewed", skewed, 1);
    stopped_within_an_epoch_is_never_stopped(cw_train_inproc, "split", flipped_config(1, "ms:r=0.99,b=2", "adam"), 1);
    stopped_within_an_epoch_is_never_stopped(cw_train_inproc, "split-skewed", skewed, 0);
}

static void unsplit_runs_resume(void **state)
{
    (void)state;
    stopped_and_resumed_is_never_stopped(cw_train_unsplit, "unsplit", flipped_config(1, "none", "sgd"));
    stopped_and_resumed_is_never_stopped(cw_train_unsplit, "unsplit-adam", flipped_config(1, "none", "adam"));
}

static void split_runs_resume(void **state)
{
    (void)state;
    const char *ms = "ms:r=0.99,b=2", *drawn = "ec:step=1,round=stochastic";
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "split", flipped_config(2, ms, "sgd"));
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "split-adamw", flipped_config(2, ms, "adamw"));
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "drawn", flipped_config(1, drawn, "sgd"));
}

/* As recipes train: random crops made by workers ahead of time, in bf16 where the CPU multiplies it. */
static void augmented_runs_resume(void **state)
{
    (void)state;
    cw_config config = flipped_config(2, "ms:r=0.99,b=2", "sgd");
    config.crop_pad = 3;
    config.loader_threads = 2;
    snprintf(config.precision, sizeof config.precision, "auto");
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "augmented", config);
}

/* Sentences of two words, the second of which tells the class, in train.tsv and test.tsv. */
static void write_texts(const char *folder)
{
    static const char *const words[] = {"a", "film", "about", "life", "and", "love", "dull", "fine"};
    mkdir("test-runs", 0777);
    mkdir(folder, 0777);
    for (int split = 0; split < 2; split++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s.tsv", folder, split ? "test" : "train");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "sentence\tlabel\n");
        for (int i = 0; i < 48; i++)
            fprintf(f, "%s %s\t%d\n", words[i % 6], words[6 + i % 2], i % 2);
        fclose(f);
    }
}

static void runs_with_dropout_resume(void **state)
{
    (void)state;
    char folder[64];
    cw_config config = flipped_config(2, "none", "adam");
    snprintf(folder, sizeof folder, "test-runs/%d-texts", (int)getpid());
    write_texts(folder);
    snprintf(config.data, sizeof config.data, "sst-2@8:%s", folder);
    snprintf(config.model, sizeof config.model, "textcnn"); /* half of its features are dropped */
    config.flip = false;
    config.batch = 8;
    config.train_limit = config.test_limit = 0;
    stopped_and_resumed_is_never_stopped(cw_train_inproc, "dropout", config);
}

/* ---- stopped for a while ---- */

/* A server is to stop for a while at this event. */
typedef struct pause_point {
    cw_event_kind kind;
    int epoch;
    size_t step;
    volatile sig_atomic_t stop;
} pause_point;

static void stop_awhile(void *ctx, const cw_event *e)
{
    pause_point *p = ctx;
    if (e->kind == p->kind && e->epoch == p->epoch && e->step == p->step)
        p->stop = CW_STOP_AWHILE;
}

/* A server for this part of a run, and then another one at the same place. */
static void serve_until(pause_point *until, const cw_config *config, cw_transport **transport)
{
    char endpoint[64];
    cw_result result;
    cw_error err;
    const cw_hooks hooks = {.ctx = until, .event = stop_awhile, .stop = &until->stop};
    assert_ok_err(cw_serve(config, *transport, &hooks, &result, &err), err);
    assert_true(result.stopped && result.epochs_done == until->epoch);
    snprintf(endpoint, sizeof endpoint, "%s", cw_transport_endpoint(*transport));
    cw_transport_close(transport, 1000);
    assert_ok_err(cw_net_listen(endpoint, NULL, transport, &err), err);
}

static size_t count_statistics(const cw_config *config)
{
    char path[600];
    cw_tensor_set set;
    cw_error err;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", config->out);
    assert_ok_err(cw_safetensors_load(path, &set, &err), err);
    for (size_t i = 0; i < set.count; i++)
        count += strncmp(set.items[i].name, "statistics.", strlen("statistics.")) == 0;
    cw_tensor_set_free(&set);
    return count;
}

/* In the middle of epochs, and of an evaluation: batch norm's statistics, which clients of unlike shards have each
 * their own of, come out the same, too. */
static void a_server_that_stopped_for_a_while_never_stopped(void **state)
{
    (void)state;
    pause_point pauses[] = {
        {CW_EVENT_STEP, 0, 2, 0}, {CW_EVENT_STEP, 0, 3, 0}, {CW_EVENT_EVAL, 0, 1, 0}, {CW_EVENT_STEP, 1, 3, 0}};
    cw_config whole = flipped_config(3, "ms:r=0.99,b=2", "adam"), parts, now;
    cw_result a, b;
    cw_error err;
    cw_transport *transport;
    whole.dirichlet = 0.5;
    parts = whole;
    use_folder(&whole, "never-paused");
    use_folder(&parts, "paused");
    assert_ok_err(train_over_tcp(&whole, &a, &err), err);
    assert_ok_err(cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, &err), err);
    tcp_clients *clients = start_tcp_clients(&parts, cw_transport_endpoint(transport));
    now = parts;
    for (size_t i = 0; i < CWI_COUNT(pauses); i++) {
        serve_until(&pauses[i], &now, &transport);
        assert_int_equal(count_statistics(&parts), pauses[i].kind == CW_EVENT_STEP ? 3 : 0);
        resume_from(&now, parts.out);
    }
    assert_ok_err(cw_serve(&now, transport, NULL, &b, &err), err);
    join_tcp_clients(clients);
    cw_transport_close(&transport, 1000);
    assert_same_report(&a, &b);
    assert_same_model(&whole, &parts);
}

static void hear_who_is_missing(void *ctx, const cw_event *e)
{
    char *said = ctx;
    if (e->name && strcmp(e->name, "clients_missing") == 0)
        snprintf(said, 200, "%s", e->text);
}

/* One of three devices is gone for good while the server was away: the two others go on within the epoch. */
static void a_resumed_run_goes_on_without_who_does_not_come(void **state)
{
    (void)state;
    cw_config three = flipped_config(3, "ms:r=0.99,b=2", "sgd"), now, two;
    step_stopper s = {.epoch = 0, .step = 3};
    char said[200] = "";
    cw_result a;
    cw_error err;
    cw_transport *transport;
    use_folder(&three, "three-then-two");
    three.checkpoint_steps = 2;
    assert_ok_err(cw_train_inproc(&three, &(cw_hooks){.ctx = &s, .event = stop_at_step, .stop = &s.stop}, &a, &err),
                  err);
    assert_true(a.stopped);
    resume_from(&now, three.out);
    now.join_timeout = 1;
    now.grace = 0;
    two = three;
    two.clients = 2;
    assert_ok_err(cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, &err), err);
    tcp_clients *clients = start_tcp_clients(&two, cw_transport_endpoint(transport));
    assert_ok_err(cw_serve(&now, transport, &(cw_hooks){.ctx = said, .event = hear_who_is_missing}, &a, &err), err);
    join_tcp_clients(clients);
    cw_transport_close(&transport, 1000);
    assert_string_equal(said, "2 of 3 clients came back within 1 s: going on without the others, who may come later");
    assert_int_equal(a.epochs_done, 2);
    assert_int_equal(a.last.clients, 2);
    assert_true(a.last.train_samples > 100 && a.last.train_samples < TINY_TRAIN);
}

/* A checkpoint's statistics are of another network's. */
static void statistics_of_another_size_are_refused(void **state)
{
    (void)state;
    const float three[] = {1, 2, 3};
    cwi_own_statistics s, other;
    cwi_state exported = {0};
    cw_error err;
    assert_ok(cwi_own_statistics_open(&s, 2, 3, &err));
    assert_ok(cwi_own_statistics_keep(&s, 1, three, &err));
    assert_ok(cwi_own_statistics_export(&s, &exported, &err));
    assert_int_equal(exported.count, 1);
    assert_string_equal(exported.items[0].name, "statistics.2");
    const cw_tensor_set set = {.items = exported.items, .count = exported.count};
    assert_ok(cwi_own_statistics_open(&other, 2, 4, &err));
    assert_status(cwi_own_statistics_import(&other, &set, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "statistics.2 is not 4 floats"));
    cwi_own_statistics_close(&other);
    assert_ok(cwi_own_statistics_open(&other, 2, 3, &err));
    assert_ok(cwi_own_statistics_import(&other, &set, &err));
    assert_null(other.of[0]);
    assert_memory_equal(other.of[1], three, sizeof three);
    cwi_own_statistics_close(&other);
    cwi_own_statistics_close(&s);
    cwi_state_free(&exported);
}

/* ---- kill -9 ---- */

enum { LIVES = 6, LIFE_EPOCHS = 3 };

/* A life waits for its end when it has trained so many epochs, before it saves the last of them: however late the end
 * comes, the run is not over. */
static void wait_after(void *ctx, const cw_event *e)
{
    int *left = ctx;
    while (e->kind == CW_EVENT_EPOCH && *left == 1)
        pause();
    *left -= e->kind == CW_EVENT_EPOCH;
}

static pid_t begin_life(train_fn train, const cw_config *config, int epochs)
{
    fflush(NULL);
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        cw_result result;
        cw_error err;
        const cw_hooks hooks = {.ctx = &epochs, .event = wait_after};
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        if (getppid() == parent)
            train(config, &hooks, &result, &err);
        _exit(1);
    }
    assert_true(pid > 0);
    return pid;
}

static void end_life(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static struct stat look_at(const cw_config *config, const char *file)
{
    char path[600];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", config->out, file);
    if (stat(path, &s) != 0)
        memset(&s, 0, sizeof s);
    return s;
}

/* Whether the file is there and not the one that was seen before. */
static bool is_new(const cw_config *config, const char *file, const struct stat *before)
{
    const struct stat s = look_at(config, file);
    return s.st_nlink && (s.st_ino != before->st_ino || s.st_mtim.tv_sec != before->st_mtim.tv_sec ||
                          s.st_mtim.tv_nsec != before->st_mtim.tv_nsec);
}

/* Until one of the files is a new one; false: none was within so many seconds. */
static bool wait_for_new(const cw_config *config, pid_t pid, const char *const files[2], const struct stat before[2],
                         int seconds)
{
    const struct timespec nap = {.tv_nsec = 100000};
    const time_t limit = time(NULL) + seconds;
    while (!is_new(config, files[0], &before[0]) && !is_new(config, files[1], &before[1])) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            fail_msg("the run in %s ended by itself", config->out);
        if (time(NULL) > limit)
            return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

/* Lets a life save a checkpoint of its own, and kills it: odd ones some time later, even ones in the next saving, or
 * when that was missed. */
static void kill_after_a_checkpoint(const cw_config *config, pid_t pid, int life, const struct stat *old)
{
    static const char *const saved[2] = {"checkpoint.safetensors", "checkpoint.safetensors"},
                             *const saving[2] = {"checkpoint.safetensors", "checkpoint.safetensors.tmp"};
    assert_true(wait_for_new(config, pid, saved, (const struct stat[2]){*old, *old}, 120));
    const struct timespec later = {.tv_nsec = life * 5000000};
    if (life % 2)
        nanosleep(&later, NULL);
    else
        wait_for_new(config, pid, saving, (const struct stat[2]){look_at(config, saving[0])}, 2);
    end_life(pid);
}

static int epochs_saved(const cw_config *config)
{
    char path[600];
    cw_tensor_set set;
    cw_error err;
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", config->out);
    assert_ok_err(cw_safetensors_load(path, &set, &err), err);
    const char *key = "\"next_epoch\":", *at = strstr(set.metadata, key);
    assert_non_null(at);
    const int epochs = atoi(at + strlen(key));
    cw_tensor_set_free(&set);
    return epochs;
}

static void killed_runs_resume(train_fn train, const char *name, int clients, const char *uplink)
{
    static const struct stat none[2];
    char folder[64], says[64];
    cw_config whole = tiny_config(clients, uplink, "none"), killed;
    cw_result a, b;
    cw_error err;
    int saved = 0, in_saving = 0;
    whole.epochs = (LIVES - 1) * (LIFE_EPOCHS - 1) + 2; /* what all lives may save leaves some to do */
    whole.train_limit = 64;
    whole.test_limit = 32;
    killed = whole;
    snprintf(folder, sizeof folder, "never-killed-%s", name);
    use_folder(&whole, folder);
    snprintf(folder, sizeof folder, "killed-%s", name);
    use_folder(&killed, folder);
    assert_ok_err(train(&whole, NULL, &a, &err), err);

    pid_t pid = begin_life(train, &killed, 1);
    assert_true(wait_for_new(&killed, pid, (const char *const[2]){"config.json", "config.json"}, none, 120));
    end_life(pid);
    resume_from(&killed, killed.out); /* without a checkpoint: from its beginning */
    for (int life = 1; life < LIVES; life++) {
        const struct stat old = look_at(&killed, "checkpoint.safetensors");
        kill_after_a_checkpoint(&killed, begin_life(train, &killed, LIFE_EPOCHS), life, &old);
        in_saving += look_at(&killed, "checkpoint.safetensors.tmp").st_nlink > 0;
        resume_from(&killed, killed.out);
        assert_true(epochs_saved(&killed) > saved);
        saved = epochs_saved(&killed);
    }
    stopper s = {.epochs = -1};
    const cw_hooks hooks = {.ctx = &s, .event = stop_after};
    assert_ok_err(train(&killed, &hooks, &b, &err), err);
    snprintf(says, sizeof says, "going on after epoch %d of", saved);
    assert_non_null(strstr(s.log, says));
    print_message("%s: killed %d times, %d while saving; the last went on after epoch %d of %d\n", name, LIVES,
                  in_saving, saved, whole.epochs);
    assert_same_report(&a, &b);
    assert_same_model(&whole, &killed);
    assert_int_equal(count_lines(killed.out, "metrics.jsonl"), whole.epochs);
}

static void a_killed_run_resumes_whenever_it_was_killed(void **state)
{
    (void)state;
    killed_runs_resume(cw_train_unsplit, "unsplit", 1, "none");
    killed_runs_resume(cw_train_inproc, "split", 2, "ms:r=0.99,b=2");
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_run_resumes_whenever_it_was_killed),
        cmocka_unit_test(runs_resume_within_an_epoch),
        cmocka_unit_test(a_server_that_stopped_for_a_while_never_stopped),
        cmocka_unit_test(a_resumed_run_goes_on_without_who_does_not_come),
        cmocka_unit_test(statistics_of_another_size_are_refused),
        cmocka_unit_test(unsplit_runs_resume),
        cmocka_unit_test(split_runs_resume),
        cmocka_unit_test(augmented_runs_resume),
        cmocka_unit_test(runs_with_dropout_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
