/* print_seeds.c - seeds of codec calls, for test_seeds.py: for each "seed flow client epoch step ticket" of standard
 * input the seed that C gives it. */
#include <inttypes.h>
#include <stdio.h>

#include "config/setup.h"

int main(void)
{
    uint64_t seed, client;
    unsigned flow;
    uint32_t epoch, step, ticket;
    while (scanf("%" SCNu64 " %u %" SCNu64 " %" SCNu32 " %" SCNu32 " %" SCNu32, &seed, &flow, &client, &epoch, &step,
                 &ticket) == 6)
        printf("%" PRIu64 "\n", cwi_codec_seed(seed, (cwi_flow)flow, (size_t)client, epoch, step, ticket));
    return 0;
}
