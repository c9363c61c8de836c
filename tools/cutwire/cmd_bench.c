/* cmd_bench.c - cutwire bench: speed, as ratios to something that was measured in the same run. */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "commands.h"

static const struct kind {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} kinds[] = {
    {"codec", bench_codec, "every codec and instruction set against memcpy, and peers: zfp, zstd, PyTorch"},
    {"engine", bench_engine, "training and inference of a model, against its bare convolutions, and PyTorch"},
    {"loader", bench_loader, "samples a second from a data set to batches, augmented"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("usage: cutwire bench KIND [OPTIONS]\n\nkinds:\n", out);
    for (const struct kind *k = kinds; k->name; k++)
        fprintf(out, "  %-8s %s\n", k->name, k->summary);
    fputs("\nexamples:\n"
          "  cutwire bench codec --quick\n"
          "  cutwire bench codec --out bench/results\n"
          "  cutwire bench engine --model vgg19 --precision bf16\n"
          "  cutwire bench loader --data cifar-10 --flip --crop-pad 4\n"
          "\n`cutwire bench KIND --help` lists the options.\n",
          out);
}

int cmd_bench(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    for (const struct kind *k = kinds; k->name; k++)
        if (strcmp(argv[1], k->name) == 0)
            return k->run(argc - 1, argv + 1);
    return cli_fail(CLI_USAGE, "bench: no such kind: '%s': `cutwire bench --help` lists them", argv[1]);
}
