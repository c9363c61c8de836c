/* cmd_models.c - cutwire models: the networks, their layers, and what each cut costs whom. */
#include <stdio.h>
#include <string.h>

#include "cli_model.h"
#include "commands.h"

typedef struct totals {
    double parameters, flops;
} totals;

static double elements(const cw_shape *shape)
{
    size_t count = 0;
    (void)cw_shape_count(shape, &count);
    return (double)count;
}

static totals totals_of(const cw_model *model, size_t first, size_t last)
{
    totals t = {0, 0};
    for (size_t i = first; i < last; i++) {
        cw_layer_info layer = cw_model_layer(model, i);
        t.parameters += (double)layer.parameters;
        t.flops += layer.flops;
    }
    return t;
}

static int list_models(bool json)
{
    json_t *names = json_array();
    for (size_t i = 0; i < cw_model_known_count(); i++) {
        const cw_model_known *m = cw_model_known_at(i);
        printf("%-10s %s\n", m->name, m->summary);
        json_array_append_new(names, json_string(m->name));
    }
    if (!json) {
        json_decref(names);
        return CLI_OK;
    }
    return cli_print_json(json_pack("{s:o}", "models", names));
}

static void print_layers(const cw_model *model)
{
    char shape[64];
    printf("%5s  %-10s %-28s %14s %12s %14s\n", "layer", "kind", "name", "output", "parameters", "flops/sample");
    for (size_t i = 0; i < cw_model_layer_count(model); i++) {
        cw_layer_info l = cw_model_layer(model, i);
        printf("%5zu  %-10s %-28s %14s %12zu %14.0f\n", i, l.kind, l.name, cw_shape_format(&l.out, shape, sizeof shape),
               l.parameters, l.flops);
        for (size_t c = 0; c < cw_model_cut_count(model); c++) {
            cw_cut cut = cw_model_cut_at(model, c);
            if (cut.layer == i + 1)
                printf("------ cut %d%s%s%s ------\n", cut.number, cut.alias ? " (" : "", cut.alias ? cut.alias : "",
                       cut.alias ? ")" : "");
        }
    }
}

static void print_cuts(const cw_model *model, const totals *all)
{
    char shape[64];
    printf("\n%4s  %-8s %14s %14s %12s %14s %14s\n", "cut", "alias", "smashed", "bytes/sample", "non-negative",
           "client flops", "client params");
    for (size_t c = 0; c < cw_model_cut_count(model); c++) {
        cw_cut cut = cw_model_cut_at(model, c);
        totals client = totals_of(model, 0, cut.layer);
        printf("%4d  %-8s %14s %14.0f %12s %13.2f%% %13.2f%%\n", cut.number, cut.alias ? cut.alias : "",
               cw_shape_format(&cut.smashed, shape, sizeof shape), 4 * elements(&cut.smashed),
               cut.non_negative ? "yes" : "no", 100 * client.flops / all->flops,
               100 * client.parameters / all->parameters);
    }
}

static json_t *layers_json(const cw_model *model)
{
    json_t *layers = json_array();
    char shape[64];
    for (size_t i = 0; i < cw_model_layer_count(model); i++) {
        cw_layer_info l = cw_model_layer(model, i);
        json_array_append_new(layers, json_pack("{s:s, s:s, s:s, s:I, s:f}", "kind", l.kind, "name", l.name, "output",
                                                cw_shape_format(&l.out, shape, sizeof shape), "parameters",
                                                (json_int_t)l.parameters, "flops", l.flops));
    }
    return layers;
}

static json_t *cuts_json(const cw_model *model, const totals *all)
{
    json_t *cuts = json_array();
    char shape[64];
    for (size_t c = 0; c < cw_model_cut_count(model); c++) {
        cw_cut cut = cw_model_cut_at(model, c);
        totals client = totals_of(model, 0, cut.layer);
        json_array_append_new(cuts, json_pack("{s:i, s:s?, s:I, s:s, s:f, s:b, s:f, s:f}", "cut", cut.number, "alias",
                                              cut.alias, "layer", (json_int_t)cut.layer, "smashed",
                                              cw_shape_format(&cut.smashed, shape, sizeof shape), "bytes_per_sample",
                                              4 * elements(&cut.smashed), "non_negative", cut.non_negative,
                                              "client_flops_share", client.flops / all->flops,
                                              "client_parameters_share", client.parameters / all->parameters));
    }
    return cuts;
}

static int show_model(const cw_model *model, const cli_model *m, bool json)
{
    totals all = totals_of(model, 0, cw_model_layer_count(model));
    printf("%s on %s (%s), %d classes, %s: %.0f parameters, %.4g flops a sample forward (a multiply-add counts 2)\n",
           m->name, m->sample, m->input, m->classes, m->activation, all.parameters, all.flops);
    if (*m->assumed)
        printf("assumed, as not given: %s\n", m->assumed);
    putchar('\n');
    print_layers(model);
    print_cuts(model, &all);
    if (!json)
        return CLI_OK;
    return cli_print_json(json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:f, s:f, s:o, s:o}", "model", m->name, "sample",
                                    m->sample, "input", m->input, "activation", m->activation, "classes", m->classes,
                                    "assumed", m->assumed, "parameters", all.parameters, "flops", all.flops, "layers",
                                    layers_json(model), "cuts", cuts_json(model, &all)));
}

/* ---- export ---- */

static int export_sides(const char *run, const char *cut, const char *head, const char *tail, bool json)
{
    const cw_network_options options = {.cut = cut};
    cw_network *network;
    cw_error err = {0};
    cw_status status = cw_network_open(run, &options, &network, &err);
    if (status == CW_OK)
        status = cw_network_export(network, head, tail, &err);
    if (status != CW_OK) {
        cw_network_close(&network);
        return cli_fail_error("models export", status, &err);
    }
    const cw_network_info info = *cw_network_get_info(network);
    char prints[2][20];
    snprintf(prints[0], sizeof prints[0], "%016llx", (unsigned long long)info.head_print);
    snprintf(prints[1], sizeof prints[1], "%016llx", (unsigned long long)info.tail_print);
    int code = CLI_OK;
    if (json)
        code = cli_print_json(json_pack("{s:s,s:i,s:s,s:s}", "model", info.model, "cut", info.cut, "head_weights",
                                        prints[0], "tail_weights", prints[1]));
    else
        printf("%s cut at %d: weights %s before and %s after it\n", info.model, info.cut, prints[0], prints[1]);
    cw_network_close(&network);
    return code;
}

static int cmd_export(int argc, char **argv)
{
    const char *run = NULL, *cut = NULL, *head = NULL, *tail = NULL;
    bool json = false;
    const cli_option table[] = {
        {"run", "DIR", "the trained run's folder", CLI_STRING, &run},
        {"cut", "N", "where to cut: a number or an alias [the run's]", CLI_STRING, &cut},
        {"head", "FILE", "gets the layers before the cut, for devices (cutwire infer --head)", CLI_STRING, &head},
        {"tail", "FILE", "gets the layers after it, for a server (cutwire serve --tail)", CLI_STRING, &tail},
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &json},
    };
    const cli_command command = {
        .name = "models export",
        .args = "",
        .summary =
            "Writes the two sides of a trained run as files. Each knows the weights of both, so that a device and "
            "a server notice\nwhen they are not of the same run.",
        .examples = "  cutwire models export --run runs/mine --cut 3 --head head.safetensors --tail tail.safetensors\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    if (!run || (!head && !tail))
        return cli_fail(CLI_USAGE, "models export: %s is missing", run ? "--head FILE or --tail FILE" : "--run DIR");
    return export_sides(run, cut, head, tail, json);
}

/* ---- profile ---- */

typedef struct profile_options {
    const char *run, *cut, *uplink, *data_dir;
    int samples, threads;
    bool json;
} profile_options;

static int learn_profile(const profile_options *o)
{
    const cw_network_options options = {.cut = o->cut, .threads = o->threads};
    cw_network *network;
    cw_error err = {0};
    double alone = 0, with = 0;
    size_t size = 0;
    cw_status status = cw_network_open(o->run, &options, &network, &err);
    if (status == CW_OK)
        status = cw_network_learn_profile(network, o->uplink, (size_t)o->samples, o->data_dir, &alone, &with, &err);
    int code = CLI_OK;
    const cw_network_info *info = status == CW_OK ? cw_network_get_info(network) : NULL;
    if (info)
        (void)cw_profile_bytes(info->profile, &size);
    if (!info)
        code = cli_fail_error("models profile", status, &err);
    else if (o->json)
        code =
            cli_print_json(json_pack("{s:s,s:i,s:I,s:f,s:f}", "model", info->model, "cut", info->cut, "profile_bytes",
                                     (json_int_t)size, "bytes_per_sample", with, "bytes_per_sample_without", alone));
    else
        printf("%s cut at %d: a profile of %zu bytes, sent once in a session; other training samples take %.1f bytes "
               "with it, %.1f without\n",
               info->model, info->cut, size, with, alone);
    cw_network_close(&network);
    return code;
}

static int cmd_profile(int argc, char **argv)
{
    profile_options o = {.samples = 256};
    const cli_option table[] = {
        {"run", "DIR", "the trained run's folder, which keeps the profile", CLI_STRING, &o.run},
        {"cut", "N", "of which cut's maps: a number or an alias [the run's]", CLI_STRING, &o.cut},
        {"uplink", "SPEC", "the ec codec that it is for [the run's]", CLI_STRING, &o.uplink},
        {"samples", "N", "training samples to learn from [256]", CLI_INT, &o.samples},
        {"data-dir", "DIR", "where the data set lies [the usual places]", CLI_STRING, &o.data_dir},
        {"threads", "N", "threads of the engine; 0: one per processor [0]", CLI_INT, &o.threads},
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &o.json},
    };
    const cli_command command = {
        .name = "models profile",
        .args = "",
        .summary = "Learns what the maps at a cut have in common, so that single samples need not carry it. Servers "
                   "send it to each client once.",
        .examples = "  cutwire models profile --run runs/mine --cut medium --uplink ec:err=0.15\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    if (!o.run || o.samples < 2)
        return cli_fail(CLI_USAGE, "models profile: %s", o.run ? "--samples: give 2 or more" : "--run DIR is missing");
    return learn_profile(&o);
}

int cmd_models(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "export") == 0)
        return cmd_export(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "profile") == 0)
        return cmd_profile(argc - 1, argv + 1);
    cli_model m = {.classes = -1};
    bool json = false;
    const cli_option table[] = {
        CLI_MODEL_OPTIONS(&m),
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &json},
    };
    const cli_command command = {
        .name = "models",
        .args = "[NAME]",
        .summary = "The networks known; of one: layers, shapes, parameters, operations, and at each cut what crosses "
                   "it.\n`cutwire models export` writes the two sides of a trained run as files, `cutwire models "
                   "profile` what its maps have in common.\n" CLI_MODEL_ASSUMED,
        .examples = "  cutwire models\n  cutwire models vgg19\n  cutwire models textcnn\n"
                    "  cutwire models resnet34 --sample 3x224x224 --classes 1000\n"
                    "  cutwire models mlp --sample 1x28x28 --classes 10 --activation gelu\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
        .max_args = 1,
    };
    int names = 0, code = cli_parse(&command, argc, argv, &m.name, &names);
    if (code != CLI_GO_ON)
        return code;
    if (names == 0)
        return list_models(json);
    cw_model *model;
    code = cli_model_open("models", &m, &model);
    if (code != CLI_GO_ON)
        return code;
    code = show_model(model, &m, json);
    cw_model_close(&model);
    return code;
}
