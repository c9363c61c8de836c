/* klt_avx2.c - sums of weighted planes with AVX2. */
#define VECTOR 32
#include "codec/kernels/klt_kernel.h"

void cwi_klt_avx2(cwi_kernels *k)
{
    k->sum_planes = sum_planes;
}
