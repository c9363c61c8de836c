/* bench_measure.c - times memcpy, encode and decode in turns, so that whatever else the machine does slows all alike.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "bench_data.h"
#include "bench_timing.h"

/* What is measured: the settings that the paper compares at one size, the coded ones at a few rates, and a gradient's
 * codec, which gets numbers of both signs. */
static const char *const settings[] = {
    "none",
    "fp16",
    "bf16",
    "ms:r=0.99,b=2",
    "ms:r=0.99,b=2,entropy=ctx",
    "sp:r=0.95875",
    "rt:r=0.95875",
    "qu:b=3",
    "ec:err=0.25",
    "ec:err=0.1",
    "ec:bpe=0.5",
    "ec:step=2,round=stochastic",
};

static bool of_gradients(const char *spec)
{
    return strstr(spec, "round=stochastic") != NULL;
}

/* Everything one case needs, allocated before the clock starts. */
typedef struct bench_case {
    const char *spec;
    const bench_plan *plan;
    double zeros;
    const cw_tensor *x; /* map or gradient */
    const cw_tensor *map, *gradient;
    cw_tensor copy, back, payload, work, decode_work;
    cw_codec *codec;
    cw_encode_args encode;
    cw_decode_args decode;
    size_t size;
} bench_case;

static cw_status bytes_of(cw_tensor *t, size_t size)
{
    const cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)size});
    cw_status status = cw_tensor_alloc(t, CW_U8, &shape);
    if (status == CW_OK)
        memset(t->data, 0, size); /* no page is touched for the first time while the clock runs */
    return status;
}

static cw_status case_prepare(bench_case *c, cw_error *err)
{
    cw_status status = cw_codec_create(c->spec, &c->codec, err);
    if (status == CW_OK)
        status = bytes_of(&c->payload, cw_codec_bound(c->codec, c->x));
    if (status == CW_OK)
        status = bytes_of(&c->work, cw_codec_work_size(c->codec, c->x) * (size_t)c->plan->threads + 1);
    c->encode = (cw_encode_args){.threads = c->plan->threads, .work = c->work.data};
    c->encode.work_size = (size_t)c->work.shape.dim[0];
    return status;
}

/* Scratch for decoding, once there is a payload. */
static cw_status case_prepare_decode(bench_case *c, cw_error *err)
{
    cw_payload_info info;
    cw_status status = cw_payload_inspect(c->payload.data, c->size, &info, err);
    if (status == CW_OK)
        status = bytes_of(&c->decode_work, cw_decode_work_size(&info) + 1);
    c->decode = (cw_decode_args){.threads = c->plan->threads, .work = c->decode_work.data};
    c->decode.work_size = status == CW_OK ? (size_t)c->decode_work.shape.dim[0] : 0;
    return status;
}

static void case_free(bench_case *c)
{
    cw_codec_destroy(&c->codec);
    cw_tensor_free(&c->payload);
    cw_tensor_free(&c->work);
    cw_tensor_free(&c->decode_work);
}

static cw_status encode_once(bench_case *c, cw_error *err)
{
    return cw_encode(c->codec, c->x, &c->encode, c->payload.data, (size_t)c->payload.shape.dim[0], &c->size, err);
}

static cw_status case_run(bench_case *c, size_t bytes, bench_row *row, cw_error *err)
{
    double copied[BENCH_MAX_RUNS], encoded[BENCH_MAX_RUNS], decoded[BENCH_MAX_RUNS];
    const int repeats = bench_repeats(bytes);
    double (*const ticks)(void) = c->plan->threads == 1 ? bench_busy : bench_now;
    const double end = bench_now() + c->plan->seconds;
    cw_status status = encode_once(c, err);
    if (status == CW_OK)
        status = case_prepare_decode(c, err);
    size_t runs = 0;
    for (; status == CW_OK && runs < BENCH_MAX_RUNS && (runs < BENCH_MIN_RUNS || bench_now() < end); runs++) {
        const double t0 = ticks();
        for (int i = 0; i < repeats; i++)
            memcpy(c->copy.data, c->x->data, bytes);
        const double t1 = ticks();
        for (int i = 0; i < repeats && status == CW_OK; i++)
            status = encode_once(c, err);
        const double t2 = ticks();
        for (int i = 0; i < repeats && status == CW_OK; i++)
            status = cw_decode(c->payload.data, c->size, &c->back, &c->decode, err);
        const double t3 = ticks();
        copied[runs] = (t1 - t0) / repeats;
        encoded[runs] = (t2 - t1) / repeats;
        decoded[runs] = (t3 - t2) / repeats;
    }
    if (status != CW_OK)
        return status;
    row->payload_bytes = c->size;
    row->memcpy_s = bench_median(copied, runs);
    row->encode_s = bench_median(encoded, runs);
    row->decode_s = bench_median(decoded, runs);
    return CW_OK;
}

static int measure_one(bench_case *c, size_t bytes, FILE *out)
{
    cw_error err = {0};
    bench_row row = {.bytes = bytes, .zeros = c->zeros, .threads = c->plan->threads};
    snprintf(row.variant, sizeof row.variant, "%s", cw_cpu_variant());
    snprintf(row.codec, sizeof row.codec, "%s", c->spec);
    cw_status status = case_prepare(c, &err);
    if (status == CW_OK)
        status = case_run(c, bytes, &row, &err);
    case_free(c);
    if (status != CW_OK)
        return cli_fail_error("bench codec", status, &err);
    bench_row_print(&row, out);
    fflush(out);
    return CLI_GO_ON;
}

static int measure_codecs(bench_case c, size_t bytes, FILE *out)
{
    const size_t count = c.plan->codec ? 1 : sizeof settings / sizeof settings[0];
    for (size_t i = 0; i < count; i++) {
        c.spec = c.plan->codec ? c.plan->codec : settings[i];
        c.x = of_gradients(c.spec) && c.gradient ? c.gradient : c.map;
        const int code = measure_one(&c, bytes, out);
        if (code != CLI_GO_ON)
            return code;
    }
    return CLI_GO_ON;
}

static int out_of_memory(size_t bytes)
{
    return cli_fail(CLI_FAILURE, "bench codec: out of memory for 4 x %zu bytes", bytes);
}

static int measure_size(const bench_plan *plan, size_t bytes, FILE *out)
{
    const int64_t samples = (int64_t)(bytes / sizeof(float) / BENCH_SAMPLE);
    const cw_shape shape = cw_shape_of(4, (int64_t[]){samples, BENCH_CHANNELS, BENCH_SIDE, BENCH_SIDE});
    cw_tensor x = {0}, gradient = {0};
    bench_case c = {.plan = plan, .map = &x, .gradient = &gradient};
    int code = CLI_GO_ON;
    if (cw_tensor_alloc(&x, CW_F32, &shape) != CW_OK || cw_tensor_alloc(&gradient, CW_F32, &shape) != CW_OK ||
        cw_tensor_alloc(&c.copy, CW_F32, &shape) != CW_OK || cw_tensor_alloc(&c.back, CW_F32, &shape) != CW_OK)
        code = out_of_memory(bytes);
    for (size_t z = 0; code == CLI_GO_ON && z < plan->zero_count; z++) {
        c.zeros = plan->zeros[z];
        bench_fill(x.data, bytes / sizeof(float), c.zeros);
        bench_fill_gradient(gradient.data, bytes / sizeof(float), c.zeros);
        memset(c.copy.data, 0, bytes);
        memset(c.back.data, 0, bytes);
        code = measure_codecs(c, bytes, out);
    }
    cw_tensor_free(&x);
    cw_tensor_free(&gradient);
    cw_tensor_free(&c.copy);
    cw_tensor_free(&c.back);
    return code;
}

/* In hundredths; n > 0. */
static double share_of_zeros(const cw_tensor *x, size_t n)
{
    size_t zeros = 0;
    for (size_t i = 0; i < n; i++)
        zeros += ((const float *)x->data)[i] == 0;
    return floor(100 * (double)zeros / (double)n + 0.5) / 100;
}

/* A tensor of the user's. */
static int measure_input(const bench_plan *plan, FILE *out)
{
    cw_tensor x = {0};
    cw_error err = {0};
    bench_case c = {.plan = plan, .map = &x};
    int code = CLI_GO_ON;
    size_t bytes = sizeof(float);
    cw_status status = cw_npy_load(plan->input, &x, &err);
    if (status != CW_OK)
        return cli_fail_error("bench codec", status, &err);
    for (int i = 0; i < x.shape.ndim; i++)
        bytes *= (size_t)x.shape.dim[i];
    if (x.dtype != CW_F32 || bytes == 0)
        code =
            cli_fail(CLI_FAILURE, "bench codec: %s holds no f32 elements: only such tensors are measured", plan->input);
    else if (cw_tensor_alloc(&c.copy, CW_F32, &x.shape) != CW_OK || cw_tensor_alloc(&c.back, CW_F32, &x.shape) != CW_OK)
        code = out_of_memory(bytes);
    if (code == CLI_GO_ON) {
        memset(c.copy.data, 0, bytes);
        memset(c.back.data, 0, bytes);
        c.zeros = share_of_zeros(&x, bytes / sizeof(float));
        code = measure_codecs(c, bytes, out);
    }
    cw_tensor_free(&x);
    cw_tensor_free(&c.copy);
    cw_tensor_free(&c.back);
    return code;
}

int bench_codec_measure(const bench_plan *plan, FILE *out)
{
    int code = CLI_GO_ON;
    if (plan->input)
        return measure_input(plan, out);
    for (size_t s = 0; code == CLI_GO_ON && s < plan->byte_count; s++)
        code = measure_size(plan, plan->bytes[s], out);
    return code;
}
