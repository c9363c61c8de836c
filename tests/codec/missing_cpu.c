/* missing_cpu.c - linked into every codec test: ends it as skipped, visibly, when CUTWIRE_CPU asks for kernels that
 * this machine lacks, so that the scalar ones never pass for others, or for those that the test runs with anyway. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "cutwire/codec.h"

__attribute__((constructor)) static void skip_when_missing(void)
{
    const char *asked = getenv("CUTWIRE_CPU");
    if (cw_cpu_requested_missing())
        printf("SKIP: CUTWIRE_CPU=%s: this machine or build has no such kernels\n", asked);
    else if (asked && cwi_cpu_selected() == cwi_cpu_best())
        printf("SKIP: CUTWIRE_CPU=%s: the best kernels of this machine, which the test of this name runs with\n",
               asked);
    else
        return;
    exit(77);
}
