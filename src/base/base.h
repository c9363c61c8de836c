/* base.h - what every module stands on: errors, memory, random streams, clock, CPU, bytes. Internal. */
#ifndef CWI_BASE_H
#define CWI_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cutwire/status.h"

#if defined(__GNUC__)
#define CWI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CWI_PRINTF(fmt, args)
#endif

#define CWI_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CWI_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define CWI_MAX(a, b)    ((a) > (b) ? (a) : (b))

/* Returns early with the status when it is not CW_OK. */
#define CWI_TRY(call)                                                                                                  \
    do {                                                                                                               \
        cw_status cwi_try_status = (call);                                                                             \
        if (cwi_try_status != CW_OK)                                                                                   \
            return cwi_try_status;                                                                                     \
    } while (0)

/* ---- errors ---- */

/* Fills *err (NULL allowed) and returns status, so that a failing function can `return cwi_fail(...)`. */
cw_status cwi_fail(cw_error *err, cw_status status, const char *fmt, ...) CWI_PRINTF(3, 4);
cw_status cwi_fail_at(cw_error *err, cw_status status, uint64_t offset, const char *fmt, ...) CWI_PRINTF(4, 5);
/* CW_ERR_NO_MEMORY with the amount asked for. */
cw_status cwi_fail_memory(cw_error *err, size_t bytes);
/* Puts "prefix: " before the message already in err; for adding the file's or layer's name on the way up. */
cw_status cwi_fail_prefix(cw_error *err, cw_status status, const char *fmt, ...) CWI_PRINTF(3, 4);

/* A list "a, b, c" of our own names for a message, which is never cut off: room for more than all that there are. */
typedef struct cwi_list {
    char text[800];
} cwi_list;
void cwi_list_add(cwi_list *list, const char *name);

/* The place of `name` among `count` names. CW_ERR_SPEC: err names `what` and lists them; CW_ERR_INVALID: a NULL. */
cw_status cwi_name_find(const char *what, const char *name, const char *const *names, size_t count, size_t *index,
                        cw_error *err);

/* ---- memory ---- */

/* 64-byte aligned; freed by cwi_free. NULL when out of memory, when count * size overflows, or when a test injects a
 * failure. A zero size gives a unique pointer. */
void *cwi_alloc(size_t count, size_t size);
void *cwi_calloc(size_t count, size_t size);
/* Grows or shrinks, keeping the smaller of old and new size; on failure NULL and the old block is untouched. */
void *cwi_realloc(void *old, size_t old_size, size_t new_size);
char *cwi_strdup(const char *s);
void cwi_free(void *p);
/* Zeros that are written even when nobody reads them again: for secrets. */
void cwi_wipe(void *p, size_t size);

/* Tests: asked before each allocation, `true` makes it fail. NULL: none. Not for use while other threads allocate. */
void cwi_alloc_set_fault(bool (*fails)(void *ctx, size_t bytes), void *ctx);

/* a * b and a + b; false on overflow. */
static inline bool cwi_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool cwi_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* ---- random streams ---- */

/* Counter-based: a stream is a key, and its i-th value is a hash of (key, i), so that streams need no state to be
 * saved but a position, and any position can be reached at once. splitmix64 finalizer (Steele, Lea, Flood 2014). */
typedef struct cwi_rng {
    uint64_t key;
    uint64_t next; /* position */
} cwi_rng;

/* What a stream is for; mixed into the key so that uses never share numbers. */
typedef enum cwi_stream {
    CWI_STREAM_WEIGHTS = 1,
    CWI_STREAM_SHUFFLE,
    CWI_STREAM_AUGMENT,
    CWI_STREAM_SHARD,
    CWI_STREAM_DROPOUT,
    CWI_STREAM_CODEC,
    CWI_STREAM_TEST,
    CWI_STREAM_FLIP,
    CWI_STREAM_OWNER,
} cwi_stream;

cwi_rng cwi_rng_make(uint64_t seed, cwi_stream purpose, uint64_t a, uint64_t b);
uint64_t cwi_rng_u64(cwi_rng *r);
/* The i-th value of a stream, without moving it. */
uint64_t cwi_rng_at(const cwi_rng *r, uint64_t i);
double cwi_rng_double(cwi_rng *r);                       /* [0, 1), 53 bits */
uint64_t cwi_rng_below(cwi_rng *r, uint64_t bound);      /* [0, bound), unbiased; bound > 0 */
double cwi_rng_normal(cwi_rng *r);                       /* mean 0, variance 1 */
double cwi_rng_gamma(cwi_rng *r, double shape);          /* scale 1, shape > 0 (Marsaglia, Tsang 2000) */
void cwi_rng_shuffle(cwi_rng *r, uint32_t *a, size_t n); /* Fisher-Yates */

/* From the operating system, for what nobody may guess; an id is never 0. CW_ERR_IO. */
cw_status cwi_random(void *bytes, size_t size, cw_error *err);
cw_status cwi_random_id(uint64_t *id, cw_error *err);

/* ---- texts ---- */

/* Bytes of the UTF-8 character at p, of which `left` > 0 bytes are there; 0: none. */
size_t cwi_utf8_length(const uint8_t *p, size_t left);
bool cwi_utf8_valid(const char *s, size_t n);
uint64_t cwi_hash_string(const char *s); /* FNV-1a, 64 bits */

/* ---- numbers ---- */

/* The largest magnitude; infinity when one is infinite or NaN; 0 of none. */
float cwi_peak(const float *x, size_t count);

/* ---- clock ---- */

double cwi_seconds(void);        /* monotonic */
double cwi_thread_seconds(void); /* of the processor, that this thread has used */

/* ---- CPU ---- */

typedef enum cwi_cpu { CWI_CPU_SCALAR, CWI_CPU_AVX2, CWI_CPU_AVX512, CWI_CPU_NEON } cwi_cpu;

/* The best variant this machine has (AVX512 means F, BW, VL, DQ, VBMI2, BITALG and VNNI; AVX2 means with BMI, BMI2,
 * POPCNT, FMA and F16C). */
cwi_cpu cwi_cpu_best(void);
bool cwi_cpu_has(cwi_cpu cpu);
/* What CUTWIRE_CPU asks for, else the best. Decided once. */
cwi_cpu cwi_cpu_selected(void);
bool cwi_cpu_missing(void); /* CUTWIRE_CPU named a variant that is unknown or that this machine lacks */
const char *cwi_cpu_name(cwi_cpu cpu);
int cwi_cpu_count(void); /* processors this process may run on */

/* ---- little-endian bytes ---- */

/* Unrolled, a constant number of bytes becomes one load or store. */
static inline void cwi_put_le(uint8_t *p, uint64_t v, unsigned bytes)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline uint64_t cwi_get_le(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `size` bytes; crc is 0 to begin, or the result so far to continue.
 * Uses the CPU's instruction where it has one. */
uint32_t cwi_crc32c(uint32_t crc, const void *data, size_t size);

#endif
