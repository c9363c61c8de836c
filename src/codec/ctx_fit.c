/* ctx_fit.c - chooses the weights that contexts come from: least squares on a sample of rows, for each channel or for
 * classes of channels, and for channels of their own the earlier channels that foretell most.
 *
 * Sums are of whole numbers, and what follows from them is computed in one order, so that the bytes depend on neither
 * threads nor instruction set. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/ctx_apart.h"

enum {
    POSITIONS = 2048,      /* of each channel in the sample, or more by less than a row */
    LONG_ROWS = 8,         /* or so many rows that are long, of which fewer would tell of themselves alone */
    LEAST_POSITIONS = 512, /* where there are so many */
    WORK = 128,            /* products for each element of the tensor, by which the sample is limited, too */
    CANDIDATES = 128,      /* earlier channels that are looked at */
    QUICK_POSITIONS = 768, /* the same two where time matters more */
    QUICK_CANDIDATES = 96,
    REFER_LEAST = 256,  /* elements of a channel */
    WEIGHT_ONE = 64,    /* a weight of 1 in whole numbers, where a residual is made */
    RESIDUAL_SHIFT = 3, /* what that is shifted by */
    FINEST = 32,
    COARSEST = 2, /* contexts for a difference of 1 */
    CLASS_BITS = 3,
};

/* Steps are coarse below this standard deviation of symbols: above it nothing is gained. */
#define COARSE_BELOW 2.0

typedef struct fit {
    const cwi_ctx_encoder *e;
    const cwi_ctx_shape *shape;
    const cwi_kernels *kernels;
    const uint8_t *symbols;
    cwi_ctx_tables *tables;
    size_t rows, n;                  /* of each channel in the sample: rows, and elements in them */
    size_t pitch;                    /* n, and zeros to fill a multiple of CWI_CTX_PAD */
    double whole;                    /* elements of a channel */
    cwi_ctx_view all;                /* of channels that have all contexts */
    uint64_t *sum, *square, *sorted; /* of each channel */
    float *spread;                   /* of each channel 1 / (n square - sum^2), or 0 */
    int32_t (*products)[CANDIDATES]; /* of each channel with its candidates */
    size_t *row, *above; /* where each row of channel 0 begins, and the one above it, or any where none is */
    size_t candidates;   /* earlier channels that are looked at */
    bool parts;          /* whether channels may have windows of contexts */
    bool refers;         /* whether channels may be predicted from others */
    bool coarse;         /* most symbols are alike, and tell little of what foretells them: elements themselves do */
    uint8_t *sample;     /* [pitch] of each channel where they are, else of the channel at hand */
    uint8_t *known;      /* [TARGET][pitch] ones, and the neighbours of the channel at hand */
    uint8_t *inner[3];   /* [pitch] each: 255 where there is a left, an upper, a right neighbour */
    int8_t *target;      /* [pitch] of the channel at hand, in 1/CWI_CTX_PARTS: see cwi_ctx_expected */
    int8_t *residual;    /* [pitch] of it */
    cwi_var_near_moments shared[CWI_CTX_SHARED];
    double own_bits;
    cwi_ctx_apart apart;
} fit;

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* What kernels for products read of a row of so many bytes. */
static size_t padded(size_t bytes)
{
    return (bytes + CWI_CTX_PAD - 1) / CWI_CTX_PAD * CWI_CTX_PAD;
}

static bool may_refer(const cwi_ctx_shape *s)
{
    return cwi_ctx_may_refer(s) && cwi_ctx_may_own(s) && s->elements / s->channels >= REFER_LEAST;
}

static size_t rows_of(const cwi_ctx_shape *s, size_t positions)
{
    const size_t rows = (positions + s->width - 1) / s->width, least = s->width > CWI_CTX_LONG_ROW ? LONG_ROWS : 1;
    return CWI_MIN(s->samples * s->height, CWI_MAX(rows, least));
}

static size_t sample_rows(const cwi_ctx_shape *s)
{
    const size_t products =
        2 * CWI_MIN(s->channels, (size_t)CANDIDATES) + CWI_CTX_NEAR * (CWI_CTX_SHORTLIST + CWI_CTX_NEAR);
    const size_t affordable = WORK * (s->elements / s->channels) / products;
    const size_t positions = CWI_MAX(CWI_MIN((size_t)POSITIONS, affordable), (size_t)LEAST_POSITIONS);
    return rows_of(s, positions);
}

/* Where the parts of the scratch are. */
typedef struct places {
    size_t sum, square, sorted, spread, products, row, above, sample, known, inner, target, residual, of_near, of_own,
        all;
} places;

static size_t place(size_t *end, size_t bytes)
{
    const size_t at = *end;
    *end += rounded(bytes);
    return at;
}

static places places_in(const cwi_ctx_shape *s)
{
    const size_t rows = sample_rows(s), pitch = padded(rows * s->width), sums = s->channels * sizeof(uint64_t);
    size_t end = rounded(sizeof(fit));
    places p = {0};
    p.sum = place(&end, sums);
    p.square = place(&end, sums);
    p.sorted = place(&end, sums);
    p.spread = place(&end, s->channels * sizeof(float));
    p.products = place(&end, may_refer(s) ? s->channels * CANDIDATES * sizeof(int32_t) : 0);
    p.row = place(&end, rows * sizeof(size_t));
    p.above = place(&end, rows * sizeof(size_t));
    p.sample = place(&end, (may_refer(s) ? s->channels : 1) * pitch);
    p.known = place(&end, CWI_VAR_TARGET * pitch);
    p.inner = place(&end, 3 * pitch);
    p.target = place(&end, pitch);
    p.residual = place(&end, pitch);
    p.of_near = place(&end, s->channels);
    p.of_own = place(&end, s->channels);
    p.all = end;
    return p;
}

size_t cwi_ctx_fit_size(const cwi_ctx_shape *s)
{
    return places_in(s).all;
}

static fit *begin(const cwi_ctx_encoder *e, uint8_t *work, cwi_ctx_tables *t)
{
    const cwi_ctx_shape *s = &e->shape;
    const places p = places_in(s);
    fit *f = (fit *)(void *)work;
    memset(f, 0, sizeof *f);
    f->e = e;
    f->shape = s;
    f->kernels = e->kernels;
    f->symbols = e->symbols;
    f->tables = t;
    f->rows = e->quick ? CWI_MIN(sample_rows(s), rows_of(s, QUICK_POSITIONS)) : sample_rows(s);
    f->candidates = e->quick ? QUICK_CANDIDATES : CANDIDATES;
    f->n = f->rows * s->width;
    f->pitch = padded(f->n);
    f->refers = may_refer(s);
    f->parts = t->zero > 0 && s->channels > 1;
    f->whole = (double)(s->elements / s->channels);
    f->sum = (uint64_t *)(void *)(work + p.sum);
    f->square = (uint64_t *)(void *)(work + p.square);
    f->sorted = (uint64_t *)(void *)(work + p.sorted);
    f->spread = (float *)(void *)(work + p.spread);
    f->products = (int32_t(*)[CANDIDATES])(void *)(work + p.products);
    f->row = (size_t *)(void *)(work + p.row);
    f->above = (size_t *)(void *)(work + p.above);
    f->sample = work + p.sample;
    f->known = work + p.known;
    for (unsigned i = 0; i < 3; i++)
        f->inner[i] = work + p.inner + i * f->pitch;
    f->target = (int8_t *)(work + p.target);
    f->residual = (int8_t *)(work + p.residual);
    f->apart.of_near = work + p.of_near;
    f->apart.of_own = work + p.of_own;
    memset(f->known, 0, CWI_VAR_TARGET * f->pitch);
    memset(f->known, 1, f->n);
    memset(f->target, 0, f->pitch);
    memset(f->residual, 0, f->pitch);
    return f;
}

/* ---- the sample ---- */

/* The rows of the sample: one of each part of all, any of its rows, so that they keep step with no height. */
static void choose_rows(const fit *f)
{
    const cwi_ctx_shape *s = f->shape;
    const size_t all = s->samples * s->height, width = s->width;
    const cwi_rng random = cwi_rng_make(0, CWI_STREAM_CODEC, all, f->rows);
    memset(f->inner[0], 255, 3 * f->pitch);
    for (size_t i = 0; i < f->rows; i++) {
        const size_t first = (size_t)((uint64_t)i * all / f->rows);
        const size_t part = (size_t)((uint64_t)(i + 1) * all / f->rows) - first;
        const size_t row = first + (size_t)(cwi_rng_at(&random, i) % part);
        const size_t sample = row / s->height, y = row % s->height;
        f->row[i] = (sample * s->channels * s->height + y) * width;
        f->above[i] = f->row[i] - CWI_MIN(f->row[i], width);
        f->inner[0][i * width] = f->inner[2][i * width + width - 1] = 0;
        if (y == 0)
            memset(f->inner[1] + i * width, 0, width);
    }
}

/* Where channel `channel` begins in a sample, and in `sample`. */
static const uint8_t *plane_of(const fit *f, size_t channel)
{
    return f->symbols + channel * f->shape->height * f->shape->width;
}

static uint8_t *sample_of(const fit *f, size_t channel)
{
    return f->sample + (f->refers ? channel : 0) * f->pitch;
}

/* out[i] = sum of a * row i of `rows`, which are f->pitch apart; `a` are symbols or a residual. */
static void products(const fit *f, const void *a, const uint8_t *rows, size_t count, int32_t *out)
{
    f->kernels->ctx.products(a, rows, f->pitch, count, f->pitch, out);
}

CWI_INLINE void gather_rows(const uint8_t *from, const size_t *row, size_t rows, size_t width, uint8_t *to)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * width, from + row[i], width);
}

/* Rows are often so short that calls would take most of the time. */
static void gather(const fit *f, const uint8_t *from, const size_t *row, uint8_t *to)
{
    switch (f->shape->width) {
    case 1:
        gather_rows(from, row, f->rows, 1, to);
        break;
    case 2:
        gather_rows(from, row, f->rows, 2, to);
        break;
    case 4:
        gather_rows(from, row, f->rows, 4, to);
        break;
    case 8:
        gather_rows(from, row, f->rows, 8, to);
        break;
    default:
        gather_rows(from, row, f->rows, f->shape->width, to);
        break;
    }
}

static void take_rows(const fit *f, size_t channel)
{
    uint8_t *to = sample_of(f, channel);
    gather(f, plane_of(f, channel), f->row, to);
    memset(to + f->n, 0, f->pitch - f->n);
}

static void take_target(const fit *f, size_t channel)
{
    const uint8_t *symbols = sample_of(f, channel);
    for (size_t i = 0; i < f->n; i++)
        f->target[i] = (int8_t)(symbols[i] * CWI_CTX_PARTS);
    if (f->coarse)
        f->e->expected(f->e->of, (size_t)(plane_of(f, channel) - f->symbols), f->row, f->rows, f->shape->width,
                       f->target);
}

static double target_square(const fit *f)
{
    int32_t sum = 0;
    for (size_t i = 0; i < f->n; i++)
        sum += f->target[i] * f->target[i];
    return (double)sum / (CWI_CTX_PARTS * CWI_CTX_PARTS);
}

static void take_sample(fit *f)
{
    double sum = 0, square = 0;
    for (size_t c = 0; c < f->shape->channels; c++) {
        const uint8_t *to = sample_of(f, c);
        int32_t sums[1], squares[1];
        take_rows(f, c);
        products(f, f->known, to, 1, sums);
        products(f, to, to, 1, squares);
        const double spread = (double)f->n * squares[0] - (double)sums[0] * sums[0];
        f->sum[c] = (uint64_t)sums[0];
        f->square[c] = (uint64_t)squares[0];
        f->spread[c] = spread > 0 ? (float)(1 / spread) : 0;
        sum += sums[0];
        square += squares[0];
    }
    /* Contexts cover what is predicted to about three standard deviations. */
    const double n = (double)f->n * (double)f->shape->channels, mean = sum / n;
    const double deviation = sqrt(CWI_MAX(square / n - mean * mean, 0.0)), reach = 3 * deviation + 0.5;
    f->coarse = f->e->expected && deviation < COARSE_BELOW;
    f->all.low = f->tables->zero ? CWI_MAX(mean - reach, 0.0) : 0;
    const double range = mean + reach - f->all.low;
    f->all.scale = CWI_MAX(CWI_MIN(CWI_CONTEXTS / range, (double)FINEST), (double)COARSEST) * (1 << CWI_CTX_SHIFT);
}

static void mask(const uint8_t *restrict from, const uint8_t *restrict inner, uint8_t zero, size_t n,
                 uint8_t *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)((from[i] & inner[i]) | (zero & ~inner[i]));
}

/* The neighbours of a channel's elements in the sample. */
static void take_near(const fit *f, size_t channel)
{
    const uint8_t *at = sample_of(f, channel), zero = (uint8_t)f->tables->zero;
    uint8_t *left = f->known + CWI_VAR_NEAR * f->pitch, *up = left + f->pitch, *up_left = up + f->pitch;
    uint8_t *up_right = up_left + f->pitch;
    gather(f, plane_of(f, channel), f->above, up_left);
    mask(up_left, f->inner[1], zero, f->n, up);
    mask(at, f->inner[0] + 1, zero, f->n - 1, left + 1);
    mask(up, f->inner[0] + 1, zero, f->n - 1, up_left + 1);
    mask(up + 1, f->inner[2], zero, f->n - 1, up_right);
    left[0] = up_left[0] = up_right[f->n - 1] = zero;
}

/* About the bits of an element whose prediction has this mean square error: measured on feature maps; of signed ones,
 * whose errors are larger, as of a normal distribution. */
static double rate(const fit *f, double error)
{
    return f->tables->zero ? cwi_ctx_bits_of(error) : 0.3 * log2(1 + 50 * error);
}

static void set_both(cwi_var_moments m, unsigned i, unsigned j, double v)
{
    m[i][j] = m[j][i] = v;
}

static void measure_near(const fit *f, cwi_var_moments m)
{
    int32_t sums[CWI_VAR_TARGET];
    products(f, f->target, f->known, CWI_VAR_TARGET, sums);
    for (unsigned i = 0; i < CWI_VAR_TARGET; i++)
        set_both(m, i, CWI_VAR_TARGET, (double)sums[i] / CWI_CTX_PARTS);
    m[CWI_VAR_TARGET][CWI_VAR_TARGET] = target_square(f);
    for (unsigned i = 0; i < CWI_VAR_TARGET; i++) {
        products(f, f->known + i * f->pitch, f->known, i + 1, sums);
        for (unsigned j = 0; j <= i; j++)
            set_both(m, i, j, sums[j]);
    }
}

/* ---- references ---- */

/* In GNU C's vectors. */
typedef uint8_t bytes8 __attribute__((vector_size(8)));
typedef int8_t signed8 __attribute__((vector_size(8)));
typedef int16_t words8 __attribute__((vector_size(16)));

static words8 words_at(const uint8_t *p)
{
    bytes8 v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, words8);
}

/* What of the channel's elements its neighbours do not foretell, but for the last few. */
static void take_residual(const fit *f, const cwi_regression *r)
{
    const uint8_t *target = (const uint8_t *)f->target,
                  *near = f->known + CWI_VAR_NEAR * f->pitch; /* none is negative */
    const words8 zero = {0}, most = zero + 127, half = zero + (1 << RESIDUAL_SHIFT) / 2;
    double weight[1 + CWI_CTX_WEIGHTS];
    int16_t w[CWI_VAR_TARGET];
    cwi_regression_weights(r, weight);
    for (unsigned i = 0; i < CWI_VAR_TARGET; i++) /* so that 16 bits hold what follows */
        w[i] = cwi_ctx_whole(weight[i] * WEIGHT_ONE, i == CWI_VAR_ONE ? CWI_CTX_BIAS_MOST : 4 * WEIGHT_ONE);
    for (size_t i = 0; i + 8 <= f->n; i += 8) {
        words8 v = words_at(target + i) * (WEIGHT_ONE / CWI_CTX_PARTS) - w[CWI_VAR_ONE] + half;
        for (unsigned j = 0; j < CWI_CTX_NEAR; j++)
            v -= words_at(near + j * f->pitch + i) * w[CWI_VAR_NEAR + j];
        v >>= RESIDUAL_SHIFT;
        v = (v & (v < most)) | (most & (v >= most));
        v = (v & (v > -most)) | (-most & (v <= -most));
        const signed8 out = __builtin_convertvector(v, signed8);
        memcpy(f->residual + i, &out, sizeof out);
    }
}

static size_t first_candidate(const fit *f, size_t channel)
{
    return channel > f->candidates ? channel - f->candidates : 0;
}

/* A score that at least SHORTLIST candidates reach, or all that have any: the least of the best ones of as many parts.
 */
static float worth_looking_at(const float score[CANDIDATES])
{
    float best[CWI_CTX_SHORTLIST], least = INFINITY;
    memcpy(best, score, sizeof best);
    for (size_t c = CWI_CTX_SHORTLIST; c < CANDIDATES; c++)
        best[c % CWI_CTX_SHORTLIST] = CWI_MAX(best[c % CWI_CTX_SHORTLIST], score[c]);
    for (size_t i = 0; i < CWI_CTX_SHORTLIST; i++)
        least = CWI_MIN(least, best[i]);
    return CWI_MAX(least, FLT_MIN);
}

static void subtract_mean(const fit *f, size_t first, size_t candidates, int32_t both[CANDIDATES])
{
    int32_t sum;
    products(f, f->residual, f->known, 1, &sum);
    for (size_t c = 0; c < candidates; c++)
        both[c] -= (int32_t)((int64_t)sum * (int64_t)f->sum[first + c] / (int64_t)f->n);
}

/* The earlier channels that correlate most with the residual, best first; returns how many. */
static unsigned shortlist(const fit *f, size_t channel, size_t channels[CWI_CTX_SHORTLIST])
{
    const size_t first = first_candidate(f, channel), candidates = channel - first;
    int32_t both[CANDIDATES];
    float score[CANDIDATES] = {0}, best[CWI_CTX_SHORTLIST];
    uint8_t worth[CANDIDATES];
    unsigned found = 0, count = 0;
    products(f, f->residual, sample_of(f, first), candidates, both);
    if (f->tables->zero) /* what is rounded has a mean of its own, which counts where symbols have one */
        subtract_mean(f, first, candidates, both);
    for (size_t c = 0; c < candidates; c++)
        score[c] = (float)both[c] * (float)both[c] * f->spread[first + c];
    const float least = worth_looking_at(score);
    for (size_t c = 0; c < candidates; c++) {
        worth[found] = (uint8_t)c;
        found += score[c] >= least;
    }
    for (size_t i = 0; i < found; i++) {
        const float s = score[worth[i]];
        unsigned at = count;
        if (count == CWI_CTX_SHORTLIST && s <= best[count - 1])
            continue;
        at -= count == CWI_CTX_SHORTLIST;
        for (; at > 0 && best[at - 1] < s; at--) {
            best[at] = best[at - 1];
            channels[at] = channels[at - 1];
        }
        best[at] = s;
        channels[at] = first + worth[i];
        count += count < CWI_CTX_SHORTLIST;
    }
    return count;
}

/* Of two that were candidates of one channel. */
static double product_of(const fit *f, size_t a, size_t b)
{
    const size_t later = CWI_MAX(a, b), earlier = CWI_MIN(a, b);
    return a == b ? (double)f->square[a] : f->products[later][earlier - first_candidate(f, later)];
}

static void measure_shortlist(const fit *f, const size_t *channels, unsigned count, cwi_var_moments m)
{
    int32_t sums[CWI_VAR_TARGET];
    for (unsigned i = 0; i < count; i++) {
        products(f, f->target, sample_of(f, channels[i]), 1, sums);
        set_both(m, CWI_VAR_FIRST + i, CWI_VAR_TARGET, (double)sums[0] / CWI_CTX_PARTS);
        products(f, sample_of(f, channels[i]), f->known + CWI_VAR_NEAR * f->pitch, CWI_CTX_NEAR, sums);
        set_both(m, CWI_VAR_FIRST + i, CWI_VAR_ONE, (double)f->sum[channels[i]]);
        for (unsigned j = 0; j < CWI_CTX_NEAR; j++)
            set_both(m, CWI_VAR_FIRST + i, CWI_VAR_NEAR + j, sums[j]);
        for (unsigned j = 0; j <= i; j++)
            set_both(m, CWI_VAR_FIRST + i, CWI_VAR_FIRST + j, product_of(f, channels[i], channels[j]));
    }
}

/* Of those that are not chosen the one that leaves least of the target; 0 when none leaves less. */
static unsigned best_of_shortlist(const cwi_regression *r)
{
    unsigned best = 0;
    double most = 0;
    for (unsigned v = CWI_VAR_FIRST; v < r->variables; v++) {
        const double foretold = r->foretold[v] * r->foretold[v] / r->square[v];
        if (r->known[v] || r->square[v] < 1e-3 * r->m[v][v] || foretold <= most)
            continue;
        most = foretold;
        best = v;
    }
    return best;
}

/* Adds references one by one, each time the best, while they save more than they take. `m` has the neighbours'
 * moments. */
static void add_references(const fit *f, size_t channel, cwi_var_moments m, cwi_regression *r,
                           size_t channels[CWI_CTX_SHORTLIST])
{
    const size_t first = first_candidate(f, channel);
    products(f, sample_of(f, channel), sample_of(f, first), channel - first, f->products[channel]);
    take_residual(f, r);
    const unsigned count = shortlist(f, channel, channels);
    measure_shortlist(f, channels, count, m);
    const double price = log2((double)channel) + CWI_CTX_NUMBER_BITS;
    cwi_regression_set_up(r, m, (double)f->n, CWI_VAR_FIRST + count);
    cwi_regression_choose_near(r);
    for (unsigned v; r->count <= CWI_CTX_WEIGHTS && (v = best_of_shortlist(r)) != 0;) {
        const double before = cwi_regression_error(r), foretold = r->foretold[v] * r->foretold[v] / r->square[v];
        if (f->whole * (rate(f, before) - rate(f, before - foretold / r->n)) < price)
            break;
        cwi_regression_choose(r, v);
    }
}

/* ---- channels that share ---- */

/* The k-th smallest of n, which are put in another order (Hoare's selection, middle pivots). */
static uint64_t smallest(uint64_t *v, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        const uint64_t pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;; i++, j--) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i >= j)
                break;
            uint64_t t = v[i];
            v[i] = v[j];
            v[j] = t;
        }
        if (k <= j && j < high)
            high = j;
        else if (k > j)
            low = j + 1;
        else
            break;
    }
    return v[k];
}

/* Channels of equal number in each class, by how much is in them. */
static void classify(const fit *f)
{
    const size_t n = f->shape->channels;
    uint64_t edge[CWI_CTX_SHARED - 1];
    memset(f->tables->of, 0, n);
    if (n < CWI_CTX_SHARED)
        return;
    memcpy(f->sorted, f->sum, n * sizeof *f->sum);
    for (size_t i = 0; i < CWI_CTX_SHARED - 1; i++)
        edge[i] = smallest(f->sorted, n, (i + 1) * n / CWI_CTX_SHARED);
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < CWI_CTX_SHARED - 1; i++)
            f->tables->of[c] += f->sum[c] >= edge[i];
}

/* One set for 2^merge classes, the i-th of these. */
static void share_set(const fit *f, unsigned merge, unsigned i, cwi_regression *r)
{
    cwi_var_moments m = {{0}};
    for (unsigned c = i << merge; c < (i + 1) << merge; c++)
        cwi_var_moments_add(m, f->shared[c]);
    cwi_regression_set_up(r, m, CWI_MAX(m[CWI_VAR_ONE][CWI_VAR_ONE], 1.0), CWI_VAR_FIRST);
    cwi_regression_choose_near(r);
    r->m = NULL; /* nothing more is chosen */
}

/* Of the sets that classes share, and of each channel's class. */
static double sets_bits(const fit *f, unsigned merge)
{
    const unsigned sets = (unsigned)CWI_CTX_SHARED >> merge;
    return (double)f->shape->channels * (CLASS_BITS - merge) + (double)(CWI_CTX_NUMBER_BITS * CWI_VAR_TARGET * sets);
}

static double shared_bits(const fit *f, unsigned merge)
{
    cwi_regression r;
    double bits = sets_bits(f, merge);
    for (unsigned i = 0; i < (unsigned)CWI_CTX_SHARED >> merge; i++) {
        share_set(f, merge, i, &r);
        bits += r.n * f->whole / (double)f->n * rate(f, cwi_regression_error(&r));
    }
    return bits;
}

/* How classes are merged; *least: the fewest bits of any such way. Of few elements sets do not save all that the
 * regression promises: there they are to save twice what they take. */
static unsigned choose_merge(const fit *f, double *least)
{
    double best = INFINITY;
    unsigned chosen = CLASS_BITS;
    *least = INFINITY;
    for (unsigned merge = f->shape->channels < CWI_CTX_SHARED ? CLASS_BITS : 0; merge <= CLASS_BITS; merge++) {
        const double bits = shared_bits(f, merge), weighed = bits + (f->e->coarse ? sets_bits(f, merge) : 0);
        if (weighed < best) {
            best = weighed;
            chosen = merge;
        }
        *least = CWI_MIN(*least, bits);
    }
    return chosen;
}

static void share(fit *f, unsigned merge)
{
    cwi_ctx_tables *t = f->tables;
    cwi_regression r;
    t->mode = CWI_CTX_SHARE;
    t->shared = (unsigned)CWI_CTX_SHARED >> merge;
    for (size_t c = 0; c < f->shape->channels; c++)
        t->of[c] = (uint8_t)(t->of[c] >> merge);
    for (unsigned i = 0; i < t->shared; i++) {
        share_set(f, merge, i, &r);
        cwi_regression_put(&r, &f->all, t->zero, NULL, &t->sets[i]);
    }
}

/* ---- all ---- */

static void fit_channel(fit *f, size_t channel)
{
    cwi_var_moments m; /* of the variables that are measured */
    cwi_regression r;
    size_t channels[CWI_CTX_SHORTLIST];
    if (!f->refers)
        take_rows(f, channel);
    take_near(f, channel);
    take_target(f, channel);
    measure_near(f, m);
    cwi_var_near_moments_add(f->shared[f->tables->of[channel]], m);
    if (!cwi_ctx_may_own(f->shape) && !f->parts)
        return;
    cwi_regression_set_up(&r, m, (double)f->n, CWI_VAR_FIRST);
    if (cwi_ctx_may_own(f->shape))
        cwi_regression_choose_near(&r);
    else
        cwi_regression_choose(&r, CWI_VAR_ONE); /* the rest would be of too few elements */
    if (f->parts)
        f->apart.of_near[channel] = cwi_ctx_bin_add(f->apart.near, m, cwi_regression_error(&r));
    if (!cwi_ctx_may_own(f->shape))
        return;
    if (f->refers && channel > 0)
        add_references(f, channel, m, &r, channels);
    if (f->parts)
        f->apart.of_own[channel] = cwi_ctx_bin_add(f->apart.own, m, cwi_regression_error(&r));
    f->own_bits += f->whole * rate(f, cwi_regression_error(&r));
    cwi_regression_put(&r, &f->all, f->tables->zero, channels, &f->tables->sets[channel]);
}

bool cwi_ctx_fit(const cwi_ctx_encoder *e, uint8_t *work, cwi_ctx_tables *t, cwi_ctx_tables *other)
{
    const cwi_ctx_shape *shape = &e->shape;
    fit *f = begin(e, work, t);
    choose_rows(f);
    take_sample(f);
    f->apart.shape = shape;
    f->apart.all = f->all;
    f->apart.n = (double)f->n;
    classify(f);
    for (size_t c = 0; c < shape->channels; c++)
        fit_channel(f, c);
    double least;
    const unsigned merge = choose_merge(f, &least);
    t->mode = CWI_CTX_OWN;
    const bool promising = f->parts && cwi_ctx_apart_fit(&f->apart, t, other);
    if (!cwi_ctx_may_own(shape) || f->own_bits + (double)cwi_ctx_weights_bits(t, shape) >= least)
        share(f, merge);
    return promising;
}
