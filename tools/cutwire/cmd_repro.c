/* cmd_repro.c - `cutwire repro`: the paper's figures, and a theorem, made again by this code. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "repro.h"

static const struct figure {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} figures[] = {
    {"figure1", repro_figure1, "the worked example: a 4x4 map through the codec, codes and errors"},
    {"figure2", repro_figure2, "error against size of ms, qu, sp and rt on feature maps of a trained network"},
    {"theorem1", repro_theorem1, "compressed activations bias the gradient, an unbiased downlink does not: measured"},
};
enum { FIGURES = sizeof figures / sizeof figures[0] };

static void print_overview(FILE *out)
{
    fputs("usage: cutwire repro NAME [OPTIONS]\n\n"
          "Makes a figure or a theorem of the paper again, by this project's codecs and engine\n"
          "(Zhou, Qu, Lyu, Cai, Ye: Mask-Encoded Sparsification, ECAI 2024).\n\n",
          out);
    for (size_t i = 0; i < FIGURES; i++)
        fprintf(out, "  %-9s %s\n", figures[i].name, figures[i].summary);
    fputs("\nexamples:\n"
          "  cutwire repro figure1\n"
          "  cutwire repro figure2 --out figure2\n"
          "  cutwire repro theorem1 --seeds 256\n"
          "\n`cutwire repro NAME --help` lists the options.\n",
          out);
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
    const char *names[FIGURES];
    for (size_t i = 0; i < FIGURES; i++) {
        names[i] = figures[i].name;
        if (strcmp(argv[1], names[i]) == 0)
            return figures[i].run(argc - 1, argv + 1);
    }
    return cli_fail(CLI_USAGE, "repro: no figure '%s': choose figure1, figure2 or theorem1", argv[1]);
}
