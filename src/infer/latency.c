/* latency.c - a histogram of latencies. */
#include "infer/latency.h"

#include <math.h>

#include "base/base.h"

static const double first = 1e-6, ratio = 1.1;

void cwi_latency_count(cwi_latency *l, double seconds)
{
    const double bucket = seconds > first ? log(seconds / first) / log(ratio) : 0;
    l->buckets[bucket < CWI_LATENCY_BUCKETS - 1 ? (size_t)bucket : CWI_LATENCY_BUCKETS - 1]++;
    l->slowest = CWI_MAX(l->slowest, seconds);
    l->sum += seconds;
}

double cwi_latency_percentile(const cwi_latency *l, double share)
{
    uint64_t total = 0, sum = 0;
    for (size_t i = 0; i < CWI_LATENCY_BUCKETS; i++)
        total += l->buckets[i];
    for (size_t i = 0; i < CWI_LATENCY_BUCKETS && total; i++) {
        sum += l->buckets[i];
        if ((double)sum >= share * (double)total)
            return CWI_MIN(first * pow(ratio, (double)i + 0.5), l->slowest);
    }
    return 0;
}
