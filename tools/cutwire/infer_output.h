/* infer_output.h - what `cutwire infer` shows of answers: a line each, and the whole. */
#ifndef CLI_INFER_OUTPUT_H
#define CLI_INFER_OUTPUT_H

#include "cli.h"

typedef struct infer_tally {
    size_t samples, labelled, correct;
    size_t local_correct, agreed; /* of the whole network, here */
    double *latencies;            /* seconds of each request */
    size_t requests, room;
    double seconds;
    bool local;
} infer_tally;

/* False: out of memory. */
bool infer_count_latency(infer_tally *t, double seconds);
void infer_tally_free(infer_tally *t);

/* "photo.npy 3: cat 98.1%, dog 1.2%" */
void infer_print_answer(const cw_remote *remote, const cw_sample_batch *batch, size_t sample, const cw_guess *guesses,
                        size_t top, int32_t local);

/* The result, for people or as JSON. Sorts the latencies. The exit code. */
int infer_print_result(const char *run, const cw_remote_info *info, const cw_remote_stats *stats, infer_tally *t,
                       bool json);

#endif
