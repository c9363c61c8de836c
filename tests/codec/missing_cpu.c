/* missing_cpu.c - linked into every codec test: ends it as skipped, visibly, when CUTWIRE_CPU asks for kernels that
 * this machine lacks, so that the scalar ones never pass for others. */
#include <stdio.h>
#include <stdlib.h>

#include "cutwire/codec.h"

__attribute__((constructor)) static void skip_when_missing(void)
{
    if (!cw_cpu_requested_missing())
        return;
    printf("SKIP: CUTWIRE_CPU=%s: this machine or build has no such kernels\n", getenv("CUTWIRE_CPU"));
    exit(77);
}
