/* klt_avx512.c - sums of weighted planes with AVX-512. */
#define VECTOR 64
#include "codec/kernels/klt_kernel.h"

void cwi_klt_avx512(cwi_kernels *k)
{
    k->sum_planes = sum_planes;
}
