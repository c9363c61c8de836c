/* bench_engine.c - cutwire bench engine: a model's training and inference, the share of its bare convolutions and
 * matrix products (the roofline), and PyTorch beside it. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"
#include "bench_timing.h"
#include "cli_model.h"
#include "commands.h"

typedef struct options {
    cli_model model;
    const char *precision;
    int batch, steps, threads;
    bool no_pytorch, json;
} options;

typedef struct result {
    double train_s, bare_s, infer_s; /* medians, of one step */
    double all_s;                    /* of all training steps, which the profile is of */
    cw_profile profile;
    double memory, peak; /* bytes: what the part takes, and the process at its peak when it had trained */
    cw_precision precision;
    double torch_train, torch_infer, torch_peak; /* images/s, bytes; 0: not measured */
} result;

/* ---- one part, driven ---- */

typedef struct engine {
    const options *o;
    cw_model *model;
    cw_part *part;
    cw_optimizer *optimizer;
    cw_tensor x, labels;
} engine;

static void engine_close(engine *e)
{
    cw_optimizer_destroy(&e->optimizer);
    cw_part_destroy(&e->part);
    cw_model_close(&e->model);
    cw_tensor_free(&e->x);
    cw_tensor_free(&e->labels);
}

/* How many ids or categories there are at place i of a sample; 0: any number may stand there. The model has been
 * opened, so that `input` is as it should be. */
static long values_at(const char *input, size_t i)
{
    if (strncmp(input, "tokens:", 7) == 0)
        return strtol(input + 7, NULL, 10);
    if (strncmp(input, "table:", 6) != 0)
        return 0;
    char *at;
    size_t column = (size_t)strtol(input + 6, &at, 10);
    if (i < column)
        return 0;
    for (; column < i; column++)
        at = strchr(at + 1, '/');
    return strtol(at + 1, NULL, 10);
}

/* In [0, 1), 24 bits. */
static float uniform(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) * 0x1p-24f;
}

/* A reproducible batch: numbers roughly normal (sums of uniform ones), ids and categories uniform among theirs. */
static void fill_batch(engine *e, size_t count)
{
    float *x = e->x.data;
    int32_t *labels = e->labels.data;
    uint32_t state = 12345;
    const size_t size = count / (size_t)e->o->batch;
    for (size_t i = 0; i < count; i++) {
        const long values = values_at(e->o->model.input, i % size);
        if (values > 0) {
            x[i] = (float)(long)((double)uniform(&state) * (double)values);
            continue;
        }
        float sum = -2.0f;
        for (int k = 0; k < 4; k++)
            sum += uniform(&state);
        x[i] = 1.7f * sum;
    }
    for (int i = 0; i < e->o->batch; i++)
        labels[i] = i % e->o->model.classes;
}

/* With e->model open. */
static cw_status engine_open(engine *e, cw_precision precision, cw_error *err)
{
    const options *o = e->o;
    cw_part_options po = {.max_batch = (size_t)o->batch, .seed = 1, .threads = o->threads, .precision = precision};
    cw_optimizer_options so = {.momentum = 0.9f, .weight_decay = 5e-4f};
    cw_status status = cw_part_create(e->model, 0, cw_model_layer_count(e->model), &po, &e->part, err);
    if (status == CW_OK)
        status = cw_optimizer_create(e->part, &so, &e->optimizer, err);
    cw_shape xs = o->model.shape, ls = cw_shape_of(1, (int64_t[]){o->batch});
    memmove(xs.dim + 1, xs.dim, sizeof xs.dim[0] * (size_t)xs.ndim);
    xs.dim[0] = o->batch;
    xs.ndim++;
    if (status == CW_OK)
        status = cw_tensor_alloc(&e->x, CW_F32, &xs);
    if (status == CW_OK)
        status = cw_tensor_alloc(&e->labels, CW_I32, &ls);
    size_t count = 0;
    if (status == CW_OK)
        status = cw_shape_count(&xs, &count);
    if (status == CW_OK)
        fill_batch(e, count);
    return status;
}

static cw_status train_step(engine *e, cw_error *err)
{
    cw_loss loss;
    size_t n = (size_t)e->o->batch;
    cw_status status = cw_part_forward(e->part, CW_TRAIN, e->x.data, n, NULL, err);
    if (status == CW_OK)
        status = cw_part_loss(e->part, e->labels.data, n, &loss, err);
    if (status == CW_OK)
        status = cw_part_backward(e->part, NULL, NULL, err);
    if (status == CW_OK)
        status = cw_optimizer_step(e->optimizer, 1e-3f);
    return status;
}

/* Steps and bare steps take turns, so that whatever else the machine does slows both alike. */
static cw_status measure(engine *e, result *r, cw_error *err)
{
    double train[BENCH_MAX_RUNS], bare[BENCH_MAX_RUNS], infer[BENCH_MAX_RUNS];
    cw_status status = train_step(e, err);
    if (status == CW_OK)
        status = cw_part_forward(e->part, CW_EVAL, e->x.data, (size_t)e->o->batch, NULL, err);
    cw_part_profile_start(e->part);
    for (int i = 0; i < e->o->steps && status == CW_OK; i++) {
        double start = bench_now();
        status = train_step(e, err);
        train[i] = bench_now() - start;
        r->all_s += train[i];
        if (status == CW_OK)
            status = cw_part_bare_seconds(e->part, &bare[i], err);
    }
    r->profile = cw_part_profile_stop(e->part);
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        r->peak = (double)usage.ru_maxrss * 1024;
    for (int i = 0; i < e->o->steps && status == CW_OK; i++) {
        double start = bench_now();
        status = cw_part_forward(e->part, CW_EVAL, e->x.data, (size_t)e->o->batch, NULL, err);
        infer[i] = bench_now() - start;
    }
    if (status != CW_OK)
        return status;
    r->train_s = bench_median(train, (size_t)e->o->steps);
    r->bare_s = bench_median(bare, (size_t)e->o->steps);
    r->infer_s = bench_median(infer, (size_t)e->o->steps);
    r->memory = (double)cw_part_memory(e->part);
    r->precision = cw_part_precision(e->part);
    return CW_OK;
}

/* ---- PyTorch ---- */

static void run_pytorch(const options *o, result *r)
{
    char program[PATH_MAX] = "", command[2 * PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash = length > 0 ? strrchr(program, '/') : NULL;
    if (!slash)
        return;
    *slash = '\0';
    /* The model has been opened: its words are known ones, its sample and input of digits, letters and : / x. */
    const cli_model *m = &o->model;
    snprintf(command, sizeof command, "/usr/bin/python3 '%s/../bench/peer_engine.py' %s %s %d %d %d %d %s '%s'",
             program, m->name, m->sample, m->classes, o->batch,
             o->threads > 0 ? o->threads : (int)sysconf(_SC_NPROCESSORS_ONLN), o->steps, m->activation, m->input);
    FILE *f = strchr(program, '\'') ? NULL : popen(command, "r");
    int fields = f ? fscanf(f, "%lf %lf %lf", &r->torch_train, &r->torch_infer, &r->torch_peak) : 0;
    if ((f && pclose(f) != 0) || fields != 3) {
        r->torch_train = r->torch_infer = r->torch_peak = 0;
        fputs("SKIP: PyTorch: its run failed (what it said is above): is python3-torch installed?\n", stderr);
    }
}

/* ---- reporting ---- */

/* What a step takes besides the layers: copies of the new weights in other layouts, the optimizer, the loss. */
static double other_seconds(const result *r)
{
    const cw_profile *p = &r->profile;
    const double layers = p->conv + p->matmul + p->norm + p->pool + p->elementwise + p->reorder + p->other;
    return r->all_s > layers ? r->all_s - layers : 0;
}

/* What a sample is called. */
static const char *unit_of(const cli_model *m)
{
    return strncmp(m->input, "tokens:", 7) == 0 ? "texts" : strncmp(m->input, "table:", 6) == 0 ? "rows" : "images";
}

static void report(const options *o, const result *r)
{
    const char *unit = unit_of(&o->model);
    const cw_profile *p = &r->profile;
    const struct {
        const char *name;
        double seconds;
    } parts[] = {{"convolution", p->conv},   {"matrix product", p->matmul},        {"batch norm", p->norm},
                 {"pooling", p->pool},       {"elementwise", p->elementwise},      {"reorder", p->reorder},
                 {"other layers", p->other}, {"weights, update", other_seconds(r)}};
    printf("%s, %s, %s, batch %d\n", o->model.name, o->model.sample, cw_precision_name(r->precision), o->batch);
    if (*o->model.assumed)
        printf("  assumed, as not given: %s\n", o->model.assumed);
    printf("  training   %10.1f %s/s\n  inference  %10.1f %s/s\n", o->batch / r->train_s, unit, o->batch / r->infer_s,
           unit);
    printf("  bare convolutions and matrix products / whole step: %.3f\n", r->bare_s / r->train_s);
    printf("  memory %.1f MB, process at its peak %.1f MB\n  time of training by kind:\n", r->memory / 1e6,
           r->peak / 1e6);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        printf("    %-15s %5.1f %%\n", parts[i].name, 100 * parts[i].seconds / r->all_s);
    if (r->torch_train > 0)
        printf("  PyTorch fp32 channels_last: %.1f training, %.1f inference %s/s (ours is %.2fx, %.2fx), process "
               "%.1f MB\n",
               r->torch_train, r->torch_infer, unit, o->batch / r->train_s / r->torch_train,
               o->batch / r->infer_s / r->torch_infer, r->torch_peak / 1e6);
}

static int report_json(const options *o, const result *r)
{
    const cw_profile *p = &r->profile;
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}}",
                  "model", o->model.name, "sample", o->model.sample, "input", o->model.input, "activation",
                  o->model.activation, "precision", cw_precision_name(r->precision), "batch", o->batch, "images_per_s",
                  o->batch / r->train_s, "inference_images_per_s", o->batch / r->infer_s, "roofline_fraction",
                  r->bare_s / r->train_s, "memory_bytes", r->memory, "peak_bytes", r->peak, "seconds_by_kind", "conv",
                  p->conv, "matmul", p->matmul, "norm", p->norm, "pool", p->pool, "elementwise", p->elementwise,
                  "reorder", p->reorder, "other", p->other, "update", other_seconds(r));
    if (object && r->torch_train > 0) {
        json_object_set_new(object, "vs_pytorch", json_real(o->batch / r->train_s / r->torch_train));
        json_object_set_new(object, "inference_vs_pytorch", json_real(o->batch / r->infer_s / r->torch_infer));
        json_object_set_new(object, "pytorch_images_per_s", json_real(r->torch_train));
        json_object_set_new(object, "pytorch_peak_bytes", json_real(r->torch_peak));
    }
    return cli_print_json(object);
}

/* ---- the command ---- */

static int parse(options *o, int argc, char **argv)
{
    const cli_option table[] = {
        {"model", "NAME", "the network (cutwire models) [vgg19]", CLI_STRING, &o->model.name},
        CLI_MODEL_OPTIONS(&o->model),
        {"precision", "NAME", "fp32, bf16 or auto [auto]", CLI_STRING, &o->precision},
        {"batch", "N", "samples in a step [128]", CLI_INT, &o->batch},
        {"steps", "N", "steps to measure; medians count [7]", CLI_INT, &o->steps},
        {"threads", "N", "threads; 0: one per processor [0]", CLI_INT, &o->threads},
        {"no-pytorch", NULL, "leave PyTorch out", CLI_FLAG, &o->no_pytorch},
        {"json", NULL, "print one JSON object as the last line", CLI_FLAG, &o->json},
    };
    const cli_command command = {
        .name = "bench engine",
        .args = "",
        .summary = "Training and inference of one model: images a second, where the time goes, how near the bare "
                   "convolutions are, and PyTorch with the same model and batch.\n" CLI_MODEL_ASSUMED,
        .examples = "  cutwire bench engine --model vgg19\n"
                    "  cutwire bench engine --model resnet18 --precision fp32 --batch 64 --json\n"
                    "  cutwire bench engine --model textcnn --sample 32 --input tokens:5000\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    if (o->steps < 1 || o->steps > BENCH_MAX_RUNS || o->batch < 1)
        return cli_fail(CLI_USAGE, "bench engine: --steps takes 1 to %d, --batch at least 1", BENCH_MAX_RUNS);
    return CLI_GO_ON;
}

int bench_engine(int argc, char **argv)
{
    options o = {.model = {.name = "vgg19", .classes = -1}, .precision = "auto", .batch = 128, .steps = 7};
    int code = parse(&o, argc, argv);
    if (code != CLI_GO_ON)
        return code;
    engine e = {.o = &o};
    code = cli_model_open("bench engine", &o.model, &e.model);
    if (code != CLI_GO_ON)
        return code;
    cw_error err = {.message = ""};
    cw_precision precision;
    cw_status status = cw_precision_parse(o.precision, &precision, &err);
    result r = {0};
    if (status == CW_OK)
        status = engine_open(&e, precision, &err);
    if (status == CW_OK)
        status = measure(&e, &r, &err);
    engine_close(&e);
    if (status != CW_OK)
        return cli_fail_error("bench engine", status, &err);
    if (!o.no_pytorch)
        run_pytorch(&o, &r);
    report(&o, &r);
    return o.json ? report_json(&o, &r) : CLI_OK;
}
