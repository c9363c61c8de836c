/* repro_theorem1.c - `cutwire repro theorem1`: with the weights of a trained network held fixed, the mean gradient over
 * many seeds of a codec, on the activations or on the gradient at the cut, against the gradient without compression. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro_theorem1.h"

/* Unbiased ones, and for comparison two that always err to the same side. Each in both directions. */
static const char *const usual[] = {"qu:b=3,round=stochastic,scope=sample", "ec:step=1,round=stochastic,scope=sample",
                                    "ec:err=0.25", "ms:r=0.99,b=2"};
enum { USUAL = sizeof usual / sizeof usual[0], OWN_OPTIONS = 10 };

typedef struct options {
    const char *out, *run, *cut, *codec;
    repro_keys keys;
    int samples, seeds;
    bool overwrite, save_maps, json, quiet;
} options;

static int parse(options *o, int argc, char **argv)
{
    cli_option table[OWN_OPTIONS + REPRO_KEYS] = {
        {"out", "DIR", "folder for CSV, pictures and the trained network [theorem1]", CLI_STRING, &o->out},
        {"run", "DIR", "take the network of an earlier run instead of training one", CLI_STRING, &o->run},
        {"cut", "N", "where the network is cut [shallow]", CLI_STRING, &o->cut},
        {"codec", "SPEC", "measure this one, in both directions, instead of the usual four", CLI_STRING, &o->codec},
        {"samples", "N", "samples in the batch [128]", CLI_INT, &o->samples},
        {"seeds", "N", "seeds to average over, in eights [256]", CLI_INT, &o->seeds},
        {"save-maps", NULL, "write activations and gradient as .npy too, for `cutwire codec`", CLI_FLAG, &o->save_maps},
        REPRO_OVERWRITE_OPTION(&o->overwrite),
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &o->json},
        {"quiet", NULL, "no progress", CLI_FLAG, &o->quiet},
    };
    repro_key_options(&o->keys, table + OWN_OPTIONS);
    const cli_command command = {
        .name = "repro theorem1",
        .args = "",
        .summary =
            "Trains a network (cnn on Fashion-MNIST for 1 epoch unless told otherwise), holds its weights fixed,\n"
            "and averages its gradient on one batch over many seeds of a codec. On the uplink the mean stays\n"
            "away from the gradient without compression even where the codec is unbiased (the paper's\n"
            "Theorem 1); on the downlink an unbiased codec's mean converges to it.",
        .examples = "  cutwire repro theorem1\n"
                    "  cutwire repro theorem1 --run theorem1/run --cut deep --seeds 1024 --out deep\n"
                    "      the same network at another cut\n"
                    "  cutwire repro theorem1 --data cifar-10 --model resnet20 --train-limit 12800 --out resnet20\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0]};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code == CLI_GO_ON && (o->samples < 1 || o->samples > REPRO_MOST_SAMPLES))
        return cli_fail(CLI_USAGE, "repro theorem1: --samples: from 1 to %d", REPRO_MOST_SAMPLES);
    if (code == CLI_GO_ON && (o->seeds < 2 * T1_GROUPS || o->seeds > T1_MOST_SEEDS))
        return cli_fail(CLI_USAGE, "repro theorem1: --seeds: from %d to %d", 2 * T1_GROUPS, T1_MOST_SEEDS);
    return code;
}

/* ---- measuring ---- */

typedef struct ticker {
    cli_progress progress;
    const theorem1_row *row;
    size_t seeds;
} ticker;

static bool tick(void *ctx, size_t done)
{
    ticker *t = ctx;
    char label[200];
    snprintf(label, sizeof label, "%s %s", t->row->downlink ? "downlink" : "uplink", t->row->spec);
    cli_progress_show(&t->progress, label, done, t->seeds, "seeds", "");
    return !*cli_stop();
}

static size_t list_rows(const options *o, theorem1_row *rows)
{
    const size_t codecs = o->codec ? 1 : USUAL;
    for (size_t i = 0; i < 2 * codecs; i++) {
        rows[i] = (theorem1_row){.downlink = i >= codecs};
        snprintf(rows[i].spec, sizeof rows[i].spec, "%s", o->codec ? o->codec : usual[i % codecs]);
    }
    return 2 * codecs;
}

static cw_status measure(const repro_net *net, const cw_cut *cut, const options *o, theorem1_row *rows, size_t count,
                         cw_error *err)
{
    theorem1 *t;
    ticker ticks = {.seeds = ((size_t)o->seeds + T1_GROUPS - 1) / T1_GROUPS * T1_GROUPS};
    cli_progress_start(&ticks.progress, o->quiet);
    cw_status status = theorem1_open(net, cut, (size_t)o->samples, &t, err);
    if (status == CW_OK && o->save_maps)
        status = repro_folder(o->out, err);
    if (status == CW_OK && o->save_maps)
        status = theorem1_save_maps(t, cut->number, o->out, err);
    for (size_t i = 0; i < count && status == CW_OK; i++) {
        ticks.row = &rows[i];
        status = theorem1_measure(t, ticks.seeds, &rows[i], tick, &ticks, err);
    }
    theorem1_close(&t);
    cli_progress_clear(&ticks.progress);
    return status;
}

static int show(const repro_net *net, const cw_cut *cut, const options *o, const theorem1_row *rows, size_t count)
{
    cw_error err = {.message = ""};
    cw_status status = repro_folder(o->out, &err);
    if (status == CW_OK)
        status = theorem1_csv(rows, count, o->out, &err);
    if (status != CW_OK)
        return cli_fail_error("repro theorem1", status, &err);
    bool plotted = theorem1_plot(rows, count, net->config, cut, o->out);
    if (o->json)
        return cli_print_json(json_pack("{s:o,s:s,s:i,s:i,s:o,s:o,s:b,s:o}", "data",
                                        cli_json_text(cw_config_string(net->config, "data")), "model",
                                        cw_config_string(net->config, "model"), "cut", cut->number, "samples",
                                        o->samples, "run", cli_json_text(net->folder), "out", cli_json_text(o->out),
                                        "plotted", plotted, "rows", theorem1_json(rows, count)));
    theorem1_print(rows, count);
    printf("\nnetwork: %s (again with --run %s)\nmeasurements: %s/theorem1.csv\n", net->folder, net->folder, o->out);
    if (plotted)
        printf("pictures: %s/theorem1.png and theorem1.svg\n", o->out);
    return CLI_OK;
}

static int measure_and_show(const repro_net *net, const options *o)
{
    theorem1_row rows[T1_MOST_ROWS];
    cw_cut cut;
    cw_error err = {.message = ""};
    cw_status status = cw_model_cut(net->model, o->cut, &cut, &err);
    if (status != CW_OK)
        return cli_fail(CLI_USAGE, "repro theorem1: --cut: %s", err.message);
    const size_t count = list_rows(o, rows);
    status = measure(net, &cut, o, rows, count, &err);
    if (status == CW_ERR_CANCELLED)
        return cli_fail(CLI_FAILURE, "repro theorem1: stopped: nothing was written");
    return status == CW_OK ? show(net, &cut, o, rows, count) : cli_fail_error("repro theorem1", status, &err);
}

int repro_theorem1(int argc, char **argv)
{
    options o = {.out = "theorem1", .cut = "shallow", .samples = 128, .seeds = 256};
    int code = parse(&o, argc, argv);
    cw_config *config = NULL;
    if (code == CLI_GO_ON)
        code = repro_configure("repro theorem1", &o.keys, 1, o.out, o.overwrite || o.run, &config);
    if (code != CLI_GO_ON)
        return code;
    repro_net net;
    code = repro_net_prepare("repro theorem1", config, &o.keys, o.run, o.json, o.quiet, &net);
    if (code == CLI_GO_ON)
        code = measure_and_show(&net, &o);
    repro_net_close(&net);
    return code;
}
