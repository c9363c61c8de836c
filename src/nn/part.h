/* part.h - what a running part is made of. Internal. */
#ifndef CWI_PART_H
#define CWI_PART_H

#include "nn/param.h"
#include "nn/plan.h"

enum { CWI_MAX_NETS = 10 }; /* planned batch sizes kept, per part */

struct cw_part {
    cw_model *model; /* a reference */
    size_t first, last;
    cw_part_options options;
    int threads;
    cw_precision precision; /* resolved: never AUTO */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    cwi_params params;
    cwi_borders borders;
    cwi_net *nets[CWI_MAX_NETS]; /* nets[0] is never evicted */
    size_t net_count, next_victim;
    void *arena;
    size_t arena_bytes;
    float *logits, *dlogits; /* max_batch x classes, of a part that ends the model */
    uint64_t position;       /* training forwards begun */
    int diverged;            /* layer, or -1 */
    cwi_net *trained;        /* of the last training forward while its way back is open */
    size_t forward_n;        /* samples of the last forward; 0: none */
    cw_mode forward_mode;
    bool loss_ready; /* dlogits belong to the last forward */
    bool summed;     /* the gradient sums hold something */
    bool profiling;
    double seconds[CWI_WORKS];
};

/* OpenMP's number of threads is a property of the calling thread: set for the duration of a call, then given back. */
int cwi_threads_enter(int threads);
void cwi_threads_leave(int before);

#endif
