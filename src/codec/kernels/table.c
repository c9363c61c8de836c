/* table.c - picks the kernels: the scalar ones, then whatever a variant has better. */
#include <pthread.h>

#include "codec/kernels/kernels.h"

bool cwi_kernels_for(cwi_cpu cpu, cwi_kernels *out)
{
    if (!cwi_cpu_has(cpu))
        return false;
    cwi_scan_scalar(out);
    cwi_planes_scalar(out);
    cwi_convert_scalar(out);
    cwi_ctx_scalar(out);
    cwi_ec_scalar(out);
    cwi_klt_scalar(out);
#if defined(__x86_64__) && defined(__LP64__)
    if (cpu == CWI_CPU_AVX2) {
        cwi_scan_avx2(out);
        cwi_planes_avx2(out);
        cwi_convert_avx2(out);
        cwi_ctx_avx2(out);
        cwi_klt_avx2(out);
    } else if (cpu == CWI_CPU_AVX512) {
        cwi_scan_avx512(out);
        cwi_planes_avx512(out);
        cwi_convert_avx512(out);
        cwi_ctx_avx512(out);
        cwi_klt_avx512(out);
    }
#elif defined(__aarch64__)
    if (cpu == CWI_CPU_NEON) {
        cwi_scan_neon(out);
        cwi_planes_neon(out);
        cwi_convert_neon(out);
        cwi_ctx_neon(out);
    }
#endif
    out->cpu = cpu;
    return true;
}

static cwi_kernels selected;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void select_kernels(void)
{
    if (!cwi_kernels_for(cwi_cpu_selected(), &selected))
        cwi_kernels_for(CWI_CPU_SCALAR, &selected);
}

const cwi_kernels *cwi_kernels_get(void)
{
    pthread_once(&once, select_kernels);
    return &selected;
}

bool cwi_kernels_force(cwi_cpu cpu)
{
    cwi_kernels_get();
    return cwi_kernels_for(cpu, &selected);
}
