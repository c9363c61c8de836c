/* ctx_fit.c - chooses the weights that contexts come from: least squares on a sample of rows, for each channel or for
 * classes of channels, and for channels of their own the earlier channels that foretell most.
 *
 * Sums are of whole numbers, and what follows from them is computed in one order, so that the bytes depend on neither
 * threads nor instruction set. */
#include <math.h>
#include <string.h>

#include "codec/ctx.h"
#include "codec/ctx_moments.h"

enum {
    POSITIONS = 2048,     /* of each channel in the sample, or more by less than a row */
    SAMPLE = 1 << 20,     /* elements of the sample where there are many channels, */
    LEAST_POSITIONS = 64, /* but not fewer of each than these */
    CANDIDATES = 128,     /* earlier channels that are looked at */
    SHORTLIST = 8,        /* and at more closely */
    RESIDUAL_ONE = 8,     /* an error of 1 in whole numbers */
    OWN_BITS = 8,         /* about what a weight takes */
    FINEST = 32,
    COARSEST = 2, /* contexts for a difference of 1 */
    /* variables of the regression: */
    ONE = 0,
    NEAR = 1,
    FIRST = NEAR + CWI_CTX_NEAR, /* of the shortlist */
    VARIABLES = FIRST + SHORTLIST,
};

/* sum of products: of two variables, and of a variable and the target */
typedef struct moments {
    double n, with[VARIABLES][VARIABLES], target[VARIABLES], square;
} moments;

typedef struct fit {
    const cwi_ctx_shape *shape;
    const uint8_t *symbols;
    cwi_ctx_tables *tables;
    size_t rows, n;                  /* of each channel in the sample: rows, and elements in them */
    double whole;                    /* elements of a channel */
    double scale;                    /* what a weight of 1 is in whole numbers */
    uint8_t *sample;                 /* [channel][n] */
    uint8_t *near;                   /* [CWI_CTX_NEAR][n] of the channel at hand */
    int8_t *residual;                /* [n] of the channel at hand */
    uint64_t *sum, *square, *sorted; /* of each channel */
    moments shared[CWI_CTX_SHARED];
    double own_bits;
} fit;

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t sample_rows(const cwi_ctx_shape *s)
{
    const size_t all = s->samples * s->height;
    const size_t positions = CWI_MAX(CWI_MIN((size_t)POSITIONS, SAMPLE / s->channels), (size_t)LEAST_POSITIONS);
    return CWI_MIN(all, (positions + s->width - 1) / s->width);
}

size_t cwi_ctx_fit_size(const cwi_ctx_shape *s)
{
    const size_t n = sample_rows(s) * s->width;
    return rounded(s->channels * n) + rounded((CWI_CTX_NEAR + 1) * n) + 3 * rounded(s->channels * sizeof(uint64_t)) +
           rounded(sizeof(fit));
}

static fit *begin(const cwi_ctx_shape *s, const uint8_t *symbols, uint8_t *work, cwi_ctx_tables *t)
{
    const size_t per_channel = rounded(s->channels * sizeof(uint64_t));
    fit *f = (fit *)(void *)work;
    memset(f, 0, sizeof *f);
    f->shape = s;
    f->symbols = symbols;
    f->tables = t;
    f->rows = sample_rows(s);
    f->n = f->rows * s->width;
    f->whole = (double)(s->elements / s->channels);
    work += rounded(sizeof *f);
    f->sum = (uint64_t *)(void *)work;
    f->square = (uint64_t *)(void *)(work + per_channel);
    f->sorted = (uint64_t *)(void *)(work + 2 * per_channel);
    f->sample = work + 3 * per_channel;
    f->near = f->sample + rounded(s->channels * f->n);
    f->residual = (int8_t *)(f->near + CWI_CTX_NEAR * f->n);
    return f;
}

/* ---- the sample ---- */

/* Row i of the sample: spread over all, at varying heights. */
static const uint8_t *row_of(const fit *f, size_t channel, size_t i, bool *has_up)
{
    const cwi_ctx_shape *s = f->shape;
    const size_t all = s->samples * s->height, span = all / f->rows;
    const size_t row = i * span + i * 5 % span, sample = row / s->height, y = row % s->height;
    *has_up = y > 0;
    return f->symbols + ((sample * s->channels + channel) * s->height + y) * s->width;
}

static void take_sample(fit *f)
{
    const size_t width = f->shape->width;
    double sum = 0, square = 0;
    for (size_t c = 0; c < f->shape->channels; c++) {
        uint8_t *to = f->sample + c * f->n;
        bool has_up;
        for (size_t i = 0; i < f->rows; i++)
            memcpy(to + i * width, row_of(f, c, i, &has_up), width);
        f->sum[c] = cwi_sum_symbols(to, f->n);
        f->square[c] = cwi_sum_products(to, to, f->n);
        sum += (double)f->sum[c];
        square += (double)f->square[c];
    }
    /* Contexts cover what is predicted to about three standard deviations. */
    const double n = (double)f->n * (double)f->shape->channels, mean = sum / n;
    const double range = mean + 3 * sqrt(CWI_MAX(square / n - mean * mean, 0.0)) + 0.5;
    f->scale = CWI_MAX(CWI_MIN(CWI_CONTEXTS / range, (double)FINEST), (double)COARSEST) * (1 << CWI_CTX_SHIFT);
}

/* The neighbours of a channel's elements in the sample. */
static void take_near(fit *f, size_t channel)
{
    const size_t width = f->shape->width, n = f->n;
    memset(f->near, 0, CWI_CTX_NEAR * n);
    for (size_t i = 0; i < f->rows; i++) {
        bool has_up;
        const uint8_t *row = row_of(f, channel, i, &has_up), *up = row - (has_up ? width : 0);
        uint8_t *to = f->near + i * width;
        memcpy(to + 1, row, width - 1);
        if (has_up) {
            memcpy(to + n, up, width);
            memcpy(to + 2 * n + 1, up, width - 1);
            memcpy(to + 3 * n, up + 1, width - 1);
        }
    }
}

/* ---- regression ---- */

typedef struct solution {
    unsigned count, variable[1 + CWI_CTX_WEIGHTS];
    double weight[1 + CWI_CTX_WEIGHTS];
    double error; /* what is left of the target's square, for each element */
} solution;

/* Fills in s->weight and s->error (Cholesky's decomposition; a trace is added to the diagonal). */
static void solve(const moments *m, solution *s)
{
    double l[1 + CWI_CTX_WEIGHTS][1 + CWI_CTX_WEIGHTS], *w = s->weight;
    const unsigned k = s->count;
    double left = m->square;
    for (unsigned i = 0; i < k; i++) {
        for (unsigned j = 0; j <= i; j++) {
            const unsigned a = s->variable[i], b = s->variable[j];
            double v = m->with[CWI_MAX(a, b)][CWI_MIN(a, b)];
            v += i == j ? 1e-4 * v + 1e-2 : 0;
            for (unsigned h = 0; h < j; h++)
                v -= l[i][h] * l[j][h];
            l[i][j] = i == j ? sqrt(CWI_MAX(v, 1e-6)) : v / l[j][j];
        }
        w[i] = m->target[s->variable[i]];
        for (unsigned h = 0; h < i; h++)
            w[i] -= l[i][h] * w[h];
        w[i] /= l[i][i];
        left -= w[i] * w[i];
    }
    for (unsigned i = k; i-- > 0;) {
        for (unsigned h = i + 1; h < k; h++)
            w[i] -= l[h][i] * w[h];
        w[i] /= l[i][i];
    }
    s->error = CWI_MAX(left, 0.0) / m->n;
}

/* About the bits of an element whose prediction has this mean square error: measured on feature maps. */
static double rate(double error)
{
    return 0.3 * log2(1 + 50 * error);
}

static int16_t whole(double v, int most)
{
    return (int16_t)CWI_MAX(CWI_MIN(floor(v + 0.5), (double)most), (double)-most);
}

static void put_set(const fit *f, const solution *s, const size_t *channels, cwi_ctx_set *set)
{
    memset(set, 0, sizeof *set);
    for (unsigned i = 0; i < s->count; i++) {
        const unsigned v = s->variable[i];
        const double weight = s->weight[i] * f->scale;
        if (v == ONE) {
            set->bias = whole(weight, CWI_CTX_BIAS_MOST);
        } else if (v < FIRST) {
            set->weight[v - NEAR] = whole(weight, CWI_CTX_WEIGHT_MOST);
        } else {
            set->weight[CWI_CTX_NEAR + set->refs] = whole(weight, CWI_CTX_WEIGHT_MOST);
            set->ref[set->refs++] = (uint16_t)channels[v - FIRST];
        }
    }
}

static solution of_neighbours(const moments *m)
{
    solution s = {.count = FIRST};
    for (unsigned i = 0; i < FIRST; i++)
        s.variable[i] = i;
    solve(m, &s);
    return s;
}

static void near_moments(const fit *f, size_t channel, moments *m)
{
    const uint8_t *target = f->sample + channel * f->n;
    m->n = m->with[ONE][ONE] = (double)f->n;
    m->target[ONE] = (double)f->sum[channel];
    m->square = (double)f->square[channel];
    for (unsigned i = NEAR; i < FIRST; i++) {
        const uint8_t *a = f->near + (i - NEAR) * f->n;
        m->with[i][ONE] = (double)cwi_sum_symbols(a, f->n);
        m->target[i] = (double)cwi_sum_products(a, target, f->n);
        for (unsigned j = NEAR; j <= i; j++)
            m->with[i][j] = (double)cwi_sum_products(a, f->near + (j - NEAR) * f->n, f->n);
    }
}

/* ---- references ---- */

static void take_residual(const fit *f, size_t channel, const solution *s)
{
    const uint8_t *target = f->sample + channel * f->n;
    int32_t weight[FIRST];
    for (unsigned i = 0; i < FIRST; i++)
        weight[i] = (int32_t)floor(s->weight[i] * 256 * RESIDUAL_ONE + 0.5);
    for (size_t i = 0; i < f->n; i++) {
        int32_t r = 256 * RESIDUAL_ONE * target[i] - weight[ONE];
        for (unsigned j = NEAR; j < FIRST; j++)
            r -= weight[j] * f->near[(j - NEAR) * f->n + i];
        f->residual[i] = (int8_t)CWI_MAX(CWI_MIN(r / 256, 127), -127);
    }
}

/* The earlier channels that correlate most with the residual, best first; returns how many. */
static unsigned shortlist(const fit *f, size_t channel, size_t channels[SHORTLIST])
{
    double score[SHORTLIST];
    unsigned count = 0;
    for (size_t c = channel > CANDIDATES ? channel - CANDIDATES : 0; c < channel; c++) {
        const double n = (double)f->n, sum = (double)f->sum[c], spread = n * (double)f->square[c] - sum * sum;
        const double product = (double)cwi_sum_signed(f->residual, f->sample + c * f->n, f->n);
        const double s = spread > 0 ? product * product / spread : 0;
        unsigned at = count;
        if (s <= 0 || (count == SHORTLIST && s <= score[count - 1]))
            continue;
        at -= count == SHORTLIST;
        for (; at > 0 && score[at - 1] < s; at--) {
            score[at] = score[at - 1];
            channels[at] = channels[at - 1];
        }
        score[at] = s;
        channels[at] = c;
        count += count < SHORTLIST;
    }
    return count;
}

static void shortlist_moments(const fit *f, size_t channel, const size_t *channels, unsigned count, moments *m)
{
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *a = f->sample + channels[i] * f->n;
        double *row = m->with[FIRST + i];
        m->target[FIRST + i] = (double)cwi_sum_products(a, f->sample + channel * f->n, f->n);
        row[ONE] = (double)f->sum[channels[i]];
        for (unsigned j = 0; j < CWI_CTX_NEAR; j++)
            row[NEAR + j] = (double)cwi_sum_products(a, f->near + j * f->n, f->n);
        for (unsigned j = 0; j < i; j++)
            row[FIRST + j] = (double)cwi_sum_products(a, f->sample + channels[j] * f->n, f->n);
        row[FIRST + i] = (double)f->square[channels[i]];
    }
}

/* Adds references one by one, each time the best, while they save more than they take. */
static solution with_references(const fit *f, size_t channel, solution s, moments *m, size_t channels[SHORTLIST])
{
    take_residual(f, channel, &s);
    const unsigned count = shortlist(f, channel, channels);
    shortlist_moments(f, channel, channels, count, m);
    bool used[SHORTLIST] = {false};
    const double price = log2((double)channel) + OWN_BITS;
    while (s.count < 1 + CWI_CTX_WEIGHTS) {
        solution best = s;
        for (unsigned i = 0; i < count; i++) {
            solution more = s;
            more.variable[more.count++] = FIRST + i;
            if (!used[i])
                solve(m, &more);
            if (!used[i] && more.error < best.error)
                best = more;
        }
        if (best.count == s.count || f->whole * (rate(s.error) - rate(best.error)) < price)
            break;
        s = best;
        used[s.variable[s.count - 1] - FIRST] = true;
    }
    return s;
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

static void add_moments(moments *a, const moments *b)
{
    a->n += b->n;
    a->square += b->square;
    for (unsigned i = 0; i < FIRST; i++) {
        a->target[i] += b->target[i];
        for (unsigned j = 0; j <= i; j++)
            a->with[i][j] += b->with[i][j];
    }
}

/* What the classes' sets would take, when 2^merge classes share one. */
static double shared_bits(const fit *f, unsigned merge)
{
    const unsigned sets = CWI_CTX_SHARED >> merge;
    const double per_element = f->whole / (double)f->n; /* of the sample */
    double bits = (double)f->shape->channels * (3 - merge);
    for (unsigned i = 0; i < sets; i++) {
        moments m = {0};
        for (unsigned j = i << merge; j < (i + 1) << merge; j++)
            add_moments(&m, &f->shared[j]);
        if (m.n > 0)
            bits += m.n * per_element * rate(of_neighbours(&m).error);
        bits += OWN_BITS * FIRST;
    }
    return bits;
}

static void share(fit *f, unsigned merge)
{
    cwi_ctx_tables *t = f->tables;
    t->mode = CWI_CTX_SHARE;
    t->shared = CWI_CTX_SHARED >> merge;
    for (size_t c = 0; c < f->shape->channels; c++)
        t->of[c] = (uint8_t)(t->of[c] >> merge);
    for (unsigned i = 0; i < t->shared; i++) {
        moments m = {0};
        for (unsigned j = i << merge; j < (i + 1) << merge; j++)
            add_moments(&m, &f->shared[j]);
        m.n = CWI_MAX(m.n, 1.0);
        const solution s = of_neighbours(&m);
        put_set(f, &s, NULL, &t->sets[i]);
    }
}

/* ---- all ---- */

static void fit_channel(fit *f, size_t channel)
{
    moments m = {0};
    size_t channels[SHORTLIST];
    take_near(f, channel);
    near_moments(f, channel, &m);
    add_moments(&f->shared[f->tables->of[channel]], &m);
    if (!cwi_ctx_may_own(f->shape))
        return;
    solution s = of_neighbours(&m);
    if (cwi_ctx_may_refer(f->shape) && channel > 0)
        s = with_references(f, channel, s, &m, channels);
    f->own_bits += f->whole * rate(s.error);
    put_set(f, &s, channels, &f->tables->sets[channel]);
}

void cwi_ctx_fit(const cwi_ctx_shape *shape, const uint8_t *symbols, uint8_t *work, cwi_ctx_tables *t)
{
    fit *f = begin(shape, symbols, work, t);
    take_sample(f);
    classify(f);
    for (size_t c = 0; c < shape->channels; c++)
        fit_channel(f, c);
    double least = INFINITY;
    unsigned best = 0;
    for (unsigned merge = shape->channels < CWI_CTX_SHARED ? 3 : 0; merge <= 3; merge++) {
        const double bits = shared_bits(f, merge);
        if (bits < least) {
            least = bits;
            best = merge;
        }
    }
    t->mode = CWI_CTX_OWN;
    if (!cwi_ctx_may_own(shape) || f->own_bits + (double)cwi_ctx_weights_bits(t, shape) >= least)
        share(f, best);
}
