/* test_liars.c - peers that keep to the protocol and lie in their numbers: they are dropped, the others go on, and no
 * file of the run holds what is not finite. */
#include <math.h>
#include <unistd.h>

#include "record/checkpoint.h"
#include "scene.h"

#include "test.h"

/* ---- one liar beside one honest client ---- */

typedef struct lie {
    const char *name;
    float activation, gradient, statistic; /* all of that kind are this; the liar is honest in 0 */
    const char *words;                     /* of the server's log */
} lie;

/* What the liar has to know of the run. */
typedef struct liar {
    actor a;
    cwi_setup setup;
    cw_half *half;
    float *values; /* room for whatever it sends */
} liar;

static void open_liar(liar *l, const scene *s)
{
    cw_error err;
    actor_hello(&l->a, s);
    actor_ready(&l->a, 1, 0);
    assert_ok_err(cwi_setup_open(&s->config, &l->setup, &err), err);
    assert_ok_err(cwi_half_open(&l->setup, 0, l->setup.cut.layer, 1, &l->half, &err), err);
    l->values = cwi_calloc(CWI_MAX(l->setup.smashed_count, cw_half_weight_count(l->half)), sizeof(float));
    assert_non_null(l->values);
}

static void close_liar(liar *l)
{
    cwi_free(l->values);
    cw_half_destroy(&l->half);
    cwi_setup_close(&l->setup);
    actor_close(&l->a);
}

static float *fill(liar *l, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        l->values[i] = i % 2 ? value : 0;
    return l->values;
}

/* Its only step, then the end of the epoch; ends early when it is dropped. */
static void tell_lie(liar *l, const lie *told)
{
    const int32_t label = 3;
    const cw_shape *cut = &l->setup.cut.smashed;
    const cw_shape batch = cw_shape_of(4, (int64_t[]){1, cut->dim[0], cut->dim[1], cut->dim[2]});
    cw_msg msg = {.type = CW_MSG_ACTIVATION, .phase = CW_PHASE_TRAIN, .samples = 1, .labels = &label};
    actor_await(&l->a, CW_MSG_BEGIN);
    const uint32_t steps = l->a.msg.steps;
    actor_send_tensor(&l->a, msg, cw_tensor_view(CW_F32, &batch, fill(l, l->setup.smashed_count, told->activation)));
    if (!actor_hears(&l->a, CW_MSG_GRADIENT))
        return;
    msg.type = CW_MSG_CLIENT_GRAD;
    actor_send_tensor(&l->a, msg, cwi_half_vector(l->half, fill(l, cw_half_weight_count(l->half), told->gradient)));
    do
        if (!actor_hears(&l->a, CW_MSG_UPDATE))
            return;
    while (l->a.msg.step + 1 < steps);
    msg = (cw_msg){.type = CW_MSG_PHASE_DONE, .phase = CW_PHASE_TRAIN};
    msg.blob = (const uint8_t *)fill(l, cw_half_buffer_count(l->half), told->statistic);
    msg.blob_size = cw_half_buffer_count(l->half) * sizeof(float);
    actor_send(&l->a, msg);
    (void)actor_hears(&l->a, CW_MSG_ERROR);
}

static void assert_finite_file(const cw_config *config, const char *file)
{
    char path[600];
    cw_tensor_set set;
    cw_error err;
    snprintf(path, sizeof path, "%s/%s", config->out, file);
    assert_ok_err(cw_safetensors_load(path, &set, &err), err);
    for (size_t i = 0; i < set.count; i++) {
        size_t floats;
        assert_ok(cw_shape_count(&set.items[i].tensor.shape, &floats));
        if (set.items[i].tensor.dtype == CW_F32 && !(cw_peak(set.items[i].tensor.data, floats) < 1e5f))
            fail_msg("%s: %s is absurd", path, set.items[i].name);
    }
    cw_tensor_set_free(&set);
}

static void lie_beside_an_honest_client(const lie *told)
{
    scene *s = make_scene(told->name, 2, 60);
    liar l;
    use_folder(&s->config, told->name);
    start_scene(s);
    open_liar(&l, s);
    add_honest(s);
    tell_lie(&l, told);
    join_scene(s);
    if (s->server_status != CW_OK || s->honest_status[0] != CW_OK)
        fail_msg("%s: %s; %s", told->name, s->server_err.message, s->honest_err[0].message);
    assert_int_equal(s->result.epochs_done, 1);
    assert_int_equal(s->result.last.clients, 1);
    assert_logged(s, "client 1 is out: ");
    assert_logged(s, told->words);
    assert_true(isfinite(s->result.last.test_loss) && s->result.last.test_samples > 0);
    assert_finite_file(&s->config, "model.safetensors");
    assert_finite_file(&s->config, "checkpoint.safetensors");
    close_liar(&l);
    close_scene(s);
}

static void absurd_numbers_end_their_senders_part_only(void **state)
{
    (void)state;
    static const lie lies[] = {
        {"huge-gradient", .gradient = 3e38f, .words = "its gradient reaches 3e+38"},
        {"large-gradient", .gradient = -1e20f, .words = "its gradient reaches 1e+20"},
        {"huge-activation", .activation = 3e38f, .words = "client 1 is out"},
        {"large-activation", .activation = 1e20f, .words = "client 1 is out"},
        {"huge-statistic", .statistic = 3e38f, .words = "its batch-norm statistics: features.1.running_mean"},
        {"nan-statistic", .statistic = NAN, .words = "running_mean of channel 1 is nan"},
        {"negative-variance", .statistic = -1e-3f, .words = "running_var of channel 1 is -0.001"},
    };
    for (size_t i = 0; i < CWI_COUNT(lies); i++)
        lie_beside_an_honest_client(&lies[i]);
}

/* Infinite statistics leave the loss finite: x / sqrt(infinity) is 0. What came before a refused batch is restored. */
static void a_refused_batch_leaves_no_statistics_behind(void **state)
{
    (void)state;
    const lie told = {"overflow", .activation = 1e19f, .words = "client 1 is out"};
    lie_beside_an_honest_client(&told);
}

/* ---- READY with more samples than there can be ---- */

static void refused_as_too_many(const scene *s, uint64_t samples, uint64_t test_samples, const char *words)
{
    actor a;
    actor_hello(&a, s);
    actor_ready(&a, samples, test_samples);
    actor_await(&a, CW_MSG_ERROR);
    assert_told(&a, words);
    assert_told(&a, "--max-samples");
    actor_close(&a);
}

static void more_samples_than_there_can_be_are_refused(void **state)
{
    (void)state;
    enum { TRAIN = 500, TEST = 200 }; /* small_config's limits */
    scene *s = open_scene("countless", 1, 60);
    refused_as_too_many(s, UINT64_C(1) << 40, 1, "it announced 1099511627776 training samples");
    refused_as_too_many(s, 1, UINT64_C(1) << 40, "it announced 1099511627776 test samples");
    refused_as_too_many(s, TRAIN + 1, 1, "at most 500 of one client");
    refused_as_too_many(s, TRAIN, TEST + 1, "at most 200 of one client");
    add_honest(s);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    close_scene(s);
}

/* In this order: the operator's word, what the server has itself, and a number for who has nothing. */
static void what_there_can_be_is_what_the_operator_knows(void **state)
{
    (void)state;
    static const struct {
        int max_samples;
        const char *data, *words[2];
    } cases[] = {{1234, NULL, {"at most 1234 of", "at most 1234 of"}}, /* small_config's data */
                 {0, NULL, {"at most 2000 of", "at most 400 of"}},
                 {0, "imagefolder:nowhere", {"at most 10000000 of", "at most 10000000 of"}}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        char name[32];
        snprintf(name, sizeof name, "bounds-%zu", i);
        scene *s = make_scene(name, 1, 60);
        s->config.train_limit = s->config.test_limit = 0;
        s->config.max_samples = cases[i].max_samples;
        s->config.join_timeout = 3;
        if (cases[i].data)
            snprintf(s->config.data, sizeof s->config.data, "%s", cases[i].data);
        snprintf(s->config.sample, sizeof s->config.sample, "1x28x28");
        s->config.classes = 10;
        start_scene(s);
        refused_as_too_many(s, 10000001, 0, cases[i].words[0]);
        refused_as_too_many(s, 1, 10000001, cases[i].words[1]);
        join_scene(s);
        assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
        close_scene(s);
    }
}

/* ---- peers that say much and read nothing ---- */

/* Pings as fast as it goes, and reads no PONG. */
static void flood(actor *a, const scene *s)
{
    uint8_t frame[64];
    size_t size;
    const cw_msg ping = {.type = CW_MSG_PING, .client = a->welcome.client, .session = a->welcome.session};
    assert_ok(cw_msg_encode(&ping, frame, sizeof frame, &size, NULL));
    while (!s->over && cw_transport_send(a->t, 0, frame, size, NULL) == CW_OK)
        ;
}

/* In process nothing but the server's own queue is there to be filled. */
static void a_peer_that_reads_nothing_is_dropped(void **state)
{
    (void)state;
    scene *s = open_scene("deaf-peer", 2, 600);
    actor a;
    actor_join(&a, s);
    add_honest(s);
    actor_await(&a, CW_MSG_BEGIN);
    flood(&a, s);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_logged(s, "client 1 is out: ");
    assert_logged(s, "does not read");
    assert_int_equal(s->result.last.clients, 1);
    actor_close(&a);
    close_scene(s);
}

/* Over TCP much more fits on the way; but what the flood costs the server is not taken for work, so that the time-out
 * is kept. */
static void a_flood_does_not_hold_up_the_time_out(void **state)
{
    (void)state;
    enum { TIMEOUT = 8 }; /* an honest client opens its data within that, on a busy machine too */
    /* libzmq 4.3.4 aborts where its heartbeat is due to a peer that has filled a queue and broken off. */
    const cw_net_options options = {.heartbeat_ms = -1, .send_timeout_ms = 1000};
    scene *s = make_scene_at("tcp://127.0.0.1:*", &options, 2, TIMEOUT);
    actor a;
    start_scene(s);
    actor_open_with(&a, s, &options);
    actor_greet(&a);
    actor_ready(&a, 240, 0);
    add_honest(s);
    actor_await(&a, CW_MSG_BEGIN);
    double start = cwi_seconds();
    flood(&a, s);
    join_scene(s);
    assert_true(cwi_seconds() - start < 15 * TIMEOUT);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_logged(s, "client 1 is out: ");
    assert_int_equal(s->result.last.clients, 1);
    actor_close(&a);
    close_scene(s);
}

/* ---- models that are not finite, whatever made them so ---- */

typedef struct fixture {
    cw_config config;
    cwi_setup setup;
    cwi_report report;
    cw_half *half;
} fixture;

static void open_fixture(fixture *f, const char *name)
{
    cw_error err;
    f->config = small_config(1, "none", "none");
    use_folder(&f->config, name);
    assert_ok_err(cwi_setup_open(&f->config, &f->setup, &err), err);
    cwi_report_open(&f->setup, NULL, &f->report);
    assert_ok_err(cwi_report_open_files(&f->report, &f->setup, "a test", &err), err);
    assert_ok_err(
        cwi_half_open(&f->setup, 0, cw_model_layer_count(f->setup.model), (size_t)f->config.batch, &f->half, &err),
        err);
}

static void close_fixture(fixture *f)
{
    cw_half_destroy(&f->half);
    cwi_report_close(&f->report);
    cwi_setup_close(&f->setup);
}

static bool is_there(const fixture *f, const char *file)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", f->config.out, file);
    return access(path, F_OK) == 0;
}

static void spoil(fixture *f, bool buffers, float value)
{
    const cw_half_kind kind = buffers ? CW_HALF_BUFFER : CW_HALF_WEIGHT;
    const size_t count = buffers ? cw_half_buffer_count(f->half) : cw_half_weight_count(f->half);
    float *flat = cwi_alloc(count, sizeof *flat);
    cw_error err;
    assert_ok_err(cw_half_get(f->half, kind, flat, &err), err);
    flat[buffers ? count - 1 : count / 2] = value;
    assert_ok_err(cw_half_put(f->half, kind, flat, &err), err);
    cwi_free(flat);
}

static void what_is_not_finite_is_never_written(void **state)
{
    (void)state;
    static const struct {
        bool buffers;
        float value;
    } cases[] = {{false, NAN}, {false, -INFINITY}, {true, INFINITY}, {true, NAN}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        fixture f;
        cw_error err;
        char name[32];
        snprintf(name, sizeof name, "not-finite-%zu", i);
        open_fixture(&f, name);
        cw_half *const halves[] = {f.half};
        spoil(&f, cases[i].buffers, cases[i].value);
        const cwi_progress at = {.epoch = 1};
        assert_status(cwi_checkpoint_save(&f.report, &f.config, halves, 1, &at, &err), CW_ERR_DIVERGED);
        assert_non_null(strstr(err.message, "NaN or infinity"));
        assert_status(cwi_report_save_model(&f.report, halves, 1, &err), CW_ERR_DIVERGED);
        assert_non_null(strstr(err.message, "no model is written"));
        assert_false(is_there(&f, "checkpoint.safetensors") || is_there(&f, "model.safetensors"));
        spoil(&f, cases[i].buffers, 0.25f);
        assert_ok_err(cwi_checkpoint_save(&f.report, &f.config, halves, 1, &at, &err), err);
        assert_ok_err(cwi_report_save_model(&f.report, halves, 1, &err), err);
        assert_true(is_there(&f, "checkpoint.safetensors") && is_there(&f, "model.safetensors"));
        close_fixture(&f);
    }
}

static void spoil_momentum(fixture *f)
{
    cwi_state state;
    cw_error err;
    uint8_t *bytes;
    size_t size;
    assert_ok_err(cwi_halves_export(&f->half, 1, CWI_STATE_ALL, &state, &err), err);
    for (size_t i = 0; i < state.count; i++)
        if (strncmp(state.items[i].name, "optimizer.momentum", 18) == 0)
            ((float *)state.items[i].tensor.data)[5] = INFINITY;
    assert_ok_err(cw_safetensors_encode(state.items, state.count, NULL, &bytes, &size, &err), err);
    assert_ok_err(cwi_half_load(f->half, bytes, size, &err), err);
    cw_bytes_free(bytes);
    cwi_state_free(&state);
}

/* The optimizer goes on with its own numbers: they count as well. */
static void momentum_that_is_not_finite_is_no_checkpoint(void **state)
{
    (void)state;
    fixture f;
    cw_error err;
    open_fixture(&f, "not-finite-momentum");
    cw_half *const halves[] = {f.half};
    spoil_momentum(&f);
    assert_status(cwi_checkpoint_save(&f.report, &f.config, halves, 1, &(cwi_progress){.epoch = 1}, &err),
                  CW_ERR_DIVERGED);
    assert_non_null(strstr(err.message, "optimizer.momentum"));
    assert_false(is_there(&f, "checkpoint.safetensors"));
    close_fixture(&f);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absurd_numbers_end_their_senders_part_only),
        cmocka_unit_test(a_refused_batch_leaves_no_statistics_behind),
        cmocka_unit_test(more_samples_than_there_can_be_are_refused),
        cmocka_unit_test(what_there_can_be_is_what_the_operator_knows),
        cmocka_unit_test(a_peer_that_reads_nothing_is_dropped),
        cmocka_unit_test(a_flood_does_not_hold_up_the_time_out),
        cmocka_unit_test(what_is_not_finite_is_never_written),
        cmocka_unit_test(momentum_that_is_not_finite_is_no_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
