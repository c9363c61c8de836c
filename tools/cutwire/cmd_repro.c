/* cmd_repro.c - `cutwire repro`: the paper's figures, tables and theorems, made again by this code. */
#include <stdio.h>

#include "commands.h"
#include "repro.h"
#include "research.h"

/* The same runs as `cutwire study`, by the paper's name of what they make; then what they came to. */
static int run_study(const char *figure, const char *study, const char *summary, int argc, char **argv)
{
    research_options o;
    cli_option options[RESEARCH_OPTIONS];
    research_option_table(&o, options);
    char name[64], examples[400];
    snprintf(name, sizeof name, "repro %s", figure);
    snprintf(examples, sizeof examples,
             "  cutwire repro %s --quick\n"
             "      in minutes: fewer and shorter runs, labelled so\n"
             "  cutwire repro %s --hours 8 --jobs 2\n"
             "      the whole, as far as eight hours go; the same command goes on\n",
             figure, figure);
    const cli_command command = {
        .name = name,
        .args = "",
        .summary = summary,
        .examples = examples,
        .options = options,
        .option_count = RESEARCH_OPTIONS,
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    return code == CLI_GO_ON ? research_become(name, study, "repro", &o) : code;
}

#define FIGURE3  "accuracy over epochs and over bytes at a shallow, a medium and a deep cut"
#define TABLE1   "traffic saved on the way to a fixed accuracy"
#define LEMMA2   "the gradient's error against the codec's: linear, and how far"
#define THEOREM4 "bounds (31) to (33), and when ms is below qu: errors on known distributions"

static int repro_figure3(int argc, char **argv)
{
    return run_study("figure3", "figure3", FIGURE3, argc, argv);
}

static int repro_table1(int argc, char **argv)
{
    return run_study("table1", "table1", TABLE1, argc, argv);
}

static int repro_lemma2(int argc, char **argv)
{
    return run_study("lemma2", "theory", LEMMA2, argc, argv);
}

static int repro_theorem4(int argc, char **argv)
{
    return run_study("theorem4", "distributions", THEOREM4, argc, argv);
}

static int print_list(int argc, char **argv);

static const cli_sub figures[] = {
    {"figure1", repro_figure1, "the worked example: a 4x4 map through the codec, codes and errors"},
    {"figure2", repro_figure2, "error against size of ms, qu, sp and rt on feature maps of a trained network"},
    {"figure3", repro_figure3, FIGURE3},
    {"table1", repro_table1, TABLE1},
    {"theorem1", repro_theorem1, "compressed activations bias the gradient, an unbiased downlink does not: measured"},
    {"lemma2", repro_lemma2, LEMMA2},
    {"theorem4", repro_theorem4, THEOREM4},
    {"list", print_list, "these names"},
};

static int print_list(int argc, char **argv)
{
    static const cli_command command = {.name = "repro list",
                                        .args = "",
                                        .summary = "Lists what of the paper is made again.",
                                        .examples = "  cutwire repro list\n"};
    const int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        printf("  %-9s %s\n", figures[i].name, figures[i].summary);
    return CLI_OK;
}

int cmd_repro(int argc, char **argv)
{
    static const cli_group group = {
        .name = "repro",
        .kind = "figure",
        .summary = "Makes a figure, a table or a theorem of the paper again, by this project's codecs and engine\n"
                   "(Zhou, Qu, Lyu, Cai, Ye: Mask-Encoded Sparsification, ECAI 2024).",
        .subs = figures,
        .count = sizeof figures / sizeof figures[0],
        .examples = "  cutwire repro figure1\n"
                    "  cutwire repro figure2 --out figure2\n"
                    "  cutwire repro table1 --quick\n"
                    "  cutwire repro theorem1 --seeds 256\n",
    };
    return cli_group_run(&group, argc, argv);
}
