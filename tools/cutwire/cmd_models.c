/* cmd_models.c - cutwire models: the networks, their layers, and what each cut costs whom. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "commands.h"

typedef struct options {
    const char *sample, *activation, *input;
    int classes;
    bool json;
} options;

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

static int list_models(const options *o)
{
    json_t *names = json_array();
    for (size_t i = 0; i < cw_model_known_count(); i++) {
        const cw_model_known *m = cw_model_known_at(i);
        printf("%-10s %s\n", m->name, m->summary);
        json_array_append_new(names, json_string(m->name));
    }
    if (!o->json) {
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

static int show_model(const cw_model *model, const options *o)
{
    totals all = totals_of(model, 0, cw_model_layer_count(model));
    printf("%s on %s, %d classes, %s: %.0f parameters, %.4g flops a sample forward (a multiply-add counts 2)\n\n",
           cw_model_name(model), o->sample, o->classes, o->activation, all.parameters, all.flops);
    print_layers(model);
    print_cuts(model, &all);
    if (!o->json)
        return CLI_OK;
    return cli_print_json(json_pack("{s:s, s:s, s:i, s:f, s:f, s:o, s:o}", "model", cw_model_name(model), "sample",
                                    o->sample, "classes", o->classes, "parameters", all.parameters, "flops", all.flops,
                                    "layers", layers_json(model), "cuts", cuts_json(model, &all)));
}

bool cli_parse_sample(const char *text, cw_shape *out)
{
    *out = (cw_shape){0};
    for (const char *at = text; out->ndim < 3 && isdigit((unsigned char)*at); at++) {
        char *end;
        errno = 0;
        out->dim[out->ndim++] = strtoll(at, &end, 10);
        if (errno || (*end != 'x' && *end != '\0'))
            return false;
        if (*end == '\0')
            return true;
        at = end;
    }
    return false;
}

int cmd_models(int argc, char **argv)
{
    options o = {.sample = "3x32x32", .activation = "relu", .classes = 10};
    const cli_option table[] = {
        {"sample", "CxHxW", "shape of one input [3x32x32]", CLI_STRING, &o.sample},
        {"classes", "N", "number of labels [10]", CLI_INT, &o.classes},
        {"activation", "NAME", "relu, leaky_relu, gelu, silu, tanh [relu]", CLI_STRING, &o.activation},
        {"input", "KIND", "what a sample's numbers are: image, tokens:V, table:N/C1/... [image]", CLI_STRING, &o.input},
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &o.json},
    };
    const cli_command command = {
        .name = "models",
        .args = "[NAME]",
        .summary =
            "The networks known; of one: layers, shapes, parameters, operations, and at each cut what crosses it.",
        .examples =
            "  cutwire models\n  cutwire models vgg19\n  cutwire models resnet34 --sample 3x224x224 --classes 1000\n"
            "  cutwire models textcnn --sample 64 --input tokens:20000 --classes 4\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
        .max_args = 1,
    };
    const char *name = NULL;
    int names = 0, code = cli_parse(&command, argc, argv, &name, &names);
    if (code != CLI_GO_ON)
        return code;
    if (names == 0)
        return list_models(&o);
    cw_model_options mo = {.classes = o.classes, .activation = o.activation, .input = o.input};
    if (!cli_parse_sample(o.sample, &mo.sample))
        return cli_fail(CLI_USAGE, "models: --sample '%s': give a shape, e.g. 3x32x32", o.sample);
    cw_model *model;
    cw_error err;
    cw_status status = cw_model_open(name, &mo, &model, &err);
    if (status != CW_OK)
        return cli_fail_error("models", status, &err);
    code = show_model(model, &o);
    cw_model_close(&model);
    return code;
}
