/* test_ctx.c - entropy=ctx: the same tensor from fewer bytes, whatever the shape, and no harm from damaged ones. */
#include "codec/ctx.h"
#include "codec/payload.h"
#include "codec_test.h"

/* Every seventh element becomes -0. */
static void add_negative_zeros(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 7)
        x[i] = -0.0f;
}

/* Planes with structure: neighbours resemble each other, channels differ. */
static float *smooth_map(size_t planes, size_t channels, size_t height, size_t width, bool negatives)
{
    float *x = cwi_alloc(planes * height * width + 1, sizeof *x);
    cwi_rng r = cwi_rng_make(7, CWI_STREAM_TEST, planes, width);
    for (size_t p = 0; p < planes; p++) {
        const double bias = 0.3 + (double)(p % channels) / (double)channels, phase = 6 * cwi_rng_double(&r);
        for (size_t i = 0; i < height * width; i++) {
            double v = sin((double)(i / width) * 0.5 + phase) + sin((double)(i % width) * 0.4) - bias;
            v += 0.2 * cwi_rng_normal(&r);
            x[p * height * width + i] = (float)(negatives || v > 0 ? v : 0);
        }
    }
    return x;
}

typedef struct sample {
    int ndim;
    int64_t dim[5];
} sample;

static const sample samples[] = {{0, {0}},           {1, {1}},           {1, {1000}},          {2, {3, 500}},
                                 {2, {64, 40}},      {3, {2, 31, 17}},   {3, {1, 2, 5000}},    {4, {2, 5, 1, 1}},
                                 {4, {9, 5, 2, 2}},  {4, {3, 37, 7, 5}}, {4, {1, 3, 40, 50}},  {4, {5, 100, 26, 26}},
                                 {4, {18, 6, 8, 8}}, {4, {67, 5, 4, 4}}, {5, {2, 3, 2, 8, 8}}, {4, {15, 7, 8, 8}},
                                 {4, {16, 7, 8, 8}}, {4, {17, 7, 8, 8}}, {4, {33, 7, 8, 8}},   {3, {1, 2, 4096}},
                                 {3, {1, 3, 4097}},  {3, {2, 63, 1}},    {4, {1, 1, 65, 63}}};

static const char *const kinds[] = {"ms:r=0.99,b=2",
                                    "ms:r=0.9,b=1",
                                    "ms:r=0.95,b=3,recon=centroid,scope=sample",
                                    "ms:r=0.5,b=4",
                                    "ms:r=0.99,b=8",
                                    "ms:r=0.9,b=6,recon=centroid,values=bf16",
                                    "ms:r=0.9999,b=2",
                                    "ms:r=0.95,b=5",
                                    "ms:r=0.9,b=7,round=floor",
                                    "ms:r=0.8,b=2,round=floor,values=fp16",
                                    "ms:r=0,b=3",
                                    "ms:r=0,b=5,recon=centroid,values=fp16,scope=sample",
                                    "ms:r=0.97,b=3,recon=edge,scope=sample",
                                    "ms:r=0.9,b=5,round=floor,recon=centroid,scope=sample"};

static size_t count_of(const sample *s)
{
    size_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        n *= (size_t)s->dim[i];
    return n;
}

static void check_same(const char *plain, const cw_tensor *x, size_t n)
{
    char coded[160];
    snprintf(coded, sizeof coded, "%s,entropy=ctx", plain);
    packed p = encode(plain, x), q = encode(coded, x);
    float *a = cwi_alloc(n + 1, sizeof *a), *b = cwi_alloc(n + 1, sizeof *b);
    decode_floats(&p, x, a);
    decode_floats(&q, x, b);
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: element %zu is %g, not %g", coded, i, (double)b[i], (double)a[i]);
    assert_true(q.size <= p.size);
    cw_codec *codec = codec_of(coded); /* no more room than it takes is enough */
    uint8_t *exact = malloc(q.size);
    size_t size;
    assert_ok(cw_encode(codec, x, NULL, exact, q.size, &size, NULL));
    assert_memory_equal(exact, q.bytes, q.size);
    cw_codec_destroy(&codec);
    free(exact);
    free(p.bytes);
    free(q.bytes);
    cwi_free(a);
    cwi_free(b);
}

static float *map_of(const sample *s, size_t n, bool negatives, uint64_t seed)
{
    const int64_t *d = s->dim;
    if (s->ndim == 4)
        return related_map((size_t)d[0], (size_t)d[1], (size_t)d[2], (size_t)d[3], negatives);
    return n >= 2000 ? smooth_map(n / 20 + 1, 4, 4, 5, negatives) : random_map(n, 0.6, negatives, seed);
}

static void coded_masks_decode_to_the_same(void **state)
{
    (void)state;
    for (size_t s = 0; s < CWI_COUNT(samples); s++) {
        const cw_shape shape = cw_shape_of(samples[s].ndim, samples[s].dim);
        const size_t n = count_of(&samples[s]);
        for (int negatives = 0; negatives < 2; negatives++) {
            float *x = map_of(&samples[s], n, negatives, s);
            if (s & 1)
                add_negative_zeros(x, n);
            cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
            for (size_t k = 0; k < CWI_COUNT(kinds); k++)
                check_same(kinds[k], &t, n);
            cwi_free(x);
        }
    }
}

static void empty_and_constant_maps_decode_to_the_same(void **state)
{
    (void)state;
    enum { N = 3 * 4 * 5 * 5 };
    static const float values[] = {0.0f, -0.0f, 1.0f, -2.0f, 1e-42f};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){3, 4, 5, 5}), none = cw_shape_of(2, (int64_t[]){0, 5});
    float x[N];
    for (size_t v = 0; v < CWI_COUNT(values); v++) {
        for (size_t i = 0; i < N; i++)
            x[i] = values[v];
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x), empty = cw_tensor_view(CW_F32, &none, x);
        for (size_t k = 0; k < CWI_COUNT(kinds); k++) {
            check_same(kinds[k], &t, N);
            check_same(kinds[k], &empty, 0);
        }
    }
}

static void structure_is_exploited(void **state)
{
    (void)state;
    const cw_shape shape = cw_shape_of(4, (int64_t[]){8, 32, 16, 16});
    float *x = smooth_map(8 * 32, 32, 16, 16, false);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    packed p = encode("ms", &t), q = encode("ms:entropy=ctx", &t);
    assert_true(2 * q.size < p.size);
    free(p.bytes);
    free(q.bytes);
    cwi_free(x);
}

/* The same planes, but each channel with those of another sample: nothing foretells it then. */
static float *mixed_up(const float *x, size_t count, size_t channels, size_t plane)
{
    float *y = cwi_alloc(count * channels * plane, sizeof *y);
    for (size_t n = 0; n < count; n++)
        for (size_t c = 0; c < channels; c++)
            memcpy(y + (n * channels + c) * plane, x + ((n + c) % count * channels + c) * plane, plane * sizeof *y);
    return y;
}

static void channels_foretell_each_other(void **state)
{
    (void)state;
    enum { SAMPLES = 40, CHANNELS = 24, SIDE = 12 };
    static const char *const specs[] = {"ms:entropy=ctx,values=bf16", "ec:err=0.2"};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){SAMPLES, CHANNELS, SIDE, SIDE});
    float *x = related_map(SAMPLES, CHANNELS, SIDE, SIDE, false), *y = mixed_up(x, SAMPLES, CHANNELS, SIDE * SIDE);
    cw_tensor together = cw_tensor_view(CW_F32, &shape, x), apart = cw_tensor_view(CW_F32, &shape, y);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &together), q = encode(specs[i], &apart);
        assert_true(p.size < 0.8 * (double)q.size);
        free(p.bytes);
        free(q.bytes);
    }
    cwi_free(x);
    cwi_free(y);
}

/* Values of few bits take few: what bf16 keeps of them is all there is. */
static void values_take_the_bits_they_have(void **state)
{
    (void)state;
    const size_t n = 100000;
    float *x = random_map(n, 0.5, true, 3), *y = cwi_alloc(n, sizeof *y);
    cw_tensor t = tensor_1d(x, n);
    packed all = encode("ms:r=0.9,entropy=ctx", &t), half = encode("bf16", &t);
    decode_floats(&half, &t, y);
    memcpy(x, y, n * sizeof *x);
    packed few = encode("ms:r=0.9,entropy=ctx", &t);
    decode_floats(&few, &t, y);
    assert_true(few.size + n / 10 * 15 / 8 < all.size);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        kept += x[i] == y[i];
    assert_true(kept >= n / 10);
    free(all.bytes);
    free(half.bytes);
    free(few.bytes);
    cwi_free(x);
    cwi_free(y);
}

static void check_threads(const cw_shape *shape, float *x, size_t n)
{
    cw_tensor t = cw_tensor_view(CW_F32, shape, x);
    packed one = encode("ms:entropy=ctx", &t), plain = encode("ms", &t);
    assert_true(one.size < plain.size);
    assert_threads_agree("ms:entropy=ctx", &t, n);
    free(one.bytes);
    free(plain.bytes);
}

/* One block; several, the last one short, of channels that refer to others; and of one long row. */
static void bytes_do_not_depend_on_threads(void **state)
{
    (void)state;
    float *x = smooth_map(1000, 100, 28, 28, true);
    check_threads(&(cw_shape){.ndim = 4, .dim = {10, 100, 28, 28}}, x, 10 * 100 * 784);
    check_threads(&(cw_shape){.ndim = 1, .dim = {600000}}, x, 600000);
    check_threads(&(cw_shape){.ndim = 3, .dim = {70, 100, 98}}, x, 70 * 9800);
    cwi_free(x);
    x = related_map(100, 64, 12, 12, false);
    check_threads(&(cw_shape){.ndim = 4, .dim = {100, 64, 12, 12}}, x, 100 * 64 * 144);
    check_threads(&(cw_shape){.ndim = 2, .dim = {1600, 576}}, x, 1600 * 576);
    cwi_free(x);
}

static void bf16_tensors_are_coded_as_their_floats(void **state)
{
    (void)state;
    static const char *const specs[] = {"ms:entropy=ctx", "ms:r=0.9,b=6,recon=centroid,values=bf16,entropy=ctx",
                                        "ms:r=0.95,b=3,scope=sample,entropy=ctx"};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){33, 7, 12, 12});
    const size_t n = 33 * 7 * 144;
    for (int negatives = 0; negatives < 2; negatives++) {
        float *x = related_map(33, 7, 12, 12, negatives);
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
        for (size_t i = 0; i < CWI_COUNT(specs); i++)
            assert_bf16_alike(specs[i], &t, n);
        cwi_free(x);
    }
}

/* Damage with a right checksum, in all parts of the body. */
static void damaged_streams_are_refused_or_decoded(void **state)
{
    (void)state;
    const cw_shape shape = cw_shape_of(4, (int64_t[]){4, 16, 9, 9});
    enum { N = 4 * 16 * 81 };
    float *x = smooth_map(64, 16, 9, 9, true), *y = cwi_alloc(N, sizeof *y);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    packed p = encode("ms:r=0.98,entropy=ctx", &t);
    cwi_rng r = cwi_rng_make(3, CWI_STREAM_TEST, 0, 0);
    size_t refused = 0;
    for (int round = 0; round < 5000; round++) {
        uint8_t *bad = malloc(p.size);
        memcpy(bad, p.bytes, p.size);
        for (uint64_t changes = 1 + cwi_rng_below(&r, 4); changes; changes--)
            bad[64 + cwi_rng_below(&r, round & 1 ? 200 : p.size - 64)] = (uint8_t)cwi_rng_u64(&r);
        cwi_payload_seal(bad, p.size);
        refused += cw_decode(bad, p.size, &out, &(cw_decode_args){.threads = round % 3}, NULL) != CW_OK;
        free(bad);
    }
    assert_true(refused > 2500);
    free(p.bytes);
    cwi_free(x);
    cwi_free(y);
}

/* ---- tables of few elements ---- */

/* Symbols about one that grows with the context, as of `elements` of them. */
static void draw_counts(unsigned symbols, size_t elements, uint64_t seed, cwi_ctx_counts counts)
{
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_TEST, symbols, elements);
    memset(counts, 0, sizeof(cwi_ctx_counts));
    for (size_t i = 0; i < elements; i++) {
        const unsigned c = (unsigned)cwi_rng_below(&r, CWI_CONTEXTS);
        const double v = (double)(c * symbols) / CWI_CONTEXTS + cwi_rng_normal(&r) + 0.5;
        counts[c][(unsigned)CWI_MAX(CWI_MIN(v, symbols - 1.0), 0.0)]++;
    }
}

/* What was put comes back, takes about what was said, and is no such when it is cut or not asked for. */
static void check_tables(const cwi_ctx_shape *s, cwi_ctx_tables *t, cwi_ctx_counts counts)
{
    cwi_ctx_set sets[CWI_CTX_SHARED] = {{0}};
    uint8_t of[CWI_CTX_SHARED] = {0}, *bytes = cwi_alloc(cwi_ctx_tables_bound(s), 1);
    cwi_ctx_tables back = {.sets = sets, .of = of};
    const double bits = cwi_ctx_choose(s, counts, true, t);
    const double tables = bits - cwi_ctx_cost(t, counts);
    const size_t size = (size_t)(cwi_ctx_tables_put(t, s, bytes) - bytes);
    assert_true(fabs(8.0 * (double)size - tables) <= 8 + 0.3 * tables);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1); /* exactly as long, for sanitizers */
        memcpy(part, bytes, cut);
        assert_null(cwi_ctx_tables_get(part, part + cut, s, true, &back));
        free(part);
    }
    assert_ptr_equal(cwi_ctx_tables_get(bytes, bytes + size, s, true, &back), bytes + size);
    assert_memory_equal(back.model.start, t->model.start, sizeof t->model.start);
    assert_true(back.mode == t->mode && back.coarse == t->coarse);
    if (t->coarse)
        assert_null(cwi_ctx_tables_get(bytes, bytes + size, s, false, &back));
    cwi_free(bytes);
}

static void few_elements_have_coarse_tables(void **state)
{
    (void)state;
    static const unsigned symbols[] = {2, 3, 7, 12, 16};
    static cwi_ctx_counts counts;
    const cw_shape shape = cw_shape_of(4, (int64_t[]){1, 1, 8, 8});
    cwi_ctx_shape s;
    cwi_ctx_shape_of(&shape, 64, &s);
    for (size_t i = 0; i < CWI_COUNT(symbols); i++)
        for (size_t elements = 64; elements <= 1 << 22; elements *= 4) {
            cwi_ctx_set sets[CWI_CTX_SHARED] = {{0}};
            uint8_t of[CWI_CTX_SHARED] = {0};
            cwi_ctx_tables t = {.mode = CWI_CTX_SHARE, .shared = 1, .sets = sets, .of = of};
            draw_counts(symbols[i], elements, i, counts);
            check_tables(&s, &t, counts);
            if (symbols[i] > 3)
                assert_true(t.coarse ? elements < 1 << 22 : elements > 1 << 14);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coded_masks_decode_to_the_same),
        cmocka_unit_test(empty_and_constant_maps_decode_to_the_same),
        cmocka_unit_test(structure_is_exploited),
        cmocka_unit_test(channels_foretell_each_other),
        cmocka_unit_test(values_take_the_bits_they_have),
        cmocka_unit_test(bytes_do_not_depend_on_threads),
        cmocka_unit_test(bf16_tensors_are_coded_as_their_floats),
        cmocka_unit_test(damaged_streams_are_refused_or_decoded),
        cmocka_unit_test(few_elements_have_coarse_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
