/* train_test.c - see train_test.h. */
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "train_test.h"

#include "test.h"

/* A process of this number may have left folders before, and a run's is not written over. */
static long started;

__attribute__((constructor)) static void note_start(void)
{
    started = (long)time(NULL);
}

/* Fashion-MNIST's first samples in a folder of their own: unpacking all 70,000 takes as long as training does here. */
enum { TRAIN_SAMPLES = 2000, TEST_SAMPLES = 400, PIXELS = 28 * 28 };
static char first_samples[128] = "fashion-mnist";

/* The file of this name without its `.gz`, cut to `count` elements of `size` bytes behind `header` bytes. */
static void copy_first(const char *from, const char *to, const char *name, size_t header, size_t count, size_t size)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/%s.gz", from, name);
    if (access(path, R_OK) != 0)
        snprintf(path, sizeof path, "%s/%s", from, name);
    const size_t total = header + count * size;
    uint8_t *bytes = malloc(total);
    gzFile f = gzopen(path, "rb");
    assert_non_null(bytes);
    assert_non_null(f);
    assert_int_equal(gzread(f, bytes, (unsigned)total), total);
    gzclose(f);
    bytes[6] = (uint8_t)(count >> 8); /* the count, big-endian in bytes 4 to 7 */
    bytes[7] = (uint8_t)count;
    bytes[4] = bytes[5] = 0;
    snprintf(path, sizeof path, "%s/%s", to, name);
    assert_ok(cw_file_write(path, bytes, total, NULL));
    free(bytes);
}

void require_data(void)
{
    require_samples(TRAIN_SAMPLES, TEST_SAMPLES);
}

void require_samples(size_t train, size_t test)
{
    char from[4096], to[100];
    cw_error err;
    if (cw_dataset_find("fashion-mnist", CW_SPLIT_TRAIN, from, sizeof from, &err) != CW_OK) {
        printf("SKIP: %s\n", err.message);
        exit(77);
    }
    snprintf(to, sizeof to, "test-runs/%ld-%d-first-samples", started, (int)getpid());
    mkdir("test-runs", 0777);
    assert_int_equal(mkdir(to, 0777), 0);
    copy_first(from, to, "train-images-idx3-ubyte", 16, train, PIXELS);
    copy_first(from, to, "train-labels-idx1-ubyte", 8, train, 1);
    copy_first(from, to, "t10k-images-idx3-ubyte", 16, test, PIXELS);
    copy_first(from, to, "t10k-labels-idx1-ubyte", 8, test, 1);
    snprintf(first_samples, sizeof first_samples, "fashion-mnist:%s", to);
}

cw_config small_config(int clients, const char *uplink, const char *downlink)
{
    cw_config config;
    cwi_config_init(&config);
    snprintf(config.data, sizeof config.data, "%s", first_samples);
    snprintf(config.uplink, sizeof config.uplink, "%s", uplink);
    snprintf(config.downlink, sizeof config.downlink, "%s", downlink);
    snprintf(config.update, sizeof config.update, "none");
    snprintf(config.mask_gradient, sizeof config.mask_gradient, "0");
    config.clients = clients;
    config.epochs = 2;
    config.batch = 48; /* leaves a short last batch */
    config.train_limit = 500;
    config.test_limit = 200;
    config.threads = 1;
    config.loader_threads = 0;
    config.timeout = 60;
    return config;
}

cw_config tiny_config(int clients, const char *uplink, const char *downlink)
{
    cw_config config = small_config(clients, uplink, downlink);
    config.batch = 16;
    config.train_limit = TINY_TRAIN;
    config.test_limit = TINY_TEST;
    return config;
}

void use_folder(cw_config *config, const char *name)
{
    static int folders; /* the same name again is another folder: none holds two runs */
    snprintf(config->out, sizeof config->out, "test-runs/%ld-%d-%d-%s", started, (int)getpid(), ++folders, name);
}

enum { MAX_CLIENTS = 8 };

typedef struct client_thread {
    pthread_t thread;
    const tcp_clients *all;
    cw_status status;
    cw_error err;
} client_thread;

struct tcp_clients {
    int count;
    char endpoint[64];
    cw_config config; /* what each knows before it joins */
    client_thread each[MAX_CLIENTS];
};

static void *run_client(void *arg)
{
    client_thread *c = arg;
    cw_transport *transport;
    c->status = cw_net_connect(c->all->endpoint, NULL, &transport, &c->err);
    if (c->status != CW_OK)
        return NULL;
    c->status = cw_join(&c->all->config, NULL, transport, NULL, &c->err);
    cw_transport_close(&transport, 1000);
    return NULL;
}

tcp_clients *start_tcp_clients(const cw_config *config, const char *endpoint)
{
    tcp_clients *clients = calloc(1, sizeof *clients);
    assert_non_null(clients);
    assert_true(config->clients <= MAX_CLIENTS);
    clients->count = config->clients;
    snprintf(clients->endpoint, sizeof clients->endpoint, "%s", endpoint);
    cwi_config_init(&clients->config);
    clients->config.threads = config->threads;
    clients->config.loader_threads = 1;
    const char *folder = strchr(config->data, ':'); /* which clients are not told */
    snprintf(clients->config.data_dir, sizeof clients->config.data_dir, "%s", folder ? folder + 1 : "");
    for (int i = 0; i < clients->count; i++) {
        clients->each[i].all = clients;
        assert_int_equal(pthread_create(&clients->each[i].thread, NULL, run_client, &clients->each[i]), 0);
    }
    return clients;
}

void join_tcp_clients(tcp_clients *clients)
{
    for (int i = 0; i < clients->count; i++) {
        pthread_join(clients->each[i].thread, NULL);
        assert_ok_err(clients->each[i].status, clients->each[i].err);
    }
    free(clients);
}

cw_status train_over_tcp(const cw_config *config, cw_result *result, cw_error *err)
{
    cw_transport *transport;
    assert_ok_err(cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, err), *err);
    tcp_clients *clients = start_tcp_clients(config, cw_transport_endpoint(transport));
    cw_status status = cw_serve(config, transport, NULL, result, err);
    join_tcp_clients(clients);
    cw_transport_close(&transport, 1000);
    return status;
}

void assert_same_model(const cw_config *a, const cw_config *b)
{
    uint8_t *bytes[2];
    size_t size[2];
    const cw_config *configs[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        char path[600];
        cw_error err;
        snprintf(path, sizeof path, "%s/model.safetensors", configs[i]->out);
        assert_ok_err(cw_file_read(path, &bytes[i], &size[i], &err), err);
    }
    assert_int_equal(size[0], size[1]);
    assert_true(size[0] > 10000);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    cw_bytes_free(bytes[0]);
    cw_bytes_free(bytes[1]);
}

size_t count_lines(const char *folder, const char *file)
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

void assert_same_report(const cw_result *a, const cw_result *b)
{
    assert_int_equal(a->epochs_done, b->epochs_done);
    assert_true(a->last.train_loss == b->last.train_loss);
    assert_true(a->last.train_accuracy == b->last.train_accuracy);
    assert_true(a->last.test_loss == b->last.test_loss);
    assert_true(a->last.test_accuracy == b->last.test_accuracy);
}

void assert_same_parameters(const cw_config *a, const cw_config *b)
{
    cw_tensor_set sets[2];
    const cw_config *configs[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/model.safetensors", configs[i]->out);
        assert_ok(cw_safetensors_load(path, &sets[i], NULL));
    }
    size_t compared = 0;
    for (size_t i = 0; i < sets[0].count; i++) {
        const cw_named_tensor *x = &sets[0].items[i];
        const cw_tensor *y = cw_tensor_set_find(&sets[1], x->name);
        size_t count;
        assert_non_null(y);
        if (strstr(x->name, "running_"))
            continue;
        assert_true(cw_shape_equal(&x->tensor.shape, &y->shape));
        assert_ok(cw_shape_count(&y->shape, &count));
        assert_memory_equal(x->tensor.data, y->data, count * sizeof(float));
        compared++;
    }
    assert_true(compared > 8);
    cw_tensor_set_free(&sets[0]);
    cw_tensor_set_free(&sets[1]);
}

void stop_after(void *ctx, const cw_event *e)
{
    stopper *s = ctx;
    if (e->kind == CW_EVENT_EPOCH && e->epoch + 1 == s->epochs)
        s->stop = 1;
    if (e->kind == CW_EVENT_LOG)
        snprintf(s->log + strlen(s->log), sizeof s->log - strlen(s->log), "%s\n", e->text);
}

void resume_from(cw_config *config, const char *folder)
{
    cw_error err;
    char copy[512];
    snprintf(copy, sizeof copy, "%s", folder);
    cwi_config_init(config);
    assert_ok_err(cw_config_from_run(config, copy, &err), err);
    snprintf(config->resume, sizeof config->resume, "%s", copy);
    snprintf(config->out, sizeof config->out, "%s", copy);
}
