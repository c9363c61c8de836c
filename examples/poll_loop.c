/* poll_loop.c - a server in somebody's own poll(2) loop, beside whatever else the loop waits for (here: a timer).
 *
 *     cc poll_loop.c $(pkg-config --cflags --libs cutwire) -o poll_loop
 *     ./poll_loop tcp://127.0.0.1:5555 [SAMPLES] &
 *     cutwire client --connect tcp://127.0.0.1:5555
 *
 * The descriptor tells of what is new alone: all that has come is taken before each wait.
 */
#include <poll.h>
#include <stdio.h>
#include <time.h>

#include <cutwire/cutwire.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_event(void *ctx, const cw_event *event)
{
    (void)ctx;
    if (event->kind == CW_EVENT_LOG)
        printf("%s\n", event->text);
    if (event->kind == CW_EVENT_EPOCH)
        printf("epoch %d: test accuracy %.1f%%\n", event->report->epoch + 1, 100 * event->report->test_accuracy);
    fflush(stdout);
}

/* Every frame that has come. */
static cw_status take_frames(cw_server *server, cw_transport *transport, cw_error *err)
{
    cw_frame frame;
    cw_status status = CW_OK;
    while (status == CW_OK && !cw_server_done(server)) {
        status = cw_transport_recv(transport, 0, &frame, err);
        if (status == CW_OK)
            status = cw_server_handle(server, &frame, err);
    }
    return status == CW_ERR_TIMEOUT ? CW_OK : status; /* nothing more has come */
}

static cw_status loop(cw_server *server, cw_transport *transport, cw_error *err)
{
    struct pollfd watched[] = {{.fd = cw_transport_poll_fd(transport), .events = POLLIN}}; /* and yours */
    double next = 0, due = now();
    cw_status status = CW_OK;
    while (status == CW_OK && !cw_server_done(server)) {
        status = take_frames(server, transport, err);
        if (status == CW_OK && now() >= due) {
            status = cw_server_tick(server, &next, err);
            due = now() + next;
        }
        const double left = due - now();
        if (status == CW_OK && !cw_server_done(server))
            poll(watched, 1, left > 0 ? (int)(left * 1000) + 1 : 0);
    }
    return status;
}

int main(int argc, char **argv)
{
    const cw_server_options options = {.hooks = &(cw_hooks){.event = on_event}};
    const char *const settings[][2] = {
        {"data", "fashion-mnist"}, {"model", "cnn"}, {"cut", "2"},
        {"epochs", "1"},           {"threads", "1"}, {"train-limit", argc > 2 ? argv[2] : "4000"},
        {"test-limit", "1000"}};
    cw_transport *transport = NULL;
    cw_server *server = NULL;
    cw_config *config = NULL;
    cw_error err;
    if (argc < 2) {
        fprintf(stderr, "usage: poll_loop ENDPOINT [SAMPLES]\n");
        return 2;
    }
    cw_status status = cw_config_create(&config, &err);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && status == CW_OK; i++)
        status = cw_config_set(config, settings[i][0], settings[i][1], &err);
    if (status == CW_OK)
        status = cw_net_listen(argv[1], NULL, &transport, &err);
    if (status == CW_OK)
        status = cw_server_create(config, transport, &options, &server, &err);
    if (status == CW_OK) {
        printf("listening on %s\n", cw_transport_endpoint(transport));
        fflush(stdout);
        status = loop(server, transport, &err);
        status = cw_server_finish(server, status, status == CW_OK ? "training is finished" : err.message, NULL, &err);
    }
    if (status != CW_OK)
        fprintf(stderr, "poll_loop: %s\n", err.message);
    cw_server_destroy(&server);
    cw_config_destroy(&config);
    cw_transport_close(&transport, 1000);
    return status != CW_OK;
}
