/* bench_timing.h - clock and medians, for our benchmarks and the peers'. */
#ifndef CLI_BENCH_TIMING_H
#define CLI_BENCH_TIMING_H

#include <stddef.h>
#include <stdlib.h>
#include <time.h>

enum { BENCH_MIN_RUNS = 5, BENCH_MAX_RUNS = 301 };

/* Seconds by the wall. */
static inline double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds that this thread was running: the same as by the wall but for the turns that other programs take. For what
 * runs in one thread. */
static inline double bench_busy(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* How often to repeat what handles so many bytes between two looks at the clock. */
static inline int bench_repeats(size_t bytes)
{
    return bytes >= 1 << 20 ? 1 : (int)((1 << 20) / (bytes + 1)) + 1;
}

static inline int bench_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double bench_median(double *seconds, size_t count)
{
    qsort(seconds, count, sizeof *seconds, bench_compare);
    return seconds[count / 2];
}

#endif
