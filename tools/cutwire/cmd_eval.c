/* cmd_eval.c - `cutwire eval`: a trained run's accuracy against bytes a sample, at its cuts and with several codecs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "commands.h"

static const char examples[] =
    "  cutwire eval runs/mine\n"
    "      accuracy and bytes a sample at the run's own cut, with its own codec\n"
    "  cutwire eval runs/mine --cut all --uplink none,ec:err=0.1,ec:err=0.25,ms:r=0.99,b=2\n"
    "      a curve at every cut: commas part the specs, and \"b=2\" belongs to the one before it\n"
    "  cutwire eval runs/mine --cut shallow,deep --batch 32 --test-limit 1000 --json\n"
    "      32 samples coded together, which takes fewer bytes than one at a time\n"
    "  cutwire eval runs/mine --uplink ec:err=0.25 --answers answers.csv\n"
    "      each sample's answer too: sample, label, cut, codec, answer; cut 0 is the whole network\n";

/* What an evaluation tells while it runs. */
typedef struct listener {
    cli_progress progress;
    FILE *answers; /* NULL: nobody asked */
    const char *path;
} listener;

static void show_progress(void *ctx, size_t done, size_t total)
{
    cli_progress_show(&((listener *)ctx)->progress, "eval", done, total, "batches", "");
}

static cw_status answers_failed(const listener *l, cw_error *err)
{
    snprintf(err->message, sizeof err->message, "cannot write %s: %s", l->path, strerror(errno));
    return CW_ERR_IO;
}

/* A codec's commas are why it stands in quotes. */
static cw_status write_answer(void *ctx, const cw_evaluate_answer *a, cw_error *err)
{
    const listener *l = ctx;
    const int n = fprintf(l->answers, "%zu,%d,%d,\"%s\",%d\n", a->sample, a->label, a->cut, a->codec, a->answer);
    return n < 0 ? answers_failed(l, err) : CW_OK;
}

static cw_status answers_open(listener *l, cw_evaluate_options *o, cw_error *err)
{
    if (!l->path)
        return CW_OK;
    l->answers = fopen(l->path, "w");
    if (!l->answers || fputs("sample,label,cut,codec,answer\n", l->answers) < 0)
        return answers_failed(l, err);
    o->answered = write_answer;
    return CW_OK;
}

static cw_status answers_close(listener *l, cw_status status, cw_error *err)
{
    if (l->answers && fclose(l->answers) != 0 && status == CW_OK)
        status = answers_failed(l, err);
    l->answers = NULL;
    return status;
}

static void print_point(const cw_evaluate_point *p)
{
    printf("%4d  %-8s %12.1f %10.1f %9.2f%% %9.2f%% %8.4f %9.3f %9.3f  %s\n", p->cut, p->alias, p->payload_bytes,
           p->payload_bytes > 0 ? p->raw_bytes / p->payload_bytes : 0, 100 * p->accuracy, 100 * p->agreement, p->error,
           1e3 * p->encode_seconds, 1e3 * p->decode_seconds, p->codec);
}

static void print_table(const char *run, const cw_evaluation *e)
{
    char took[32];
    cli_put_clean(stdout, run);
    printf(": %zu test samples, coded %zu at a time; the whole network's accuracy is %.2f%% (%s)\n\n", e->samples,
           e->batch, 100 * e->accuracy, cli_duration(e->seconds, took, sizeof took));
    printf("%4s  %-8s %12s %10s %10s %10s %8s %9s %9s  %s\n", "cut", "alias", "bytes/sample", "times less", "accuracy",
           "agreement", "error", "encode ms", "decode ms", "codec");
    for (size_t i = 0; i < e->count; i++)
        print_point(&e->points[i]);
}

static json_t *point_json(const cw_evaluate_point *p)
{
    char shape[64];
    return json_pack("{s:i,s:s,s:s,s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "cut", p->cut, "alias", p->alias, "codec",
                     p->codec, "smashed", cw_shape_format(&p->smashed, shape, sizeof shape), "bytes_per_sample",
                     p->payload_bytes, "raw_bytes_per_sample", p->raw_bytes, "test_accuracy", p->accuracy, "agreement",
                     p->agreement, "error", p->error, "encode_ms", 1e3 * p->encode_seconds, "decode_ms",
                     1e3 * p->decode_seconds);
}

static int print_result(const char *run, const cw_evaluation *e, bool json)
{
    if (!json) {
        print_table(run, e);
        return CLI_OK;
    }
    json_t *points = json_array();
    for (size_t i = 0; i < e->count; i++)
        json_array_append_new(points, point_json(&e->points[i]));
    return cli_print_json(json_pack("{s:o,s:I,s:I,s:f,s:f,s:o}", "run", cli_json_text(run), "samples",
                                    (json_int_t)e->samples, "batch", (json_int_t)e->batch, "test_accuracy", e->accuracy,
                                    "seconds", e->seconds, "points", points));
}

static int evaluate(const char *run, cw_evaluate_options *options, listener *l, bool json)
{
    cw_evaluation evaluation = {0};
    cw_error err = {0};
    cw_status status = answers_open(l, options, &err);
    if (status == CW_OK)
        status = cw_evaluate(run, options, &evaluation, &err);
    status = answers_close(l, status, &err);
    cli_progress_clear(&l->progress);
    const int code = status == CW_OK ? print_result(run, &evaluation, json) : cli_fail_error("eval", status, &err);
    cw_evaluation_free(&evaluation);
    return code;
}

int cmd_eval(int argc, char **argv)
{
    cw_evaluate_options o = {.stop = cli_stop()};
    listener l = {.path = NULL};
    int limit = 0, batch = 1, names = 0;
    bool json = false, quiet = false;
    const char *run = NULL;
    const cli_option table[] = {
        {"uplink", "SPEC[,SPEC...]", "codecs of the activations [the run's]", CLI_STRING, &o.uplinks},
        {"cut", "all|N[,N...]", "where the network is cut: numbers or aliases [the run's]", CLI_STRING, &o.cuts},
        {"batch", "N", "samples coded together, 1 to 64 [1]", CLI_INT, &batch},
        {"data", "NAME[:DIR]", "data set with the test samples [the run's]", CLI_STRING, &o.data},
        {"data-dir", "DIR", "where it lies on this machine", CLI_STRING, &o.data_dir},
        {"test-limit", "N", "use at most N test samples [as the run does]", CLI_INT, &limit},
        {"threads", "N", "threads; 0: one per processor [0]", CLI_INT, &o.threads},
        {"answers", "FILE", "write each sample's answers to this CSV file", CLI_STRING, &l.path},
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &json},
        {"quiet", NULL, "no progress", CLI_FLAG, &quiet},
    };
    const cli_command command = {
        .name = "eval",
        .args = "RUN",
        .summary = "What a codec costs in accuracy and saves in bytes, on a trained run's test data: one line for each "
                   "cut and codec.\nRUN is a run's folder, split or unsplit; nothing is sent anywhere. Bytes are of "
                   "payloads, without the protocol's framing.",
        .examples = examples,
        .options = table,
        .option_count = sizeof table / sizeof table[0],
        .min_args = 1,
        .max_args = 1,
    };
    int code = cli_parse(&command, argc, argv, &run, &names);
    if (code != CLI_GO_ON)
        return code;
    if (batch < 1 || batch > 64)
        return cli_fail(CLI_USAGE, "eval: --batch: %d is not from 1 to 64", batch);
    cli_progress_start(&l.progress, quiet);
    cli_catch_signals();
    o.limit = (size_t)limit;
    o.batch = (size_t)batch;
    o.ctx = &l;
    o.progress = show_progress;
    return evaluate(run, &o, &l, json);
}
