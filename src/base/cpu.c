/* cpu.c - clock, processors, and which instruction set the kernels may use. */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__LP64__)
#include <cpuid.h>
#endif

#include "base/base.h"

double cwi_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double cwi_thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int cwi_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more of them than the set has places for */
    return online > 0 && online < INT_MAX ? (int)online : 1;
}

static const char *const cpu_names[] = {"scalar", "avx2", "avx512", "neon"};

const char *cwi_cpu_name(cwi_cpu cpu)
{
    return (size_t)cpu < CWI_COUNT(cpu_names) ? cpu_names[cpu] : "?";
}

#if defined(__x86_64__) && defined(__LP64__)
/* Which not every compiler's __builtin_cpu_supports knows. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool cwi_cpu_has(cwi_cpu cpu)
{
    switch (cpu) {
    case CWI_CPU_SCALAR:
        return true;
#if defined(__x86_64__) && defined(__LP64__)
    case CWI_CPU_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
               __builtin_cpu_supports("popcnt") && has_f16c();
    case CWI_CPU_AVX512:
        return cwi_cpu_has(CWI_CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bitalg") &&
               __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
    case CWI_CPU_NEON: /* part of the base architecture */
        return true;
#endif
    default:
        return false;
    }
}

cwi_cpu cwi_cpu_best(void)
{
    static const cwi_cpu order[] = {CWI_CPU_AVX512, CWI_CPU_AVX2, CWI_CPU_NEON};
    for (size_t i = 0; i < CWI_COUNT(order); i++)
        if (cwi_cpu_has(order[i]))
            return order[i];
    return CWI_CPU_SCALAR;
}

static pthread_once_t selected_once = PTHREAD_ONCE_INIT;
static cwi_cpu selected_cpu;
static bool selected_missing;

static void select_cpu(void)
{
    const char *want = getenv("CUTWIRE_CPU");
    selected_cpu = cwi_cpu_best();
    if (!want || !*want)
        return;
    selected_cpu = CWI_CPU_SCALAR;
    selected_missing = true;
    for (size_t i = 0; i < CWI_COUNT(cpu_names); i++) {
        if (strcmp(want, cpu_names[i]) == 0 && cwi_cpu_has((cwi_cpu)i)) {
            selected_cpu = (cwi_cpu)i;
            selected_missing = false;
        }
    }
}

cwi_cpu cwi_cpu_selected(void)
{
    pthread_once(&selected_once, select_cpu);
    return selected_cpu;
}

bool cwi_cpu_missing(void)
{
    pthread_once(&selected_once, select_cpu);
    return selected_missing;
}
