/* part.h - what a running part is made of. Internal.
 *
 * A part has one set of parameters, and for each ticket everything that one forward leaves for its way back: planned
 * programs with memory of their own. Nothing is moved when another ticket is selected.
 */
#ifndef CWI_PART_H
#define CWI_PART_H

#include "nn/param.h"
#include "nn/plan.h"

enum {
    CWI_MAX_NETS = 10,      /* planned batch sizes kept, per ticket */
    CWI_MAX_IN_FLIGHT = 256 /* tickets, per part */
};

/* Where one forward and its way back happen. Does not move once created: programs point into it. */
typedef struct cwi_ticket {
    cwi_borders borders;
    cwi_net *nets[CWI_MAX_NETS]; /* nets[0] is never evicted */
    size_t net_count, next_victim;
    void *arena;
    size_t arena_bytes;
    float *logits, *dlogits; /* max_batch x classes, of a part that ends the model */
    uint64_t position;       /* of the part, at this ticket's forward */
    int diverged;            /* layer, or -1 */
    cwi_net *trained;        /* of the last training forward while its way back is open */
    size_t forward_n;        /* samples of the last forward; 0: none */
    cw_mode forward_mode;
    bool loss_ready; /* dlogits belong to the last forward */
} cwi_ticket;

struct cw_part {
    cw_model *model; /* a reference */
    size_t first, last;
    cw_part_options options;
    int threads;
    cw_precision precision; /* resolved: never AUTO */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    cwi_params params;
    cwi_ticket *tickets;
    size_t ticket_count;
    cwi_ticket *ticket; /* the selected one */
    uint64_t position;  /* training forwards begun */
    bool summed;        /* the sum of gradients holds something */
    bool profiling;
    double seconds[CWI_WORKS];
};

/* OpenMP's number of threads is a property of the calling thread: set for the duration of a call, then given back. */
int cwi_threads_enter(int threads);
void cwi_threads_leave(int before);

/* ---- ticket.c ---- */

/* Room for the logits and the program of max_batch samples. */
cw_status cwi_ticket_create(cw_part *part, cwi_ticket *ticket, cw_error *err);
void cwi_ticket_destroy(cwi_ticket *ticket);
/* Forgets the ticket's forward. */
void cwi_ticket_close(cwi_ticket *ticket);
/* The program for n samples, planned now if it was not yet. */
cw_status cwi_ticket_net(cw_part *part, cwi_ticket *ticket, size_t n, cw_mode mode, cwi_net **out, cw_error *err);

#endif
