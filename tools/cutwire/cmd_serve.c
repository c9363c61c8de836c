/* cmd_serve.c - `cutwire serve`: answers requests with the layers after the cut. */
#include <stdio.h>
#include <string.h>

#include "cli_config.h"
#include "cli_net.h"
#include "commands.h"
#include "live.h"

static const char examples[] =
    "  cutwire serve --run runs/mine --listen tcp://127.0.0.1:5556\n"
    "      answers clients on this machine, cut where the run was\n"
    "  cutwire serve --run runs/mine --cut deep --listen 'tcp://0.0.0.0:5556' --key server.key --client-keys "
    "clients.pub\n"
    "      any cut of the network; encrypted, and only for clients whose public keys are listed\n"
    "  cutwire serve --run runs/mine --max-batch 32 --max-wait 5 --max-clients 200\n"
    "      up to 32 samples are answered together; a request waits at most 5 ms for others\n";

typedef struct serve_options {
    const char *run, *tail, *cut, *listen, *key, *client_keys;
    int max_batch, max_clients, credit, max_queue, threads;
    double max_wait, timeout; /* milliseconds; seconds */
    bool plaintext, json, quiet;
    const char *file;
    cli_log log;
    cli_net net;
    live_options http;
    live_page *page;
} serve_options;

static void on_event(void *ctx, const cw_event *event)
{
    const serve_options *o = ctx;
    live_event(o->page, event);
    if (!o->quiet)
        cli_log_event(&o->log, "serve: ", event);
}

static int print_stats(const serve_options *o, const cw_network_info *info, const cw_answerer_stats *s)
{
    const double batch = s->batches ? (double)s->samples / (double)s->batches : 0;
    char up[32], down[32];
    if (o->json)
        return cli_print_json(json_pack(
            "{s:o,s:s,s:i,s:I,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:f,s:f,s:f}", "run", cli_json_text(o->run), "model",
            info->model, "cut", info->cut, "requests", (json_int_t)s->requests, "samples", (json_int_t)s->samples,
            "batches", (json_int_t)s->batches, "mean_batch", batch, "refused", (json_int_t)s->refused, "clients",
            (json_int_t)s->clients, "uplink_bytes", (json_int_t)s->net.bytes_received, "downlink_bytes",
            (json_int_t)s->net.bytes_sent, "p50_ms", 1e3 * s->p50, "p95_ms", 1e3 * s->p95, "p99_ms", 1e3 * s->p99));
    printf("%llu request%s of %llu client%s, %llu sample%s in batches of %.1f; %llu refused; %s came in, %s went out\n",
           (unsigned long long)s->requests, cli_plural(s->requests), (unsigned long long)s->clients,
           cli_plural(s->clients), (unsigned long long)s->samples, cli_plural(s->samples), batch,
           (unsigned long long)s->refused, cli_bytes((double)s->net.bytes_received, up, sizeof up),
           cli_bytes((double)s->net.bytes_sent, down, sizeof down));
    printf("from a request's arrival to its answer: median %.2f ms, 95%% within %.2f ms, 99%% within %.2f ms\n",
           1e3 * s->p50, 1e3 * s->p95, 1e3 * s->p99);
    return CLI_OK;
}

static cw_status answer(const serve_options *o, cw_network *network, cw_transport *transport, cw_answerer_stats *stats,
                        cw_error *err)
{
    const cw_network_info *info = cw_network_get_info(network);
    const cw_hooks hooks = {.ctx = (void *)(uintptr_t)o, .event = on_event};
    const cw_answerer_options options = {.network = network,
                                         .max_batch = (size_t)o->max_batch,
                                         .max_wait = o->max_wait / 1e3,
                                         .max_clients = (size_t)o->max_clients,
                                         .credit = (size_t)o->credit,
                                         .max_queue = (size_t)o->max_queue,
                                         .timeout = o->timeout,
                                         .hooks = &hooks};
    cw_answerer *answerer;
    cw_status status = cw_answerer_create(&options, transport, &answerer, err);
    if (status != CW_OK)
        return status;
    cli_log_say(&o->log, CW_LOG_INFO, "listening", "answering on %s: %s cut at %d, for %d client%s",
                cw_transport_endpoint(transport), info->model, info->cut, o->max_clients,
                cli_plural((uint64_t)o->max_clients));
    cli_net_renew_keys(transport, o->client_keys, &o->log);
    status = cw_answer_clients(answerer, cli_stop(), err);
    cli_net_keep_keys();
    *stats = cw_answerer_get_stats(answerer);
    cw_answerer_destroy(&answerer);
    return status;
}

static int fail(const serve_options *o, cw_status status, const cw_error *err)
{
    cli_log_failure(&o->log, status, err);
    return cli_fail_error("serve", status, err);
}

static int open_page(serve_options *o, const cw_network_info *info)
{
    json_t *about =
        json_pack("{s:s,s:s,s:o}", "model", info->model, "mode", "inference", "cut", json_sprintf("%d", info->cut));
    return live_start(&o->page, &o->http, &o->log, o->run, about);
}

static int serve(serve_options *o, const cw_net_options *net)
{
    const cw_network_options options = {.cut = o->cut, .max_batch = (size_t)o->max_batch, .threads = o->threads};
    cw_answerer_stats stats;
    cw_transport *transport = NULL;
    cw_network *network;
    cw_error err = {0};
    cw_status status = cw_network_open(o->run, &options, &network, &err);
    if (status == CW_OK)
        status = cw_net_listen(o->listen, net, &transport, &err);
    int code = status == CW_OK ? open_page(o, cw_network_get_info(network)) : CLI_GO_ON;
    if (status == CW_OK && code == CLI_GO_ON)
        status = answer(o, network, transport, &stats, &err);
    cw_transport_close(&transport, 2000);
    live_stop(&o->page, status == CW_OK);
    if (code == CLI_GO_ON)
        code = status == CW_OK ? print_stats(o, cw_network_get_info(network), &stats) : fail(o, status, &err);
    cw_network_close(&network);
    return code;
}

static int check(serve_options *o)
{
    if (!o->run == !o->tail)
        return cli_fail(CLI_USAGE, "serve: %s: name a run's folder (--run DIR), or an exported tail (--tail FILE)",
                        o->run ? "--run and --tail exclude each other" : "--run is missing");
    o->run = o->run ? o->run : o->tail;
    if (o->max_batch < 1 || o->max_batch > 65536)
        return cli_fail(CLI_USAGE, "serve: --max-batch: %d is not from 1 to 65536", o->max_batch);
    if (o->max_clients < 1 || o->max_clients > 65536)
        return cli_fail(CLI_USAGE, "serve: --max-clients: %d is not from 1 to 65536", o->max_clients);
    if (o->credit < 1 || o->credit > 256)
        return cli_fail(CLI_USAGE, "serve: --credit: %d is not from 1 to 256", o->credit);
    return cli_log_open(&o->log, "serve");
}

static int parse(serve_options *o, int argc, char **argv)
{
    const cli_option table[] = {
        {"run", "DIR", "the trained run's folder", CLI_STRING, &o->run},
        {"tail", "FILE", "in place of --run: the layers after the cut (cutwire models export)", CLI_STRING, &o->tail},
        {"cut", "N", "where the network is cut: a number or an alias [the run's]", CLI_STRING, &o->cut},
        {"listen", "ENDPOINT", "address to listen on [tcp://127.0.0.1:5556]; port * takes a free one", CLI_STRING,
         &o->listen},
        {"key", "FILE", "this server's secret key: encrypts, and lets only listed clients in", CLI_STRING, &o->key},
        {"client-keys", "FILE", "public keys of the clients that are let in, one a line", CLI_STRING, &o->client_keys},
        CLI_NET_SERVER_OPTIONS(&o->net),
        {"allow-plaintext", NULL, "let unencrypted traffic leave this machine", CLI_FLAG, &o->plaintext},
        {"max-batch", "N", "samples that are answered together, of one client or several [64]", CLI_INT, &o->max_batch},
        {"max-wait", "MS", "milliseconds that a request may wait for others [0]", CLI_DOUBLE, &o->max_wait},
        {"max-clients", "N", "clients at once; further ones are refused [64]", CLI_INT, &o->max_clients},
        {"credit", "N", "requests that a client may have on their way [8]", CLI_INT, &o->credit},
        {"max-queue", "N", "samples that may wait in all; further requests are refused; 0: 16 times max-batch [0]",
         CLI_INT, &o->max_queue},
        {"timeout", "SECONDS", "forget a client that has said nothing for so long [60]", CLI_DOUBLE, &o->timeout},
        {"threads", "N", "threads of the engine; 0: one per processor [0]", CLI_INT, &o->threads},
        {"json", NULL, "print the totals as one JSON object", CLI_FLAG, &o->json},
        {"quiet", NULL, "do not say who comes and goes", CLI_FLAG, &o->quiet},
        CLI_CONFIG_OPTION(&o->file),
        CLI_LOG_OPTIONS(&o->log),
        LIVE_OPTIONS(&o->http),
    };
    const cli_command command = {
        .name = "serve",
        .args = "",
        .summary = "Answers requests with the layers after the cut of a trained run, until it is stopped (Ctrl-C). "
                   "Clients are those of\n`cutwire infer`, and programs (cutwire/infer.h). They see no weights, and "
                   "send no labels.",
        .examples = examples,
        .options = table,
        .option_count = sizeof table / sizeof table[0],
    };
    const int code = cli_parse(&command, argc, argv, NULL, NULL);
    return code == CLI_GO_ON ? check(o) : code;
}

int cmd_serve(int argc, char **argv)
{
    serve_options o = {.listen = "tcp://127.0.0.1:5556",
                       .max_batch = 64,
                       .max_clients = 64,
                       .credit = 8,
                       .timeout = 60,
                       .net = {CLI_NET_DEFAULTS, .max_frame = "256M"},
                       .log = {CLI_LOG_DEFAULTS}};
    cli_keyring keys;
    cw_net_options net;
    int code = parse(&o, argc, argv);
    if (code == CLI_GO_ON)
        code = cli_keys_open(&keys, o.key, o.client_keys, "serve", "client-keys");
    if (code != CLI_GO_ON)
        return code;
    code = cli_net_open(&o.net, "serve", o.plaintext, &keys, true, &net);
    cli_net_make_room(&net, o.max_clients);
    cli_catch_signals();
    if (code == CLI_GO_ON)
        code = serve(&o, &net);
    cli_keys_close(&keys);
    return code;
}
