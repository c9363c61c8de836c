/* bench.h - what the parts of `cutwire bench` share. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli.h"

/* ---- the kinds of benchmark; argv[0] is the kind's name ---- */

int bench_codec(int argc, char **argv);
int bench_engine(int argc, char **argv);
int bench_loader(int argc, char **argv);

/* ---- one measurement of a codec, by us or by a peer ---- */

typedef struct bench_row {
    char variant[32]; /* the kernels, or the peer's name */
    char codec[96];
    size_t bytes; /* of fp32 input */
    double zeros; /* share of the elements that are 0 */
    int threads;
    size_t payload_bytes;
    double memcpy_s, encode_s, decode_s; /* medians of one run */
} bench_row;

typedef struct bench_rows {
    bench_row *row;
    size_t count, capacity;
} bench_rows;

/* False when out of memory. */
bool bench_rows_add(bench_rows *rows, const bench_row *row);
void bench_rows_free(bench_rows *rows);
/* Rows between processes: fields between tabs, one row a line. */
void bench_row_print(const bench_row *row, FILE *out);
bool bench_row_parse(const char *line, bench_row *row);
json_t *bench_rows_json(const bench_rows *rows);
/* CSV with a header line. CLI_GO_ON, or the exit code after a message. */
int bench_rows_save(const bench_rows *rows, const char *path, const char *cpu);

/* ---- measuring ---- */

typedef struct bench_plan {
    size_t bytes[8];
    size_t byte_count;
    double zeros[4];
    size_t zero_count;
    const char *codec; /* NULL: all */
    const char *input; /* .npy to measure instead of sizes and densities, or NULL */
    int threads;
    double seconds; /* for each case, about */
} bench_plan;

/* Measures what the plan says with the kernels of this process; prints rows to `out` as they come. Exit code, or
 * CLI_GO_ON when all went well. */
int bench_codec_measure(const bench_plan *plan, FILE *out);

/* ---- reporting ---- */

void bench_codec_report(const bench_rows *rows, FILE *out);

#endif
