/* cmd_repro.c - `cutwire repro`: the paper's figures, and a theorem, made again by this code. */
#include "commands.h"
#include "repro.h"

static const cli_sub figures[] = {
    {"figure1", repro_figure1, "the worked example: a 4x4 map through the codec, codes and errors"},
    {"figure2", repro_figure2, "error against size of ms, qu, sp and rt on feature maps of a trained network"},
    {"theorem1", repro_theorem1, "compressed activations bias the gradient, an unbiased downlink does not: measured"},
};

int cmd_repro(int argc, char **argv)
{
    static const cli_group group = {
        .name = "repro",
        .kind = "figure",
        .summary = "Makes a figure or a theorem of the paper again, by this project's codecs and engine\n"
                   "(Zhou, Qu, Lyu, Cai, Ye: Mask-Encoded Sparsification, ECAI 2024).",
        .subs = figures,
        .count = sizeof figures / sizeof figures[0],
        .examples = "  cutwire repro figure1\n"
                    "  cutwire repro figure2 --out figure2\n"
                    "  cutwire repro theorem1 --seeds 256\n",
    };
    return cli_group_run(&group, argc, argv);
}
