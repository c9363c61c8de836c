/* scene.c - a small network of callbacks across a cut, and a server for it on a thread of its own. */
#include "scene.h"

#include <math.h>
#include <time.h>

#include "base/base.h"
#include "test.h"

/* ---- the network ---- */

static cw_status head_forward(void *ctx, const cw_half_call *call, const float *x, float *z, cw_error *err)
{
    const own_head *h = ctx;
    (void)err;
    for (size_t s = 0; s < call->n; s++)
        for (size_t i = 0; i < CUT; i++)
            z[s * CUT + i] = fmaxf(h->weight[i] + x[(call->first + s) * IN + i % IN], 0);
    return CW_OK;
}

static cw_status tail_forward(void *ctx, const cw_half_call *call, const float *z, float *y, cw_error *err)
{
    (void)ctx;
    for (size_t s = 0; s < call->n; s++)
        for (size_t k = 0; k < OUT; k++) {
            float sum = 0;
            for (size_t i = 0; i < CUT; i++) {
                if (z[s * CUT + i] > 1e30f) /* as an engine that looks at its values does: all of the batch fails */
                    return cwi_fail(err, CW_ERR_DIVERGED, "beyond any number");
                sum += z[s * CUT + i] * (float)(1 + (i + k) % OUT);
            }
            y[s * OUT + k] = sum;
        }
    return CW_OK;
}

static cw_status no_loss(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    (void)ctx, (void)call, (void)targets, (void)out;
    return cwi_fail(err, CW_ERR_INVALID, "for inference");
}

static cw_status no_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    (void)ctx, (void)call, (void)dy, (void)dx;
    return cwi_fail(err, CW_ERR_INVALID, "for inference");
}

static cw_status no_step(void *ctx, float lr, cw_error *err)
{
    (void)ctx, (void)lr;
    return cwi_fail(err, CW_ERR_INVALID, "for inference");
}

cw_half *make_head(own_head *h, float first)
{
    const cw_shape in = cw_shape_of(1, (int64_t[]){IN}), out = cw_shape_of(1, (int64_t[]){CUT});
    for (size_t i = 0; i < CUT; i++)
        h->weight[i] = first + 0.25f * (float)i;
    const cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "bias", cw_tensor_view(CW_F32, &out, h->weight)},
                                      {CW_HALF_GRADIENT, "bias", cw_tensor_view(CW_F32, &out, h->gradient)}};
    const cw_half_callbacks callbacks = {.in = in,
                                         .out = out,
                                         .tensors = tensors,
                                         .tensor_count = 2,
                                         .forward = head_forward,
                                         .backward = no_backward,
                                         .step = no_step};
    cw_half *half;
    cw_error err;
    assert_ok_err(cw_half_create(&callbacks, h, &half, &err), err);
    return half;
}

cw_half *make_tail(void)
{
    const cw_half_callbacks callbacks = {.in = cw_shape_of(1, (int64_t[]){CUT}),
                                         .out = cw_shape_of(1, (int64_t[]){OUT}),
                                         .forward = tail_forward,
                                         .loss = no_loss,
                                         .backward = no_backward,
                                         .step = no_step};
    cw_half *half;
    cw_error err;
    assert_ok_err(cw_half_create(&callbacks, NULL, &half, &err), err);
    return half;
}

void expect(const own_head *h, const float *x, float *y)
{
    float z[CUT];
    const cw_half_call call = {.mode = CW_EVAL, .n = 1};
    assert_ok(head_forward((void *)(uintptr_t)h, &call, x, z, NULL));
    assert_ok(tail_forward(NULL, &call, z, y, NULL));
}

void make_input(uint64_t seed, size_t n, float *x)
{
    cwi_rng rng = cwi_rng_make(seed, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < n * IN; i++)
        x[i] = (float)cwi_rng_normal(&rng);
}

/* ---- a server on a thread of its own ---- */

static const char *const classes[OUT] = {"cat", "dog", "owl"};

static void note(void *ctx, const cw_event *event)
{
    scene *s = ctx;
    const size_t used = strlen(s->log);
    snprintf(s->log + used, sizeof s->log - used, "%s\n", event->text);
}

static void *serve(void *arg)
{
    scene *s = arg;
    s->status = cw_answer_clients(s->answerer, &s->stop, NULL);
    return NULL;
}

void pause_scene(scene *s)
{
    s->stop = 1;
    pthread_join(s->thread, NULL);
}

void resume_scene(scene *s)
{
    s->stop = 0;
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static cw_hooks hooks; /* of the scene at hand */

scene *open_scene(const char *endpoint, const cw_answerer_options *options)
{
    scene *s = calloc(1, sizeof *s);
    cw_error err;
    hooks = (cw_hooks){.ctx = s, .event = note};
    s->options = *options;
    s->tail = make_tail();
    s->options.tail = s->tail;
    s->options.hooks = &hooks;
    s->options.class_names = classes;
    if (!s->options.model)
        s->options.model = "toy";
    assert_ok_err(cw_net_listen(endpoint, NULL, &s->transport, &err), err);
    assert_ok_err(cw_answerer_create(&s->options, s->transport, &s->answerer, &err), err);
    resume_scene(s);
    return s;
}

void close_scene(scene *s)
{
    pause_scene(s);
    assert_int_equal(s->status, CW_OK);
    cw_answerer_destroy(&s->answerer);
    cw_transport_close(&s->transport, 1000);
    cw_half_destroy(&s->tail);
    free(s);
}

void nap(int milliseconds)
{
    const struct timespec t = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

void assert_words(const char *text, const char *words)
{
    if (!strstr(text, words))
        fail_msg("\"%s\" does not have \"%s\"", text, words);
}

cw_remote *connect_to(const scene *s, cw_half *head, cw_remote_options options)
{
    cw_remote *r;
    cw_error err;
    options.head = head;
    if (!options.uplink)
        options.uplink = "none";
    assert_ok_err(cw_remote_open(cw_transport_endpoint(s->transport), &options, &r, &err), err);
    return r;
}

void ask(cw_remote *r, const own_head *h, uint64_t seed, size_t n)
{
    float x[16 * IN], y[OUT];
    uint64_t ticket;
    cw_answer a;
    cw_error err;
    make_input(seed, n, x);
    assert_ok_err(cw_remote_submit(r, x, n, &ticket, &err), err);
    assert_ok_err(cw_remote_wait(r, ticket, &a, &err), err);
    assert_true(a.n == n && a.top == 0 && !a.guesses && a.seconds > 0);
    for (size_t i = 0; i < n; i++) {
        expect(h, x + i * IN, y);
        assert_memory_equal(a.outputs + i * OUT, y, sizeof y);
    }
    assert_status(cw_remote_wait(r, ticket, &a, &err), CW_ERR_INVALID); /* an answer is given once */
}
