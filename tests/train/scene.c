/* scene.c - see scene.h. */
#include <time.h>

#include "scene.h"

#include "test.h"

/* ---- one honest run beside one hostile peer ---- */

static void collect_log(void *ctx, const cw_event *e)
{
    scene *s = ctx;
    size_t used = strlen(s->log);
    const bool warns = e->kind == CW_EVENT_LOG && e->level == CW_LOG_WARN && e->name;
    if (e->kind == CW_EVENT_LOG)
        snprintf(s->log + used, sizeof s->log - used, "%s%s%s\n", e->text, warns ? " !" : "", warns ? e->name : "");
    if (e->kind == CW_EVENT_LOG && strstr(e->text, " joined with "))
        atomic_fetch_add(&s->joined, 1);
    if (e->kind == CW_EVENT_LOG && s->stop_at && strstr(e->text, s->stop_at))
        s->stop = 1;
}

static void *server_main(void *arg)
{
    scene *s = arg;
    cw_hooks hooks = {.ctx = s, .event = collect_log, .stop = &s->stop};
    s->server_status = cw_serve(&s->config, s->server_end, &hooks, &s->result, &s->server_err);
    s->over = 1;
    return NULL;
}

typedef struct honest_arg {
    scene *s;
    int i;
} honest_arg;

static void *honest_main(void *arg)
{
    honest_arg a = *(honest_arg *)arg;
    free(arg);
    cw_config local;
    cwi_config_init(&local);
    local.threads = 1;
    local.loader_threads = 0;
    const char *own = a.s->own_data[a.i], *shared = strchr(a.s->config.data, ':'); /* which clients are not told */
    local.own_data = own != NULL;
    snprintf(local.identity, sizeof local.identity, "%s", a.s->config.identity); /* where there is one honest client */
    snprintf(local.data_dir, sizeof local.data_dir, "%s", own ? own : shared ? shared + 1 : "");
    cw_transport *t;
    a.s->honest_status[a.i] = cw_net_connect(a.s->endpoint, NULL, &t, &a.s->honest_err[a.i]);
    if (a.s->honest_status[a.i] != CW_OK)
        return NULL;
    a.s->honest_status[a.i] = cw_join(&local, NULL, t, NULL, &a.s->honest_err[a.i]);
    cw_transport_close(&t, 100);
    return NULL;
}

scene *make_scene_at(const char *endpoint, const cw_net_options *options, int clients, double timeout)
{
    scene *s = calloc(1, sizeof *s);
    cw_error err;
    s->config = small_config(clients, "ms:r=0.99,b=2", "none");
    s->config.epochs = 1;
    s->config.timeout = timeout;
    s->config.join_timeout = 20;
    assert_ok_err(cw_net_listen(endpoint, options, &s->server_end, &err), err);
    snprintf(s->endpoint, sizeof s->endpoint, "%s", cw_transport_endpoint(s->server_end));
    return s;
}

scene *make_scene(const char *name, int clients, double timeout)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://%s", name);
    return make_scene_at(endpoint, NULL, clients, timeout);
}

void start_scene(scene *s)
{
    assert_int_equal(pthread_create(&s->server, NULL, server_main, s), 0);
}

scene *open_scene(const char *name, int clients, double timeout)
{
    scene *s = make_scene(name, clients, timeout);
    start_scene(s);
    return s;
}

void add_honest(scene *s)
{
    honest_arg *arg = malloc(sizeof *arg);
    *arg = (honest_arg){s, s->honest_count};
    assert_int_equal(pthread_create(&s->honest[s->honest_count++], NULL, honest_main, arg), 0);
}

void join_scene(scene *s)
{
    for (int i = 0; i < s->honest_count; i++)
        pthread_join(s->honest[i], NULL);
    pthread_join(s->server, NULL);
}

void close_scene(scene *s)
{
    cw_transport_close(&s->server_end, 0);
    free(s);
}

void assert_logged(const scene *s, const char *words)
{
    if (!strstr(s->log, words))
        fail_msg("the log does not say '%s':\n%s", words, s->log);
}

/* ---- a peer played by hand ---- */

void actor_open_with(actor *a, const scene *s, const cw_net_options *options)
{
    cw_error err;
    memset(a, 0, sizeof *a);
    assert_ok_err(cw_net_connect(s->endpoint, options, &a->t, &err), err);
}

void actor_open(actor *a, const scene *s)
{
    actor_open_with(a, s, NULL);
}

cw_status actor_try_send(actor *a, cw_msg msg)
{
    const size_t capacity = cw_msg_head_size(&msg) + msg.blob_size;
    uint8_t *frame = malloc(capacity);
    size_t size;
    cw_error err;
    msg.client = a->welcome.type ? a->welcome.client : UINT32_MAX;
    msg.session = a->welcome.session;
    assert_ok_err(cw_msg_encode(&msg, frame, capacity, &size, &err), err);
    const cw_status status = cw_transport_send(a->t, 0, frame, size, NULL);
    free(frame);
    return status;
}

void actor_send(actor *a, cw_msg msg)
{
    assert_ok(actor_try_send(a, msg));
}

void actor_await(actor *a, cw_msg_type type)
{
    cw_error err;
    do {
        cw_frame_release(&a->last);
        assert_ok_err(cw_transport_recv(a->t, 20000, &a->last, &err), err);
        assert_ok_err(cw_msg_decode(a->last.bytes, a->last.size, &a->msg, &err), err);
    } while (a->msg.type != type);
}

bool actor_hears(actor *a, cw_msg_type type)
{
    cw_frame_release(&a->last);
    while (cw_transport_recv(a->t, 3000, &a->last, NULL) == CW_OK) {
        assert_ok(cw_msg_decode(a->last.bytes, a->last.size, &a->msg, NULL));
        if (a->msg.type == type)
            return true;
        cw_frame_release(&a->last);
    }
    return false;
}

void actor_greet(actor *a)
{
    actor_send(a, (cw_msg){.type = CW_MSG_HELLO,
                           .version_min = CW_WIRE_VERSION_MIN,
                           .version_max = CW_WIRE_VERSION_MAX,
                           .token = (uint64_t)(uintptr_t)a}); /* another for each actor */
    actor_await(a, CW_MSG_WELCOME);
    a->welcome = a->msg;
}

void actor_hello(actor *a, const scene *s)
{
    actor_open(a, s);
    actor_greet(a);
}

void actor_ready(actor *a, uint64_t samples, uint64_t test_samples)
{
    actor_send(a, (cw_msg){.type = CW_MSG_READY,
                           .fingerprint = a->welcome.fingerprint,
                           .samples = samples,
                           .test_samples = test_samples});
}

void actor_join(actor *a, const scene *s)
{
    actor_hello(a, s);
    actor_ready(a, 240, 0);
}

void actor_close(actor *a)
{
    cw_frame_release(&a->last);
    cw_transport_close(&a->t, 0);
}

void assert_told(const actor *a, const char *words)
{
    char text[500];
    snprintf(text, sizeof text, "%.*s", (int)a->msg.blob_size, (const char *)a->msg.blob);
    if (!strstr(text, words))
        fail_msg("the server said '%s', not '%s'", text, words);
}

void nap(int milliseconds)
{
    const struct timespec t = {.tv_nsec = 1000000L * milliseconds};
    nanosleep(&t, NULL);
}

void actor_send_tensor(actor *a, cw_msg msg, cw_tensor x)
{
    cw_codec *codec;
    assert_ok(cw_codec_create("none", &codec, NULL));
    const size_t capacity = cw_codec_bound(codec, &x);
    uint8_t *payload = malloc(capacity);
    assert_ok(cw_encode(codec, &x, NULL, payload, capacity, &msg.blob_size, NULL));
    cw_codec_destroy(&codec);
    msg.blob = payload;
    actor_send(a, msg);
    free(payload);
}
