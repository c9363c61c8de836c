/* bench_rows.c - rows of results: between processes, to CSV, JSON and a table. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

bool bench_rows_add(bench_rows *rows, const bench_row *row)
{
    if (rows->count == rows->capacity) {
        const size_t capacity = rows->capacity ? 2 * rows->capacity : 64;
        bench_row *more = realloc(rows->row, capacity * sizeof *more);
        if (!more)
            return false;
        rows->row = more;
        rows->capacity = capacity;
    }
    rows->row[rows->count++] = *row;
    return true;
}

void bench_rows_free(bench_rows *rows)
{
    free(rows->row);
    *rows = (bench_rows){0};
}

void bench_row_print(const bench_row *r, FILE *out)
{
    fprintf(out, "%s\t%s\t%zu\t%g\t%d\t%zu\t%.9f\t%.9f\t%.9f\n", r->variant, r->codec, r->bytes, r->zeros, r->threads,
            r->payload_bytes, r->memcpy_s, r->encode_s, r->decode_s);
}

bool bench_row_parse(const char *line, bench_row *r)
{
    return sscanf(line, "%31[^\t]\t%95[^\t]\t%zu\t%lf\t%d\t%zu\t%lf\t%lf\t%lf", r->variant, r->codec, &r->bytes,
                  &r->zeros, &r->threads, &r->payload_bytes, &r->memcpy_s, &r->encode_s, &r->decode_s) == 9;
}

static double gigabytes(const bench_row *r, double seconds)
{
    return seconds > 0 ? 1e-9 * (double)r->bytes / seconds : 0;
}

json_t *bench_rows_json(const bench_rows *rows)
{
    json_t *array = json_array();
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->row[i];
        json_array_append_new(array, json_pack("{s:s,s:s,s:I,s:f,s:i,s:I,s:f,s:f,s:f,s:f,s:f,s:f}", "codec", r->codec,
                                               "variant", r->variant, "bytes", (json_int_t)r->bytes, "zeros", r->zeros,
                                               "threads", r->threads, "payload_bytes", (json_int_t)r->payload_bytes,
                                               "ratio", (double)r->bytes / (double)r->payload_bytes, "encode_x_memcpy",
                                               r->encode_s / r->memcpy_s, "decode_x_memcpy", r->decode_s / r->memcpy_s,
                                               "encode_GBps", gigabytes(r, r->encode_s), "decode_GBps",
                                               gigabytes(r, r->decode_s), "memcpy_GBps", gigabytes(r, r->memcpy_s)));
    }
    return array;
}

int bench_rows_save(const bench_rows *rows, const char *path, const char *cpu)
{
    FILE *f = fopen(path, "w");
    if (!f)
        return cli_fail(CLI_FAILURE, "bench: cannot write %s: %s", path, strerror(errno));
    fputs("cpu,variant,codec,bytes,zeros,threads,payload_bytes,memcpy_GBps,encode_GBps,decode_GBps,encode_x_memcpy,"
          "decode_x_memcpy\n",
          f);
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->row[i];
        fprintf(f, "\"%s\",%s,\"%s\",%zu,%g,%d,%zu,%.3f,%.3f,%.3f,%.3f,%.3f\n", cpu, r->variant, r->codec, r->bytes,
                r->zeros, r->threads, r->payload_bytes, gigabytes(r, r->memcpy_s), gigabytes(r, r->encode_s),
                gigabytes(r, r->decode_s), r->encode_s / r->memcpy_s, r->decode_s / r->memcpy_s);
    }
    const bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed)
        return cli_fail(CLI_FAILURE, "bench: cannot write %s: %s", path, strerror(errno));
    return CLI_GO_ON;
}

/* How much faster our best ms encoder is than the PyTorch one in the same conditions; 0 when there is none. */
static double against_pytorch(const bench_rows *rows, const bench_row *torch)
{
    double best = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->row[i];
        if (r != torch && strcmp(r->codec, torch->codec) == 0 && r->bytes == torch->bytes && r->zeros == torch->zeros &&
            (best == 0 || r->encode_s < best))
            best = r->encode_s;
    }
    return best > 0 ? torch->encode_s / best : 0;
}

void bench_codec_report(const bench_rows *rows, FILE *out)
{
    char size[32];
    fprintf(out, "%-8s %-28s %9s %5s %8s %7s  %-15s %-15s\n", "variant", "codec", "input", "zeros", "ratio", "memcpy",
            "   encode", "   decode");
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->row[i];
        fprintf(out, "%-8s %-28s %9s %5g %8.2f %7.1f  %6.2f %6.2f x %6.2f %6.2f x\n", r->variant, r->codec,
                cli_bytes((double)r->bytes, size, sizeof size), r->zeros, (double)r->bytes / (double)r->payload_bytes,
                gigabytes(r, r->memcpy_s), gigabytes(r, r->encode_s), r->encode_s / r->memcpy_s,
                gigabytes(r, r->decode_s), r->decode_s / r->memcpy_s);
    }
    fputs("GB/s of fp32 input, and time as a multiple of memcpy's for the same array in the same run\n", out);
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->row[i];
        const double times = strcmp(r->variant, "pytorch") == 0 ? against_pytorch(rows, r) : 0;
        if (times > 0)
            fprintf(out, "%s, %g zeros: ms encodes %.0f x faster than PyTorch on %d threads\n",
                    cli_bytes((double)r->bytes, size, sizeof size), r->zeros, times, r->threads);
    }
}
