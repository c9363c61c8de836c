/* test_kernels.c - every SIMD variant of every kernel against the scalar definition: all short lengths, odd long ones,
 * unaligned and hostile input, with unmapped pages right before and after every buffer. */
#include "kernel_test.h"

/* ---- scans ---- */

static void check_range(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    cwi_range a = CWI_RANGE_EMPTY, b = CWI_RANGE_EMPTY;
    scalar.range(x, n, &a);
    k->range(x, n, &b);
    if (a.max_key != b.max_key || a.max_bits != b.max_bits || a.min < b.min || a.min > b.min || a.max < b.max ||
        a.max > b.max)
        FAIL_AT(k, "range", p, n);
}

static void test_range(void **state)
{
    (void)state;
    check_all(check_range);
}

/* NaN and infinity show in max_key wherever they stand, and a result is never taken back by a later call. */
static void test_nonfinite(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
    for (size_t v = 0; v < variants; v++) {
        for (size_t at = 0; at < 200; at++) {
            float *x = input(NORMAL, 200, at & 1);
            x[at] = bad[at % 4];
            cwi_range r = CWI_RANGE_EMPTY;
            cwi_window w = {.low = 0, .high = 0}, s = w;
            variant[v].range(x, 200, &r);
            variant[v].window(x, 200, &w);
            scalar.window(x, 200, &s);
            x[at] = 0;
            variant[v].range(x, 200, &r);
            assert_true(r.max_key >= CWI_KEY_INF);
            assert_int_equal(w.max_key, s.max_key);
            assert_int_equal(w.max_bits, s.max_bits);
        }
    }
}

static void check_window(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    const size_t capacity = cwi_rng_below(&rng, n / 2 + 2);
    uint32_t a = n ? key_of(x[cwi_rng_below(&rng, n)]) : 5, b = n ? key_of(x[cwi_rng_below(&rng, n)]) : 9;
    uint32_t *want = place(1, (capacity + CWI_CANDIDATE_SLACK) * sizeof *want, true, 1);
    uint32_t *got = place(2, (capacity + CWI_CANDIDATE_SLACK) * sizeof *got, true, 2);
    cwi_window s = {.low = CWI_MIN(a, b), .high = CWI_MAX(a, b) + (n & 1), .candidates = want, .capacity = capacity};
    cwi_window w = s;
    w.candidates = got;
    const size_t half = n / 2;
    scalar.window(x, half, &s);
    scalar.window(x + half, n - half, &s);
    k->window(x, half, &w);
    k->window(x + half, n - half, &w);
    if (s.max_key != w.max_key || s.max_bits != w.max_bits || s.above != w.above || s.inside != w.inside)
        FAIL_AT(k, "window", p, n);
    assert_same_bytes(k, "window", p, n, got, want, CWI_MIN(capacity, s.inside) * sizeof *got);
}

static void test_window(void **state)
{
    (void)state;
    check_all(check_window);
}

static void check_count(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    const uint32_t t = n ? key_of(x[cwi_rng_below(&rng, n)]) : 0;
    uint64_t above[2] = {7, 7}, equal[2] = {9, 9};
    scalar.count(x, n, t, &above[0], &equal[0]);
    k->count(x, n, t, &above[1], &equal[1]);
    if (above[0] != above[1] || equal[0] != equal[1])
        FAIL_AT(k, "count", p, n);
}

static void test_count(void **state)
{
    (void)state;
    check_all(check_count);
}

static void check_histogram(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    static uint64_t bins[2][CWI_HISTOGRAM_BINS];
    const unsigned shift = (unsigned)cwi_rng_below(&rng, 32);
    const uint32_t base = n && n & 2 ? key_of(x[n / 2]) : 0;
    bins[0][5] = bins[1][5] = UINT64_C(1) << 40;
    scalar.histogram(x, n, base, shift, bins[0]);
    k->histogram(x, n, base, shift, bins[1]);
    assert_same_bytes(k, "histogram", p, n, bins[1], bins[0], sizeof bins[0]);
}

static void test_histogram(void **state)
{
    (void)state;
    check_all(check_histogram);
}

/* ---- ms ---- */

/* An encoder for x: its threshold is the magnitude of some element, its ties anything that can be. */
static cwi_ms_encode ms_for(const float *x, size_t n, unsigned bits, bool is_signed)
{
    cwi_ms_encode e = {.is_signed = is_signed, .signed_zero = n & 2};
    e.threshold = n ? key_of(x[cwi_rng_below(&rng, n)]) : 0;
    uint64_t above = 0, equal = 0;
    scalar.count(x, n, e.threshold, &above, &equal);
    e.ties = cwi_rng_below(&rng, equal + 1);
    const float least = float_of(e.threshold);
    const float pre = least < 0x1p-100f ? 0x1p100f : least > 0x1p100f ? 0x1p-20f : 1;
    e.quant = (cwi_quant){.pre = pre, .top = (float)((1 << bits) - 2), .bits = bits, .half = n & 1 ? 0.5f : 0};
    if (least * pre > 0 && bits > 1)
        e.quant.scale = (float)((1 << bits) - 1) / (least * pre);
    return e;
}

/* Values kept by an encoder made by ms_for. */
static size_t ms_kept(const float *x, size_t n, const cwi_ms_encode *e)
{
    uint64_t above = 0, equal = 0;
    scalar.count(x, n, e->threshold, &above, &equal);
    return (size_t)(above + e->ties);
}

typedef struct ms_case {
    unsigned bits;
    bool is_signed;
    size_t planes_size, values_size;
    const uint8_t *planes, *values; /* as the scalar encoder made them */
} ms_case;

/* Decodes with a variant; `missing` values are held back, which must be noticed. */
static void decode_with(const cwi_kernels *k, pattern p, const ms_case *c, size_t n, size_t missing, const float *want)
{
    cwi_ms_decode d = {.bits = c->bits,
                       .is_signed = c->is_signed,
                       .planes = c->planes,
                       .values = c->values + missing * sizeof(float),
                       .values_end = c->values + c->values_size};
    for (unsigned i = 0; i < 1u << c->bits; i++)
        d.level[i] = (float)i * 0.37f;
    float *out = place(3, n * sizeof *out, n & 1, 0x55);
    const size_t first = n / 2 / CWI_GROUP * CWI_GROUP;
    bool complete = k->ms_decode(&d, first, out) && k->ms_decode(&d, n - first, out + first);
    if (complete != (missing == 0))
        FAIL_AT(k, "ms_decode: complete", p, n);
    if (missing)
        return;
    if (d.values != d.values_end || d.planes != c->planes + c->planes_size)
        FAIL_AT(k, "ms_decode: position", p, n);
    if (want)
        assert_same_bytes(k, "ms_decode", p, n, out, want, n * sizeof *out);
}

static void check_ms_bits(const cwi_kernels *k, pattern p, size_t n, const float *x, unsigned bits, bool is_signed)
{
    cwi_ms_encode s = ms_for(x, n, bits, is_signed), v = s;
    const uint64_t ties = s.ties;
    const size_t size = cwi_planes_size(n, bits + is_signed), kept = ms_kept(x, n, &s) * sizeof *x;
    const size_t first = n / 2 / CWI_GROUP * CWI_GROUP;
    static uint8_t planes[ARENA], values[ARENA];
    static float back[MOST];
    s.planes = planes;
    s.values = values;
    s.values_end = values + kept;
    scalar.ms_encode(x, first, &s);
    scalar.ms_encode(x + first, n - first, &s);
    assert_ptr_equal(s.values, s.values_end);
    const bool at_end = n & 1;
    uint8_t *got_planes = place(1, size, at_end, 0xaa), *got_values = place(2, kept, !at_end, 0xbb);
    v.planes = got_planes;
    v.values = got_values;
    v.values_end = got_values + kept;
    k->ms_encode(x, first, &v);
    k->ms_encode(x + first, n - first, &v);
    if (v.ties != s.ties || v.planes != got_planes + size || v.values != v.values_end)
        fail_msg("%s ms_encode: pattern %d, %zu elements, %u bits, %u ties: position or ties", cwi_cpu_name(k->cpu), p,
                 n, bits, (unsigned)ties);
    assert_same_bytes(k, "ms_encode planes", p, n, got_planes, planes, size);
    assert_same_bytes(k, "ms_encode values", p, n, got_values, values, kept);
    assert_int_equal(k->ones(got_planes, n, bits, bits + is_signed), kept / sizeof *x);

    ms_case c = {bits, is_signed, size, kept, got_planes, got_values};
    cwi_ms_decode d = {
        .bits = bits, .is_signed = is_signed, .planes = planes, .values = values, .values_end = values + kept};
    for (unsigned i = 0; i < 1u << bits; i++)
        d.level[i] = (float)i * 0.37f;
    assert_true(scalar.ms_decode(&d, n, back));
    decode_with(k, p, &c, n, 0, back);
    if (kept)
        decode_with(k, p, &c, n, 1 + cwi_rng_below(&rng, kept / sizeof *x), NULL);
}

static void check_ms(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    for (unsigned bits = 1; bits <= CWI_MAX_BITS; bits++)
        if (n % 8 == bits % 8 || bits <= 3)
            check_ms_bits(k, p, n, x, bits, (n + bits) & 1);
}

static void test_ms(void **state)
{
    (void)state;
    check_all(check_ms);
}

/* ---- uniform quantization ---- */

static cwi_quant quant_for(const float *x, size_t n, unsigned bits)
{
    cwi_range r = CWI_RANGE_EMPTY;
    scalar.range(x, n, &r);
    const float pre = r.max_key > key_of(0x1p100f) ? 0x1p-40f : r.max_key < key_of(0x1p-100f) ? 0x1p100f : 1;
    cwi_quant q = {.pre = pre, .base = r.min * pre, .half = 0.5f, .top = (float)((1 << bits) - 1), .bits = bits};
    if (n && r.max * pre > q.base)
        q.scale = q.top / (r.max * pre - q.base);
    if (!n || !(q.scale < FLT_MAX))
        q.scale = q.base = 0;
    return q;
}

static void check_quantize_bits(const cwi_kernels *k, pattern p, size_t n, const float *x, unsigned bits)
{
    static uint8_t want[ARENA];
    static float level[1 << CWI_MAX_BITS], back[MOST];
    const cwi_quant q = quant_for(x, n, bits);
    const size_t size = cwi_planes_size(n, bits);
    uint8_t *got = place(1, size, n & 1, 0xaa);
    scalar.quantize(x, n, &q, want);
    k->quantize(x, n, &q, got);
    assert_same_bytes(k, "quantize", p, n, got, want, size);

    float *levels = place(2, sizeof *level << bits, true, 0);
    for (unsigned i = 0; i < 1u << bits; i++)
        levels[i] = (float)i - 3.5f;
    float *out = place(3, n * sizeof *out, !(n & 1), 0x55);
    scalar.dequantize(want, n, bits, levels, back);
    k->dequantize(got, n, bits, levels, out);
    assert_same_bytes(k, "dequantize", p, n, out, back, n * sizeof *out);

    const uint64_t key = cwi_rng_u64(&rng);
    const uint64_t first = n & 1 ? cwi_rng_u64(&rng) >> 8 : (UINT64_C(3) << 32) - cwi_rng_below(&rng, n + 1);
    got = place(1, size, n & 1, 0xaa);
    scalar.quantize_noise(x, n, &q, key, first, want);
    k->quantize_noise(x, n, &q, key, first, got);
    assert_same_bytes(k, "quantize_noise", p, n, got, want, size);
}

static void check_quantize(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    for (unsigned bits = 1; bits <= CWI_MAX_BITS; bits++)
        if (n % 8 == bits % 8 || bits == 3)
            check_quantize_bits(k, p, n, x, bits);
}

static void test_quantize(void **state)
{
    (void)state;
    check_all(check_quantize);
}

static void check_moments(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    for (unsigned bits = 1; bits <= CWI_MAX_BITS; bits++) {
        const cwi_ms_encode e = ms_for(x, n, bits, false);
        cwi_moments a = {.count = {1}, .sum = {1}}, b = a;
        scalar.moments(x, n, &e.quant, e.threshold, &a);
        k->moments(x, n, &e.quant, e.threshold, &b);
        assert_same_bytes(k, "moments", p, n, &b, &a, sizeof a);
    }
}

static void test_moments(void **state)
{
    (void)state;
    check_all(check_moments);
}

/* ---- two-byte floats ---- */

typedef void narrow(const float *x, size_t n, uint8_t *out);
typedef bool widen(const uint8_t *in, size_t n, float *out);

static void check_narrow(const cwi_kernels *k, narrow *want, narrow *got, pattern p, const float *x, size_t n)
{
    uint8_t *a = place(1, 2 * n, true, 1), *b = place(2, 2 * n, n & 1, 2);
    want(x, n, a);
    got(x, n, b);
    assert_same_bytes(k, want == scalar.to_f16 ? "to_f16" : "to_bf16", p, n, b, a, 2 * n);
}

static void check_convert(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    float *x = input(p, n, at_end);
    for (size_t i = 0; p == RAMP && i < n; i++) /* around the halves between two f16 numbers, and f16's limits */
        x[i] = float_of((uint32_t)(cwi_rng_below(&rng, 1 << 18) << 13) + (uint32_t)cwi_rng_below(&rng, 3) + 0xfff);
    for (size_t i = 0; p == RAMP && i < n; i++)
        x[i] = key_of(x[i]) >= CWI_KEY_INF ? 65520.0f : x[i];
    check_narrow(k, scalar.to_f16, k->to_f16, p, x, n);
    check_narrow(k, scalar.to_bf16, k->to_bf16, p, x, n);
}

static void check_widen(const cwi_kernels *k, widen *want, widen *got, uint32_t inf, bool finite)
{
    enum { STEP = 97 };
    for (uint32_t first = 0; first < 65536; first += STEP) {
        const size_t n = CWI_MIN(STEP, 65536 - first);
        uint8_t *in = place(1, 2 * n, first & 1, 0);
        float *a = place(2, n * sizeof *a, true, 1), *b = place(3, n * sizeof *b, first & 1, 2);
        for (size_t i = 0; i < n; i++) {
            uint32_t h = first + (uint32_t)i;
            bool is_nan = (h & 0x7fff) > inf || (finite && (h & 0x7fff) == inf);
            cwi_put_le(in + 2 * i, is_nan ? 0 : h, 2);
        }
        assert_int_equal(got(in, n, b), want(in, n, a));
        assert_same_bytes(k, "widen", (pattern)0, n, b, a, n * sizeof *a);
    }
}

static void test_convert(void **state)
{
    (void)state;
    check_all(check_convert);
    for (size_t v = 0; v < variants; v++) {
        for (int finite = 0; finite < 2; finite++) {
            check_widen(&variant[v], scalar.from_f16, variant[v].from_f16, 0x7c00, finite);
            check_widen(&variant[v], scalar.from_bf16, variant[v].from_bf16, 0x7f80, finite);
        }
        for (size_t n = 0; n < SHORT; n++) { /* a NaN is seen in any place */
            uint8_t *in = place(1, 2 * n, n & 1, 0);
            float *out = place(2, n * sizeof *out, n & 1, 0);
            assert_true(variant[v].from_f16(in, n, out) && variant[v].from_bf16(in, n, out));
            if (n) {
                cwi_put_le(in + 2 * cwi_rng_below(&rng, n), 0xffff, 2);
                assert_false(variant[v].from_f16(in, n, out) || variant[v].from_bf16(in, n, out));
            }
        }
    }
}

/* Planes of every length, sums of 1 to 9 of 1 to 7 planes. */
static void test_sum_planes(void **state)
{
    (void)state;
    float weight[9 * 7], start[9];
    for (size_t i = 0; i < CWI_COUNT(weight); i++)
        weight[i] = (float)cwi_rng_normal(&rng);
    for (size_t plane = 0; plane < SHORT; plane++) {
        const size_t inputs = 1 + plane % 7, outputs = 1 + plane % 9;
        for (size_t i = 0; i < outputs; i++)
            start[i] = sample(plane & 1 ? NORMAL : ANY_BITS, i);
        const cwi_planes_sum s = {inputs, outputs, plane, weight, start};
        const float *x = input(plane % 3 ? NORMAL : ANY_BITS, inputs * plane, plane & 1);
        const size_t n = outputs * plane;
        float *wanted = place(1, n * sizeof *wanted, plane & 1, 0);
        scalar.sum_planes(&s, x, wanted);
        for (size_t p = 0; p < plane && plane % 3; p++) {
            float sum = start[outputs - 1];
            for (size_t c = 0; c < inputs; c++)
                sum += weight[(outputs - 1) * inputs + c] * x[c * plane + p];
            assert_memory_equal(&sum, &wanted[(outputs - 1) * plane + p], sizeof sum);
        }
        for (size_t v = 0; v < variants; v++) {
            float *got = place(2, n * sizeof *got, plane & 1, 0);
            variant[v].sum_planes(&s, x, got);
            for (size_t i = 0; i < n; i++) /* of NaN any will do */
                wanted[i] = isnan(wanted[i]) && isnan(got[i]) ? got[i] : wanted[i];
            assert_same_bytes(&variant[v], "sum_planes", NORMAL, plane, got, wanted, n * sizeof *got);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),      cmocka_unit_test(test_nonfinite), cmocka_unit_test(test_window),
        cmocka_unit_test(test_count),      cmocka_unit_test(test_histogram), cmocka_unit_test(test_ms),
        cmocka_unit_test(test_quantize),   cmocka_unit_test(test_moments),   cmocka_unit_test(test_convert),
        cmocka_unit_test(test_sum_planes),
    };
    return cmocka_run_group_tests(tests, find_variants, NULL);
}
