/* klt_scalar.c - sums of weighted planes with whatever vectors the compiler's target has. */
#define VECTOR 16
#include "codec/kernels/klt_kernel.h"

void cwi_klt_scalar(cwi_kernels *k)
{
    k->sum_planes = sum_planes;
}
