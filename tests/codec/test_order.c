/* test_order.c - ec codes tensors in whatever layout they come: as small, and as near, as samples of channels of
 * planes. */
#include "codec/codec_ec.h"
#include "codec_test.h"

enum { N = 20, C = 12, H = 10, W = 14, PLACES = H * W, ELEMENTS = N * C * PLACES, NDIM_MOST = 5 };

/* What each layout's element is in NCHW; the last dimension is counted fastest. */
typedef struct layout {
    const char *name;
    int ndim;
    int64_t dim[NDIM_MOST];
    size_t stride[NDIM_MOST]; /* in NCHW */
    int number;               /* in payloads */
} layout;

static const layout layouts[] = {
    {"nchw", 4, {N, C, H, W}, {C * PLACES, PLACES, W, 1}, 1},
    {"nhwc", 4, {N, H, W, C}, {C * PLACES, W, 1, PLACES}, 2},
    {"nlc", 3, {N, PLACES, C}, {C * PLACES, 1, PLACES}, 3},
    {"ncl", 3, {N, C, PLACES}, {C * PLACES, PLACES, 1}, 4},
    {"nchw", 5, {5, C, 4, H, W}, {4 * C * PLACES, PLACES, C *PLACES, W, 1}, 1},
    {"nhwc", 5, {5, 4, H, W, C}, {4 * C * PLACES, C *PLACES, W, 1, PLACES}, 2},
};

/* The tensor in a layout, of elements of `size` bytes; or back. */
static void arrange(const layout *l, const void *from, size_t size, bool back, void *to)
{
    int64_t at[NDIM_MOST] = {0};
    for (size_t i = 0; i < ELEMENTS; i++) {
        size_t planes = 0;
        for (int d = 0; d < l->ndim; d++)
            planes += (size_t)at[d] * l->stride[d];
        memcpy((uint8_t *)to + (back ? planes : i) * size, (const uint8_t *)from + (back ? i : planes) * size, size);
        for (int d = l->ndim; d-- > 0 && ++at[d] == l->dim[d];)
            at[d] = 0;
    }
}

static cw_tensor tensor_in(const layout *l, const float *planes, float *x)
{
    const cw_shape shape = cw_shape_of(l->ndim, l->dim);
    arrange(l, planes, sizeof *x, false, x);
    return cw_tensor_view(CW_F32, &shape, x);
}

/* Smooth planes, each unlike the others. */
static float *map_of(bool negatives)
{
    float *x = cwi_alloc(ELEMENTS, sizeof *x);
    cwi_rng r = cwi_rng_make(7, CWI_STREAM_TEST, 0, 0);
    for (size_t p = 0; p < N * C; p++) {
        const double one = 6 * cwi_rng_double(&r), other = 6 * cwi_rng_double(&r);
        for (size_t i = 0; i < PLACES; i++) {
            const double v = sin((double)(i / W) * 0.5 + one) + sin((double)(i % W) * 0.4 + other) - 0.3;
            x[p * PLACES + i] = (float)CWI_MAX(v + 0.15 * cwi_rng_normal(&r), negatives ? -9.0 : 0.0);
        }
    }
    return x;
}

/* In any layout, told or not, the payload says which, is as short as that of planes, and decodes to the same. */
static void layouts_are_recognised(void **state)
{
    (void)state;
    static float x[ELEMENTS], y[ELEMENTS], back[ELEMENTS], wanted[ELEMENTS];
    static const char *const specs[] = {"ec:err=0.2", "ec:step=0.7,round=stochastic", "ec:bytes=9000,scope=sample"};
    for (int negatives = 0; negatives < 2; negatives++) {
        float *planes = map_of(negatives);
        for (size_t s = 0; s < CWI_COUNT(specs); s++) {
            size_t size = 0;
            for (size_t i = 0; i < 2 * CWI_COUNT(layouts); i++) {
                const layout *l = &layouts[i / 2];
                char spec[100];
                uint8_t *body;
                snprintf(spec, sizeof spec, "%s,layout=%s", specs[s], i % 2 ? l->name : "auto");
                const cw_tensor t = tensor_in(l, planes, x);
                packed p = encode(spec, &t);
                body_of(&p, &body);
                assert_int_equal(body[1] & 15, l->number);
                decode_floats(&p, &t, y);
                arrange(l, y, sizeof *y, true, back);
                if (i == 0) {
                    size = p.size;
                    memcpy(wanted, back, sizeof wanted);
                }
                /* fewer samples have fewer steps; and for a size a search ends anywhere in what will do */
                if (fabs((double)p.size - (double)size) > (l->ndim == 5 || s == 2 ? 80 : 16))
                    fail_msg("%s of %d dimensions: %zu bytes, not %zu", spec, l->ndim, p.size, size);
                if (s == 0) /* the others choose by what is there first */
                    assert_memory_equal(wanted, back, sizeof wanted);
                free(p.bytes);
            }
        }
        cwi_free(planes);
    }
}

/* What both ends know to be 0, what came in as 0, elements of two bytes, and threads, in a layout that moves them. */
static void moved_elements_keep_what_belongs_to_them(void **state)
{
    (void)state;
    static float x[ELEMENTS], y[ELEMENTS];
    static uint8_t support[ELEMENTS], sent[ELEMENTS];
    float *planes = map_of(false);
    const cw_tensor t = tensor_in(&layouts[1], planes, x);
    for (size_t i = 0; i < ELEMENTS; i++) {
        support[i] = i % 3 != 0;
        x[i] = support[i] ? x[i] : 0;
    }
    packed p = encode_args("ec:step=1,round=stochastic", &t, &(cw_encode_args){.support = support});
    cw_tensor out = cw_tensor_view(CW_F32, &t.shape, y);
    assert_ok(cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.support = support, .sent = sent}, NULL));
    for (size_t i = 0; i < ELEMENTS; i++)
        assert_true((support[i] || !sent[i]) && (sent[i] != 0) == (y[i] != 0));
    free(p.bytes);
    assert_bf16_alike("ec:err=0.2,layout=nhwc", &t, ELEMENTS);
    assert_threads_agree("ec:err=0.2,layout=nhwc", &t, ELEMENTS);
    x[77] = NAN;
    cw_codec *codec = codec_of("ec");
    static uint8_t buf[8 * ELEMENTS];
    size_t size;
    cw_error err;
    assert_status(cw_encode(codec, &t, NULL, buf, sizeof buf, &size, &err), CW_ERR_NONFINITE);
    assert_int_equal(err.offset, 77);
    cw_codec_destroy(&codec);
    cwi_free(planes);
}

/* Of places that are an image's rows the length is found, and with it more bands and blocks than without, for which
 * several threads need more work. */
static void work_is_enough_for_rows_that_are_found(void **state)
{
    (void)state;
    enum { FEW = 3, CHANNELS = 512, ROWS = 15, WIDTH = 40, COUNT = FEW * CHANNELS * ROWS * WIDTH };
    static float x[COUNT];
    const cw_shape shape = cw_shape_of(3, (int64_t[]){FEW, CHANNELS, ROWS * WIDTH});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    cwi_rng r = cwi_rng_make(5, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < COUNT; i++) { /* sums of noise over rows and columns */
        const size_t row = i / WIDTH % ROWS, column = i % WIDTH;
        x[i] = (float)cwi_rng_normal(&r) + (row ? x[i - WIDTH] : 0) + (column ? x[i - 1] : 0) -
               (row && column ? x[i - WIDTH - 1] : 0);
    }
    assert_threads_agree("ec:err=0.15", &t, COUNT);
    assert_threads_agree("ec:err=0.15,layout=ncl", &t, COUNT);
}

/* Features are coded side by side, which the samples before tell, where that is shorter. */
static void features_take_the_shorter_order(void **state)
{
    (void)state;
    enum { SAMPLES = 64, FEATURES = 640, COUNT = SAMPLES * FEATURES };
    static float x[COUNT], y[COUNT];
    static const float zeros[COUNT];
    const cw_shape shape = cw_shape_of(2, (int64_t[]){SAMPLES, FEATURES});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    cwi_rng r = cwi_rng_make(3, CWI_STREAM_TEST, 0, 0);
    size_t size[2][3];
    for (int alike = 0; alike < 2; alike++) {
        for (size_t i = 0; i < COUNT; i++) {
            const double noise = fabs(cwi_rng_normal(&r)), own = pow(2, 3 * sin((double)(i % FEATURES) * 12.3));
            x[i] = (float)(own * (alike ? 1 + 0.2 * noise : noise));
        }
        static const char *const specs[] = {"ec:err=0.2", "ec:err=0.2,layout=nchw", "ec:err=0.2,layout=nc"};
        for (size_t s = 0; s < CWI_COUNT(specs); s++) {
            packed p = encode(specs[s], &t);
            decode_floats(&p, &t, y);
            assert_true(l2_distance(x, y, COUNT) < 0.202 * l2_distance(x, zeros, COUNT));
            uint8_t *body;
            size[alike][s] = body_of(&p, &body);
            free(p.bytes);
        }
        assert_int_equal(size[alike][0], CWI_MIN(size[alike][1], size[alike][2]));
    }
    assert_true(size[0][1] < size[0][2]);
}

/* Three dimensions whose neighbours are alike along two of them: planes such as spectrograms, and tokens whose samples
 * are the second. The one that is shortest is found. */
static void what_is_in_doubt_is_tried(void **state)
{
    (void)state;
    enum { GROUPS = 8, HEIGHT = 48, LENGTH = 96, COUNT = GROUPS * HEIGHT * LENGTH };
    static float x[2][COUNT];
    static const char *const names[] = {"nchw", "nlc", "ncl"}, *const asked[] = {"ec:err=0.25", "ec:err=0.1"};
    const cw_shape shape[2] = {cw_shape_of(3, (int64_t[]){GROUPS, HEIGHT, LENGTH}),
                               cw_shape_of(3, (int64_t[]){LENGTH, GROUPS, HEIGHT})};
    cwi_rng r = cwi_rng_make(3, CWI_STREAM_TEST, 1, 0);
    for (size_t i = 0; i < COUNT; i++) {
        const double a = (double)(i / LENGTH / HEIGHT), b = (double)(i / LENGTH % HEIGHT), c = (double)(i % LENGTH),
                     noise = cwi_rng_normal(&r);
        const double low = sin(0.2 * c + a) * cos(0.11 * b), own = sin(0.7 * b + 0.3 * sin(5 * b));
        x[0][i] = (float)(2 + low + 0.1 * noise);
        x[1][(i % LENGTH * GROUPS + i / LENGTH / HEIGHT) * HEIGHT + i / LENGTH % HEIGHT] =
            (float)(own * (2 + sin(0.05 * c)) + 0.5 * low + 0.2 * noise);
    }
    for (size_t i = 0; i < 2 * CWI_COUNT(asked); i++) {
        const cw_tensor t = cw_tensor_view(CW_F32, &shape[i % 2], x[i % 2]);
        uint8_t *body;
        size_t least = SIZE_MAX;
        for (size_t j = 0; j < CWI_COUNT(names); j++) {
            char spec[60];
            snprintf(spec, sizeof spec, "%s,layout=%s", asked[i / 2], names[j]);
            packed p = encode(spec, &t);
            least = CWI_MIN(least, body_of(&p, &body));
            free(p.bytes);
        }
        packed p = encode(asked[i / 2], &t);
        if (body_of(&p, &body) > least)
            fail_msg("%zu, %s: %zu bytes, %zu in one of the layouts", i % 2, asked[i / 2], body_of(&p, &body), least);
        free(p.bytes);
        assert_threads_agree(asked[i / 2], &t, COUNT);
    }
}

/* Few samples of planes that are cut into bands, so that channels foretell each other, in either order of channels. */
static void few_samples_are_coded_in_bands(void **state)
{
    (void)state;
    enum { FEW = 4, CHANNELS = 24, SIDE = 32, PLANE = SIDE * SIDE, COUNT = FEW * CHANNELS * PLANE };
    static float x[COUNT], last[COUNT], y[COUNT];
    float *map = related_map(32, CHANNELS, SIDE, SIDE, false);
    memcpy(x, map, sizeof x);
    for (size_t i = 0; i < COUNT; i++)
        last[(i / PLANE / CHANNELS * PLANE + i % PLANE) * CHANNELS + i / PLANE % CHANNELS] = x[i];
    const cw_shape first_shape = cw_shape_of(4, (int64_t[]){FEW, CHANNELS, SIDE, SIDE});
    const cw_shape last_shape = cw_shape_of(4, (int64_t[]){FEW, SIDE, SIDE, CHANNELS});
    const cw_shape all_shape = cw_shape_of(4, (int64_t[]){32, CHANNELS, SIDE, SIDE});
    const cw_tensor first = cw_tensor_view(CW_F32, &first_shape, x), other = cw_tensor_view(CW_F32, &last_shape, last);
    const cw_tensor all = cw_tensor_view(CW_F32, &all_shape, map);
    packed p = encode("ec:step=1,layout=nchw", &first), q = encode("ec:step=1,layout=nhwc", &other);
    packed whole = encode("ec:step=1", &all);
    uint8_t *body;
    body_of(&p, &body);
    assert_int_equal(body[0] & (CWI_EC_MORE | CWI_EC_NARROW), CWI_EC_MORE | CWI_EC_NARROW);
    assert_int_equal(body[cwi_ec_prefix(body[0]) - 1], 2);
    assert_int_equal(p.size, q.size);
    if ((double)p.size > 1.25 * (double)whole.size / 8)
        fail_msg("%zu bytes, %zu for 32 samples", p.size, whole.size);
    decode_floats(&q, &other, y);
    for (size_t i = 0; i < COUNT; i++)
        last[i] = y[(i / PLANE / CHANNELS * PLANE + i % PLANE) * CHANNELS + i / PLANE % CHANNELS];
    decode_floats(&p, &first, y);
    assert_memory_equal(y, last, sizeof y);
    assert_threads_agree("ec:err=0.2", &first, COUNT);
    assert_threads_agree("ec:err=0.2,scope=sample", &other, COUNT);
    free(p.bytes);
    free(q.bytes);
    free(whole.bytes);
    cwi_free(map);
}

static void layouts_that_a_tensor_cannot_have_are_refused(void **state)
{
    (void)state;
    static float x[ELEMENTS];
    static uint8_t buf[8 * ELEMENTS];
    float *planes = map_of(false);
    for (size_t i = 0; i < 4; i++) {
        const layout *l = &layouts[i];
        const cw_tensor t = tensor_in(l, planes, x);
        char spec[40];
        size_t size;
        cw_error err;
        snprintf(spec, sizeof spec, "ec:layout=%s", l->ndim == 4 ? "nlc" : "nhwc");
        cw_codec *codec = codec_of(spec);
        assert_status(cw_encode(codec, &t, NULL, buf, sizeof buf, &size, &err), CW_ERR_INVALID);
        assert_non_null(strstr(err.message, "has no such layout"));
        cw_codec_destroy(&codec);
    }
    cwi_free(planes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts_are_recognised),
                                       cmocka_unit_test(work_is_enough_for_rows_that_are_found),
                                       cmocka_unit_test(moved_elements_keep_what_belongs_to_them),
                                       cmocka_unit_test(features_take_the_shorter_order),
                                       cmocka_unit_test(what_is_in_doubt_is_tried),
                                       cmocka_unit_test(few_samples_are_coded_in_bands),
                                       cmocka_unit_test(layouts_that_a_tensor_cannot_have_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
