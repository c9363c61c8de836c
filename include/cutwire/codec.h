/* cutwire/codec.h - compress the tensor at the cut, and get it back.
 *
 * A codec is named by a spec string, NAME[:key=value,...], e.g. "ms:r=0.99,b=2" (docs/reference/codecs.md lists
 * all). A payload describes itself (docs/formats/payload.md): decoding needs nothing but its bytes, and the support of
 * one that was encoded with a support.
 *
 *     cw_codec *codec;
 *     cw_codec_create("ms:r=0.99,b=2", &codec, &err);
 *     size_t cap = cw_codec_bound(codec, &x), size;
 *     cw_encode(codec, &x, NULL, buf, cap, &size, &err);
 *     cw_decode(buf, size, &y, NULL, &err);
 *
 * Elements are row-major (NCHW, NLC or NC); dimension 0 is the sample.
 * Thread-safety: a cw_codec is immutable; any number of threads may encode and decode with it at once.
 * Memory: the caller owns every buffer. Scratch comes from args->work when that is large enough, else it is allocated
 * and freed inside the call; on one thread it is at most cw_codec_work_size() bytes, on T threads at most T times that.
 * With a profile that has a transform, encoding and decoding allocate 8 bytes more for each element, and their scratch
 * anew.
 */
#ifndef CUTWIRE_CODEC_H
#define CUTWIRE_CODEC_H

#include "cutwire/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cw_codec cw_codec;

/* Parses `spec`. On failure *out is NULL and err names the offending part and lists what is allowed.
 * CW_ERR_SPEC, CW_ERR_INVALID (NULL arguments), CW_ERR_NO_MEMORY. */
cw_status cw_codec_create(const char *spec, cw_codec **out, cw_error *err);
/* NULL and pointer to NULL allowed; *codec becomes NULL. */
void cw_codec_destroy(cw_codec **codec);
/* The canonical spec with every key written out; lives as long as the codec. */
const char *cw_codec_spec(const cw_codec *codec);

/* What a codec promises, so that nobody looks into its spec for that. */
typedef struct cw_codec_traits {
    bool lossless;      /* fp32 comes back to the bit, but for a NaN's payload */
    bool keeps_zero;    /* of a tensor without negative elements, what is 0 comes back as 0, and decoding can tell where
                           (cw_decode_args.sent); not with a profile that has a transform */
    bool takes_support; /* makes use of cw_encode_args.support */
    bool unbiased;      /* what decodes is on average over seeds the input (cw_encode says how nearly) */
} cw_codec_traits;
cw_codec_traits cw_codec_get_traits(const cw_codec *codec);

/* The registry, for --help and documentation: 0 <= i < cw_codec_family_count(). Static storage. */
typedef struct cw_codec_family {
    const char *name;    /* "ms" */
    const char *summary; /* one line */
    const char *keys;    /* "r=[0,1) b=1..8 ..." ; "" when it has none */
} cw_codec_family;
size_t cw_codec_family_count(void);
const cw_codec_family *cw_codec_family_at(size_t i);

/* ---- profiles ---- */

/* What was learned of earlier tensors of one cut: weights, tables, levels and offsets, which a payload of ec then need
 * not carry. So a single sample costs about what one of a batch does. It may hold a transform of channels, too
 * (Karhunen-Loeve), whose outputs are coded in their place. Both ends need the same profile; a payload names it by its
 * hash. Immutable: any number of threads may use one at once. */
typedef struct cw_profile cw_profile;

/* From `size` bytes, which it keeps no pointer to, and which may be anybody's. On failure *out is NULL.
 * CW_ERR_TRUNCATED, CW_ERR_MAGIC, CW_ERR_VERSION, CW_ERR_CHECKSUM, CW_ERR_CORRUPT, CW_ERR_INVALID (NULL arguments),
 * CW_ERR_NO_MEMORY. */
cw_status cw_profile_create(const void *bytes, size_t size, cw_profile **out, cw_error *err);
/* Learns one of `count` tensors (CW_F32 or CW_BF16) whose shapes are the same but for dimension 0, of 2 to 5
 * dimensions, for an `ec` codec with err or step and round=nearest. A few hundred samples are enough, and it is for
 * those like them. It takes some 20 bytes of memory for each element. A transform is part of it where tensors have 2 to
 * 512 channels and several places, effort=best, scope=tensor, and one that is learned from three quarters of the
 * samples saves 3% of the others' bits; it takes up to channels^2 bytes. On failure *out is NULL. CW_ERR_INVALID
 * (another codec, tensors that do not go together), CW_ERR_NONFINITE, CW_ERR_NO_MEMORY. */
cw_status cw_profile_train(const cw_codec *codec, const cw_tensor *const *tensors, size_t count, cw_profile **out,
                           cw_error *err);
/* NULL and pointer to NULL allowed; *profile becomes NULL. */
void cw_profile_destroy(cw_profile **profile);
/* Its bytes, to keep or to send; they live as long as the profile. */
const void *cw_profile_bytes(const cw_profile *profile, size_t *size);
/* By which payloads name it; never 0. */
uint64_t cw_profile_hash(const cw_profile *profile);
/* How many outputs its transform of channels has; 0: it has no transform. */
size_t cw_profile_outputs(const cw_profile *profile);

/* Options of one encode call; zero-initialize, or pass NULL for all defaults. */
typedef struct cw_encode_args {
    uint64_t seed;    /* stream of stochastic codecs: same seed, same bytes */
    bool evaluate;    /* the deterministic form of codecs that sample while training (rt) */
    int threads;      /* 0 or 1: the calling thread only. The bytes never depend on it */
    void *work;       /* scratch, used when 64-byte aligned and large enough; or NULL */
    size_t work_size; /* bytes at work */
    /* NULL, or a byte for each element: where it is 0 the element is 0, and decoding, which gets the same bytes, knows
     * it; ec does not code such elements, other codecs make no use of it. */
    const uint8_t *support;
    /* NULL, or what was learned of tensors like this one: ec takes it where the payload gets shorter, which then
     * decodes with it alone. Of no use beside a support, nor to other codecs. */
    const cw_profile *profile;
} cw_encode_args;

typedef struct cw_decode_args {
    int threads;
    void *work;
    size_t work_size;
    uint8_t *sent; /* NULL, or room for a byte for each element: 0 where it decodes to 0, and with ec where its code is
                      0, which may decode to the small value that is expected there; else 1, as it always is where
                      the profile has a transform */
    const uint8_t *support;    /* the one that the payload was encoded with, or NULL: of no use to payloads without one,
                                  and with another one what decodes is nonsense */
    const cw_profile *profile; /* the one that the payload names, or NULL: of no use to payloads that name none */
} cw_decode_args;

/* Upper bound of the payload of a tensor of this dtype and shape; 0 when it cannot be encoded. */
size_t cw_codec_bound(const cw_codec *codec, const cw_tensor *in);
/* Scratch bytes cw_encode wants for such a tensor. */
size_t cw_codec_work_size(const cw_codec *codec, const cw_tensor *in);

/* Encodes `in` (CW_F32 or CW_BF16) into dst; *size is the payload's length. `in` is not changed;
 * dst must not overlap it. On failure dst's contents are undefined and *size is 0. With round=stochastic what decodes
 * is on average over seeds the input, but only nearly so for ec with bpe or bytes, whose step depends on the noise.
 * CW_ERR_NONFINITE (offset: first such element), CW_ERR_TOO_SMALL, CW_ERR_INVALID (a layout that the tensor cannot
 * have, too, or a profile beside round=stochastic), CW_ERR_MISMATCH (a profile of tensors of another shape),
 * CW_ERR_NO_MEMORY. */
cw_status cw_encode(const cw_codec *codec, const cw_tensor *in, const cw_encode_args *args, void *dst, size_t capacity,
                    size_t *size, cw_error *err);

/* What a payload says of itself, checked for consistency but for the checksum and the body. */
typedef struct cw_payload_info {
    char codec[192]; /* canonical spec of the codec that made it */
    cw_dtype dtype;  /* of the tensor that was encoded, and the default for decoding */
    cw_shape shape;
    size_t elements;
    size_t header_bytes; /* of payload_bytes */
    size_t payload_bytes;
    uint16_t version;  /* of the format: 2 of ec, 1 of other codecs, and of ec before */
    uint32_t checksum; /* CRC-32C as stored */
    uint64_t profile;  /* hash of the profile that decoding takes, or 0 */
} cw_payload_info;

/* CW_ERR_TRUNCATED, CW_ERR_MAGIC, CW_ERR_VERSION, CW_ERR_CORRUPT, CW_ERR_UNSUPPORTED; err->offset is the byte at fault.
 */
cw_status cw_payload_inspect(const void *src, size_t size, cw_payload_info *info, cw_error *err);

/* The most scratch that cw_decode wants, on any number of threads: 8 bytes for each 65536 elements, and none on one
 * thread; with entropy=ctx and ec about one byte and the codes' bits for each element, more in tensors of few samples,
 * and of ec as many as the tensor has and one more for each element where its layout is not NCHW
 * (docs/reference/codecs.md, "Memory"). */
size_t cw_decode_work_size(const cw_payload_info *info);

/* Decodes into out->data, which is the caller's and holds as many elements as the payload says: out->shape must equal
 * the payload's, out->dtype is CW_F32 (or the payload's own). Trusts nothing: whatever the bytes, it returns an
 * error or a tensor, without reading past src + size. On failure out->data is undefined.
 * The errors of cw_payload_inspect, CW_ERR_CHECKSUM, CW_ERR_MISMATCH (shape, dtype, no support where it takes one, no
 * profile or another one than it names),
 * CW_ERR_NO_MEMORY. */
cw_status cw_decode(const void *src, size_t size, cw_tensor *out, const cw_decode_args *args, cw_error *err);

/* Which kernels run here: "scalar", "avx2", "avx512" or "neon"; chosen once by CPU and the environment variable
 * CUTWIRE_CPU. An unknown or unavailable CUTWIRE_CPU falls back to scalar; cw_cpu_requested_missing() then says so. */
const char *cw_cpu_variant(void);
bool cw_cpu_requested_missing(void);

#ifdef __cplusplus
}
#endif
#endif
