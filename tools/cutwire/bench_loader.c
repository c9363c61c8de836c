/* bench_loader.c - cutwire bench loader: samples a second, decoded, augmented and made into batches. */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "bench_timing.h"
#include "cutwire/data.h"

typedef struct options {
    const char *data;
    int batch, crop_pad, threads;
    double seconds;
    bool flip, resized_crop, json;
} options;

/* Batches for about `seconds`, epoch after epoch; samples a second by this clock. */
static cw_status drain(cw_loader *loader, double seconds, double (*clock)(void), double *per_second, cw_error *err)
{
    uint64_t epoch = 0;
    size_t samples = 0;
    cw_batch batch;
    cw_status status = cw_loader_seek(loader, epoch, 0);
    if (status == CW_OK)
        status = cw_loader_next(loader, &batch, err); /* the first touches what the others find in place */
    const double began = clock(), until = bench_now() + seconds;
    while (status == CW_OK && (!samples || bench_now() < until)) {
        status = cw_loader_next(loader, &batch, err);
        if (status == CW_OK)
            samples += batch.n;
        else if (status == CW_END)
            status = cw_loader_seek(loader, ++epoch, 0);
    }
    *per_second = (double)samples / (clock() - began);
    return status;
}

static cw_status measure(const options *o, const cw_dataset *ds, int threads, double *per_second, cw_error *err)
{
    const cw_loader_options lo = {.batch = (size_t)o->batch,
                                  .seed = 1,
                                  .shuffle = true,
                                  .flip = o->flip,
                                  .crop_pad = o->crop_pad,
                                  .resized_crop = o->resized_crop,
                                  .threads = threads};
    cw_loader *loader;
    cw_status status = cw_loader_create(ds, NULL, 0, &lo, &loader, err);
    if (status == CW_OK)
        status = drain(loader, o->seconds, threads ? bench_now : bench_busy, per_second, err);
    cw_loader_destroy(&loader);
    return status;
}

static int report(const options *o, const cw_dataset_info *info, double core, double workers)
{
    char sample[64];
    cw_shape_format(&info->sample, sample, sizeof sample);
    printf("%s, %s, batch %d%s%s%s\n", info->name, sample, o->batch, o->flip ? ", flips" : "",
           o->crop_pad ? ", crops" : "", o->resized_crop ? ", resized crops" : "");
    printf("  one core, by its own time  %12.0f samples/s\n", core);
    if (o->threads)
        printf("  %3d worker%s by the wall   %12.0f samples/s\n", o->threads, o->threads > 1 ? "s" : " ", workers);
    if (!o->json)
        return CLI_OK;
    return cli_print_json(json_pack("{s:s, s:s, s:i, s:f, s:i, s:f}", "data", info->name, "sample", sample, "batch",
                                    o->batch, "samples_per_s_core", core, "workers", o->threads, "samples_per_s",
                                    o->threads ? workers : core));
}

static int parse(options *o, int argc, char **argv)
{
    const cli_option table[] = {
        {"data", "NAME[:DIR]", "data set (cutwire data list) [cifar-10]", CLI_STRING, &o->data},
        {"batch", "N", "samples in a batch [128]", CLI_INT, &o->batch},
        {"flip", NULL, "augment: horizontal flips", CLI_FLAG, &o->flip},
        {"crop-pad", "N", "augment: random crops after padding by N pixels [0]", CLI_INT, &o->crop_pad},
        {"resized-crop", NULL, "augment: random parts of photos, resized", CLI_FLAG, &o->resized_crop},
        {"threads", "N", "workers to measure, too; 0: none [1]", CLI_INT, &o->threads},
        {"seconds", "S", "time for each measurement, about [2]", CLI_DOUBLE, &o->seconds},
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &o->json},
    };
    const cli_command command = {
        .name = "bench loader",
        .args = "",
        .summary = "Samples a second from the data set to batches in memory: of one core, without workers, by its own "
                   "time; and as they come out of workers that prepare them ahead. Hold it against `bench engine`.",
        .examples = "  cutwire bench loader --data cifar-10 --flip --crop-pad 4\n"
                    "  cutwire bench loader --data imagenette --flip --resized-crop --threads 2 --json\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code == CLI_GO_ON && o->batch < 1)
        return cli_fail(CLI_USAGE, "bench loader: --batch: at least 1");
    return code;
}

int bench_loader(int argc, char **argv)
{
    options o = {.data = "cifar-10", .batch = 128, .threads = 1, .seconds = 2};
    int code = parse(&o, argc, argv);
    if (code != CLI_GO_ON)
        return code;
    cw_error err = {.message = ""};
    cw_dataset *ds = NULL;
    double core = 0, workers = 0;
    cw_status status = cw_dataset_open(o.data, CW_SPLIT_TRAIN, &ds, &err);
    if (status == CW_OK)
        status = measure(&o, ds, 0, &core, &err);
    if (status == CW_OK && o.threads)
        status = measure(&o, ds, o.threads, &workers, &err);
    code = status == CW_OK ? report(&o, cw_dataset_get_info(ds), core, workers)
                           : cli_fail_error("bench loader", status, &err);
    cw_dataset_close(&ds);
    return code;
}
