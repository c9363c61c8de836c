/* select.c - the k-th largest magnitude, exactly, in O(n).
 *
 * A random sample tells a window of keys that holds the k-th largest almost surely and few others. One pass over the
 * tensor counts what lies above the window and collects what lies inside; the rest is selection among the collected.
 * When the sample misled (or the window holds too many, as with constant input), histograms over ever fewer bits of the
 * key find the threshold in at most three passes. The result does not depend on which way it was found. */
#include <math.h>
#include <string.h>

#include "codec/select.h"

enum { MIN_SAMPLE = 1024, MAX_SAMPLE = 16384, SAMPLE_SHARE = 64 };

static const uint32_t all_keys = UINT32_C(0x80000000); /* every key is less */

/* Where the threshold is known to lie: among the `inside` keys of [low, high); `above` keys are >= high. */
typedef struct interval {
    uint32_t low, high;
    uint64_t above, inside;
} interval;

/* The part of a tensor that is selected from. */
typedef struct span {
    const cwi_source *source;
    size_t first, n;
} span;

/* ---- histograms ---- */

/* The least shift that maps `width` different numbers to the bins. */
static unsigned shift_for(uint32_t width)
{
    unsigned shift = 0;
    while ((width - 1) >> shift >= CWI_HISTOGRAM_BINS)
        shift++;
    return shift;
}

/* Shrinks the interval to the bin with the k-th largest key. counts are of [low, low + bins << shift), which may reach
 * beyond high; that excess is what the total tells. */
static void descend(interval *at, uint64_t k, unsigned shift, const uint64_t bins[CWI_HISTOGRAM_BINS])
{
    enum { RUN = 64, RUNS = CWI_HISTOGRAM_BINS / RUN };
    uint64_t sums[RUNS] = {0}, total = 0;
    for (size_t s = 0; s < RUNS; s++) {
        for (size_t b = 0; b < RUN; b++)
            sums[s] += bins[s * RUN + b];
        total += sums[s];
    }
    uint64_t above = at->above + at->inside - total;
    uint32_t run = RUNS - 1;
    while (run > 0 && above + sums[run] < k)
        above += sums[run--];
    uint32_t bin = run * RUN + RUN - 1;
    while (bin > run * RUN && above + bins[bin] < k)
        above += bins[bin--];
    at->low += bin << shift;
    at->high = at->low + (1u << shift);
    at->above = above;
    at->inside = bins[bin];
}

typedef struct histogram_pass {
    const cwi_kernels *kernels;
    uint32_t base;
    unsigned shift;
    uint64_t bins[CWI_HISTOGRAM_BINS];
} histogram_pass;

static void visit_histogram(void *ctx, const float *x, size_t n)
{
    histogram_pass *h = ctx;
    h->kernels->histogram(x, n, h->base, h->shift, h->bins);
}

/* Shrinks the interval until it holds one key or at most `enough` elements. */
static void shrink(const span *s, uint64_t k, size_t enough, interval *at)
{
    while (at->high - at->low > 1 && at->inside > enough) {
        histogram_pass h = {.kernels = s->source->kernels, .base = at->low, .shift = shift_for(at->high - at->low)};
        cwi_source_each(s->source, s->first, s->n, visit_histogram, &h);
        descend(at, k, h.shift, h.bins);
    }
}

/* ---- collected keys ---- */

/* The threshold among m keys that all lie in the interval; they are shuffled about. */
static void select_among(uint32_t *keys, size_t m, uint64_t k, interval *at)
{
    while (at->high - at->low > 1) {
        const unsigned shift = shift_for(at->high - at->low);
        uint64_t bins[CWI_HISTOGRAM_BINS] = {0};
        for (size_t i = 0; i < m; i++)
            bins[(keys[i] - at->low) >> shift]++;
        descend(at, k, shift, bins);
        size_t kept = 0;
        for (size_t i = 0; i < m; i++) {
            uint32_t key = keys[i];
            keys[kept] = key;
            kept += key - at->low < at->high - at->low;
        }
        m = kept;
    }
}

/* ---- the pass over the tensor ---- */

typedef struct window_pass {
    const span *span;
    cwi_window window[CWI_MAX_THREADS]; /* one for each worker */
} window_pass;

static void window_block(void *ctx, unsigned worker, size_t block)
{
    window_pass *pass = ctx;
    const cwi_source *source = pass->span->source;
    const size_t begin = block * CWI_BLOCK, end = CWI_MIN(begin + CWI_BLOCK, pass->span->n);
    const size_t step = cwi_source_step(source);
    float chunk[CWI_CHUNK];
    for (size_t at = begin; at < end; at += step) {
        size_t m = CWI_MIN(step, end - at);
        const float *x = cwi_source_get(source, pass->span->first + at, m, chunk);
        source->kernels->window(x, m, &pass->window[worker]);
    }
}

/* What a pass over [low, high) finds. Returns how many candidates lie at the start of keys, in whatever order, or
 * SIZE_MAX when there was no room for all. */
static size_t collect(const span *s, uint32_t low, uint32_t high, uint32_t *keys, unsigned threads, cwi_window *total)
{
    const size_t room = cwi_select_keys(s->n, threads) / threads;
    window_pass pass = {.span = s};
    for (unsigned t = 0; t < threads; t++)
        pass.window[t] = (cwi_window){
            .low = low, .high = high, .candidates = keys + t * room, .capacity = room - CWI_CANDIDATE_SLACK};
    cwi_parallel(threads, (s->n + CWI_BLOCK - 1) / CWI_BLOCK, window_block, &pass);
    *total = (cwi_window){.low = low, .high = high};
    size_t stored = 0;
    for (unsigned t = 0; t < threads; t++) {
        const cwi_window *w = &pass.window[t];
        total->above += w->above;
        total->inside += w->inside;
        total->max_key = CWI_MAX(total->max_key, w->max_key);
        total->max_bits = CWI_MAX(total->max_bits, w->max_bits);
        if (w->inside > w->capacity)
            stored = SIZE_MAX;
        if (stored == SIZE_MAX)
            continue;
        memmove(keys + stored, w->candidates, (size_t)w->inside * sizeof *keys);
        stored += (size_t)w->inside;
    }
    return stored;
}

/* ---- the sample ---- */

/* Where about the k-th largest of the sample lies: two histograms, the first of them given, leave one part in 2^14 of
 * its magnitude open. */
static interval kth_of_sample(const span *sample, const histogram_pass *first, uint64_t k)
{
    interval at = {.low = 0, .high = all_keys, .above = 0, .inside = sample->n};
    descend(&at, k, first->shift, first->bins);
    histogram_pass second = {.kernels = first->kernels, .base = at.low, .shift = shift_for(at.high - at.low)};
    cwi_source_each(sample->source, sample->first, sample->n, visit_histogram, &second);
    descend(&at, k, second.shift, second.bins);
    return at;
}

/* A window that the k-th largest lies in with some 99.7% probability, but not so wide that it should hold more than
 * `room` elements. Its lower end is never 0: if all that is in and above it is too few, the threshold is 0. */
static void guess_window(const span *s, size_t k, uint32_t *keys, size_t room, uint32_t *low, uint32_t *high)
{
    const size_t size = CWI_MAX((size_t)MIN_SAMPLE, CWI_MIN(s->n / SAMPLE_SHARE, (size_t)MAX_SAMPLE));
    const size_t stride = s->n / size;
    for (size_t i = 0; i < size; i++) {
        float x = cwi_source_at(s->source, s->first + i * stride + cwi_noise_bits(s->n, i) % stride);
        memcpy(&keys[i], &x, sizeof x);
    }
    cwi_source sampled = *s->source;
    sampled.dtype = CW_F32;
    sampled.data = (const uint8_t *)keys;
    const span sample = {&sampled, 0, size};
    histogram_pass all = {.kernels = s->source->kernels, .base = 0, .shift = shift_for(all_keys)};
    cwi_source_each(&sampled, 0, size, visit_histogram, &all);
    const double share = (double)k / (double)s->n, rank = share * (double)size;
    const double margin = CWI_MIN(3.0 * sqrt(rank * (1.0 - share)) + 2.0, 0.42 * (double)room / (double)stride);
    *high = all_keys;
    if (rank - margin >= 1.0)
        *high = kth_of_sample(&sample, &all, (uint64_t)(rank - margin)).high;
    *low = 1;
    if (rank + margin < (double)size)
        *low = CWI_MAX(1u, kth_of_sample(&sample, &all, (uint64_t)ceil(rank + margin)).low);
    *high = CWI_MAX(*high, *low);
}

/* ---- selection ---- */

/* Keys that may be candidates, over all threads. */
static size_t candidate_room(size_t n)
{
    return CWI_MIN(n, CWI_MAX((size_t)CWI_MIN_CANDIDATES, n / CWI_CANDIDATE_SHARE));
}

size_t cwi_select_keys(size_t n, unsigned threads)
{
    const size_t sample = CWI_MIN(n, (size_t)MIN_SAMPLE);
    const size_t each = (CWI_MAX(candidate_room(n), sample) + threads - 1) / threads + CWI_CANDIDATE_SLACK;
    return each * threads;
}

/* Which interval the pass's counts leave for the threshold. */
static interval locate(const cwi_window *w, size_t n, uint64_t k)
{
    if (k <= w->above)
        return (interval){.low = w->high, .high = all_keys, .above = 0, .inside = w->above};
    if (k <= w->above + w->inside)
        return (interval){.low = w->low, .high = w->high, .above = w->above, .inside = w->inside};
    const uint64_t above = w->above + w->inside;
    return (interval){.low = 0, .high = w->low, .above = above, .inside = n - above};
}

void cwi_select(const cwi_source *s, size_t first, size_t n, size_t k, uint32_t *keys, unsigned threads, cwi_pick *out)
{
    const span whole = {s, first, n};
    const size_t room = candidate_room(n);
    uint32_t low = all_keys, high = all_keys; /* nothing to collect when nothing is kept */
    if (k > 0) {
        low = 0;
        if (n > room)
            guess_window(&whole, k, keys, room, &low, &high);
    }
    cwi_window found;
    size_t stored = collect(&whole, low, high, keys, threads, &found);
    *out = (cwi_pick){.threshold = UINT32_C(0x7fffffff), .max_key = found.max_key, .max_bits = found.max_bits};
    if (k == 0 || found.max_key >= CWI_KEY_INF)
        return;
    interval at = locate(&found, n, k);
    const bool missed = k <= found.above || k > found.above + found.inside;
    if (missed || stored == SIZE_MAX) {
        shrink(&whole, k, room, &at);
        if (at.high - at.low > 1)
            stored = collect(&whole, at.low, at.high, keys, 1, &found);
    }
    select_among(keys, stored, k, &at);
    out->threshold = at.low;
    out->ties = k - at.above;
}
