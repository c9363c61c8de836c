/* bench_measure.c - times memcpy, encode and decode in turns, so that whatever else the machine does slows all alike.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "bench_data.h"
#include "bench_timing.h"

/* The settings that the paper compares at one size; other families run with their defaults. */
static const char *const settings[] = {"ms:r=0.99,b=2", "sp:r=0.95875", "rt:r=0.95875", "qu:b=3"};

static const char *setting_of(const char *family)
{
    const size_t length = strlen(family);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (strncmp(settings[i], family, length) == 0 && settings[i][length] == ':')
            return settings[i];
    return family;
}

/* Everything one case needs, allocated before the clock starts. */
typedef struct bench_case {
    const char *spec;
    const bench_plan *plan;
    double zeros;
    const cw_tensor *x;
    cw_tensor copy, back, payload, work;
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
    c->decode = (cw_decode_args){.threads = c->plan->threads};
    return status;
}

static void case_free(bench_case *c)
{
    cw_codec_destroy(&c->codec);
    cw_tensor_free(&c->payload);
    cw_tensor_free(&c->work);
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
    if (c.plan->codec) {
        c.spec = c.plan->codec;
        return measure_one(&c, bytes, out);
    }
    for (size_t i = 0; i < cw_codec_family_count(); i++) {
        c.spec = setting_of(cw_codec_family_at(i)->name);
        const int code = measure_one(&c, bytes, out);
        if (code != CLI_GO_ON)
            return code;
    }
    return CLI_GO_ON;
}

static int measure_size(const bench_plan *plan, size_t bytes, FILE *out)
{
    const int64_t samples = (int64_t)(bytes / sizeof(float) / BENCH_SAMPLE);
    const cw_shape shape = cw_shape_of(4, (int64_t[]){samples, BENCH_CHANNELS, BENCH_SIDE, BENCH_SIDE});
    cw_tensor x = {0};
    bench_case c = {.plan = plan, .x = &x};
    int code = CLI_GO_ON;
    if (cw_tensor_alloc(&x, CW_F32, &shape) != CW_OK || cw_tensor_alloc(&c.copy, CW_F32, &shape) != CW_OK ||
        cw_tensor_alloc(&c.back, CW_F32, &shape) != CW_OK)
        code = cli_fail(CLI_FAILURE, "bench codec: out of memory for 3 x %zu bytes", bytes);
    for (size_t z = 0; code == CLI_GO_ON && z < plan->zero_count; z++) {
        c.zeros = plan->zeros[z];
        bench_fill(x.data, bytes / sizeof(float), c.zeros);
        memset(c.copy.data, 0, bytes);
        memset(c.back.data, 0, bytes);
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
    for (size_t s = 0; code == CLI_GO_ON && s < plan->byte_count; s++)
        code = measure_size(plan, plan->bytes[s], out);
    return code;
}
