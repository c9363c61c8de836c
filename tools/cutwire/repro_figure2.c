/* repro_figure2.c - `cutwire repro figure2`: error against size on the feature maps of a network trained here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro_figure2.h"

enum { MAX_CUTS = 64 };

enum { OWN_OPTIONS = 8 };

typedef struct options {
    const char *out, *run, *cuts;
    repro_keys keys;
    int samples;
    bool overwrite, save_maps, json, quiet;
} options;

static int parse(options *o, int argc, char **argv)
{
    cli_option table[OWN_OPTIONS + REPRO_KEYS] = {
        {"out", "DIR", "folder for CSV, pictures and the trained network [figure2]", CLI_STRING, &o->out},
        {"run", "DIR", "take the network of an earlier run instead of training one", CLI_STRING, &o->run},
        {"cut", "LIST", "cuts, as 2 or 2,4,6 or all [shallow,medium,deep]", CLI_STRING, &o->cuts},
        {"samples", "N", "samples in the batch that is compressed [256]", CLI_INT, &o->samples},
        {"save-maps", NULL, "write the feature maps as .npy too, for `cutwire codec`", CLI_FLAG, &o->save_maps},
        REPRO_OVERWRITE_OPTION(&o->overwrite),
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &o->json},
        {"quiet", NULL, "no progress", CLI_FLAG, &o->quiet},
    };
    repro_key_options(&o->keys, table + OWN_OPTIONS);
    const cli_command command = {
        .name = "repro figure2",
        .args = "",
        .summary =
            "Trains a network (cnn on Fashion-MNIST for 2 epochs unless told otherwise), takes what crosses the\n"
            "cut, in training and in evaluation, and measures the 2-norm error of ms, qu, sp and rt at sizes\n"
            "from 2 to 7 bits an element, beside the paper's bounds. Writes figure2.csv and pictures (gnuplot).",
        .examples = "  cutwire repro figure2\n"
                    "  cutwire repro figure2 --run figure2/run --cut all --out figure2-all\n"
                    "      the same network at every cut\n"
                    "  cutwire repro figure2 --data cifar-10 --epochs 5 --out cifar\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0]};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code == CLI_GO_ON && (o->samples < 1 || o->samples > REPRO_MOST_SAMPLES))
        return cli_fail(CLI_USAGE, "repro figure2: --samples: from 1 to %d", REPRO_MOST_SAMPLES);
    return code;
}

static cw_status find_cuts(const cw_model *model, const char *list, cw_cut *cuts, size_t *count, cw_error *err)
{
    *count = 0;
    if (strcmp(list, "all") == 0) {
        for (; *count < cw_model_cut_count(model) && *count < MAX_CUTS; ++*count)
            cuts[*count] = cw_model_cut_at(model, *count);
        return CW_OK;
    }
    while (*count < MAX_CUTS) {
        char which[32];
        size_t length = strcspn(list, ",");
        snprintf(which, sizeof which, "%.*s", (int)length, list);
        cw_status status = cw_model_cut(model, which, &cuts[*count], err);
        if (status != CW_OK)
            return status;
        ++*count;
        if (!list[length])
            return CW_OK;
        list += length + 1;
    }
    return CW_OK;
}

static cw_status save_map(const options *o, const figure2_map *map, const cw_tensor *x, cw_error *err)
{
    char path[600];
    snprintf(path, sizeof path, "%s/cut%d-%s.npy", o->out, map->cut.number, map->mode == CW_TRAIN ? "train" : "eval");
    return cw_npy_save(path, x, err);
}

/* maps[2i] in training, maps[2i + 1] in evaluation. */
static cw_status measure(const repro_net *net, const options *o, const cw_cut *cuts, size_t count, figure2_map *maps,
                         cw_error *err)
{
    cli_progress progress;
    cli_progress_start(&progress, o->quiet);
    cw_status status = repro_folder(o->out, err);
    for (size_t i = 0; i < 2 * count && status == CW_OK; i++) {
        figure2_map *map = &maps[i];
        map->cut = cuts[i / 2];
        map->mode = i % 2 ? CW_EVAL : CW_TRAIN;
        cw_tensor x;
        cli_progress_show(&progress, "measuring", i, 2 * count, "maps", "");
        status = repro_smashed(net, &map->cut, map->mode, (size_t)o->samples, &x, err);
        if (status == CW_OK && o->save_maps)
            status = save_map(o, map, &x, err);
        if (status == CW_OK)
            status = figure2_measure(&x, map, err);
        cw_tensor_free(&x);
    }
    cli_progress_clear(&progress);
    return status;
}

static int show(const repro_net *net, const options *o, const figure2_map *maps, size_t count)
{
    cw_error err = {.message = ""};
    cw_status status = figure2_csv(maps, count, o->out, &err);
    if (status != CW_OK)
        return cli_fail_error("repro figure2", status, &err);
    bool plotted = figure2_plot(maps, count, net->config, o->out);
    if (!o->json) {
        figure2_print(maps, count);
        printf("\nnetwork: %s (again with --run %s)\nmeasurements: %s/figure2.csv\n", net->folder, net->folder, o->out);
        if (plotted)
            printf("pictures: %s/figure2-train.png, figure2-eval.png and the same as .svg\n", o->out);
        return CLI_OK;
    }
    return cli_print_json(json_pack("{s:o,s:s,s:o,s:o,s:b,s:o}", "data",
                                    cli_json_text(cw_config_string(net->config, "data")), "model",
                                    cw_config_string(net->config, "model"), "run", cli_json_text(net->folder), "out",
                                    cli_json_text(o->out), "plotted", plotted, "maps", figure2_json(maps, count)));
}

static int measure_and_show(const repro_net *net, const options *o)
{
    cw_cut cuts[MAX_CUTS];
    size_t count;
    cw_error err = {.message = ""};
    cw_status status = find_cuts(net->model, o->cuts, cuts, &count, &err);
    if (status != CW_OK)
        return cli_fail(CLI_USAGE, "repro figure2: --cut: %s", err.message);
    figure2_map *maps = calloc(2 * count, sizeof *maps);
    if (!maps)
        return cli_fail(CLI_FAILURE, "repro figure2: out of memory");
    status = measure(net, o, cuts, count, maps, &err);
    int code = status == CW_OK ? show(net, o, maps, 2 * count) : cli_fail_error("repro figure2", status, &err);
    free(maps);
    return code;
}

int repro_figure2(int argc, char **argv)
{
    options o = {.out = "figure2", .cuts = "shallow,medium,deep", .samples = 256};
    int code = parse(&o, argc, argv);
    cw_config *config = NULL;
    if (code == CLI_GO_ON)
        code = repro_configure("repro figure2", &o.keys, 2, o.out, o.overwrite || o.run, &config);
    if (code != CLI_GO_ON)
        return code;
    repro_net net;
    code = repro_net_prepare("repro figure2", config, &o.keys, o.run, o.json, o.quiet, &net);
    if (code == CLI_GO_ON && !cli_release_signals())
        code = cli_fail(CLI_FAILURE, "repro figure2: stopped: nothing was measured");
    if (code == CLI_GO_ON)
        code = measure_and_show(&net, &o);
    repro_net_close(&net);
    return code;
}
