/* scan_scalar.c - the passes that only read, by definition. */
#include <string.h>

#include "codec/kernels/kernels.h"

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline uint32_t key_of(float x)
{
    return bits_of(x) & UINT32_C(0x7fffffff);
}

static void range(const float *x, size_t n, cwi_range *r)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), key = bits & UINT32_C(0x7fffffff);
        r->max_key = CWI_MAX(r->max_key, key);
        r->max_bits = CWI_MAX(r->max_bits, bits);
        r->min = CWI_MIN(r->min, x[i]);
        r->max = CWI_MAX(r->max, x[i]);
    }
}

static void window(const float *x, size_t n, cwi_window *w)
{
    const uint32_t low = w->low, width = w->high - w->low, high = w->high;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), key = bits & UINT32_C(0x7fffffff);
        w->max_key = CWI_MAX(w->max_key, key);
        w->max_bits = CWI_MAX(w->max_bits, bits);
        w->above += key >= high;
        if (key - low < width) {
            if (w->inside < w->capacity)
                w->candidates[w->inside] = key;
            w->inside++;
        }
    }
}

static void count(const float *x, size_t n, uint32_t t, uint64_t *above, uint64_t *equal)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t key = key_of(x[i]);
        *above += key > t;
        *equal += key == t;
    }
}

static void histogram(const float *x, size_t n, uint32_t base, unsigned shift, uint64_t bins[CWI_HISTOGRAM_BINS])
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bin = (key_of(x[i]) - base) >> shift;
        if (bin < CWI_HISTOGRAM_BINS)
            bins[bin]++;
    }
}

void cwi_scan_scalar(cwi_kernels *k)
{
    k->range = range;
    k->window = window;
    k->count = count;
    k->histogram = histogram;
}
