/* bench_codec.c - cutwire bench codec: this program once for each instruction set, then the peers that are installed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { PATH_SIZE = 4096, SKIPPED = 77 };

typedef struct options {
    const char *variant, *codec, *input, *out;
    int threads;
    double seconds;
    bool quick, no_peers, rows, json;
} options;

/* ---- the plan ---- */

static bench_plan plan_of(const options *o)
{
    bench_plan full = {.bytes = {65536, 1 << 20, 4 << 20, 16 << 20, 64 << 20},
                       .byte_count = 5,
                       .zeros = {0, 0.5, 0.9},
                       .zero_count = 3};
    bench_plan quick = {.bytes = {1 << 20, 16 << 20}, .byte_count = 2, .zeros = {0.5}, .zero_count = 1};
    bench_plan plan = o->quick ? quick : full;
    plan.codec = o->codec;
    plan.input = o->input;
    plan.threads = o->threads;
    plan.seconds = o->seconds > 0 ? o->seconds : o->quick ? 0.2 : 0.4;
    return plan;
}

static void list_sizes(const bench_plan *plan, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < plan->byte_count; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%zu", i ? "," : "", plan->bytes[i]);
}

static void list_zeros(const bench_plan *plan, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < plan->zero_count; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%g", i ? "," : "", plan->zeros[i]);
}

/* ---- other processes ---- */

/* Runs argv, with CUTWIRE_CPU set to `cpu` unless that is NULL, and collects the rows that it prints. Returns its exit
 * code, or -1 when it could not be run. */
static int run_for_rows(char *const argv[], const char *cpu, bench_rows *rows)
{
    int ends[2], status;
    if (pipe(ends) != 0)
        return -1;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (cpu)
            setenv("CUTWIRE_CPU", cpu, 1);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    FILE *in = pid > 0 ? fdopen(ends[0], "r") : NULL;
    char line[512];
    while (in && fgets(line, sizeof line, in)) {
        bench_row row;
        if (bench_row_parse(line, &row) && !bench_rows_add(rows, &row))
            break;
    }
    if (in)
        fclose(in);
    else
        close(ends[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static char *unconst(const char *s)
{
    return (char *)(uintptr_t)s; /* execv takes, and leaves alone, char * */
}

static int run_variant(const options *o, const char *variant, bench_rows *rows)
{
    char threads[16], seconds[32];
    snprintf(threads, sizeof threads, "%d", o->threads);
    snprintf(seconds, sizeof seconds, "%g", o->seconds);
    char *argv[16] = {unconst("/proc/self/exe"), unconst("bench"), unconst("codec"),     unconst("--rows"),
                      unconst("--threads"),      threads,          unconst("--seconds"), seconds};
    size_t count = 8;
    if (o->quick)
        argv[count++] = unconst("--quick");
    if (o->codec) {
        argv[count++] = unconst("--codec");
        argv[count++] = unconst(o->codec);
    }
    if (o->input) {
        argv[count++] = unconst("--input");
        argv[count++] = unconst(o->input);
    }
    const int code = run_for_rows(argv, variant, rows);
    if (code == SKIPPED)
        fprintf(stderr, "SKIP: %s: this machine or build has no such kernels\n", variant);
    else if (code != CLI_OK)
        return cli_fail(CLI_FAILURE, "bench codec: the measurement of %s failed: its message is above", variant);
    return CLI_GO_ON;
}

/* `name` in the folder of this program, or in `up`/bench of it; false when there is none. */
static bool beside_program(const char *name, char *path, size_t size)
{
    char program[PATH_SIZE] = "";
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash = length > 0 ? strrchr(program, '/') : NULL;
    if (!slash)
        return false;
    *slash = '\0';
    snprintf(path, size, "%s/%s", program, name);
    return access(path, R_OK) == 0;
}

static void run_peer(const char *what, char *path, char *interpreter, const bench_plan *plan, bench_rows *rows)
{
    char sizes[256], zeros[64], seconds[32];
    list_sizes(plan, sizes, sizeof sizes);
    list_zeros(plan, zeros, sizeof zeros);
    snprintf(seconds, sizeof seconds, "%g", plan->seconds);
    char *with[] = {interpreter, path, sizes, zeros, seconds, NULL}, **argv = interpreter ? with : with + 1;
    const size_t before = rows->count;
    if (run_for_rows(argv, NULL, rows) != CLI_OK || rows->count == before)
        fprintf(stderr, "SKIP: %s: not installed, or it failed\n", what);
}

static void run_peers(const bench_plan *plan, bench_rows *rows)
{
    char path[PATH_SIZE + 64];
    if (beside_program("cutwire-bench-peers", path, sizeof path))
        run_peer("zfp and zstd", path, NULL, plan, rows);
    else
        fputs("SKIP: zfp and zstd: built without libzfp-dev and libzstd-dev\n", stderr);
    if (beside_program("../bench/peer_torch.py", path, sizeof path))
        run_peer("PyTorch", path, unconst("/usr/bin/python3"), plan, rows);
    else
        fputs("SKIP: PyTorch: bench/peer_torch.py is not beside the build folder\n", stderr);
}

/* ---- files ---- */

static void cpu_model(char *out, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        snprintf(out, size, "%s", colon + 2);
        out[strcspn(out, "\n\"")] = '\0';
        break;
    }
    if (f)
        fclose(f);
}

static int save_results(const bench_rows *rows, const char *dir, const char *cpu)
{
    char csv[PATH_SIZE], script[PATH_SIZE + 64], command[3 * PATH_SIZE];
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return cli_fail(CLI_FAILURE, "bench: cannot make the folder %s: %s", dir, strerror(errno));
    snprintf(csv, sizeof csv, "%s/codec.csv", dir);
    const int code = bench_rows_save(rows, csv, cpu);
    if (code != CLI_GO_ON)
        return code;
    fprintf(stderr, "written: %s\n", csv);
    if (!beside_program("../bench/codec.gp", script, sizeof script))
        return CLI_GO_ON;
    snprintf(command, sizeof command, "gnuplot -c '%s' '%s' '%s/codec.png' 2>&1", script, csv, dir);
    if (strchr(dir, '\'') || strchr(script, '\'') || system(command) != 0)
        fprintf(stderr, "SKIP: picture: gnuplot is not installed, or it failed\n");
    else
        fprintf(stderr, "written: %s/codec.png\n", dir);
    return CLI_GO_ON;
}

/* ---- the command ---- */

/* Asked here once, and not by the process of each variant. */
static int check_spec(const char *spec)
{
    cw_codec *codec;
    cw_error err;
    if (!spec)
        return CLI_GO_ON;
    cw_status status = cw_codec_create(spec, &codec, &err);
    if (status != CW_OK)
        return cli_fail(CLI_USAGE, "bench codec: --codec: %s", err.message);
    cw_codec_destroy(&codec);
    return CLI_GO_ON;
}

static int parse(options *o, int argc, char **argv)
{
    const cli_option table[] = {
        {"quick", NULL, "two sizes and one density only", CLI_FLAG, &o->quick},
        {"codec", "SPEC",
         "this codec only [a list: each kind, the paper's settings of 2 to 3 bits, ours at a few rates]", CLI_STRING,
         &o->codec},
        {"input", "FILE", "measure this .npy, a map of your own [maps of random numbers]", CLI_STRING, &o->input},
        {"variant", "NAME", "scalar, avx2, avx512 or neon only [all that this machine has]", CLI_STRING, &o->variant},
        {"threads", "N", "threads inside one call [1]", CLI_INT, &o->threads},
        {"seconds", "S", "time for each case, about [0.4; 0.2 with --quick]", CLI_DOUBLE, &o->seconds},
        {"no-peers", NULL, "leave zfp, zstd and PyTorch out", CLI_FLAG, &o->no_peers},
        {"out", "DIR", "write codec.csv and codec.png there, replacing earlier ones [nowhere]", CLI_STRING, &o->out},
        {"rows", NULL, "measure in this process, whose kernels CUTWIRE_CPU selects, and print raw rows", CLI_FLAG,
         &o->rows},
        {"json", NULL, "the last line is one JSON object", CLI_FLAG, &o->json},
    };
    const cli_command command = {
        .name = "bench codec",
        .args = "",
        .summary = "Speed of every codec with every instruction set of this machine, encoding and decoding maps as a "
                   "ReLU leaves them: GB/s of fp32 input, and time against memcpy of the same array in the same run.",
        .examples = "  cutwire bench codec --quick --json\n"
                    "  cutwire bench codec --out bench/results\n"
                    "  cutwire bench codec --input map.npy --codec ec:err=0.1\n"
                    "  cutwire bench codec --codec ms:r=0.99,b=2 --variant avx2 --no-peers\n",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
    };
    const int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code == CLI_GO_ON && o->threads < 1)
        return cli_fail(CLI_USAGE, "bench codec: --threads is %d: it must be at least 1", o->threads);
    return code == CLI_GO_ON ? check_spec(o->codec) : code;
}

static int measure_all(const options *o, bench_rows *rows)
{
#if defined(__aarch64__)
    static const char *const variants[] = {"scalar", "neon"};
#else
    static const char *const variants[] = {"scalar", "avx2", "avx512"};
#endif
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        if (o->variant && strcmp(o->variant, variants[i]) != 0)
            continue;
        fprintf(stderr, "measuring %s\n", variants[i]);
        const int code = run_variant(o, variants[i], rows);
        if (code != CLI_GO_ON)
            return code;
    }
    if (rows->count == 0 && o->variant)
        return cli_fail(CLI_USAGE, "bench codec: no kernels '%s' on this machine: scalar is always there", o->variant);
    return CLI_GO_ON;
}

int bench_codec(int argc, char **argv)
{
    options o = {.threads = 1};
    bench_rows rows = {0}, peers = {0}, both = {0};
    int code = parse(&o, argc, argv);
    if (code != CLI_GO_ON)
        return code;
    const bench_plan plan = plan_of(&o);
    if (o.rows)
        return cw_cpu_requested_missing()                                 ? SKIPPED
               : (code = bench_codec_measure(&plan, stdout)) == CLI_GO_ON ? CLI_OK
                                                                          : code;
    code = measure_all(&o, &rows);
    if (code == CLI_GO_ON && !o.no_peers && !o.input) { /* peers make maps of their own */
        fputs("measuring peers\n", stderr);
        run_peers(&plan, &peers);
    }
    char cpu[256];
    cpu_model(cpu, sizeof cpu);
    for (size_t i = 0; i < rows.count + peers.count; i++)
        bench_rows_add(&both, i < rows.count ? &rows.row[i] : &peers.row[i - rows.count]);
    if (code == CLI_GO_ON) {
        bench_codec_report(&both, stdout);
        code = o.out ? save_results(&both, o.out, cpu) : CLI_GO_ON;
    }
    if (code == CLI_GO_ON)
        code = o.json ? cli_print_json(json_pack("{s:s,s:o,s:o}", "cpu", cpu, "results", bench_rows_json(&rows),
                                                 "peers", bench_rows_json(&peers)))
                      : CLI_OK;
    bench_rows_free(&rows);
    bench_rows_free(&peers);
    bench_rows_free(&both);
    return code;
}
