/* client_and_server.c - a server and its clients over TCP, in one program: each in a thread of its own.
 *
 *     cc client_and_server.c $(pkg-config --cflags --libs cutwire) -pthread -o client_and_server
 *     ./client_and_server [SAMPLES]
 *
 * On separate machines each part is a program: cw_net_listen and cw_serve here, cw_net_connect and cw_join there.
 * Beyond this machine both want keys (cw_net_keygen).
 */
#include <pthread.h>
#include <stdio.h>

#include <cutwire/cutwire.h>

enum { CLIENTS = 2 };

/* A client needs to know where the server is; the server tells it what is trained. */
static void *run_client(void *endpoint)
{
    cw_config *config = NULL; /* only keys that are a client's own count */
    cw_transport *transport;
    cw_error err;
    cw_status status = cw_config_create(&config, &err);
    if (status == CW_OK)
        status = cw_config_set(config, "threads", "1", &err);
    if (status == CW_OK)
        status = cw_net_connect(endpoint, NULL, &transport, &err);
    if (status == CW_OK) {
        status = cw_join(config, NULL, transport, NULL, &err);
        cw_transport_close(&transport, 1000);
    }
    cw_config_destroy(&config);
    if (status != CW_OK)
        fprintf(stderr, "client: %s\n", err.message);
    return NULL;
}

static void on_event(void *ctx, const cw_event *event)
{
    (void)ctx;
    if (event->kind == CW_EVENT_LOG)
        printf("%s\n", event->text);
    if (event->kind == CW_EVENT_EPOCH)
        printf("epoch %d: test accuracy %.1f%%, %llu bytes up, %llu down\n", event->report->epoch + 1,
               100 * event->report->test_accuracy, (unsigned long long)event->report->up.socket,
               (unsigned long long)event->report->down.socket);
}

static cw_status configure(cw_config **config, const char *samples, cw_error *err)
{
    const char *const settings[][2] = {{"data", "fashion-mnist"}, {"model", "cnn"},      {"cut", "2"},
                                       {"clients", "2"},          {"epochs", "1"},       {"threads", "1"},
                                       {"train-limit", samples},  {"test-limit", "1000"}};
    cw_status status = cw_config_create(config, err);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && status == CW_OK; i++)
        status = cw_config_set(*config, settings[i][0], settings[i][1], err);
    return status;
}

int main(int argc, char **argv)
{
    const cw_hooks hooks = {.event = on_event};
    pthread_t clients[CLIENTS];
    cw_transport *transport;
    cw_config *config = NULL;
    cw_result result;
    cw_error err;
    cw_status status = configure(&config, argc > 1 ? argv[1] : "4000", &err);
    if (status == CW_OK)
        status = cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, &err);
    if (status == CW_OK) {
        char endpoint[128]; /* with the port that was free */
        snprintf(endpoint, sizeof endpoint, "%s", cw_transport_endpoint(transport));
        for (int i = 0; i < CLIENTS; i++)
            if (pthread_create(&clients[i], NULL, run_client, endpoint) != 0)
                return 1;
        status = cw_serve(config, transport, &hooks, &result, &err);
        for (int i = 0; i < CLIENTS; i++)
            pthread_join(clients[i], NULL);
        cw_transport_close(&transport, 1000);
    }
    cw_config_destroy(&config);
    if (status != CW_OK)
        fprintf(stderr, "server: %s\n", err.message);
    return status != CW_OK;
}
