/* ec_stats.c - how large a tensor's elements are, and what error a quantizer's step makes of them. */
#include <math.h>
#include <string.h>

#include "codec/ec.h"

enum {
    RUN = 64,        /* elements of the sample that lie together */
    LINE = 16,       /* the same of a sample of one segment: of each few lines one is taken */
    LINES_MOST = 8,  /* of so many, at most */
    FULL = 1 << 19,  /* elements that are all binned */
    ROUGH = 1 << 16, /* the same for a first idea */
    BATCH = 1 << 13, /* elements of the sample that are binned at a time */
    BIN_SHIFT = 17,
    SPIKE = 16 /* times its neighbours */
};

/* Below this the keys of floats lie too far apart for bins. */
static const double least_binned = 0x1p-100;

/* ---- measuring ---- */

typedef struct energy {
    double part[8]; /* several, so that additions need not wait for each other */
    const cwi_kernels *kernels;
    cwi_range range;
} energy;

static void visit_energy(void *ctx, const float *x, size_t n)
{
    energy *e = ctx;
    e->kernels->range(x, n, &e->range);
    e->kernels->ec.energy(x, n, e->part);
}

bool cwi_ec_measure(const cwi_source *s, const cwi_layout *l, double *rms, bool *is_signed)
{
    energy e = {.kernels = s->kernels, .range = CWI_RANGE_EMPTY};
    for (size_t i = 0; i < l->segments; i++) {
        double total = 0;
        memset(e.part, 0, sizeof e.part);
        cwi_source_each(s, i * l->length, l->length, visit_energy, &e);
        for (size_t j = 0; j < 8; j++)
            total += e.part[j];
        rms[i] = sqrt(total / (double)l->length);
    }
    *is_signed = e.range.max_bits > UINT32_C(0x80000000);
    return e.range.max_key < CWI_KEY_INF;
}

/* ---- one segment: all magnitudes, or in large tensors some of every place ---- */

typedef struct binning {
    const cwi_kernels *kernels;
    uint32_t base;
    uint64_t bins[CWI_HISTOGRAM_BINS];
} binning;

static void visit_bins(void *ctx, const float *x, size_t n)
{
    binning *b = ctx;
    b->kernels->histogram(x, n, b->base, BIN_SHIFT, b->bins);
}

/* Of every `each` lines one; returns how many elements that are. Lines far apart are asked for before they are read. */
static size_t bin_some(const cwi_source *s, size_t elements, size_t each, binning *b)
{
    enum { LINES = BATCH / LINE };
    float taken[BATCH];
    size_t at[LINES];
    const size_t lines = elements / (each * LINE);
    const cwi_rng random = cwi_rng_make(0, CWI_STREAM_CODEC, elements, each);
    for (size_t done = 0; done < lines; done += LINES) {
        const size_t n = CWI_MIN((size_t)LINES, lines - done);
        for (size_t i = 0; i < n; i++) {
            at[i] = ((done + i) * each + cwi_rng_at(&random, done + i) % each) * LINE;
            __builtin_prefetch(s->data + at[i] * cw_dtype_size(s->dtype));
        }
        for (size_t i = 0; i < n; i++) {
            const float *x = cwi_source_get(s, at[i], LINE, taken + i * LINE);
            if (x != taken + i * LINE)
                memcpy(taken + i * LINE, x, LINE * sizeof *x);
        }
        visit_bins(b, taken, n * LINE);
    }
    return lines * LINE;
}

static uint32_t key_of(double u)
{
    const float f = (float)u;
    uint32_t key;
    memcpy(&key, &f, sizeof key);
    return key;
}

/* Of every `each` lines one, or all of them. */
static void bin(const cwi_source *s, const cwi_layout *l, double rms, size_t each, cwi_ec_stats *stats)
{
    binning b = {.kernels = s->kernels, .base = key_of(rms * 0x1p-16)};
    size_t binned = l->elements;
    if (each > 1)
        binned = bin_some(s, l->elements, each, &b);
    else
        cwi_source_each(s, 0, l->elements, visit_bins, &b);
    for (size_t i = 0; i < CWI_EC_BINS; i++) {
        const uint32_t middle = CWI_MIN(b.base + ((uint32_t)i << BIN_SHIFT) + (1u << (BIN_SHIFT - 1)), CWI_KEY_INF - 1);
        float value;
        memcpy(&value, &middle, sizeof value);
        const double u = b.bins[i] ? (double)value / rms : 0.0;
        stats->count[i] = (double)b.bins[i] * (double)l->elements / (double)binned;
        stats->mean[i] = u;
        stats->square[i] = u * u * stats->count[i];
    }
    stats->energy = (double)l->elements;
}

/* ---- several segments: a sample ---- */

/* Magnitudes of elements whose segment's root mean square is 1 / per, and which count `weight` each; sums in place of
 * means. */
static void add(cwi_ec_stats *stats, const float *x, size_t n, double per, double weight)
{
    const uint32_t least = key_of(0x1p-16);
    for (size_t i = 0; i < n; i++) {
        const double u = fabs((double)x[i]) * per;
        const uint32_t key = key_of(u);
        const size_t at = CWI_MIN((key > least ? key - least : 0) >> BIN_SHIFT, (uint32_t)CWI_EC_BINS - 1);
        stats->count[at] += weight;
        stats->mean[at] += weight * u;
        stats->square[at] += weight * u * u;
    }
}

void cwi_ec_weigh(const cwi_layout *l, const double *rms, double *most, double *top)
{
    double sum = 0;
    *most = 0;
    for (size_t i = 0; i < l->segments; i++)
        *most = CWI_MAX(*most, rms[i]);
    for (size_t i = 0; i<l->segments && * most> 0; i++)
        sum += (rms[i] / *most) * (rms[i] / *most);
    *top = sum > 0 ? (double)l->segments / sum : 0;
}

static void sample(const cwi_source *s, const cwi_layout *l, const double *rms, cwi_ec_stats *stats)
{
    float chunk[CWI_CHUNK];
    double expected = 0; /* energy, if the sample is like the rest */
    const size_t runs = (l->elements + RUN - 1) / RUN, wanted = CWI_MAX(runs / 8, (size_t)CWI_EC_SAMPLE / RUN);
    const size_t stride = CWI_MAX(runs / wanted, (size_t)1);
    const cwi_rng r = cwi_rng_make(0, CWI_STREAM_CODEC, l->elements, 0);
    double most, top;
    cwi_ec_weigh(l, rms, &most, &top);
    for (size_t i = 0; i < runs; i += stride) {
        /* at random, so that it does not keep step with rows or channels */
        const size_t first = CWI_MIN(i + (size_t)(cwi_rng_at(&r, i) % stride), runs - 1) * RUN;
        const size_t n = CWI_MIN((size_t)RUN, l->elements - first);
        const float *x = cwi_source_get(s, first, n, chunk);
        for (size_t k = 0; k < n;) {
            const size_t segment = (first + k) / l->length, m = CWI_MIN(n - k, (segment + 1) * l->length - first - k);
            const double part = most > 0 ? rms[segment] / most : 0, weight = top * part * part;
            if (weight > 0)
                add(stats, x + k, m, 1 / rms[segment], weight);
            expected += weight * (double)m;
            k += m;
        }
    }
    for (size_t b = 0; b < CWI_EC_BINS; b++) {
        stats->energy += stats->square[b];
        stats->mean[b] = stats->count[b] > 0 ? stats->mean[b] / stats->count[b] : 0;
    }
    stats->doubtful = stats->energy < 0.5 * expected;
}

/* A bin's values are taken for its middle, whatever they are. That evens out where bins are filled like their
 * neighbours, but not where many elements have one value, or nearly: they are then all on one side of a quantizer's
 * threshold. (Of a normal distribution an eighth of an octave has 8% of the energy at most.) Those that have next to
 * none of an error of so much do not matter. */
static bool has_spike(const cwi_ec_stats *s, double error)
{
    const double least = CWI_MAX(1e-4 * error * error, 1e-9) * s->energy;
    enum { BESIDE = 2, NARROW = CWI_EC_BINS / 32 / 8 };
    double narrow = 0;
    for (size_t b = 0; b < CWI_EC_BINS; b++) {
        narrow += s->square[b] - (b >= NARROW ? s->square[b - NARROW] : 0);
        if (narrow > s->energy / 5)
            return true;
    }
    for (size_t b = BESIDE; b + BESIDE < CWI_EC_BINS; b++) {
        double around = 0;
        for (size_t i = 1; i <= BESIDE; i++)
            around += (s->count[b - i] + s->count[b + i]) / (2 * BESIDE);
        /* many elements, or few ones that are large */
        if ((s->count[b] > SPIKE * (around + 1) && s->square[b] > least) ||
            (s->count[b] > SPIKE * around && s->square[b] > s->energy / 256))
            return true;
    }
    return false;
}

/* Whether the bins of some lines tell of all. */
static bool has_all_energy(const cwi_ec_stats *s)
{
    double binned = 0;
    for (size_t b = 0; b < CWI_EC_BINS; b++)
        binned += s->square[b];
    return fabs(binned - s->energy) < 0.02 * s->energy;
}

/* Bins without anything are left out, so that a step costs what is there, and the others are summed up. */
static void leave_out_empty(cwi_ec_stats *s)
{
    size_t n = 0;
    s->count_to[0] = s->sum_to[0] = s->square_to[0] = 0;
    for (size_t b = 0; b < CWI_EC_BINS; b++) {
        if (!(s->count[b] > 0))
            continue;
        s->count[n] = s->count[b];
        s->mean[n] = s->mean[b];
        s->square[n] = s->square[b];
        s->count_to[n + 1] = s->count_to[n] + s->count[n];
        s->sum_to[n + 1] = s->sum_to[n] + s->count[n] * s->mean[n];
        s->square_to[n + 1] = s->square_to[n] + s->square[n];
        n++;
    }
    s->bins = n;
}

void cwi_ec_sample(const cwi_source *s, const cwi_layout *l, const double *rms, double error, bool fast,
                   cwi_ec_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    const bool one = l->segments == 1 && rms[0] > least_binned;
    const size_t each = CWI_MIN(l->elements / FULL, (size_t)LINES_MOST);
    if (one && each > 1)
        bin(s, l, rms[0], each, stats);
    if (one && !(each > 1 && (fast || has_all_energy(stats))))
        bin(s, l, rms[0], 1, stats);
    if (!one)
        sample(s, l, rms, stats);
    stats->doubtful |= has_spike(stats, error) || (l->segments == 1 && !one) || (each > 1 && !has_all_energy(stats));
    leave_out_empty(stats);
}

void cwi_ec_sample_roughly(const cwi_source *s, const cwi_layout *l, const double *rms, cwi_ec_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    const bool one = l->segments == 1 && rms[0] > least_binned;
    if (one)
        bin(s, l, rms[0], CWI_MAX(l->elements / ROUGH, (size_t)1), stats);
    else
        sample(s, l, rms, stats);
    leave_out_empty(stats);
}

bool cwi_ec_is_filled(const cwi_ec_stats *s)
{
    enum { PART = 32 };
    const double small = 0.1; /* of the root mean square */
    double all = 0, filled = 0;
    for (size_t b = 0; b < s->bins; b++) {
        all += s->count[b];
        filled += s->mean[b] > small ? s->count[b] : 0;
    }
    return filled > all / PART;
}

/* ---- errors ---- */

/* Of a bin whose values are far more than a step wide apart, or expected of random rounding. */
static double spread_error(const cwi_ec_stats *s, size_t b, double v, double step, bool stochastic)
{
    const double q = floor(v + 0.5), part = v - floor(v);
    if (stochastic)
        return s->count[b] * step * step * (v < CWI_EC_EXACT ? part * (1 - part) : 1.0 / 6);
    return s->count[b] * step * step * (v < 64 ? (v - q) * (v - q) : 1.0 / 12);
}

double cwi_ec_error(const cwi_ec_stats *s, double step, bool stochastic, float level[8])
{
    return cwi_ec_error_from(s, step, stochastic, 0, level);
}

/* The first bin from `low` on whose mean is `least` or more. */
static size_t bin_from(const cwi_ec_stats *s, size_t low, double least)
{
    size_t high = s->bins;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (s->mean[middle] < least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of bins [first, end): as one symbol, which comes back as their mean or as 0. */
static double group_error(const cwi_ec_stats *s, size_t first, size_t end, bool at_zero, double *mean)
{
    const double count = s->count_to[end] - s->count_to[first], sum = s->sum_to[end] - s->sum_to[first];
    *mean = count > 0 && !at_zero ? sum / count : 0;
    return CWI_MAX(s->square_to[end] - s->square_to[first] - *mean * sum, 0.0);
}

/* Of bins from `first` on, each by itself. */
static double tail_error(const cwi_ec_stats *s, size_t first, double step, bool stochastic)
{
    const double per_step = 1 / step;
    double error = 0;
    for (size_t b = first; b < s->bins && s->mean[b] * per_step + 0.5 < CWI_EC_ESCAPE; b++)
        error += spread_error(s, b, s->mean[b] * per_step, step, stochastic);
    return error;
}

double cwi_ec_error_from(const cwi_ec_stats *s, double step, bool stochastic, size_t first, float level[8])
{
    size_t at = first ? bin_from(s, 0, ((double)first - 0.5) * step) : 0;
    double error = 0, mean = 0;
    for (size_t q = 0; level && q < 8; q++)
        level[q] = (float)q;
    for (size_t q = first; q < CWI_EC_EXACT && !stochastic; q++) {
        const size_t end = bin_from(s, at, ((double)q + 0.5) * step);
        error += group_error(s, at, end, q == 0, &mean);
        if (level && q && end > at)
            level[q] = (float)(mean / step);
        at = end;
    }
    error += tail_error(s, at, step, stochastic);
    return s->energy > 0 ? error / s->energy : 1;
}

/* The middle, or where a line through both ends meets the error, but not near an end. */
static double between(double low, double at_low, double high, double at_high, bool middle)
{
    const double part = middle ? 0.5 : CWI_MIN(CWI_MAX(at_low / (at_low - at_high), 0.02), 0.98);
    return low + part * (high - low);
}

/* Logarithms throughout: of the step, and of the error over the one that is asked. */
double cwi_ec_step_for(const cwi_ec_stats *s, double error, bool stochastic)
{
    enum { TRIES = 40, LEAST = -24, MOST = 12 };
    const double tiny = 1e-30, exact = 3e-5, asked = error * error;
    double low = LEAST, high = MOST, at_low = 0, at_high = 0, at = log2(CWI_MAX(3.3 * error, 0x1p-20));
    for (int i = 0; i < TRIES && high - low > exact; i++) {
        const double now = log2(CWI_MAX(cwi_ec_error(s, exp2(at), stochastic, NULL), tiny) / CWI_MAX(asked, tiny)) / 2;
        if (now <= 0) {
            low = at;
            at_low = now;
        } else {
            high = at;
            at_high = now;
        }
        if (low > LEAST && high < MOST)
            at = between(low, at_low, high, at_high, i % 3 == 2);
        else /* a little beyond, so that the other side is known */
            at -= (1.1 + i) * now + (now > 0 ? 1e-3 : -1e-3);
        at = CWI_MIN(CWI_MAX(at, low + 0.02 * (high - low)), high - 0.02 * (high - low));
    }
    return exp2(low);
}
