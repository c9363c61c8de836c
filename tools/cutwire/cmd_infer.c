/* cmd_infer.c - `cutwire infer`: the layers before the cut here, the rest at a server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli_net.h"
#include "commands.h"
#include "infer_output.h"

static const char examples[] =
    "  cutwire infer --connect tcp://127.0.0.1:5556 --run runs/mine --test-limit 1000\n"
    "      the run's own test samples, one at a time: accuracy, bytes and milliseconds a sample\n"
    "  cutwire infer --connect tcp://127.0.0.1:5556 --run runs/mine --uplink ec:err=0.25 --local --json\n"
    "      another codec, and the whole network's answers beside it\n"
    "  cutwire infer --connect tcp://192.0.2.7:5556 --run runs/mine --key device.key --server-key server.key.pub "
    "x.npy\n"
    "      a photo, over an encrypted link; each answer is printed, the 3 likeliest classes\n";

enum { IN_FLIGHT_MAX = 256, BATCH_MAX = 1024 };

typedef struct infer_options {
    const char *connect, *run, *head, *cut, *uplink, *data, *data_dir, *key, *server_key;
    const char *files[64];
    int file_count, batch, in_flight, top, limit, threads;
    double deadline, join_timeout;
    bool local, print, plaintext, json, quiet;
    cli_net connection;
} infer_options;

/* A request on its way: of which samples it is. */
typedef struct sent {
    uint64_t ticket;
    cw_sample_batch batch; /* without x */
    int32_t labels[BATCH_MAX], local[BATCH_MAX];
} sent;

typedef struct infer_job {
    const infer_options *o;
    cw_network *network;
    cw_samples *samples;
    cw_remote *remote;
    const cw_net_options *net;        /* which the remote connects by, now and later */
    cw_half *whole_head, *whole_tail; /* with --local */
    float *z, *y;
    sent *ring; /* in_flight of them, the oldest at `first` */
    size_t first, count;
    infer_tally tally;
    cli_progress progress;
    double began;
} infer_job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t count_of(const cw_shape *shape)
{
    size_t count = 0;
    (void)cw_shape_count(shape, &count);
    return count;
}

static cw_status fail(cw_error *err, cw_status status, const char *text)
{
    snprintf(err->message, sizeof err->message, "%s", text);
    return err->status = status;
}

/* ---- the whole network here ---- */

static cw_status answer_here(infer_job *j, const float *x, size_t n, int32_t *answers, cw_error *err)
{
    const cw_half_call call = {.mode = CW_EVAL, .n = n};
    const size_t classes = (size_t)cw_network_get_info(j->network)->classes;
    cw_status status = cw_half_forward(j->whole_head, &call, x, j->z, err);
    if (status == CW_OK)
        status = cw_half_forward(j->whole_tail, &call, j->z, j->y, err);
    for (size_t i = 0; status == CW_OK && i < n; i++) {
        const float *y = j->y + i * classes;
        size_t best = 0;
        for (size_t k = 1; k < classes; k++)
            if (y[k] > y[best])
                best = k;
        answers[i] = (int32_t)best;
    }
    return status;
}

/* ---- requests ---- */

static cw_status take_oldest(infer_job *j, cw_error *err)
{
    const sent *s = &j->ring[j->first];
    infer_tally *t = &j->tally;
    cw_answer a;
    const cw_status status = cw_remote_wait(j->remote, s->ticket, &a, err);
    if (status != CW_OK)
        return status;
    j->first = (j->first + 1) % (size_t)j->o->in_flight;
    j->count--;
    if (!infer_count_latency(t, a.seconds))
        return fail(err, CW_ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < a.n; i++) {
        const cw_guess *guesses = a.guesses + i * a.top;
        t->correct += s->batch.labels && guesses[0].label == s->labels[i];
        t->labelled += s->batch.labels != NULL;
        t->agreed += j->o->local && guesses[0].label == s->local[i];
        t->local_correct += j->o->local && s->batch.labels && s->local[i] == s->labels[i];
        if (j->o->print)
            infer_print_answer(j->remote, &s->batch, i, guesses, a.top, j->o->local ? s->local[i] : -1);
    }
    t->samples += a.n;
    cli_progress_show(&j->progress, "infer", t->samples, cw_samples_count(j->samples), "samples", "");
    return CW_OK;
}

static cw_status send_piece(infer_job *j, const cw_sample_batch *batch, size_t first, size_t n, cw_error *err)
{
    while (j->count == (size_t)j->o->in_flight) {
        const cw_status status = take_oldest(j, err);
        if (status != CW_OK)
            return status;
    }
    sent *s = &j->ring[(j->first + j->count) % (size_t)j->o->in_flight];
    const float *x = batch->x + first * count_of(&cw_network_get_info(j->network)->sample);
    s->batch = *batch;
    s->batch.first += first;
    if (batch->labels) {
        memcpy(s->labels, batch->labels + first, n * sizeof *s->labels);
        s->batch.labels = s->labels;
    }
    cw_status status = j->o->local ? answer_here(j, x, n, s->local, err) : CW_OK;
    if (status == CW_OK)
        status = cw_remote_submit(j->remote, x, n, &s->ticket, err);
    j->count += status == CW_OK;
    return status;
}

static cw_status send_batch(infer_job *j, const cw_sample_batch *batch, cw_error *err)
{
    const size_t piece = (size_t)j->o->batch;
    for (size_t i = 0; i < batch->n; i += piece) {
        const cw_status status = send_piece(j, batch, i, batch->n - i < piece ? batch->n - i : piece, err);
        if (status != CW_OK)
            return status;
    }
    return CW_OK;
}

static cw_status run_all(infer_job *j, cw_error *err)
{
    cw_sample_batch batch;
    cw_status status = CW_OK;
    j->began = now();
    while (status == CW_OK && (status = cw_samples_next(j->samples, &batch, err)) == CW_OK)
        status = send_batch(j, &batch, err);
    if (status == CW_END)
        status = CW_OK;
    while (status == CW_OK && j->count)
        status = take_oldest(j, err);
    j->tally.seconds = now() - j->began;
    return status;
}

/* ---- opening ---- */

static cw_status open_local(infer_job *j, cw_error *err)
{
    const cw_network_info *info = cw_network_get_info(j->network);
    cw_status status = cw_network_head(j->network, &j->whole_head, err);
    if (status == CW_OK)
        status = cw_network_tail(j->network, &j->whole_tail, err);
    j->z = malloc((size_t)j->o->batch * count_of(&info->smashed) * sizeof(float));
    j->y = malloc((size_t)j->o->batch * (size_t)info->classes * sizeof(float));
    return status != CW_OK || (j->z && j->y) ? status : fail(err, CW_ERR_NO_MEMORY, "out of memory");
}

static cw_status open_remote(infer_job *j, cw_error *err)
{
    const infer_options *o = j->o;
    const cw_network_info *info = cw_network_get_info(j->network);
    cw_remote_options options = {.uplink = o->uplink,
                                 .top = (size_t)(o->top < info->classes ? o->top : info->classes),
                                 .model = info->model,
                                 .cut = info->cut,
                                 .head_print = info->head_print,
                                 .tail_print = info->tail_print,
                                 .deadline = o->deadline,
                                 .join_timeout = o->join_timeout,
                                 .net = j->net,
                                 .stop = cli_stop()};
    const cw_status status = cw_network_head(j->network, &options.head, err);
    return status == CW_OK ? cw_remote_open(o->connect, &options, &j->remote, err) : status;
}

static cw_status open_job(infer_job *j, cw_error *err)
{
    const infer_options *o = j->o;
    const cw_network_options network = {.cut = o->cut, .max_batch = (size_t)o->batch, .threads = o->threads};
    const cw_samples_options samples = {.files = o->files,
                                        .file_count = (size_t)o->file_count,
                                        .data = o->data,
                                        .data_dir = o->data_dir,
                                        .limit = (size_t)o->limit};
    j->tally.local = o->local;
    j->ring = calloc((size_t)o->in_flight, sizeof *j->ring);
    if (!j->ring)
        return fail(err, CW_ERR_NO_MEMORY, "out of memory");
    cw_status status = cw_network_open(o->run, &network, &j->network, err);
    if (status == CW_OK)
        status = cw_samples_open(j->network, &samples, &j->samples, err);
    if (status == CW_OK && o->local)
        status = open_local(j, err);
    return status == CW_OK ? open_remote(j, err) : status;
}

static void close_job(infer_job *j)
{
    cw_remote_close(&j->remote);
    cw_samples_close(&j->samples);
    cw_network_close(&j->network);
    infer_tally_free(&j->tally);
    free(j->z);
    free(j->y);
    free(j->ring);
}

static int infer(const infer_options *o, const cw_net_options *net)
{
    infer_job j = {.o = o, .net = net};
    cw_error err = {0};
    cli_progress_start(&j.progress, o->quiet || o->print);
    cw_status status = open_job(&j, &err);
    if (status == CW_OK)
        status = run_all(&j, &err);
    cli_progress_clear(&j.progress);
    int code;
    if (status != CW_OK) {
        code = cli_fail_error("infer", status, &err);
    } else {
        const cw_remote_stats stats = cw_remote_get_stats(j.remote);
        code = infer_print_result(o->run, cw_remote_get_info(j.remote), &stats, &j.tally, o->json);
    }
    close_job(&j);
    return code;
}

static int check(infer_options *o)
{
    if (!o->run == !o->head)
        return cli_fail(CLI_USAGE, "infer: %s: name a run's folder (--run DIR), or an exported head (--head FILE)",
                        o->run ? "--run and --head exclude each other" : "--run is missing");
    o->run = o->run ? o->run : o->head;
    if (o->head && o->local)
        return cli_fail(CLI_USAGE, "infer: --local needs the whole network: name its run's folder (--run DIR)");
    if (o->batch < 1 || o->batch > BATCH_MAX)
        return cli_fail(CLI_USAGE, "infer: --batch: %d is not from 1 to %d", o->batch, BATCH_MAX);
    if (o->in_flight < 1 || o->in_flight > IN_FLIGHT_MAX)
        return cli_fail(CLI_USAGE, "infer: --in-flight: %d is not from 1 to %d", o->in_flight, IN_FLIGHT_MAX);
    if (o->top < 1)
        return cli_fail(CLI_USAGE, "infer: --top: %d is not 1 or more", o->top);
    if (o->file_count && (o->data || o->data_dir))
        return cli_fail(CLI_USAGE, "infer: files and --data exclude each other");
    o->print = (o->print || o->file_count) && !o->json;
    return CLI_GO_ON;
}

static int parse(infer_options *o, int argc, char **argv)
{
    const cli_option table[] = {
        {"connect", "ENDPOINT", "the server's address [tcp://127.0.0.1:5556]", CLI_STRING, &o->connect},
        {"run", "DIR", "the trained run's folder", CLI_STRING, &o->run},
        {"head", "FILE", "in place of --run: the layers before the cut (cutwire models export)", CLI_STRING, &o->head},
        {"cut", "N", "where the network is cut, as at the server [the run's]", CLI_STRING, &o->cut},
        {"uplink", "SPEC", "codec of the activations [the one that the server proposes: its run's]", CLI_STRING,
         &o->uplink},
        {"data", "NAME[:DIR]", "data set with the test samples [the run's]", CLI_STRING, &o->data},
        {"data-dir", "DIR", "where it lies on this machine", CLI_STRING, &o->data_dir},
        {"test-limit", "N", "use at most N samples [all files; of a data set as many as the run tests on]", CLI_INT,
         &o->limit},
        {"batch", "N", "samples of a request [1]", CLI_INT, &o->batch},
        {"in-flight", "N", "requests on their way at once, as far as the server lets [4]", CLI_INT, &o->in_flight},
        {"top", "K", "ask for the K likeliest classes [3]", CLI_INT, &o->top},
        {"local", NULL, "run the whole network here beside it, and compare", CLI_FLAG, &o->local},
        {"print", NULL, "print each answer (with files: always)", CLI_FLAG, &o->print},
        {"deadline", "SECONDS", "a request without an answer for so long has failed [30]", CLI_DOUBLE, &o->deadline},
        {"join-timeout", "SECONDS", "how long to wait for the server [10]", CLI_DOUBLE, &o->join_timeout},
        {"key", "FILE", "this client's secret key: encrypts, and proves who it is", CLI_STRING, &o->key},
        {"server-key", "FILE", "the server's public key", CLI_STRING, &o->server_key},
        CLI_NET_CLIENT_OPTIONS(&o->connection),
        {"allow-plaintext", NULL, "let unencrypted traffic leave this machine", CLI_FLAG, &o->plaintext},
        {"threads", "N", "threads of the engine; 0: one per processor [0]", CLI_INT, &o->threads},
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &o->json},
        {"quiet", NULL, "no progress", CLI_FLAG, &o->quiet},
    };
    const cli_command command = {
        .name = "infer",
        .args = "[FILE...]",
        .summary =
            "Runs the layers before the cut here, sends what comes out to a server (cutwire serve), and shows its "
            "answers.\nSamples are photos (JPEG, PNG), folders of them, .npy files, or the test samples of a data set.",
        .examples = examples,
        .options = table,
        .option_count = sizeof table / sizeof table[0],
        .max_args = sizeof o->files / sizeof o->files[0],
    };
    const int code = cli_parse(&command, argc, argv, o->files, &o->file_count);
    return code == CLI_GO_ON ? check(o) : code;
}

int cmd_infer(int argc, char **argv)
{
    infer_options o = {.connect = "tcp://127.0.0.1:5556",
                       .batch = 1,
                       .in_flight = 4,
                       .top = 3,
                       .deadline = 30,
                       .join_timeout = 10,
                       .connection = {CLI_NET_DEFAULTS}};
    cli_keyring keys;
    int code = parse(&o, argc, argv);
    if (code == CLI_GO_ON)
        code = cli_keys_open(&keys, o.key, o.server_key, "infer", "server-key");
    if (code != CLI_GO_ON)
        return code;
    cw_net_options net;
    code = cli_net_open(&o.connection, "infer", o.plaintext, &keys, false, &net);
    cli_catch_signals();
    if (code == CLI_GO_ON)
        code = infer(&o, &net);
    cli_keys_close(&keys);
    return code;
}
