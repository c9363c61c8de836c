/* latency.h - a histogram of latencies, and its percentiles. Not thread-safe. */
#ifndef CWI_INFER_LATENCY_H
#define CWI_INFER_LATENCY_H

#include <stdint.h>

enum { CWI_LATENCY_BUCKETS = 200 }; /* bucket i begins at 1 us x 1.1^i, the last at 3 minutes */

typedef struct cwi_latency {
    uint64_t buckets[CWI_LATENCY_BUCKETS];
    double sum, slowest; /* seconds */
} cwi_latency;

void cwi_latency_count(cwi_latency *l, double seconds);

/* The latency that a share of all did not exceed, within 5% (the middle of its bucket); 0 where nothing was counted. */
double cwi_latency_percentile(const cwi_latency *l, double share);

#endif
