/* cmd_repro.c - `cutwire repro`: the paper's figures, tables and theorems, made again by this code. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "repro.h"
#include "research.h"

static const struct figure {
    const char *name;
    int (*run)(int argc, char **argv); /* NULL: a study */
    const char *study;
    const char *summary;
} figures[] = {
    {"figure1", repro_figure1, NULL, "the worked example: a 4x4 map through the codec, codes and errors"},
    {"figure2", repro_figure2, NULL, "error against size of ms, qu, sp and rt on feature maps of a trained network"},
    {"figure3", NULL, "figure3", "accuracy over epochs and over bytes at a shallow, a medium and a deep cut"},
    {"table1", NULL, "table1", "traffic saved on the way to a fixed accuracy"},
    {"theorem1", repro_theorem1, NULL,
     "compressed activations bias the gradient, an unbiased downlink does not: measured"},
    {"lemma2", NULL, "theory", "the gradient's error against the codec's: linear, and how far"},
    {"theorem4", NULL, "distributions", "bounds (31) to (33), and when ms is below qu: errors on known distributions"},
};
enum { FIGURES = sizeof figures / sizeof figures[0] };

static void print_list(FILE *out)
{
    for (size_t i = 0; i < FIGURES; i++)
        fprintf(out, "  %-9s %s\n", figures[i].name, figures[i].summary);
}

static void print_overview(FILE *out)
{
    fputs("usage: cutwire repro NAME [OPTIONS]\n\n"
          "Makes a figure, a table or a theorem of the paper again, by this project's codecs and engine\n"
          "(Zhou, Qu, Lyu, Cai, Ye: Mask-Encoded Sparsification, ECAI 2024).\n\n",
          out);
    print_list(out);
    fputs("  list      these names\n"
          "\nexamples:\n"
          "  cutwire repro figure1\n"
          "  cutwire repro figure2 --out figure2\n"
          "  cutwire repro table1 --quick\n"
          "  cutwire repro theorem1 --seeds 256\n"
          "\n`cutwire repro NAME --help` lists the options.\n",
          out);
}

/* The same runs as `cutwire study`, by the paper's name of what they make; then what they came to. */
static int run_study(const struct figure *f, int argc, char **argv)
{
    research_options o;
    cli_option options[RESEARCH_OPTIONS];
    research_option_table(&o, options);
    char name[64], examples[400];
    snprintf(name, sizeof name, "repro %s", f->name);
    snprintf(examples, sizeof examples,
             "  cutwire repro %s --quick\n"
             "      in minutes: fewer and shorter runs, labelled so\n"
             "  cutwire repro %s --hours 8 --jobs 2\n"
             "      the whole, as far as eight hours go; the same command goes on\n",
             f->name, f->name);
    const cli_command command = {
        .name = name,
        .args = "",
        .summary = f->summary,
        .examples = examples,
        .options = options,
        .option_count = RESEARCH_OPTIONS,
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    return code == CLI_GO_ON ? research_become(name, f->study, "repro", &o) : code;
}

static int unknown_figure(const char *name)
{
    const char *names[FIGURES + 1] = {"list"};
    char known[300] = "list";
    for (size_t i = 0; i < FIGURES; i++) {
        names[i + 1] = figures[i].name;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", figures[i].name);
    }
    const char *near = cli_nearest(name, names, FIGURES + 1);
    if (near)
        return cli_fail(CLI_USAGE, "repro: nothing of the paper is called '%s': did you mean '%s'?", name, near);
    return cli_fail(CLI_USAGE, "repro: nothing of the paper is called '%s': choose of %s", name, known);
}

int cmd_repro(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "list") == 0) {
        print_list(stdout);
        return CLI_OK;
    }
    for (size_t i = 0; i < FIGURES; i++) {
        const struct figure *f = &figures[i];
        if (strcmp(argv[1], f->name) == 0)
            return f->run ? f->run(argc - 1, argv + 1) : run_study(f, argc - 1, argv + 1);
    }
    return unknown_figure(argv[1]);
}
