/* test_ec.c - ec meets its error or its budget, is unbiased where it says so, and takes any tensor. */
#include <float.h>

#include "codec/payload.h"
#include "codec_test.h"

enum { N = 8, C = 24, H = 12, W = 10, ELEMENTS = N * C * H * W };

/* Smooth planes; heavy: with rare elements a hundred times as large. */
static float *map_of(bool negatives, bool heavy, uint64_t seed)
{
    float *x = cwi_alloc(ELEMENTS, sizeof *x);
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < ELEMENTS; i++) {
        const double row = (double)(i / W % H), column = (double)(i % W), plane = (double)(i / (W * H));
        double v = sin(row * 0.5 + plane) + sin(column * 0.4 + 2 * plane) - 0.4 + 0.2 * cwi_rng_normal(&r);
        if (heavy && cwi_rng_below(&r, 2000) == 0)
            v *= 100 * cwi_rng_normal(&r);
        x[i] = (float)(negatives || v > 0 ? v : 0);
    }
    return x;
}

static cw_tensor tensor_of(float *x)
{
    const cw_shape shape = cw_shape_of(4, (int64_t[]){N, C, H, W});
    return cw_tensor_view(CW_F32, &shape, x);
}

/* The relative error. */
static double error_of(const char *spec, const cw_tensor *t, size_t n, size_t *size)
{
    float *y = cwi_alloc(n + 1, sizeof *y), *zeros = cwi_calloc(n + 1, sizeof *zeros);
    packed p = encode(spec, t);
    decode_floats(&p, t, y);
    const double error = l2_distance(t->data, y, n) / l2_distance(t->data, zeros, n);
    *size = p.size;
    free(p.bytes);
    cwi_free(y);
    cwi_free(zeros);
    return error;
}

static void errors_are_met(void **state)
{
    (void)state;
    static const double targets[] = {0.5, 0.25, 0.1, 0.01, 0.001};
    static const char *const more[] = {"", ",scope=sample", ",round=stochastic"};
    static const double least[] = {0.98, 0.97, 0.97}, most[] = {1.006, 1.03, 1.03};
    for (int kind = 0; kind < 4; kind++) {
        float *x = map_of(kind & 1, kind & 2, 5);
        cw_tensor t = tensor_of(x);
        for (size_t m = 0; m < CWI_COUNT(more); m++) {
            size_t before = 0;
            for (size_t i = 0; i < CWI_COUNT(targets); i++) {
                char spec[80];
                size_t size;
                snprintf(spec, sizeof spec, "ec:err=%g%s", targets[i], more[m]);
                const double error = error_of(spec, &t, ELEMENTS, &size);
                const double few = kind & 2 ? 0.88 : 1; /* hardly any elements have most of the energy */
                if (error > most[m] * targets[i] || error < few * least[m] * targets[i])
                    fail_msg("%s, map %d: the error is %g", spec, kind, error);
                assert_true(size > before);
                before = size;
            }
        }
        cwi_free(x);
    }
}

/* The error that each symbol's mean as its level would leave, at a step of `steps` times the root mean square. */
static double error_of_means(const float *x, size_t n, double steps)
{
    double sum[8] = {0}, square[8] = {0}, count[8] = {0}, all = 0;
    for (size_t i = 0; i < n; i++)
        all += (double)x[i] * (double)x[i];
    const double step = steps * sqrt(all / (double)n);
    double error = all;
    for (size_t i = 0; i < n; i++) {
        const double v = fabs((double)x[i]) / step;
        const size_t q = (size_t)(v + 0.5);
        assert_true(q < 8);
        count[q]++;
        sum[q] += v;
        square[q] += v * v;
    }
    for (size_t q = 1; q < 8; q++)
        error -= count[q] > 0 ? step * step * sum[q] * sum[q] / count[q] : 0;
    return sqrt(error / all);
}

/* What is expected of an element in its context is nearer than what is expected of its symbol. */
static void classes_of_contexts_have_levels_of_their_own(void **state)
{
    (void)state;
    enum { SAMPLES = 32, CHANNELS = 12, SIDE = 16, COUNT = SAMPLES * CHANNELS * SIDE * SIDE };
    static const double most[] = {0.9, 0.97}; /* zeros of tensors with negative numbers stay 0 */
    for (int negatives = 0; negatives < 2; negatives++) {
        float *x = related_map(SAMPLES, CHANNELS, SIDE, SIDE, negatives), *y = cwi_alloc(COUNT, sizeof *y);
        const cw_shape shape = cw_shape_of(4, (int64_t[]){SAMPLES, CHANNELS, SIDE, SIDE});
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
        size_t size;
        const double error = error_of("ec:step=1", &t, COUNT, &size), means = error_of_means(x, COUNT, 1);
        if (error > most[negatives] * means)
            fail_msg("the error is %g, symbols' means would leave %g", error, means);
        packed p = encode("ec:step=1", &t);
        decode_floats(&p, &t, y);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(y[i] >= 0 || negatives);
        cwi_free(x);
        cwi_free(y);
        free(p.bytes);
    }
}

/* Few elements, large errors, planes whose rows differ: where levels pay at one step and not at the next, and where a
 * sample of positions would mislead. */
static void errors_are_met_on_odd_maps(void **state)
{
    (void)state;
    static const size_t shapes[][4] = {{15, 15, 9, 9}, {18, 22, 4, 4},  {7, 2, 16, 16},
                                       {40, 6, 8, 8},  {256, 64, 5, 5}, {64, 96, 7, 7}};
    static const double targets[] = {0.1, 0.25, 0.4, 0.55, 0.8};
    for (size_t i = 0; i < CWI_COUNT(shapes); i++) {
        const size_t *d = shapes[i], n = d[0] * d[1] * d[2] * d[3];
        float *x = related_map(d[0], d[1], d[2], d[3], false);
        for (size_t j = 0; j < n; j++)
            x[j] = j / d[3] % d[2] > d[2] / 2 ? 3 * x[j] : CWI_MAX(x[j] - 0.5f, 0.0f);
        const cw_shape shape = cw_shape_of(4, (int64_t[]){(int64_t)d[0], (int64_t)d[1], (int64_t)d[2], (int64_t)d[3]});
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
        for (size_t k = 0; k < CWI_COUNT(targets); k++) {
            char spec[40];
            size_t size;
            snprintf(spec, sizeof spec, "ec:err=%g", targets[k]);
            const double error = error_of(spec, &t, n, &size);
            if (error > 1.02 * targets[k])
                fail_msg("%s, map %zu: the error is %g", spec, i, error);
        }
        cwi_free(x);
    }
}

/* Most of the energy in a few elements of many, scattered or side by side, up to the last one: a sample of lines may
 * have none of them. */
static void errors_are_met_where_few_elements_matter(void **state)
{
    (void)state;
    enum { MANY = (1 << 20) + 40 }; /* so many that some lines alone are looked at first */
    static const size_t few[] = {1, 3, 64, 8192};
    float *x = cwi_alloc(MANY, sizeof *x);
    const cw_shape shape = cw_shape_of(1, (int64_t[]){MANY});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    cwi_rng r = cwi_rng_make(11, CWI_STREAM_TEST, 0, 0);
    for (size_t k = 0; k < 4 * CWI_COUNT(few); k++) {
        const size_t count = few[k / 4];
        const bool scattered = k & 1, others = k & 2;
        for (size_t i = 0; i < MANY; i++)
            x[i] = others ? CWI_MAX((float)cwi_rng_normal(&r), 0.0f) : 0;
        const size_t first = MANY - count;
        for (size_t i = 0; i < count; i++) {
            const size_t at = scattered ? cwi_rng_below(&r, MANY) : first + i;
            x[at] = (float)(1 + cwi_rng_double(&r)) * 5000 / sqrtf((float)count);
        }
        size_t size;
        const double error = error_of("ec:err=0.25", &t, MANY, &size);
        if (error > 1.02 * 0.25)
            fail_msg("%zu elements, %s, others %s: the error is %g", count, scattered ? "scattered" : "at the end",
                     others ? "there" : "0", error);
    }
    cwi_free(x);
}

static void codes_of_zero_are_told(void **state)
{
    (void)state;
    static const char *const specs[] = {"ec:step=1", "ec:step=1,round=stochastic", "ms:r=0.9,b=2", "sp:r=0.9", "none"};
    float *x = related_map(32, 8, 8, 8, false), y[32 * 8 * 64];
    uint8_t sent[CWI_COUNT(y)];
    const cw_shape shape = cw_shape_of(4, (int64_t[]){32, 8, 8, 8});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    double square = 0;
    for (size_t i = 0; i < CWI_COUNT(y); i++)
        square += (double)x[i] * (double)x[i];
    const double half = 0.5 * sqrt(square / CWI_COUNT(y));
    for (size_t s = 0; s < CWI_COUNT(specs); s++) {
        packed p = encode(specs[s], &t);
        size_t expected = 0;
        assert_ok(cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.sent = sent}, NULL));
        for (size_t i = 0; i < CWI_COUNT(y); i++) {
            const bool is_zero = s ? y[i] == 0 : (double)x[i] < half;
            if (s == 0 && fabs((double)x[i] - half) < 1e-4 * half)
                continue;
            assert_int_equal(sent[i], !is_zero);
            expected += is_zero && y[i] != 0;
        }
        assert_true((s == 0) == (expected > 0)); /* where the code is 0 the first one expects more than that */
        free(p.bytes);
    }
    cwi_free(x);
}

/* Only what is rounded to nearest has levels. */
static void levels_of_classes_beside_random_rounding_are_refused(void **state)
{
    (void)state;
    float *x = related_map(32, 8, 8, 8, false), y[32 * 8 * 64];
    const cw_shape shape = cw_shape_of(4, (int64_t[]){32, 8, 8, 8});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    cw_payload_info info;
    for (int stochastic = 0; stochastic < 2; stochastic++) {
        packed p = encode(stochastic ? "ec:step=1,round=stochastic" : "ec:step=1", &t);
        assert_ok(cw_payload_inspect(p.bytes, p.size, &info, NULL));
        assert_int_equal(p.bytes[info.header_bytes] & 2, stochastic ? 0 : 2);
        p.bytes[info.header_bytes] ^= 2;
        cwi_payload_seal(p.bytes, p.size);
        assert_status(cw_decode(p.bytes, p.size, &out, NULL, NULL), stochastic ? CW_ERR_UNSUPPORTED : CW_ERR_CORRUPT);
        free(p.bytes);
    }
    cwi_free(x);
}

/* ---- few values ---- */

enum { FEW = 64 * 128 };

/* Tensors whose elements have few values, which lie on either side of a quantizer's thresholds together. */
static void few_values(int kind, double c, float *x)
{
    cwi_rng r = cwi_rng_make(11, CWI_STREAM_TEST, (uint64_t)kind, 0);
    for (size_t i = 0; i < FEW; i++) {
        const double u = cwi_rng_double(&r), g = cwi_rng_normal(&r);
        const double v[] = {1,
                            u < 0.5 ? -1 : 1,
                            u < 0.25 ? 1 : 0,
                            u < 0.02 ? 1 : 0,
                            i == 4000 ? 1 : 0,
                            floor(4 * u),
                            CWI_MIN(fabs(g), 1.0),
                            u < 0.9 ? 1 : g,
                            floor(200 * u) / 200,
                            i % 128 ? 0 : 1};
        x[i] = (float)(c * v[kind]);
    }
}

static void errors_are_met_on_few_values(void **state)
{
    (void)state;
    static const double targets[] = {0.5, 0.25, 0.1, 0.01, 0.001}, scales[] = {1, -3, 0.7071, 1.0078125, 6e-5, 1e30};
    static const char *const more[] = {"", ",scope=sample", ",round=stochastic"};
    static const double slack[] = {1.005, 1.05, 1.4}; /* few elements, at random */
    static float x[FEW];
    const cw_shape shape = cw_shape_of(2, (int64_t[]){64, 128});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (int kind = 0; kind < 10; kind++)
        for (size_t c = (size_t)kind % 2; c < CWI_COUNT(scales); c += 2) {
            few_values(kind, scales[c], x);
            for (size_t i = 0; i < CWI_COUNT(targets) * CWI_COUNT(more); i++) {
                char spec[80];
                const size_t kind_of = i % CWI_COUNT(more);
                const double target = targets[i / CWI_COUNT(more)];
                snprintf(spec, sizeof spec, "ec:err=%g%s", target, more[kind_of]);
                size_t size;
                const double error = error_of(spec, &t, FEW, &size);
                if (error > slack[kind_of] * target)
                    fail_msg("%s, kind %d times %g: the error is %g", spec, kind, scales[c], error);
            }
        }
}

/* The only element that is not 0 may be one that a sample does not see. */
static void a_rare_element_is_not_lost(void **state)
{
    (void)state;
    enum { SAMPLES = 64, LENGTH = 4096 };
    float *x = cwi_calloc(SAMPLES * LENGTH, sizeof *x), *y = cwi_alloc(SAMPLES * LENGTH, sizeof *y);
    const cw_shape shape = cw_shape_of(2, (int64_t[]){SAMPLES, LENGTH});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t at = 5; at < (size_t)SAMPLES * LENGTH; at += 9973) {
        x[at] = 2.5f;
        packed p = encode("ec:err=0.1,scope=sample", &t);
        decode_floats(&p, &t, y);
        assert_true(l2_distance(x, y, (size_t)SAMPLES * LENGTH) <= 0.25);
        x[at] = 0;
        free(p.bytes);
    }
    cwi_free(x);
    cwi_free(y);
}

static void maps_of_denormals_meet_their_error(void **state)
{
    (void)state;
    static const double scales[] = {1e-36, 1e-40, 3e-42};
    for (size_t s = 0; s < CWI_COUNT(scales); s++) {
        float *x = random_map(ELEMENTS, 0.3, false, 12);
        for (size_t i = 0; i < ELEMENTS; i++)
            x[i] = (float)(x[i] * scales[s]);
        cw_tensor t = tensor_of(x);
        size_t size;
        const double error = error_of("ec:err=0.25", &t, ELEMENTS, &size);
        if (error > 0.255)
            fail_msg("of maps times %g the error is %g", scales[s], error);
        cwi_free(x);
    }
}

/* ---- sizes ---- */

/* A larger budget gives a smaller error, down to none; sparse maps take far less than they may. */
static void budgets_are_used(void **state)
{
    (void)state;
    static const double zeros[] = {0, 0.5, 0.99};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){64, 16, 16, 16});
    const size_t n = 64 * 16 * 256;
    float *y = cwi_alloc(n, sizeof *y), *none = cwi_calloc(n, sizeof *none);
    for (size_t z = 0; z < CWI_COUNT(zeros); z++) {
        float *x = random_map(n, zeros[z], z == 0, 13);
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
        double before = 1.001;
        for (double bpe = 0.125; bpe <= 64; bpe *= 4) {
            char spec[40];
            snprintf(spec, sizeof spec, "ec:bpe=%g", bpe);
            packed p = encode(spec, &t);
            decode_floats(&p, &t, y);
            const double error = l2_distance(x, y, n) / l2_distance(x, none, n);
            if (error > before || (bpe > 40 && error > 1e-6) || (double)p.size * 8 > bpe * (double)n)
                fail_msg("%s, %g zeros: %zu bytes, an error of %g after %g", spec, zeros[z], p.size, error, before);
            if (zeros[z] < 0.9 && bpe < 10 && (double)p.size * 8 < 0.97 * bpe * (double)n)
                fail_msg("%s, %g zeros: %zu bytes are left unused", spec, zeros[z],
                         (size_t)(bpe * (double)n / 8) - p.size);
            before = error;
            free(p.bytes);
        }
        cwi_free(x);
    }
    cwi_free(y);
    cwi_free(none);
}

/* A few hundred bytes, too, are spent as well as an error of that size spends them. */
static void small_sizes_are_used_as_well_as_errors(void **state)
{
    (void)state;
    static const int64_t side[] = {6, 12, 20};
    for (size_t i = 0; i < CWI_COUNT(side); i++) {
        const cw_shape shape = cw_shape_of(4, (int64_t[]){1, 8, side[i], side[i]});
        const size_t n = (size_t)(8 * side[i] * side[i]);
        float *x = related_map(1, 8, (size_t)side[i], (size_t)side[i], true);
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
        size_t asked, used;
        char spec[40];
        const double error = error_of("ec:err=0.25", &t, n, &asked);
        snprintf(spec, sizeof spec, "ec:bytes=%zu", asked);
        const double got = error_of(spec, &t, n, &used);
        if (got > 1.15 * error || used > asked)
            fail_msg("%zu bytes err %g by err, %zu err %g by bytes", asked, error, used, got);
        cwi_free(x);
    }
}

/* Sums of noise: smooth in rows, which are longer than 256, and than planes may be. */
static void long_rows_are_coded_in_context(void **state)
{
    (void)state;
    static const int64_t length[] = {300, 2000, 4096, 5000, 12000};
    static const char *const efforts[] = {"", ",effort=fast"};
    cwi_rng r = cwi_rng_make(6, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < CWI_COUNT(length); i++) {
        const cw_shape shape = cw_shape_of(3, (int64_t[]){16, 4, length[i]});
        const size_t n = (size_t)(16 * 4 * length[i]);
        float *x = cwi_alloc(n, sizeof *x);
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
        double at = 0;
        for (size_t k = 0; k < n; k++)
            x[k] = (float)(at = (k % (size_t)length[i] ? 0.999 * at : 0) + cwi_rng_normal(&r));
        for (size_t fast = 0; fast < 2; fast++) {
            size_t size;
            char spec[40];
            snprintf(spec, sizeof spec, "ec:err=0.1%s", efforts[fast]);
            const double error = error_of(spec, &t, n, &size);
            if (error > 0.1005 || error < (fast ? 0.095 : 0.0985) || 16 * size > 3 * n)
                fail_msg("%s, rows of %d: %zu bytes for %zu elements, an error of %g", spec, (int)length[i], size, n,
                         error);
        }
        cwi_free(x);
    }
}

/* Offsets depend on the step, and the step on them: what has none takes none, what has some takes them, at any size. */
static void offsets_suit_the_size(void **state)
{
    (void)state;
    enum { CHANNELS = 16, PLACES = 1024, SIZE = 8 * CHANNELS * PLACES };
    static float x[SIZE], y[SIZE], none[SIZE];
    static const struct {
        bool backgrounds;
        const char *spec;
        double most;
    } cases[] = {{false, "ec:bpe=0.1", 0.6},
                 {false, "ec:bpe=6", 0.0115},
                 {false, "ec:bpe=7", 0.006},
                 {true, "ec:bpe=0.1", 0.02},
                 {true, "ec:bpe=6", 0.0005}};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){8, CHANNELS, 32, 32});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cwi_rng rng = cwi_rng_make(4, CWI_STREAM_CODEC, 0, 0);
        for (size_t k = 0; k < SIZE; k++) /* uniform in [0, 1), or normal about 0, 7, 14, ... */
            x[k] = cases[i].backgrounds ? 7 * (float)(k / PLACES % CHANNELS) + (float)cwi_rng_normal(&rng)
                                        : (float)cwi_rng_below(&rng, 1 << 20) * 0x1p-20f;
        packed p = encode(cases[i].spec, &t);
        decode_floats(&p, &t, y);
        const double error = l2_distance(x, y, SIZE) / l2_distance(x, none, SIZE);
        if (error > cases[i].most)
            fail_msg("case %zu, %s: an error of %g", i, cases[i].spec, error);
        free(p.bytes);
    }
    packed plain = encode("ec:err=0.01", &t),
           capped = encode("ec:err=0.01,bytes=1000000", &t); /* an error is still one */
    assert_true(fabs((double)plain.size - (double)capped.size) < 0.01 * (double)plain.size);
    free(plain.bytes);
    free(capped.bytes);
}

/* Too little room for what was asked is an error, not a reason for a coarser tensor. */
static void a_small_output_does_not_coarsen(void **state)
{
    (void)state;
    static const char *const specs[] = {"ec:bpe=1", "ec:bytes=20000", "ec:err=0.1", "ec:err=0.1,bytes=20000"};
    float *x = map_of(true, false, 14);
    cw_tensor t = tensor_of(x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        cw_codec *codec = codec_of(specs[i]);
        packed p = encode(specs[i], &t);
        uint8_t *exact = malloc(p.size);
        size_t size;
        assert_ok(cw_encode(codec, &t, NULL, exact, p.size, &size, NULL));
        assert_memory_equal(exact, p.bytes, p.size);
        for (size_t room = 0; room < p.size; room = 2 * room + 61)
            assert_status(cw_encode(codec, &t, NULL, exact, room, &size, NULL), CW_ERR_TOO_SMALL);
        assert_status(cw_encode(codec, &t, NULL, exact, p.size - 1, &size, NULL), CW_ERR_TOO_SMALL);
        free(exact);
        free(p.bytes);
        cw_codec_destroy(&codec);
    }
    cwi_free(x);
}

/* Tensors of several blocks, which threads share, the last one short. */
static void bytes_do_not_depend_on_threads(void **state)
{
    (void)state;
    static const char *const specs[] = {"ec:err=0.1", "ec:bpe=0.5", "ec:bytes=60000", "ec:step=1,round=stochastic"};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){100, 64, 12, 12});
    const size_t n = 100 * 64 * 144;
    float *x = related_map(100, 64, 12, 12, false);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++)
        assert_threads_agree(specs[i], &t, n);
    cwi_free(x);
}

static void budgets_are_never_exceeded(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        float *x = map_of(kind & 1, kind & 2, 6);
        cw_tensor t = tensor_of(x);
        for (size_t bytes = 124; bytes < 200000; bytes = bytes * 3 / 2) {
            char spec[80];
            size_t size;
            snprintf(spec, sizeof spec, "ec:bytes=%zu%s", bytes, kind & 1 ? ",round=stochastic" : "");
            error_of(spec, &t, ELEMENTS, &size);
            if (size > bytes || (bytes > 2000 && bytes < 25000 && size < bytes * 9 / 10))
                fail_msg("%s, map %d: %zu bytes", spec, kind, size);
            snprintf(spec, sizeof spec, "ec:bpe=%.17g,scope=sample", (double)bytes * 8 / ELEMENTS);
            error_of(spec, &t, ELEMENTS, &size);
            assert_true(size <= CWI_MAX(bytes, (size_t)200));
        }
        cwi_free(x);
    }
}

/* What is asked for besides takes more than `bytes`: a cap as bytes, as bits an element, or the lesser of both. */
static void check_caps(const char *asked, const cw_tensor *t, size_t bytes)
{
    const double bits = 8.0 / ELEMENTS;
    for (int kind = 0; kind < 4; kind++) {
        char spec[160];
        size_t size;
        int n = snprintf(spec, sizeof spec, "ec:%s", asked);
        if (kind != 1)
            n += snprintf(spec + n, sizeof spec - (size_t)n, ",bytes=%zu", kind == 3 ? 2 * bytes : bytes);
        if (kind != 0)
            snprintf(spec + n, sizeof spec - (size_t)n, ",bpe=%.17g", (double)(kind == 2 ? 2 * bytes : bytes) * bits);
        error_of(spec, t, ELEMENTS, &size);
        if (size > bytes || size < bytes * (bytes < 1000 ? 8 : 9) / 10)
            fail_msg("%s: %zu bytes, %zu are allowed", spec, size, bytes);
    }
}

static void caps_hold_beside_other_keys(void **state)
{
    (void)state;
    static const char *const asked[] = {"step=0.02", "step=0.02,round=stochastic,scope=sample", "err=0.005",
                                        "err=0.005,scope=sample", "scope=sample"};
    float *x = map_of(true, false, 16);
    cw_tensor t = tensor_of(x);
    for (size_t i = 0; i < CWI_COUNT(asked); i++) {
        check_caps(asked[i], &t, 400);
        check_caps(asked[i], &t, 3000);
        check_caps(asked[i], &t, 12000);
        char spec[120];
        size_t loose, free_size;
        snprintf(spec, sizeof spec, "ec:%s,bytes=1000000,bpe=60", asked[i]);
        const double error = error_of(spec, &t, ELEMENTS, &loose);
        if (i + 1 == CWI_COUNT(asked)) /* they are all that is asked for */
            continue;
        snprintf(spec, sizeof spec, "ec:%s", asked[i]);
        assert_true(error == error_of(spec, &t, ELEMENTS, &free_size));
        assert_int_equal(loose, free_size + 4 + 2); /* what the header says of them */
    }
    cwi_free(x);
}

static void a_payload_with_err_and_step_is_refused(void **state)
{
    (void)state;
    enum { STEP_AT = 24 + 8 * 4 + 3 * 8 };
    const double step = 1;
    float *x = map_of(true, false, 17), *y = cwi_alloc(ELEMENTS, sizeof *y);
    cw_tensor t = tensor_of(x), out = tensor_of(y);
    packed p = encode("ec:err=0.2", &t);
    memcpy(p.bytes + STEP_AT, &step, sizeof step);
    cwi_payload_seal(p.bytes, p.size);
    assert_status(cw_decode(p.bytes, p.size, &out, NULL, NULL), CW_ERR_CORRUPT);
    free(p.bytes);
    cwi_free(x);
    cwi_free(y);
}

static void a_cap_makes_an_error_target_give_way(void **state)
{
    (void)state;
    float *x = map_of(false, false, 7);
    cw_tensor t = tensor_of(x);
    size_t free_size, loose, tight;
    error_of("ec:err=0.1", &t, ELEMENTS, &free_size);
    error_of("ec:err=0.1,bytes=1000000", &t, ELEMENTS, &loose);
    assert_int_equal(loose, free_size + 4); /* what the header says of it */
    assert_true(error_of("ec:err=0.1,bytes=1000", &t, ELEMENTS, &tight) > 0.1);
    assert_true(tight <= 1000);
    cwi_free(x);
}

static void assert_least(const char *name, const cw_shape *shape, float *x, size_t least)
{
    cw_tensor t = cw_tensor_view(CW_F32, shape, x);
    for (size_t bytes = least - 1; bytes <= least; bytes++) {
        char spec[80], sentence[120];
        uint8_t buf[8192];
        size_t size;
        cw_error err;
        snprintf(spec, sizeof spec, "ec:bytes=%zu%s", bytes, name);
        snprintf(sentence, sizeof sentence, "bytes=%zu of codec ec: a payload of this tensor has at least %zu bytes",
                 bytes, least);
        cw_codec *codec = codec_of(spec);
        const cw_status status = cw_encode(codec, &t, NULL, buf, sizeof buf, &size, &err);
        assert_status(status, bytes < least ? CW_ERR_TOO_SMALL : CW_OK);
        assert_int_equal(size, bytes < least ? 0 : least);
        assert_true(bytes >= least || strstr(err.message, sentence));
        cw_codec_destroy(&codec);
    }
}

static void an_impossible_budget_is_refused(void **state)
{
    (void)state;
    float *x = map_of(false, false, 8);
    const cw_shape all = cw_shape_of(4, (int64_t[]){N, C, H, W}), flat = cw_shape_of(1, (int64_t[]){ELEMENTS});
    const cw_shape none = cw_shape_of(4, (int64_t[]){N, 0, H, W});
    assert_least("", &all, x, 35);
    assert_least(",scope=sample", &all, x, 35 + 1 + 4 * (N - 1));
    assert_least("", &flat, x, 34); /* a dimension in three bytes, not four in one each */
    assert_least("", &none, x, 30);
    cwi_free(x);
}

/* The mean over seeds comes closer to the input as 1 / sqrt(seeds). */
static void stochastic_rounding_is_unbiased(void **state)
{
    (void)state;
    enum { SEEDS = 100 };
    static const char *const specs[] = {"ec:step=2,round=stochastic", "ec:step=1,round=stochastic,scope=sample",
                                        "ec:err=0.3,round=stochastic", "ec:err=0.2,round=stochastic,scope=sample"};
    float *x = map_of(true, true, 9), *y = cwi_alloc(ELEMENTS, sizeof *y);
    double *mean = cwi_alloc(ELEMENTS, sizeof *mean);
    cw_tensor t = tensor_of(x);
    for (size_t s = 0; s < CWI_COUNT(specs); s++) {
        double once = 0, average = 0;
        memset(mean, 0, ELEMENTS * sizeof *mean);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            packed p = encode_args(specs[s], &t, &(cw_encode_args){.seed = seed});
            decode_floats(&p, &t, y);
            once = l2_distance(x, y, ELEMENTS);
            for (size_t i = 0; i < ELEMENTS; i++)
                mean[i] += (double)y[i] / SEEDS;
            free(p.bytes);
        }
        for (size_t i = 0; i < ELEMENTS; i++)
            average += (mean[i] - (double)x[i]) * (mean[i] - (double)x[i]);
        const double gain = once / sqrt(average);
        if (gain < 9 || gain > 11)
            fail_msg("%s: the mean of %d is %g times as near as one, not %g", specs[s], SEEDS, gain, sqrt(SEEDS));
    }
    cwi_free(x);
    cwi_free(y);
    cwi_free(mean);
}

/* The mean of y over `count` elements from x[first] on, all alike, and `seeds` seeds; and the step. */
static double mean_of(const char *spec, const cw_tensor *t, size_t first, size_t count, unsigned seeds, float *step)
{
    static float y[ELEMENTS];
    double sum = 0;
    for (uint64_t seed = 0; seed < seeds; seed++) {
        uint8_t *body;
        packed p = encode_args(spec, t, &(cw_encode_args){.seed = seed});
        decode_floats(&p, t, y);
        body_of(&p, &body);
        memcpy(step, body + 8, sizeof *step);
        for (size_t i = first; i < first + count; i++)
            sum += (double)y[i];
        free(p.bytes);
    }
    return sum / ((double)count * seeds);
}

/* Far below a step nearly all become 0, and a few a whole step. */
static void elements_below_a_step_are_unbiased(void **state)
{
    (void)state;
    enum { SEEDS = 50 };
    static float x[ELEMENTS];
    const double wanted = 5 * 1000 / sqrt(ELEMENTS) / 1000; /* a thousandth of the step */
    cw_tensor t = tensor_of(x);
    for (int sign = -1; sign <= 1; sign += 2) {
        for (size_t i = 0; i < ELEMENTS; i++)
            x[i] = (float)(sign * wanted);
        x[ELEMENTS - 1] = 1000;
        float step;
        const double mean = mean_of("ec:step=5,round=stochastic", &t, 0, ELEMENTS - 1, SEEDS, &step);
        const double p = wanted / (double)step, deviation = (double)step * sqrt(p * (1 - p) / (ELEMENTS - 1.0) / SEEDS);
        assert_true(p < 0.0011);
        if (fabs(mean - sign * wanted) > 5 * deviation)
            fail_msg("the mean of %g is %g, by %g standard errors", sign * wanted, mean,
                     (mean - sign * wanted) / deviation);
    }
}

/* What is rounded to 1023 steps or, as escaped, to 1024. */
static void elements_below_an_escape_are_unbiased(void **state)
{
    (void)state;
    enum { MANY = 64, SEEDS = 40 };
    static float x[ELEMENTS];
    cw_tensor t = tensor_of(x);
    memset(x, 0, sizeof x);
    for (size_t i = 0; i < MANY; i++)
        x[i] = 3;
    char spec[80];
    snprintf(spec, sizeof spec, "ec:step=%.17g,round=stochastic", sqrt((double)ELEMENTS / MANY) / 1023.5);
    float step;
    const double mean = mean_of(spec, &t, 0, MANY, SEEDS, &step) / (double)step;
    const double deviation = 0.5 / sqrt(MANY * SEEDS);
    if (fabs(mean - 3 / (double)step) > 5 * deviation)
        fail_msg("the mean of %.3f steps is %.3f", 3 / (double)step, mean);
}

static void bf16_tensors_are_coded_as_their_floats(void **state)
{
    (void)state;
    static const char *const specs[] = {"ec", "ec:step=1,round=stochastic,scope=sample", "ec:err=0.001",
                                        "ec:bytes=3000,round=stochastic"};
    for (int heavy = 0; heavy < 2; heavy++) {
        float *x = map_of(true, heavy, 15);
        cw_tensor t = tensor_of(x);
        for (size_t i = 0; i < CWI_COUNT(specs); i++)
            assert_bf16_alike(specs[i], &t, ELEMENTS);
        cwi_free(x);
    }
}

static void odd_tensors_round_trip(void **state)
{
    (void)state;
    static const float values[] = {0, -0.0f, 1, -3, 1e-45f, 3e-39f, FLT_MAX, -FLT_MAX};
    static const char *const specs[] = {"ec", "ec:err=0.01,scope=sample", "ec:step=3,round=stochastic", "ec:bpe=1"};
    for (size_t s = 0; s < CWI_COUNT(specs); s++)
        for (size_t v = 0; v < CWI_COUNT(values); v++)
            for (size_t n = 0; n < 70; n += 1 + n / 4) {
                float x[70], y[70];
                for (size_t i = 0; i < n; i++)
                    x[i] = i % 3 ? values[v] : values[v] / 2;
                cw_tensor t = tensor_1d(x, n);
                packed p = encode(specs[s], &t);
                decode_floats(&p, &t, y);
                for (size_t i = 0; i < n; i++)
                    if (!isfinite(y[i]) || (s == 0 && fabsf(values[v]) > 1e-40f &&
                                            fabs((double)y[i] - (double)x[i]) > 0.5 * fabs((double)values[v])))
                        fail_msg("%s: %g comes back as %g", specs[s], (double)x[i], (double)y[i]);
                free(p.bytes);
            }
}

/* Of few elements most bytes are header, weights and tables: damage with a right checksum in all of them. */
static void damaged_small_payloads_are_refused_or_decoded(void **state)
{
    (void)state;
    static const char *const specs[] = {"ec:err=0.25", "ec:err=0.05", "ec:step=1,round=stochastic"};
    const cw_shape shape = cw_shape_of(4, (int64_t[]){1, 6, 12, 12});
    enum { COUNT = 6 * 144, HEADER = 21 };
    float *x = related_map(1, 6, 12, 12, true), *y = cwi_alloc(COUNT, sizeof *y);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    cwi_rng r = cwi_rng_make(4, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        size_t refused = 0;
        for (int round = 0; round < 5000; round++) {
            uint8_t *bad = malloc(p.size);
            memcpy(bad, p.bytes, p.size);
            for (uint64_t changes = 1 + cwi_rng_below(&r, 3); changes; changes--)
                bad[HEADER + cwi_rng_below(&r, round & 1 ? 60 : p.size - HEADER)] = (uint8_t)cwi_rng_u64(&r);
            cwi_payload_seal(bad, p.size);
            refused += cw_decode(bad, p.size, &out, NULL, NULL) != CW_OK;
            free(bad);
        }
        assert_true(refused > 2500);
        free(p.bytes);
    }
    cwi_free(x);
    cwi_free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_met),
        cmocka_unit_test(classes_of_contexts_have_levels_of_their_own),
        cmocka_unit_test(errors_are_met_on_odd_maps),
        cmocka_unit_test(errors_are_met_where_few_elements_matter),
        cmocka_unit_test(codes_of_zero_are_told),
        cmocka_unit_test(levels_of_classes_beside_random_rounding_are_refused),
        cmocka_unit_test(errors_are_met_on_few_values),
        cmocka_unit_test(a_rare_element_is_not_lost),
        cmocka_unit_test(maps_of_denormals_meet_their_error),
        cmocka_unit_test(budgets_are_used),
        cmocka_unit_test(small_sizes_are_used_as_well_as_errors),
        cmocka_unit_test(long_rows_are_coded_in_context),
        cmocka_unit_test(offsets_suit_the_size),
        cmocka_unit_test(a_small_output_does_not_coarsen),
        cmocka_unit_test(bytes_do_not_depend_on_threads),
        cmocka_unit_test(budgets_are_never_exceeded),
        cmocka_unit_test(caps_hold_beside_other_keys),
        cmocka_unit_test(a_payload_with_err_and_step_is_refused),
        cmocka_unit_test(a_cap_makes_an_error_target_give_way),
        cmocka_unit_test(an_impossible_budget_is_refused),
        cmocka_unit_test(stochastic_rounding_is_unbiased),
        cmocka_unit_test(elements_below_a_step_are_unbiased),
        cmocka_unit_test(elements_below_an_escape_are_unbiased),
        cmocka_unit_test(bf16_tensors_are_coded_as_their_floats),
        cmocka_unit_test(odd_tensors_round_trip),
        cmocka_unit_test(damaged_small_payloads_are_refused_or_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
