/* live_metrics.c - /metrics: the text format of Prometheus, version 0.0.4. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "live_state.h"

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP cutwire_%s %s\n# TYPE cutwire_%s %s\n", name, help, name, type);
}

static void put_number(FILE *out, double x)
{
    if (isnan(x))
        fputs(" NaN\n", out);
    else if (isinf(x))
        fputs(x > 0 ? " +Inf\n" : " -Inf\n", out);
    else
        fprintf(out, " %.15g\n", x);
}

/* A metric of one sample without labels. */
static void put(FILE *out, const char *name, const char *type, const char *help, double x)
{
    head(out, name, type, help);
    fprintf(out, "cutwire_%s", name);
    put_number(out, x);
}

static void put_label(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s=\"", name);
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            fputs("\\n", out);
        else if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else
            fputc(*c, out);
    }
    fputc('"', out);
}

static void put_labelled(FILE *out, const char *name, const char *label, const char *value, double x)
{
    fprintf(out, "cutwire_%s{", name);
    put_label(out, label, value);
    fputc('}', out);
    put_number(out, x);
}

static void put_directions(FILE *out, const char *name, const char *type, const char *help, double up, double down)
{
    head(out, name, type, help);
    put_labelled(out, name, "direction", "uplink", up);
    put_labelled(out, name, "direction", "downlink", down);
}

static void put_info(FILE *out, const live_state *s)
{
    static const char *const keys[] = {"model", "data", "cut", "uplink", "downlink", "mode"};
    head(out, "info", "gauge", "What runs; always 1.");
    fputs("cutwire_info{", out);
    put_label(out, "version", cw_version());
    fputc(',', out);
    put_label(out, "role", s->role);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *text = json_string_value(json_object_get(s->about, keys[i]));
        fputc(',', out);
        put_label(out, keys[i], text ? text : "");
    }
    fputs("} 1\n", out);
}

static void put_progress(FILE *out, const live_state *s)
{
    put(out, "epoch", "gauge", "The epoch under way, from 1; 0 before the first.", s->epoch);
    put(out, "epochs", "gauge", "Epochs of the run.", s->epoch_count);
    put(out, "epoch_step", "gauge", "Steps of the epoch that are done.", (double)s->step);
    put(out, "epoch_steps", "gauge", "Steps of the epoch.", (double)s->steps);
    if (s->has_loss)
        put(out, "train_loss", "gauge", "Mean training loss of the epoch so far.", s->loss);
    if (!json_array_size(s->epochs))
        return;
    put(out, "train_accuracy_ratio", "gauge", "Training accuracy of the last whole epoch, 0 to 1.",
        s->last.train_accuracy);
    if (!s->last.test_samples)
        return;
    put(out, "test_loss", "gauge", "Test loss after the last whole epoch.", s->last.test_loss);
    put(out, "test_accuracy_ratio", "gauge", "Test accuracy after the last whole epoch, 0 to 1.",
        s->last.test_accuracy);
}

static double ratio(double raw, double sent)
{
    return sent > 0 ? raw / sent : (double)NAN;
}

static void put_traffic(FILE *out, const cw_traffic *up, const cw_traffic *down)
{
    const double raw_up = (double)(up->raw + up->eval_raw), raw_down = (double)(down->raw + down->eval_raw);
    put_directions(out, "socket_bytes_total", "counter", "Bytes handed to the socket, everything included.",
                   (double)up->socket, (double)down->socket);
    put_directions(out, "payload_bytes_total", "counter", "Bytes of coded activations and gradients.",
                   (double)(up->payload + up->eval_payload), (double)(down->payload + down->eval_payload));
    put_directions(out, "raw_bytes_total", "counter", "Bytes of the same tensors in fp32.", raw_up, raw_down);
    put_directions(out, "weights_bytes_total", "counter", "Bytes of weights, their gradients and statistics.",
                   (double)up->weights, (double)down->weights);
    put_directions(out, "compression_ratio", "gauge", "Bytes in fp32 to bytes at the socket.",
                   ratio(raw_up, (double)up->socket), ratio(raw_down, (double)down->socket));
}

static void put_times(FILE *out, const cw_server_status *v)
{
    put(out, "steps_total", "counter", "Steps since this process began.", (double)v->steps);
    put(out, "step_seconds_total", "counter", "Seconds of these steps.", v->step_seconds);
    head(out, "step_part_seconds_total", "counter", "The same, by who was waited for.");
    put_labelled(out, "step_part_seconds_total", "part", "server", v->server_seconds);
    const double client = fmax(v->client_seconds, 0); /* below 0: none has told yet how long it worked */
    put_labelled(out, "step_part_seconds_total", "part", "client", client);
    put_labelled(out, "step_part_seconds_total", "part", "link", v->step_seconds - v->server_seconds - client);
    put(out, "refused_peers_total", "counter", "Peers that were turned away.", (double)v->refused);
}

/* ---- of each client ---- */

typedef double (*reader)(const cw_client_status *c);

static double is_active(const cw_client_status *c)
{
    return c->state == CW_CLIENT_ACTIVE;
}
static double lag_of(const cw_client_status *c)
{
    return c->lag;
}
static double waiting_of(const cw_client_status *c)
{
    return c->owes_for;
}
static double loss_of(const cw_client_status *c)
{
    return c->loss;
}
static double steps_of(const cw_client_status *c)
{
    return (double)c->steps;
}
static double samples_of(const cw_client_status *c)
{
    return (double)c->samples;
}
static double uplink_of(const cw_client_status *c)
{
    return (double)c->uplink_bytes;
}
static double downlink_of(const cw_client_status *c)
{
    return (double)c->downlink_bytes;
}
static double lost_of(const cw_client_status *c)
{
    return (double)c->lost;
}
static double rejoins_of(const cw_client_status *c)
{
    return c->joined ? (double)c->joined - 1 : 0;
}
static double resumed_of(const cw_client_status *c)
{
    return (double)c->resumed;
}
static double flagged_of(const cw_client_status *c)
{
    return (double)c->flagged;
}

static const struct client_metric {
    const char *name, *type, *help;
    reader read;
} client_metrics[] = {
    {"client_active", "gauge", "1: the client takes part.", is_active},
    {"client_samples", "gauge", "Samples of its shard.", samples_of},
    {"client_loss", "gauge", "Mean loss of its last batch.", loss_of},
    {"client_lag_seconds", "gauge", "How long the last step waited for its batch after the first one.", lag_of},
    {"client_waiting_seconds", "gauge", "How long the server has waited for it by now.", waiting_of},
    {"client_steps_total", "counter", "Steps in which its batch was taken.", steps_of},
    {"client_uplink_bytes_total", "counter", "Bytes of its frames.", uplink_of},
    {"client_downlink_bytes_total", "counter", "Bytes of frames to it.", downlink_of},
    {"client_drops_total", "counter", "How often its place was lost.", lost_of},
    {"client_rejoins_total", "counter", "How often its place was taken again.", rejoins_of},
    {"client_reconnects_total", "counter", "How often its connection broke and went on: it kept its place.",
     resumed_of},
    {"client_flagged_steps_total", "counter", "Steps in which screening found it far from the others.", flagged_of},
};

static void put_clients(FILE *out, const cw_server_status *v)
{
    for (size_t m = 0; m < sizeof client_metrics / sizeof client_metrics[0]; m++) {
        const struct client_metric *metric = &client_metrics[m];
        head(out, metric->name, metric->type, metric->help);
        for (size_t i = 0; i < v->count; i++) {
            char number[24];
            snprintf(number, sizeof number, "%zu", i + 1);
            put_labelled(out, metric->name, "client", number, metric->read(&v->clients[i]));
        }
    }
}

/* ---- of a server that answers requests ---- */

static void put_answers(FILE *out, const cw_answerer_stats *a)
{
    put(out, "requests_total", "counter", "Requests that were answered.", (double)a->requests);
    put(out, "request_samples_total", "counter", "Their samples.", (double)a->samples);
    put(out, "batches_total", "counter", "Batches that they were answered in.", (double)a->batches);
    put(out, "batch_samples_mean", "gauge", "Samples of a batch, mean since the start.",
        ratio((double)a->samples, (double)a->batches));
    put(out, "refused_requests_total", "counter", "Requests that were refused.", (double)a->refused);
    put(out, "clients", "gauge", "Clients that are there.", (double)a->clients_now);
    put(out, "joined_clients_total", "counter", "Clients that were let in.", (double)a->clients);
    put_directions(out, "socket_bytes_total", "counter", "Bytes handed to the socket, everything included.",
                   (double)a->net.bytes_received, (double)a->net.bytes_sent);
    head(out, "request_latency_seconds", "summary", "From a request's arrival to its answer, since the start.");
    put_labelled(out, "request_latency_seconds", "quantile", "0.5", a->p50);
    put_labelled(out, "request_latency_seconds", "quantile", "0.95", a->p95);
    put_labelled(out, "request_latency_seconds", "quantile", "0.99", a->p99);
    fputs("cutwire_request_latency_seconds_sum", out);
    put_number(out, a->seconds);
    fputs("cutwire_request_latency_seconds_count", out);
    put_number(out, (double)a->requests);
}

char *live_state_metrics(live_state *s)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    pthread_mutex_lock(&s->mutex);
    put_info(out, s);
    put(out, "uptime_seconds", "gauge", "Since the command began.", live_clock() - s->began);
    if (s->has_answerer) {
        put_answers(out, &s->answerer);
    } else {
        put_progress(out, s);
    }
    if (s->has_server) {
        put_traffic(out, &s->server.up, &s->server.down);
        put_times(out, &s->server);
        put_clients(out, &s->server);
    }
    pthread_mutex_unlock(&s->mutex);
    fclose(out);
    return text;
}
