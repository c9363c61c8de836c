/* infer_output.c - prints answers and what they cost. */
#include <stdio.h>
#include <stdlib.h>

#include "infer_output.h"

bool infer_count_latency(infer_tally *t, double seconds)
{
    if (t->requests == t->room) {
        const size_t room = 2 * t->room + 64;
        double *more = realloc(t->latencies, room * sizeof *more);
        if (!more)
            return false;
        t->latencies = more;
        t->room = room;
    }
    t->latencies[t->requests++] = seconds;
    return true;
}

void infer_tally_free(infer_tally *t)
{
    free(t->latencies);
    t->latencies = NULL;
}

static void print_label(const cw_remote *remote, int32_t label)
{
    const char *name = cw_remote_class_name(remote, label);
    if (*name)
        cli_put_clean(stdout, name);
    else
        printf("class %d", (int)label);
}

void infer_print_answer(const cw_remote *remote, const cw_sample_batch *batch, size_t sample, const cw_guess *guesses,
                        size_t top, int32_t local)
{
    if (batch->name)
        cli_put_clean(stdout, batch->name);
    else
        fputs("sample", stdout);
    printf(" %zu: ", batch->first + sample + 1);
    for (size_t i = 0; i < top; i++) {
        fputs(i ? ", " : "", stdout);
        print_label(remote, guesses[i].label);
        printf(" %.1f%%", 100 * (double)guesses[i].probability);
    }
    if (batch->labels) {
        fputs("; it is ", stdout);
        print_label(remote, batch->labels[sample]);
    }
    if (local >= 0 && local != guesses[0].label) {
        fputs("; the whole network says ", stdout);
        print_label(remote, local);
    }
    putchar('\n');
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile_ms(const infer_tally *t, double share)
{
    const size_t at = (size_t)(share * (double)t->requests);
    return t->requests ? 1e3 * t->latencies[at < t->requests ? at : t->requests - 1] : 0;
}

static double share(size_t part, size_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static json_t *result_json(const char *run, const cw_remote_info *info, const cw_remote_stats *s, const infer_tally *t)
{
    const double n = t->samples ? (double)t->samples : 1;
    json_t *o = json_pack(
        "{s:o,s:s,s:i,s:s,s:I,s:o,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I}", "run", cli_json_text(run), "model",
        info->model, "cut", info->cut, "uplink", info->uplink, "samples", (json_int_t)t->samples, "test_accuracy",
        t->labelled ? json_real(share(t->correct, t->labelled)) : json_null(), "uplink_bytes",
        (json_int_t)s->bytes_sent, "downlink_bytes", (json_int_t)s->bytes_received, "bytes_per_sample",
        (double)s->bytes_sent / n, "payload_bytes_per_sample", (double)s->payload_bytes / n, "seconds", t->seconds,
        "p50_ms", percentile_ms(t, 0.5), "p95_ms", percentile_ms(t, 0.95), "p99_ms", percentile_ms(t, 0.99), "requests",
        (json_int_t)t->requests, "repeated", (json_int_t)s->repeated);
    if (o && t->local) {
        json_object_set_new(o, "local_accuracy",
                            t->labelled ? json_real(share(t->local_correct, t->labelled)) : json_null());
        json_object_set_new(o, "agreement", json_real(share(t->agreed, t->samples)));
    }
    return o;
}

static void print_table(const cw_remote_info *info, const cw_remote_stats *s, const infer_tally *t)
{
    const double n = t->samples ? (double)t->samples : 1;
    printf("%s cut at %d, %s: %zu sample%s", info->model, info->cut, info->uplink, t->samples, cli_plural(t->samples));
    if (t->labelled)
        printf(", accuracy %.2f%%", 100 * share(t->correct, t->labelled));
    if (t->local && t->labelled)
        printf(" (the whole network: %.2f%%)", 100 * share(t->local_correct, t->labelled));
    if (t->local)
        printf(", %.2f%% of the answers are the whole network's", 100 * share(t->agreed, t->samples));
    printf("\n%.1f bytes a sample up (payload %.1f), %.1f down; %.2f s, %.1f samples a second\n",
           (double)s->bytes_sent / n, (double)s->payload_bytes / n, (double)s->bytes_received / n, t->seconds,
           t->seconds > 0 ? n / t->seconds : 0);
    printf("from a request to its answer, %zu request%s: median %.2f ms, 95%% within %.2f ms, 99%% within %.2f ms\n",
           t->requests, cli_plural(t->requests), percentile_ms(t, 0.5), percentile_ms(t, 0.95), percentile_ms(t, 0.99));
}

int infer_print_result(const char *run, const cw_remote_info *info, const cw_remote_stats *stats, infer_tally *t,
                       bool json)
{
    if (t->requests)
        qsort(t->latencies, t->requests, sizeof *t->latencies, by_size);
    if (json)
        return cli_print_json(result_json(run, info, stats, t));
    print_table(info, stats, t);
    return CLI_OK;
}
