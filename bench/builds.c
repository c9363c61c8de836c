/* builds.c - the same maps by several builds of the codec library, in turns.
 *
 *     ninja -C build builds
 *     build/builds [--turns N] LIBRARY[+KEYS]... -- SPEC... -- FILE.npy...
 *
 * For each map and spec a row for each library: bytes, the relative 2-norm error over the one that the spec asks for,
 * medians of the thread's processor time to encode and to decode, and the medians of what these are over the first
 * library's in the same turn. KEYS are added to the spec, as in `build/libcutwire-codec.so+effort=fast`. Maps are
 * float32 in C order, as numpy saves them. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cutwire/codec.h"

enum { MOST = 8, TURNS_MOST = 101 };

typedef struct library {
    const char *name, *keys;
    cw_status (*create)(const char *, cw_codec **, cw_error *);
    void (*destroy)(cw_codec **);
    size_t (*bound)(const cw_codec *, const cw_tensor *);
    cw_status (*encode)(const cw_codec *, const cw_tensor *, const cw_encode_args *, void *, size_t, size_t *,
                        cw_error *);
    cw_status (*decode)(const void *, size_t, cw_tensor *, const cw_decode_args *, cw_error *);
    /* of the present map: */
    cw_codec *codec;
    uint8_t *payload;
    size_t capacity, size;
    double error, encoding[TURNS_MOST], decoding[TURNS_MOST];
} library;

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "builds: %s: %s\n", what, why);
    exit(1);
}

static void *must_have(void *p, const char *what)
{
    if (!p)
        stop(what, "out of memory");
    return p;
}

static void find(void *from, const char *name, void *to)
{
    void *at = dlsym(from, name);
    if (!at)
        stop(name, dlerror());
    memcpy(to, &at, sizeof at);
}

static library open_library(char *argument)
{
    library l = {.name = argument};
    char *plus = strchr(argument, '+');
    if (plus) {
        *plus = 0;
        l.keys = plus + 1;
    }
    void *from = dlopen(argument, RTLD_NOW | RTLD_LOCAL);
    if (!from)
        stop(argument, dlerror());
    find(from, "cw_codec_create", &l.create);
    find(from, "cw_codec_destroy", &l.destroy);
    find(from, "cw_codec_bound", &l.bound);
    find(from, "cw_encode", &l.encode);
    find(from, "cw_decode", &l.decode);
    return l;
}

/* ---- maps ---- */

static void read_shape(const char *path, char *header, cw_shape *shape)
{
    char *at = strstr(header, "'shape': (");
    if (!strstr(header, "'<f4'") || !strstr(header, "'fortran_order': False") || !at)
        stop(path, "not float32 in C order");
    memset(shape, 0, sizeof *shape);
    for (at += strlen("'shape': ("); *at && *at != ')' && shape->ndim < 8;) {
        char *end;
        shape->dim[shape->ndim] = strtoll(at, &end, 10);
        if (end == at)
            break;
        shape->ndim++;
        at = end + strspn(end, ", ");
    }
}

static float *read_map(const char *path, cw_tensor *t)
{
    unsigned char start[10];
    char header[512];
    FILE *f = fopen(path, "rb");
    if (!f)
        stop(path, "cannot be read");
    if (fread(start, 1, sizeof start, f) != sizeof start || memcmp(start, "\x93NUMPY\x01", 7) != 0)
        stop(path, "not a .npy file of version 1");
    const size_t length = start[8] + 256u * start[9];
    if (length >= sizeof header || fread(header, 1, length, f) != length)
        stop(path, "not such a header");
    header[length] = 0;
    cw_shape shape;
    size_t n = 1;
    read_shape(path, header, &shape);
    for (int i = 0; i < shape.ndim; i++)
        n *= (size_t)shape.dim[i];
    float *x = must_have(malloc(n * sizeof *x + 1), path);
    if (fread(x, sizeof *x, n, f) != n)
        stop(path, "cut off");
    fclose(f);
    *t = (cw_tensor){.dtype = CW_F32, .shape = shape, .data = x};
    return x;
}

static size_t elements_of(const cw_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->shape.ndim; i++)
        n *= (size_t)t->shape.dim[i];
    return n;
}

/* ---- measuring ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double relative(const float *x, const float *y, size_t n)
{
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        all += (double)x[i] * x[i];
    }
    return all > 0 ? sqrt(off / all) : 0;
}

static void begin(library *l, const char *spec, const cw_tensor *x)
{
    char with_keys[300];
    cw_error err;
    snprintf(with_keys, sizeof with_keys, "%s%s%s", spec, l->keys ? "," : "", l->keys ? l->keys : "");
    if (l->create(with_keys, &l->codec, &err) != CW_OK)
        stop(l->name, err.message);
    l->capacity = l->bound(l->codec, x);
    l->payload = must_have(malloc(l->capacity), l->name);
}

/* Twice where that is short, so that a turn is not the first call's. */
static void take_turn(library *l, const cw_tensor *x, cw_tensor *y, size_t turn)
{
    cw_error err;
    for (int i = elements_of(x) < 1 << 16 ? 2 : 1; i > 0; i--) {
        const double start = now();
        if (l->encode(l->codec, x, NULL, l->payload, l->capacity, &l->size, &err) != CW_OK)
            stop(l->name, err.message);
        const double middle = now();
        if (l->decode(l->payload, l->size, y, NULL, &err) != CW_OK)
            stop(l->name, err.message);
        l->decoding[turn] = now() - middle;
        l->encoding[turn] = middle - start;
    }
    if (turn == 0)
        l->error = relative(x->data, y->data, elements_of(x));
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, const double *over, size_t n)
{
    double sorted[TURNS_MOST];
    for (size_t i = 0; i < n; i++)
        sorted[i] = over ? over[i] / v[i] : v[i];
    qsort(sorted, n, sizeof *sorted, by_size);
    return sorted[n / 2];
}

static void show(const library *l, const library *first, const char *spec, const char *file, size_t turns)
{
    const char *asked = strstr(spec, "err="), *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    const double error = asked ? strtod(asked + 4, NULL) : 0;
    printf("%-22s %-18s %-36.36s %9zu %7.4f %9.0f %8.0f %6.2f %6.2f\n", name, spec, l->keys ? l->keys : l->name,
           l->size, error > 0 ? l->error / error : l->error, 1e6 * median(l->encoding, NULL, turns),
           1e6 * median(l->decoding, NULL, turns), median(l->encoding, first->encoding, turns),
           median(l->decoding, first->decoding, turns));
}

static void measure(library *of, size_t count, const char *spec, const char *file, const cw_tensor *x, size_t turns)
{
    cw_tensor y = *x;
    y.data = must_have(malloc(elements_of(x) * sizeof(float) + 1), file);
    for (size_t i = 0; i < count; i++)
        begin(&of[i], spec, x);
    for (size_t turn = 0; turn < turns; turn++)
        for (size_t i = 0; i < count; i++)
            take_turn(&of[i], x, &y, turn);
    for (size_t i = 0; i < count; i++) {
        show(&of[i], &of[0], spec, file, turns);
        of[i].destroy(&of[i].codec);
        free(of[i].payload);
    }
    fflush(stdout);
    free(y.data);
}

/* The arguments from `at` on up to "--" or the end. */
static int part_end(int argc, char **argv, int at)
{
    while (at < argc && strcmp(argv[at], "--") != 0)
        at++;
    return at;
}

int main(int argc, char **argv)
{
    library of[MOST];
    size_t turns = 5, count = 0;
    int at = 1;
    if (argc > 2 && strcmp(argv[1], "--turns") == 0) {
        turns = strtoul(argv[2], NULL, 10);
        at = 3;
    }
    const int libraries = part_end(argc, argv, at), specs = part_end(argc, argv, libraries + 1);
    if (turns < 1 || turns > TURNS_MOST || libraries - at < 1 || libraries - at > MOST || specs >= argc)
        stop("usage", "builds [--turns 1..101] LIBRARY[+KEYS]... -- SPEC... -- FILE.npy...");
    while (at < libraries)
        of[count++] = open_library(argv[at++]);
    printf("%-22s %-18s %-36s %9s %7s %9s %8s %6s %6s\n", "map", "spec", "library", "bytes", "error", "encode us",
           "decode", "faster", "faster");
    for (int file = specs + 1; file < argc; file++) {
        cw_tensor x;
        float *data = read_map(argv[file], &x);
        for (int spec = libraries + 1; spec < specs; spec++)
            measure(of, count, argv[spec], argv[file], &x, turns);
        free(data);
    }
    return 0;
}
