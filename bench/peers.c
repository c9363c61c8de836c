/* peers.c - what others make of the same tensors, as rows for `cutwire bench codec`. Never part of the product.
 *
 * usage: cutwire-bench-peers BYTES,... ZEROS,... SECONDS
 * Rows: peer, setting, bytes, share of zeros, threads, compressed bytes, seconds of memcpy, encode, decode. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zfp.h>
#include <zstd.h>

#include "bench_data.h"
#include "bench_timing.h"
#include "cutwire/codec.h"

/* One way to compress; each function returns bytes written, 0 on failure. */
typedef struct peer {
    const char *name, *setting;
    size_t (*encode)(const struct peer *p, const float *x, size_t n, void *out, size_t capacity);
    size_t (*decode)(const struct peer *p, const void *in, size_t size, float *x, size_t n);
    double rate; /* bits for each value */
} peer;

static void *scratch; /* for the packed payload that zstd gets */
static size_t scratch_size;

/* ---- zfp ---- */

/* Rows of a map as the second dimension: neighbours lie in blocks of 4 x 4. */
static size_t zfp_run(const peer *p, float *x, size_t n, void *buffer, size_t size, bool encode)
{
    zfp_field *field = zfp_field_2d(x, zfp_type_float, BENCH_SIDE, n / BENCH_SIDE);
    zfp_stream *zfp = zfp_stream_open(NULL);
    bitstream *bits = stream_open(buffer, size);
    zfp_stream_set_rate(zfp, p->rate, zfp_type_float, 2, false);
    zfp_stream_set_bit_stream(zfp, bits);
    zfp_stream_rewind(zfp);
    const size_t done = encode ? zfp_compress(zfp, field) : zfp_decompress(zfp, field);
    stream_close(bits);
    zfp_stream_close(zfp);
    zfp_field_free(field);
    return done;
}

static size_t zfp_encode(const peer *p, const float *x, size_t n, void *out, size_t capacity)
{
    return zfp_run(p, (float *)(uintptr_t)x, n, out, capacity, true);
}

static size_t zfp_decode(const peer *p, const void *in, size_t size, float *x, size_t n)
{
    return zfp_run(p, x, n, (void *)(uintptr_t)in, size, false) ? n * sizeof *x : 0;
}

/* ---- zstd ---- */

static size_t checked(size_t result)
{
    return ZSTD_isError(result) ? 0 : result;
}

static size_t zstd_encode(const peer *p, const float *x, size_t n, void *out, size_t capacity)
{
    (void)p;
    return checked(ZSTD_compress(out, capacity, x, n * sizeof *x, 1));
}

static size_t zstd_decode(const peer *p, const void *in, size_t size, float *x, size_t n)
{
    (void)p;
    return checked(ZSTD_decompress(x, n * sizeof *x, in, size));
}

/* ---- zstd on our packed payload: both together ---- */

static cw_tensor tensor_of(const float *x, size_t n)
{
    const int64_t samples = (int64_t)(n / BENCH_SAMPLE);
    const cw_shape shape = cw_shape_of(4, (int64_t[]){samples, BENCH_CHANNELS, BENCH_SIDE, BENCH_SIDE});
    return cw_tensor_view(CW_F32, &shape, (float *)(uintptr_t)x);
}

static size_t packed_encode(const peer *p, const float *x, size_t n, void *out, size_t capacity)
{
    const cw_tensor in = tensor_of(x, n);
    cw_codec *codec = NULL;
    size_t size = 0;
    (void)p;
    if (cw_codec_create("ms:r=0.99,b=2", &codec, NULL) != CW_OK ||
        cw_encode(codec, &in, NULL, scratch, scratch_size, &size, NULL) != CW_OK)
        size = 0;
    cw_codec_destroy(&codec);
    return size ? checked(ZSTD_compress(out, capacity, scratch, size, 1)) : 0;
}

static size_t packed_decode(const peer *p, const void *in, size_t size, float *x, size_t n)
{
    cw_tensor out = tensor_of(x, n);
    const size_t packed = checked(ZSTD_decompress(scratch, scratch_size, in, size));
    (void)p;
    return packed && cw_decode(scratch, packed, &out, NULL, NULL) == CW_OK ? n * sizeof *x : 0;
}

static const peer peers[] = {
    {"zfp", "2 bits a value", zfp_encode, zfp_decode, 2},
    {"zfp", "3 bits a value", zfp_encode, zfp_decode, 3},
    {"zstd", "level 1, fp32", zstd_encode, zstd_decode, 0},
    {"zstd", "level 1, ms payload", packed_encode, packed_decode, 0},
};

/* ---- measuring ---- */

typedef struct buffers {
    float *x, *copy, *back;
    void *packed;
    size_t bytes, capacity;
} buffers;

static bool measure(const peer *p, const buffers *b, double zeros, double seconds)
{
    double copied[BENCH_MAX_RUNS], encoded[BENCH_MAX_RUNS], decoded[BENCH_MAX_RUNS];
    const size_t n = b->bytes / sizeof(float);
    const double end = bench_now() + seconds;
    const int repeats = bench_repeats(b->bytes);
    size_t runs = 0, size = 0;
    for (; runs < BENCH_MAX_RUNS && (runs < BENCH_MIN_RUNS || bench_now() < end); runs++) {
        bool good = true;
        const double t0 = bench_busy();
        for (int i = 0; i < repeats; i++)
            memcpy(b->copy, b->x, b->bytes);
        const double t1 = bench_busy();
        for (int i = 0; i < repeats && good; i++) {
            size = p->encode(p, b->x, n, b->packed, b->capacity);
            good = size > 0;
        }
        const double t2 = bench_busy();
        for (int i = 0; i < repeats && good; i++)
            good = p->decode(p, b->packed, size, b->back, n) > 0;
        const double t3 = bench_busy();
        if (!good)
            return false;
        copied[runs] = (t1 - t0) / repeats;
        encoded[runs] = (t2 - t1) / repeats;
        decoded[runs] = (t3 - t2) / repeats;
    }
    printf("%s\t%s\t%zu\t%g\t1\t%zu\t%.9f\t%.9f\t%.9f\n", p->name, p->setting, b->bytes, zeros, size,
           bench_median(copied, runs), bench_median(encoded, runs), bench_median(decoded, runs));
    fflush(stdout);
    return true;
}

static bool measure_size(size_t bytes, const char *zeros, double seconds)
{
    buffers b = {.bytes = bytes, .capacity = ZSTD_compressBound(bytes) + 65536};
    b.x = malloc(bytes);
    b.copy = calloc(1, bytes);
    b.back = calloc(1, bytes);
    b.packed = malloc(b.capacity);
    scratch = malloc(b.capacity);
    scratch_size = b.capacity;
    bool good = b.x && b.copy && b.back && b.packed && scratch;
    for (const char *z = zeros; good && z; z = strchr(z, ',') ? strchr(z, ',') + 1 : NULL) {
        const double share = strtod(z, NULL);
        bench_fill(b.x, bytes / sizeof(float), share);
        for (size_t i = 0; good && i < sizeof peers / sizeof peers[0]; i++)
            good = measure(&peers[i], &b, share, seconds);
    }
    free(b.x);
    free(b.copy);
    free(b.back);
    free(b.packed);
    free(scratch);
    return good;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: cutwire-bench-peers BYTES,... ZEROS,... SECONDS\n", stderr);
        return 2;
    }
    for (const char *s = argv[1]; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
        if (!measure_size((size_t)strtoull(s, NULL, 10), argv[2], strtod(argv[3], NULL)))
            return 1;
    return 0;
}
