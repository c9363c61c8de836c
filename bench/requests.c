/* requests.c - what a request costs around its layers: a server whose layers compute nothing, over TCP on this machine.
 *
 *     requests [REQUESTS [SHAPE [CODEC [CLIENTS [OUTPUTS]]]]]      SHAPE: of one sample, as 16x28x28
 *
 * Each client asks again as soon as it has its answer. The server is a process of its own. Printed are microseconds of
 * processor time a request at both ends, of all their threads, and the median from a request to its answer.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cutwire/infer.h>

enum { CLIENTS_MAX = 1024 };

typedef struct job {
    size_t requests, floats, clients, outputs;
    cw_shape shape;
    const char *codec;
    pid_t server;
    char endpoint[128];
    float *x;
    double *latencies;
} job;

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* ---- the server ---- */

static cw_status nothing(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    const job *j = ctx;
    (void)x, (void)err;
    memset(y, 0, call->n * j->outputs * sizeof *y);
    return CW_OK;
}

static cw_status no_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    (void)ctx, (void)call, (void)dy, (void)dx, (void)err;
    return CW_ERR_UNSUPPORTED;
}

static cw_status no_loss(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    (void)ctx, (void)call, (void)targets, (void)out, (void)err;
    return CW_ERR_UNSUPPORTED;
}

static cw_status no_step(void *ctx, float lr, cw_error *err)
{
    (void)ctx, (void)lr, (void)err;
    return CW_ERR_UNSUPPORTED;
}

static cw_half *new_tail(job *j, cw_error *err)
{
    static float weight[1], gradient[1];
    const int64_t one = 1, outputs = (int64_t)j->outputs;
    const cw_shape shape = cw_shape_of(1, &one);
    const cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "weight", cw_tensor_view(CW_F32, &shape, weight)},
                                      {CW_HALF_GRADIENT, "weight", cw_tensor_view(CW_F32, &shape, gradient)}};
    const cw_half_callbacks callbacks = {.in = j->shape,
                                         .out = cw_shape_of(1, &outputs),
                                         .tensors = tensors,
                                         .tensor_count = 2,
                                         .forward = nothing,
                                         .loss = no_loss,
                                         .backward = no_backward,
                                         .step = no_step};
    cw_half *half = NULL;
    (void)cw_half_create(&callbacks, j, &half, err);
    return half;
}

static int serve(job *j, int out)
{
    cw_error err;
    cw_transport *transport = NULL;
    cw_answerer *answerer = NULL;
    const cw_answerer_options options = {.tail = new_tail(j, &err), .max_clients = j->clients};
    cw_status status = options.tail ? cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, &err) : CW_ERR_INVALID;
    if (status == CW_OK)
        status = cw_answerer_create(&options, transport, &answerer, &err);
    if (status == CW_OK) {
        const char *endpoint = cw_transport_endpoint(transport);
        status = write(out, endpoint, strlen(endpoint) + 1) > 0 ? cw_answer_clients(answerer, &stop, &err) : CW_ERR_IO;
    }
    if (status != CW_OK && status != CW_ERR_CANCELLED)
        fprintf(stderr, "requests: server: %s\n", err.message);
    const cw_answerer_stats stats = cw_answerer_get_stats(answerer);
    fprintf(stderr, "batches of %.1f\n", (double)stats.samples / (double)stats.batches);
    cw_answerer_destroy(&answerer);
    cw_transport_close(&transport, 0);
    return 0;
}

/* ---- the clients ---- */

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static cw_status ask_one_by_one(const job *j, cw_remote *remote, cw_error *err)
{
    cw_status status = CW_OK;
    for (size_t i = 0; status == CW_OK && i < j->requests; i++) {
        uint64_t ticket;
        cw_answer answer;
        status = cw_remote_submit(remote, j->x, 1, &ticket, err);
        if (status == CW_OK)
            status = cw_remote_wait(remote, ticket, &answer, err);
        if (status == CW_OK)
            j->latencies[i] = answer.seconds;
    }
    return status;
}

/* Takes the answer of one client, if there is one, and lets it ask again. */
static cw_status turn(const job *j, cw_remote *remote, size_t *done, cw_error *err)
{
    uint64_t ticket;
    cw_answer answer;
    cw_status status;
    while ((status = cw_remote_poll(remote, &ticket, err)) == CW_OK && ticket) {
        status = cw_remote_wait(remote, ticket, &answer, err);
        if (status == CW_OK && *done < j->requests)
            j->latencies[(*done)++] = answer.seconds;
        if (status == CW_OK)
            status = cw_remote_submit(remote, j->x, 1, &ticket, err);
        if (status != CW_OK)
            return status;
    }
    return status;
}

static cw_status ask_in_a_loop(const job *j, cw_remote **remotes, cw_error *err)
{
    struct pollfd fds[CLIENTS_MAX];
    cw_status status = CW_OK;
    size_t done = 0;
    for (size_t i = 0; status == CW_OK && i < j->clients; i++) {
        uint64_t ticket;
        fds[i] = (struct pollfd){.fd = cw_remote_poll_fd(remotes[i]), .events = POLLIN};
        status = cw_remote_submit(remotes[i], j->x, 1, &ticket, err);
    }
    while (status == CW_OK && done < j->requests) {
        const int ready = poll(fds, j->clients, 100);
        for (size_t i = 0; status == CW_OK && i < j->clients; i++)
            if (fds[i].revents || ready <= 0)
                status = turn(j, remotes[i], &done, err);
    }
    return status;
}

static cw_status ask(const job *j, cw_error *err)
{
    cw_remote *remotes[CLIENTS_MAX] = {NULL};
    clockid_t there = CLOCK_PROCESS_CPUTIME_ID;
    cw_status status = CW_OK;
    const cw_remote_options options = {.uplink = j->codec, .top = 1, .deadline = 60};
    for (size_t i = 0; status == CW_OK && i < j->clients; i++)
        status = cw_remote_open(j->endpoint, &options, &remotes[i], err);
    if (status == CW_OK && clock_getcpuclockid(j->server, &there))
        status = CW_ERR_INVALID;
    const double server = seconds_of(there), client = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    if (status == CW_OK)
        status = j->clients > 1 ? ask_in_a_loop(j, remotes, err) : ask_one_by_one(j, remotes[0], err);
    const double n = 1e-6 * (double)j->requests;
    if (status == CW_OK) {
        qsort(j->latencies, j->requests, sizeof *j->latencies, compare);
        printf("client %.1f, server %.1f us of processor time; from request to answer %.1f us\n",
               (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - client) / n, (seconds_of(there) - server) / n,
               1e6 * j->latencies[j->requests / 2]);
    }
    for (size_t i = 0; i < j->clients; i++)
        cw_remote_close(&remotes[i]);
    return status;
}

static int run(job *j)
{
    int ends[2];
    cw_error err = {.message = ""};
    if (pipe(ends))
        return 1;
    signal(SIGTERM, on_signal);
    j->server = fork();
    if (!j->server)
        return serve(j, ends[1]);
    cw_status status = read(ends[0], j->endpoint, sizeof j->endpoint) > 0 ? CW_OK : CW_ERR_IO;
    for (size_t i = 0; i < j->floats; i++)
        j->x[i] = i % 3 ? 0 : (float)(i % 7);
    if (status == CW_OK)
        status = ask(j, &err);
    if (status != CW_OK)
        fprintf(stderr, "requests: %s\n", err.message);
    kill(j->server, SIGTERM);
    waitpid(j->server, NULL, 0);
    return status != CW_OK;
}

/* "16x28x28"; false: it is none. */
static bool parse_shape(const char *text, cw_shape *shape)
{
    *shape = (cw_shape){.ndim = 0};
    for (char *end; shape->ndim < 4; text = end + 1) {
        shape->dim[shape->ndim++] = strtol(text, &end, 10);
        if (*end != 'x')
            return !*end && end > text;
    }
    return false;
}

int main(int argc, char **argv)
{
    job j = {.requests = argc > 1 ? (size_t)atoll(argv[1]) : 2000,
             .codec = argc > 3 ? argv[3] : "none",
             .clients = argc > 4 ? (size_t)atoll(argv[4]) : 1,
             .outputs = argc > 5 ? (size_t)atoll(argv[5]) : 10};
    const bool good =
        parse_shape(argc > 2 ? argv[2] : "4x7x7", &j.shape) && cw_shape_count(&j.shape, &j.floats) == CW_OK && j.floats;
    if (!good || !j.requests || !j.outputs || !j.clients || j.clients > CLIENTS_MAX) {
        fprintf(stderr, "requests [REQUESTS [SHAPE [CODEC [CLIENTS [OUTPUTS]]]]]\n");
        return 2;
    }
    j.x = calloc(j.floats, sizeof *j.x);
    j.latencies = calloc(j.requests, sizeof *j.latencies);
    const int code = j.x && j.latencies ? run(&j) : 1;
    free(j.x);
    free(j.latencies);
    return code;
}
