/* codec_impl.h - what the codecs share: families, jobs, sources and sinks, selection. Internal to src/codec. */
#ifndef CWI_CODEC_IMPL_H
#define CWI_CODEC_IMPL_H

#include "base/base.h"
#include "codec/kernels/kernels.h"
#include "cutwire/codec.h"

enum {
    CWI_VERSION = 2, /* the latest one */
    CWI_MAX_KEYS = 8,
    CWI_CHUNK = 4096,  /* elements converted at a time, on the stack */
    CWI_BLOCK = 65536, /* elements of one unit of work for a thread; a multiple of CWI_GROUP */
    CWI_MAX_THREADS = 64,
    CWI_MIN_CANDIDATES = 4096,
    CWI_DECODE_WORK = 8,
    CWI_CANDIDATE_SHARE = 64, /* one element in this many may be a candidate of selection: 1.6% of the input */
};

/* ---- keys of a spec (spec.c) ---- */

typedef enum cwi_key_type {
    CWI_KEY_REAL,   /* min <= value < max (<= when max_included); 8 bytes in a payload, IEEE double */
    CWI_KEY_INT,    /* min <= value <= max <= 255; 1 byte */
    CWI_KEY_CHOICE, /* index into choices; 1 byte */
    CWI_KEY_SEED,   /* any 64-bit unsigned number; 8 bytes */
} cwi_key_type;

typedef struct cwi_key {
    const char *name;
    cwi_key_type type;
    double min, max;
    const char *choices; /* "floor|nearest" */
    double standard;     /* value when the spec does not give it; for a choice its index */
} cwi_key;

typedef union cwi_value {
    double real;
    uint64_t whole; /* INT, CHOICE, SEED */
} cwi_value;

typedef struct cwi_family cwi_family;

struct cw_codec {
    const cwi_family *family;
    cwi_value value[CWI_MAX_KEYS];
    char spec[192];
};

/* Writes the canonical spec of (family, values). */
void cwi_spec_format(const cwi_family *family, const cwi_value *values, char *out, size_t size);
cw_status cwi_spec_parse(const char *spec, cw_codec *codec, cw_error *err);
/* The parameter block of a payload: every key in table order, or the first `keys` of them. */
size_t cwi_params_size(const cwi_family *family, size_t keys);
/* The same in few bytes, of payloads of version 2: which keys are not as they are by default, and what they are.
 * Returns the end. */
enum { CWI_PARAMS_MOST = 10 * CWI_MAX_KEYS };
uint8_t *cwi_params_put_short(const cwi_family *family, const cwi_value *values, uint8_t *out);
/* Of exactly `size` bytes, as cwi_params_get(). */
bool cwi_params_get_short(const cwi_family *family, const uint8_t *in, size_t size, cwi_value *values, size_t *bad_key);
/* Numbers of 7 bits a byte (payload.c); what is put has at most CWI_NUMBER_MOST bytes. NULL where none below 2^63 ends
 * before `end`, or one takes more bytes than it need. */
enum { CWI_NUMBER_MOST = 10 };
uint8_t *cwi_number_put(uint64_t v, uint8_t *out);
const uint8_t *cwi_number_get(const uint8_t *in, const uint8_t *end, uint64_t *v);
void cwi_params_put(const cwi_family *family, const cwi_value *values, uint8_t *out);
/* False and *bad_key when a value is out of range or not in its normal form. Keys from `keys` on get their standard
 * value. */
bool cwi_params_get(const cwi_family *family, size_t keys, const uint8_t *in, cwi_value *values, size_t *bad_key);

/* ---- how a tensor is cut up ---- */

/* With scope=sample each index of dimension 0 is coded by itself. A tensor without elements has no segments. */
typedef struct cwi_layout {
    size_t elements;
    size_t segments;
    size_t length; /* elements of a segment */
} cwi_layout;

cwi_layout cwi_layout_of(const cw_shape *shape, size_t elements, bool per_sample);

/* k = floor((1 - r) n), where a product that misses a whole number by rounding alone counts as that number. */
size_t cwi_kept(double r, size_t n);

/* ---- reading elements as floats, writing floats as elements (source.c) ---- */

typedef struct cwi_source {
    const cwi_kernels *kernels;
    cw_dtype dtype; /* CW_F32 or CW_BF16 */
    const uint8_t *data;
    const float *offset;    /* NULL, or what is subtracted from the elements of each channel */
    size_t channels, plane; /* with it */
} cwi_source;

/* How many elements at most may be asked for at once so that cwi_source_get can serve them. */
static inline size_t cwi_source_step(const cwi_source *s)
{
    return s->dtype == CW_F32 && !s->offset ? CWI_BLOCK : CWI_CHUNK;
}
/* Elements [first, first + n) as floats: in place, or converted into `chunk`. */
const float *cwi_source_get(const cwi_source *s, size_t first, size_t n, float *chunk);
/* As it lies, without an offset. */
float cwi_source_at(const cwi_source *s, size_t i);
/* Calls visit for successive pieces of [first, first + n); all but the last hold a multiple of CWI_GROUP elements. */
typedef void cwi_visit(void *ctx, const float *x, size_t n);
void cwi_source_each(const cwi_source *s, size_t first, size_t n, cwi_visit *visit, void *ctx);
/* CW_ERR_NONFINITE naming the first such element; call it only when there is one. */
cw_status cwi_source_nonfinite(const cwi_source *s, size_t n, cw_error *err);

typedef struct cwi_sink {
    const cwi_kernels *kernels;
    cw_dtype dtype;
    uint8_t *data;
} cwi_sink;

static inline size_t cwi_sink_step(const cwi_sink *s)
{
    return s->dtype == CW_F32 ? CWI_BLOCK : CWI_CHUNK;
}
/* Where to write elements [first, ...) as floats: in place, or `chunk`, which cwi_sink_put then stores. */
float *cwi_sink_at(const cwi_sink *s, size_t first, float *chunk);
void cwi_sink_put(const cwi_sink *s, size_t first, size_t n, const float *x);

/* Adds to n elements from `first` on, whose channels follow each other, what `offset` has for each of them; `out` may
 * be `x`. */
void cwi_add_offsets(const float *offset, size_t channels, size_t plane, size_t first, size_t n, float sign,
                     const float *x, float *out);

/* ---- threads (parallel.c) ---- */

typedef void cwi_task(void *ctx, unsigned worker, size_t index);
/* Runs task for each index < count, on at most `threads` threads of which the caller is one (worker 0); returns when
 * all are done. Which worker gets which index is not determined. Where threads cannot be had, fewer do the work. */
void cwi_parallel(unsigned threads, size_t count, cwi_task *task, void *ctx);

/* ---- one call of encode or decode ---- */

typedef struct cwi_encode_job {
    const cw_codec *codec;
    const cwi_kernels *kernels;
    cwi_source source;
    const cw_shape *shape;
    size_t elements;
    uint64_t seed;
    bool evaluate;
    const uint8_t *support; /* as in cw_encode_args */
    const cw_profile *profile;
    double larger;    /* of ec, how many times the error may be what is asked: it is a transform's; 0: no transform */
    unsigned threads; /* at least 1 */
    uint8_t *work;    /* family->work_size() bytes */
    uint8_t *body;    /* out */
    size_t capacity;  /* bytes at body */
    size_t header_size;
    size_t size;   /* result: bytes used */
    double wasted; /* result of ec: bits that a profile's tables take more than tables of its own would */
    cw_error *err;
} cwi_encode_job;

/* A short payload must not claim a huge tensor, or whoever allocates what it says is at its writer's mercy: zeros
 * follow a body that has more than this many elements for each byte. */
enum { CWI_MAX_CLAIM = 4096 };

static inline size_t cwi_padded(size_t body, size_t elements)
{
    return CWI_MAX(body, elements / CWI_MAX_CLAIM);
}

/* Sets job->size, or fails with CW_ERR_TOO_SMALL: every encoder calls it before it writes its body. */
cw_status cwi_reserve(cwi_encode_job *job, size_t size);

/* A payload's header, checked; `body` is not yet. */
typedef struct cwi_payload {
    const cwi_family *family;
    unsigned version;
    cwi_value value[CWI_MAX_KEYS];
    cw_dtype dtype;
    cw_shape shape;
    size_t elements;
    size_t header_size;
    const uint8_t *body; /* NULL where only sizes are asked for */
    size_t body_size;
    uint32_t checksum;
} cwi_payload;

typedef struct cwi_decode_job {
    const cwi_payload *payload;
    const cwi_kernels *kernels;
    cwi_sink sink;
    unsigned threads;
    uint8_t *work;          /* family->decode_work() bytes */
    const uint8_t *support; /* as in cw_decode_args */
    const cw_profile *profile;
    uint8_t *sent; /* likewise, or NULL; a family that writes it sets it to NULL */
    cw_error *err;
} cwi_decode_job;

/* With several threads CWI_DECODE_WORK bytes for each block, and for one more; else none. */
size_t cwi_decode_work_blocks(size_t elements, unsigned threads);

/* What sizes depend on. */
typedef struct cwi_input {
    const cwi_value *value;
    cw_dtype dtype;
    const cw_shape *shape;
    size_t elements;
    unsigned threads;
} cwi_input;

/* Keys of a family that its payloads hold. */
size_t cwi_payload_keys(const cwi_family *family);

struct cwi_family {
    cw_codec_family info;
    uint8_t id;             /* in payloads; never reused */
    cw_codec_traits traits; /* whatever the keys; what depends on them: */
    void (*refine_traits)(const cwi_value *values, cw_codec_traits *traits); /* NULL: nothing */
    const cwi_key *keys;
    size_t key_count;
    unsigned version;    /* of its payloads */
    size_t first_keys;   /* how many it had in version 1 */
    size_t payload_keys; /* how many are in payloads, or 0: all of them */
    /* Two real keys of which one at least has to be 0; twice the same one: none. */
    unsigned either, other;
    /* Brings values that can be written in several ways to one; may be NULL. */
    void (*normalize)(cwi_value *values);
    /* Greatest body of such a tensor into *size; false on overflow. */
    bool (*bound)(const cwi_input *in, size_t *size);
    size_t (*work_size)(const cwi_input *in); /* NULL: none */
    cw_status (*encode)(cwi_encode_job *job);
    /* Whether the body's length and fixed fields agree with shape and parameters; reads no more than they take. */
    cw_status (*check)(const cwi_payload *p, cw_error *err);
    cw_status (*decode)(cwi_decode_job *job); /* of a payload that passed check() */
    /* The hash of the profile that such a payload needs, or 0; NULL: none does. */
    uint64_t (*profile_of)(const cwi_payload *p);
    /* Scratch of decode; NULL: cwi_decode_work_blocks(). */
    size_t (*decode_work)(const cwi_payload *p, unsigned threads);
};

extern const cwi_family cwi_family_none, cwi_family_fp16, cwi_family_bf16, cwi_family_ms, cwi_family_sp, cwi_family_rt,
    cwi_family_qu, cwi_family_ec;

size_t cwi_family_count(void);
const cwi_family *cwi_family_at(size_t i);
const cwi_family *cwi_family_by_id(uint8_t id);

#endif
