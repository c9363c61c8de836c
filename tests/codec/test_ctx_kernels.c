/* test_ctx_kernels.c - every SIMD variant of the entropy coder's and ec's kernels against the scalar definition, with
 * unmapped pages right before and after every buffer; what one variant encodes every other one decodes. */
#include "kernel_test.h"

/* ---- lanes ---- */

static void check_lanes(const cwi_kernels *k, size_t n, size_t stride, size_t count)
{
    const size_t span = (count - 1) * stride + n, size = n * CWI_LANES;
    uint8_t *planes = place(0, span, n & 1, 0), *back = place(3, span, !(n & 1), 0x77);
    uint8_t *want = place(1, size, true, 0x11), *got = place(2, size, stride & 1, 0x22);
    for (size_t i = 0; i < span; i++)
        planes[i] = (uint8_t)cwi_rng_u64(&rng);
    scalar.ctx.to_lanes(planes, stride, count, n, want);
    k->ctx.to_lanes(planes, stride, count, n, got);
    assert_same_bytes(k, "to_lanes", (pattern)0, n, got, want, size);
    memset(planes, 0x77, span);
    scalar.ctx.from_lanes(want, stride, count, n, planes);
    k->ctx.from_lanes(got, stride, count, n, back);
    assert_same_bytes(k, "from_lanes", (pattern)0, n, back, planes, span); /* also what lies between the planes */
}

static void test_lanes(void **state)
{
    (void)state;
    for (size_t v = 0; v < variants; v++)
        for (size_t n = 1; n < 100; n++)
            for (size_t more = 0; more < 20; more += more < 3 ? 1 : 5)
                check_lanes(&variant[v], n, n + more, CWI_LANES / (1 + more % 2));
}

/* ---- the coder ---- */

/* Tables of random shares, of which some are nothing. */
static void random_model(cwi_ctx_model *m, unsigned symbols)
{
    memset(m, 0, sizeof *m);
    m->symbols = symbols;
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        uint32_t left = CWI_CTX_WHOLE, sum = 0;
        for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
            uint32_t share = (uint32_t)cwi_rng_below(&rng, left + 1);
            if (s == 0 && c % 3 == 0)
                share = left - CWI_MIN(left, symbols); /* nearly certain */
            share = s + 1 == symbols ? left : s < symbols ? share : 0;
            m->start[s][c] = (uint16_t)sum;
            m->part[c][s] = sum | s << CWI_CTX_BITS | share << 16;
            sum += share;
            left -= share;
            m->next[c][s] = (uint16_t)sum;
        }
        m->start[CWI_SYMBOLS][c] = (uint16_t)sum;
    }
}

/* A symbol that occurs in a context. */
static uint8_t random_symbol(const cwi_ctx_model *m, unsigned context)
{
    const unsigned slot = (unsigned)cwi_rng_below(&rng, CWI_CTX_WHOLE);
    unsigned s = 0;
    while (m->next[context][s] <= slot)
        s++;
    return (uint8_t)s;
}

typedef struct coding {
    cwi_ctx_model model;
    cwi_ctx_mix mix;
    size_t width;
    unsigned used;
    bool has_support;
    uint8_t ref[CWI_CTX_REFS][ARENA / 4], above_and_row[ARENA / 4], contexts[ARENA / 4], support[ARENA / 4];
    uint8_t *row; /* in above_and_row: behind the one above */
    int16_t acc[ARENA / 4];
} coding;

static void random_bytes(uint8_t *p, size_t n, unsigned below)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)cwi_rng_below(&rng, below);
}

/* Half of the time weights as encoders choose them, else the largest. */
static void random_mix(cwi_ctx_mix *m)
{
    const uint64_t wild = cwi_rng_below(&rng, 2);
    m->refs = (unsigned)cwi_rng_below(&rng, CWI_CTX_REFS + 1);
    for (unsigned l = 0; l < CWI_LANES; l++) {
        const uint64_t bias = wild ? CWI_CTX_BIAS_MOST : 100, weight = wild ? CWI_CTX_WEIGHT_MOST : 8;
        m->bias[l] = (int16_t)((int)cwi_rng_below(&rng, 2 * bias + 1) - (int)bias);
        m->left[l] = (int16_t)((int)cwi_rng_below(&rng, 2 * weight + 1) - (int)weight);
        for (unsigned i = 0; i < CWI_CTX_ABOVE + CWI_CTX_REFS; i++)
            m->weight[i][l] = (int8_t)((int)cwi_rng_below(&rng, 2 * weight + 1) - (int)weight);
    }
}

static cwi_ctx_near near_of(const coding *c, bool has_up)
{
    cwi_ctx_near n = {.row = c->row, .top = !has_up};
    for (unsigned r = 0; r < c->mix.refs; r++)
        n.ref[r] = c->ref[r];
    return n;
}

/* A row whose symbols are drawn from the tables of their contexts, a third of the time where a support has them. */
static void random_coding(coding *c)
{
    memset(c, 0, sizeof *c);
    random_model(&c->model, 2 + (unsigned)cwi_rng_below(&rng, CWI_SYMBOLS - 1));
    random_mix(&c->mix);
    c->width = 1 + cwi_rng_below(&rng, 80);
    static const unsigned most_used[] = {4, CWI_LANES / 2, CWI_LANES};
    c->used = cwi_rng_below(&rng, 2) ? CWI_LANES : 1 + (unsigned)cwi_rng_below(&rng, most_used[cwi_rng_below(&rng, 3)]);
    for (unsigned l = 0; c->used <= CWI_CTX_THIN && l < CWI_LANES; l++) /* as in planes of one channel */
        c->mix.left[l] = c->mix.left[0];
    c->has_support = cwi_rng_below(&rng, 3) == 0;
    random_bytes(c->support, c->width * CWI_LANES, 1 + (unsigned)cwi_rng_below(&rng, 8));
    for (unsigned r = 0; r < CWI_CTX_REFS; r++)
        random_bytes(c->ref[r], c->width * CWI_LANES, c->model.symbols);
    random_bytes(c->above_and_row, c->width * CWI_LANES, c->model.symbols);
    c->row = c->above_and_row + c->width * CWI_LANES;
    const cwi_ctx_near near = near_of(c, cwi_rng_below(&rng, 2));
    scalar.ctx.mix(&c->mix, &near, 1, c->width, c->acc);
    for (size_t x = 0; x < c->width; x++) {
        scalar.ctx.contexts(&c->mix, c->acc, c->row, 1, x + 1, c->contexts);
        for (size_t i = x * CWI_LANES; i < x * CWI_LANES + c->used; i++)
            c->row[i] = c->has_support && !c->support[i] ? 0 : random_symbol(&c->model, c->contexts[i]);
    }
}

/* Of rows whose neighbours lie between unmapped pages: the one above, if any, and theirs. */
static void check_mix(const cwi_kernels *k, const coding *c, size_t rows, size_t width, bool has_up)
{
    const size_t row = width * CWI_LANES, size = rows * row;
    const uint8_t *last = c->above_and_row + row; /* of as many rows as there are */
    cwi_ctx_near want_near = near_of(c, has_up), near = want_near;
    static int16_t want[ARENA / 4];
    static uint8_t contexts[ARENA / 4];
    want_near.row = last;
    /* of the last row nothing is read */
    const size_t above = has_up ? size : size - row;
    near.row = (uint8_t *)memcpy(place(0, above, size & 32, 0), last - (has_up ? row : 0), above) + (has_up ? row : 0);
    if (c->mix.refs)
        near.ref[0] = memcpy(place(1, size, !(size & 32), 0), want_near.ref[0], size);
    int16_t *acc = place(2, size * sizeof *acc, size & 64, 0x11);
    scalar.ctx.mix(&c->mix, &want_near, rows, width, want);
    k->ctx.mix(&c->mix, &near, rows, width, acc);
    assert_same_bytes(k, "mix", (pattern)has_up, width, acc, want, size * sizeof *acc);
    scalar.ctx.contexts(&c->mix, want, last, rows, width, contexts);
    uint8_t *symbols = memcpy(place(0, size, size & 128, 0), last, size), *got = place(1, size, !(size & 128), 0x22);
    k->ctx.contexts(&c->mix, acc, symbols, rows, width, got);
    assert_same_bytes(k, "contexts", (pattern)has_up, width, got, contexts, size);
}

static void test_contexts(void **state)
{
    (void)state;
    static coding c;
    for (int round = 0; round < 300; round++) {
        random_coding(&c);
        for (size_t v = 0; v < variants; v++) {
            /* the row, or the one above and that one as narrower ones */
            const size_t width = 1 + cwi_rng_below(&rng, c.width);
            check_mix(&variant[v], &c, 1, c.width, false);
            check_mix(&variant[v], &c, 1, c.width, true);
            check_mix(&variant[v], &c, c.width / width, width, false);
            check_mix(&variant[v], &c, c.width / width, width, true);
        }
    }
}

static cwi_ctx_lanes lanes_of(const coding *c)
{
    cwi_ctx_lanes l = {.model = &c->model, .used = c->used};
    for (unsigned i = 0; i < CWI_LANES; i++)
        l.state[i] = CWI_CTX_LOW + i;
    return l;
}

static size_t most_bytes(const coding *c)
{
    return 2 * c->width * CWI_LANES + CWI_CTX_SLACK;
}

/* Into arena `which`; the states are left in *l. */
static void encode_with(const cwi_kernels *k, const coding *c, int which, cwi_ctx_lanes *l)
{
    const size_t half = c->width / 2;
    *l = lanes_of(c);
    l->put = (uint8_t *)place(which, most_bytes(c), true, 0x33) + most_bytes(c);
    l->support = c->has_support ? c->support + half * CWI_LANES : NULL;
    k->ctx.encode(l, c->contexts + half * CWI_LANES, c->row + half * CWI_LANES, c->width - half);
    l->support = c->has_support ? c->support : NULL;
    k->ctx.encode(l, c->contexts, c->row, half);
}

/* Decodes what scalar left in arena 1, but for the last `missing` bytes; returns whether that was enough. */
static bool decode_with(const cwi_kernels *k, const coding *c, const cwi_ctx_lanes *encoded, size_t missing)
{
    const size_t size = c->width * CWI_LANES, length = (size_t)(arenas[1].base + ARENA - encoded->put) - missing;
    cwi_ctx_lanes l = *encoded;
    l.get = memcpy(place(2, length, length & 2, 0x44), encoded->put, length);
    l.end = l.get + length;
    static uint8_t contexts[ARENA];
    uint8_t *row = place(3, size, length & 4, 0x55);
    if (!k->ctx.decode(&l, &c->mix, c->acc, row, c->width, length & 1 ? contexts : NULL))
        return false;
    if (missing == 0) {
        for (size_t i = 0; length & 1 && i < size; i++)
            assert_true(i % CWI_LANES >= c->used || contexts[i] == c->contexts[i]);
        assert_same_bytes(k, "decode", (pattern)0, c->width, row, c->row, size);
        assert_ptr_equal(l.get, l.end);
        for (unsigned i = 0; i < CWI_LANES; i++)
            assert_int_equal(l.state[i], CWI_CTX_LOW + i);
    }
    return true;
}

/* The same of few lanes, each one's row apart; `missing` bytes too few. Which symbol is guessed makes no difference. */
static bool decode_thin_with(const cwi_kernels *k, const coding *c, const cwi_ctx_lanes *encoded, size_t missing)
{
    static int16_t acc[CWI_CTX_THIN][ARENA / CWI_LANES];
    static uint8_t symbols[CWI_CTX_THIN][ARENA / CWI_LANES], contexts[CWI_CTX_THIN][ARENA / CWI_LANES];
    static uint8_t support[CWI_CTX_THIN][ARENA / CWI_LANES];
    const size_t length = (size_t)(arenas[1].base + ARENA - encoded->put) - missing;
    cwi_ctx_thin_row row[CWI_CTX_THIN];
    cwi_ctx_lanes l = *encoded;
    l.likely = cwi_rng_below(&rng, 2) ? (unsigned)cwi_rng_below(&rng, c->model.symbols) : CWI_SYMBOLS;
    l.get = memcpy(place(2, length, length & 2, 0x44), encoded->put, length);
    l.end = l.get + length;
    for (unsigned i = 0; i < c->used; i++) {
        symbols[i][0] = 0;
        row[i] = (cwi_ctx_thin_row){.acc = acc[i], .symbols = symbols[i] + 1, .contexts = contexts[i]};
        row[i].support = c->has_support ? support[i] : NULL;
        for (size_t x = 0; x < c->width; x++) {
            acc[i][x] = c->acc[x * CWI_LANES + i];
            support[i][x] = c->support[x * CWI_LANES + i];
        }
    }
    if (!k->ctx.thin_decode(&l, c->mix.left[0], row, c->width))
        return false;
    for (size_t i = 0; missing == 0 && i < c->used * c->width; i++) {
        const size_t lane = i % c->used, x = i / c->used, at = x * CWI_LANES + lane;
        assert_int_equal(row[lane].symbols[x], c->row[at]);
        assert_int_equal(row[lane].contexts[x], c->contexts[at]);
    }
    assert_true(missing > 0 || l.get == l.end);
    for (unsigned i = 0; missing == 0 && i < c->used; i++)
        assert_int_equal(l.state[i], CWI_CTX_LOW + i);
    return true;
}

static void test_thin_coder(void **state)
{
    (void)state;
    static coding c;
    for (int round = 0; round < 2000; round++) {
        do
            random_coding(&c);
        while (c.used > CWI_CTX_THIN);
        cwi_ctx_lanes l;
        encode_with(&scalar, &c, 1, &l);
        const size_t length = (size_t)(arenas[1].base + ARENA - l.put);
        const size_t missing = length ? 1 + cwi_rng_below(&rng, CWI_MIN(length, 8)) : 0;
        const bool enough = missing && decode_with(&scalar, &c, &l, missing);
        for (size_t v = 0; v <= variants; v++) {
            const cwi_kernels *k = v < variants ? &variant[v] : &scalar;
            assert_true(decode_thin_with(k, &c, &l, 0));
            if (missing)
                assert_int_equal(decode_thin_with(k, &c, &l, missing), enough);
        }
    }
}

/* By definition. */
static int acc_at(const cwi_ctx_terms *t, size_t i)
{
    int acc = t->bias;
    for (unsigned k = 0; k < t->count; k++)
        acc += t->weight[k] * t->at[k][i];
    return acc;
}

/* Terms that end, or begin, at an unmapped page, and one byte later each. */
static void check_thin(const cwi_kernels *k, size_t n, bool at_end)
{
    uint8_t *symbols = place(0, n + CWI_CTX_WEIGHTS, at_end, 0);
    int16_t *acc = place(1, n * sizeof *acc, at_end, 0x11);
    uint8_t *contexts = place(2, n, at_end, 0x22);
    cwi_ctx_terms t = {.count = (unsigned)cwi_rng_below(&rng, CWI_CTX_WEIGHTS + 1)};
    const uint64_t bias = cwi_rng_below(&rng, 2) ? CWI_CTX_BIAS_MOST : 100,
                   weight = bias > 100 ? CWI_CTX_WEIGHT_MOST : 8;
    t.bias = (int16_t)((int)cwi_rng_below(&rng, 2 * bias + 1) - (int)bias);
    random_bytes(symbols, n + CWI_CTX_WEIGHTS, CWI_SYMBOLS);
    for (unsigned i = 0; i < t.count; i++) {
        t.weight[i] = (int16_t)((int)cwi_rng_below(&rng, 2 * weight + 1) - (int)weight);
        t.at[i] = symbols + i;
    }
    k->ctx.thin_mix(&t, n, acc);
    k->ctx.thin_contexts(&t, n, contexts);
    for (size_t i = 0; i < n; i++) {
        const int want = acc_at(&t, i), context = want < 0 ? 0 : want / (1 << CWI_CTX_SHIFT);
        assert_int_equal(acc[i], want);
        assert_int_equal(contexts[i], CWI_MIN(context, CWI_CONTEXTS - 1));
    }
}

static void test_thin(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 8 * CWI_CTX_THIN_PAD; n += CWI_CTX_THIN_PAD)
        for (int round = 0; round < 50; round++)
            for (size_t v = 0; v <= variants; v++)
                check_thin(v < variants ? &variant[v] : &scalar, n, round & 1);
}

static void test_coder(void **state)
{
    (void)state;
    static coding c;
    for (int round = 0; round < 3000; round++) {
        random_coding(&c);
        cwi_ctx_lanes want, got;
        encode_with(&scalar, &c, 1, &want);
        const size_t length = (size_t)(arenas[1].base + ARENA - want.put);
        const size_t missing = length ? 1 + cwi_rng_below(&rng, CWI_MIN(length, 80)) : 0;
        assert_true(decode_with(&scalar, &c, &want, 0));
        const bool enough = missing && decode_with(&scalar, &c, &want, missing);
        for (size_t v = 0; v < variants; v++) {
            encode_with(&variant[v], &c, 0, &got);
            assert_int_equal(arenas[0].base + ARENA - got.put, length);
            assert_same_bytes(&variant[v], "encode", (pattern)0, c.used, got.put, want.put, length);
            assert_memory_equal(got.state, want.state, sizeof got.state);
            assert_true(decode_with(&variant[v], &c, &want, 0));
            if (missing)
                assert_int_equal(decode_with(&variant[v], &c, &want, missing), enough);
        }
    }
}

/* ---- sums of products ---- */

enum { ROWS = 6 };

static void check_products(const cwi_kernels *k, size_t n, size_t count, size_t stride, bool largest)
{
    int32_t want[ROWS + 4] = {0}, got[ROWS + 4] = {0}; /* nothing may be written behind */
    int8_t *numbers = place(0, n, n & 64, 0);
    uint8_t *rows = place(1, count ? (count - 1) * stride + n : 0, !(n & 64), 0);
    random_bytes(rows, count ? (count - 1) * stride + n : 0, CWI_SYMBOLS);
    for (size_t i = 0; i < n; i++)
        numbers[i] = !largest ? (int8_t)((int)cwi_rng_below(&rng, 255) - 127) : count & 1 ? 127 : -127;
    if (largest && count)
        memset(rows, CWI_SYMBOLS - 1, (count - 1) * stride + n);
    scalar.ctx.products(numbers, rows, stride, count, n, want);
    k->ctx.products(numbers, rows, stride, count, n, got);
    assert_memory_equal(got, want, sizeof got);
}

static void test_products(void **state)
{
    (void)state;
    for (size_t v = 0; v < variants; v++)
        for (size_t n = 0; n < 12 * CWI_CTX_PAD; n += CWI_CTX_PAD)
            for (size_t count = 0; count <= ROWS; count++) {
                check_products(&variant[v], n, count, n, false);
                check_products(&variant[v], n, count, n + 37, n & 128);
            }
}

/* ---- floats and symbols of ec ---- */

static void check_energy(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    const float *x = input(p, n, at_end);
    double a[8] = {1, 2, 3}, b[8] = {1, 2, 3};
    scalar.ec.energy(x, n, a);
    k->ec.energy(x, n, b);
    assert_same_bytes(k, "energy", p, n, b, a, sizeof a);
}

static void test_energy(void **state)
{
    (void)state;
    check_all(check_energy);
}

/* Steps from far below to far above the magnitudes. */
static cwi_ec_quant ec_quant_for(const float *x, size_t n, bool stochastic)
{
    const float some = n ? fabsf(x[cwi_rng_below(&rng, n)]) : 1,
                size = (float)pow(4, (double)cwi_rng_below(&rng, 9) - 6);
    cwi_ec_quant q = {.pre = some > 0 && some < 0x1p-64f ? 0x1p86f : 1, .stochastic = stochastic};
    q.noise = cwi_rng_u64(&rng);
    q.scale = some > 0 ? 1 / (some * q.pre * size) : 0;
    return q;
}

static void check_symbols(const cwi_kernels *k, pattern p, size_t n, const float *x, const uint8_t *symbols)
{
    cwi_ec_tally a = {1, 2, 3}, b = a;
    scalar.ec.tally(symbols, n, &a);
    k->ec.tally(symbols, n, &b);
    assert_same_bytes(k, "tally", p, n, &b, &a, sizeof a);

    const size_t size = (size_t)(a.coded - 1 + 3 + 7) / 8; /* after three bits that were there before */
    uint8_t want[MOST / 8 + 2] = {0}, *got = place(2, size, n & 1, 0x66);
    cwi_bit_writer s = {.next = want, .held = 5, .count = 3}, v = {.next = got, .held = 5, .count = 3};
    scalar.ec.put_signs(x, symbols, n, &s);
    k->ec.put_signs(x, symbols, n, &v);
    assert_int_equal(cwi_bits_finish(&s) - want, size);
    assert_int_equal(cwi_bits_finish(&v) - got, size);
    assert_same_bytes(k, "put_signs", p, n, got, want, size);

    static float back[MOST];
    float *level = place(1, 16 * sizeof *level, true, 0), *out = place(3, n * sizeof *out, n & 1, 0x12);
    for (unsigned i = 0; i < 16; i++)
        level[i] = (float)i * 0.3f;
    scalar.ec.dequantize(symbols, n, level, back);
    k->ec.dequantize(symbols, n, level, out);
    assert_same_bytes(k, "dequantize", p, n, out, back, n * sizeof *out);
    cwi_bit_reader r = {.next = want, .end = want + size}, w = {.next = got, .end = got + size};
    cwi_bits_get(&r, 3);
    cwi_bits_get(&w, 3);
    scalar.ec.set_signs(symbols, n, &r, back);
    k->ec.set_signs(symbols, n, &w, out);
    assert_same_bytes(k, "set_signs", p, n, out, back, n * sizeof *out);
    assert_true(!w.short_of && w.next == got + size);
}

/* Of finite elements alone. */
static void check_places(const cwi_kernels *k, pattern p, size_t n, const float *x, const uint8_t *symbols,
                         const cwi_ec_quant *q, unsigned zero)
{
    static float finite[MOST];
    static uint16_t want[MOST];
    uint16_t *got = place(2, n * sizeof *got, n & 1, 0x55);
    for (size_t i = 0; i < n; i++)
        finite[i] = isfinite(x[i]) ? x[i] : 0;
    scalar.ec.places(finite, symbols, n, q, zero, want);
    k->ec.places(finite, symbols, n, q, zero, got);
    assert_same_bytes(k, "ec places", p, n, got, want, n * sizeof *got);
    for (size_t first = 0; first < n; first += CWI_EC_SPREAD_MOST) {
        const size_t m = CWI_MIN(n - first, (size_t)CWI_EC_SPREAD_MOST);
        assert_int_equal(scalar.ec.spread(finite + first, m, q, zero), k->ec.spread(finite + first, m, q, zero));
    }
}

static void check_about(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    static uint8_t want[MOST];
    const float *x = input(p, n, at_end);
    const cwi_ec_quant from = ec_quant_for(x, n, false);
    for (unsigned zero = 0; zero < CWI_SYMBOLS; zero += 7) {
        const cwi_quant q = {
            .pre = from.pre, .base = -(float)zero / from.scale, .scale = from.scale, .half = 0.5f, .top = 15};
        uint8_t *got = place(1, n, !at_end, 0xaa);
        scalar.ec.quantize_about(x, n, &q, want);
        k->ec.quantize_about(x, n, &q, got);
        assert_same_bytes(k, "ec quantize about a zero", p, n, got, want, n);
        check_places(k, p, n, x, want, &from, zero);
    }
}

static void test_about(void **state)
{
    (void)state;
    check_all(check_about);
}

static void check_ec(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    static uint8_t want[MOST];
    const float *x = input(p, n, at_end);
    for (int stochastic = 0; stochastic < 2; stochastic++) {
        const cwi_ec_quant q = ec_quant_for(x, n, stochastic);
        const uint64_t first = n & 1 ? cwi_rng_u64(&rng) >> 8 : (UINT64_C(3) << 32) - cwi_rng_below(&rng, n + 1);
        uint8_t *got = place(1, n, !at_end, 0xaa);
        scalar.ec.quantize(x, n, &q, first, want);
        k->ec.quantize(x, n, &q, first, got);
        assert_same_bytes(k, "ec quantize", p, n, got, want, n);
        check_symbols(k, p, n, x, want);
    }
}

static void test_ec(void **state)
{
    (void)state;
    check_all(check_ec);
}

/* ---- planes and bytes ---- */

static void check_planes(const cwi_kernels *k, pattern p, size_t n, bool at_end)
{
    if (p > NORMAL) /* the bytes are of no pattern */
        return;
    for (unsigned planes = 1; planes <= 9; planes++) {
        const unsigned bits = 1 + (unsigned)cwi_rng_below(&rng, CWI_MIN(planes, 4u));
        const unsigned first = (unsigned)cwi_rng_below(&rng, planes - bits + 1);
        const size_t size = cwi_planes_size(n, planes);
        static uint8_t want[MOST], back[2 * MOST];
        uint8_t *in = place(0, size, at_end, 0), *codes = place(1, n, !at_end, 0x88), *out = place(2, size, at_end, 0);
        for (size_t i = 0; i < size; i++)
            back[i] = out[i] = in[i] = (uint8_t)cwi_rng_u64(&rng);
        scalar.codes_of_planes(in, n, planes, first, bits, want);
        k->codes_of_planes(in, n, planes, first, bits, codes);
        assert_same_bytes(k, "codes_of_planes", p, n, codes, want, n);
        for (size_t i = 0; i < n; i++)
            codes[i] = want[i] = (uint8_t)(cwi_rng_u64(&rng) & ((1u << bits) - 1));
        scalar.planes_of_codes(want, n, planes, first, bits, back);
        k->planes_of_codes(codes, n, planes, first, bits, out);
        assert_same_bytes(k, "planes_of_codes", p, n, out, back, size);
    }
}

static void test_planes(void **state)
{
    (void)state;
    check_all(check_planes);
}

static void test_bits(void **state)
{
    (void)state;
    for (size_t v = 0; v < variants; v++) {
        for (int round = 0; round < 1000; round++) {
            const uint64_t a = cwi_rng_u64(&rng), b = cwi_rng_u64(&rng);
            const uint64_t mask = round % 4 == 0 ? a & b : round % 4 == 1 ? a | b : round % 4 == 2 ? 0 : UINT64_MAX;
            const uint64_t word = cwi_rng_u64(&rng), bits = scalar.extract(word, mask);
            assert_true(variant[v].extract(word, mask) == bits);
            assert_true(variant[v].deposit(word, mask) == scalar.deposit(word, mask));
            assert_true(variant[v].deposit(bits, mask) == (word & mask));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes),  cmocka_unit_test(test_contexts),   cmocka_unit_test(test_coder),
        cmocka_unit_test(test_thin),   cmocka_unit_test(test_thin_coder), cmocka_unit_test(test_products),
        cmocka_unit_test(test_energy), cmocka_unit_test(test_ec),         cmocka_unit_test(test_about),
        cmocka_unit_test(test_planes), cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests(tests, find_variants, NULL);
}
