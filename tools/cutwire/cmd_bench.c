/* cmd_bench.c - cutwire bench: speed, as ratios to something that was measured in the same run. */
#include "bench.h"
#include "commands.h"

static const cli_sub kinds[] = {
    {"codec", bench_codec, "every codec and instruction set against memcpy, and peers: zfp, zstd, PyTorch"},
    {"engine", bench_engine, "training and inference of a model, against its bare convolutions, and PyTorch"},
    {"loader", bench_loader, "samples a second from a data set to batches, augmented"},
};

int cmd_bench(int argc, char **argv)
{
    static const cli_group group = {
        .name = "bench",
        .kind = "kind",
        .summary = "Measures speed, always against something else in the same run.",
        .subs = kinds,
        .count = sizeof kinds / sizeof kinds[0],
        .examples = "  cutwire bench codec --quick\n"
                    "  cutwire bench codec --out bench/results\n"
                    "  cutwire bench engine --model vgg19 --precision bf16\n"
                    "  cutwire bench loader --data cifar-10 --flip --crop-pad 4\n",
    };
    return cli_group_run(&group, argc, argv);
}
