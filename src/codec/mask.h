/* mask.h - what ms, sp and rt share: a code for each element, and the values of those whose code is all ones. Internal.
 *
 * Body parts, one after the other:  marks of each segment | kept values of each segment
 * where the marks are the codes in bit planes, or (one bit, few kept) the indices of the kept elements, ascending.
 */
#ifndef CWI_MASK_H
#define CWI_MASK_H

#include "codec/codec_impl.h"
#include "codec/quantizer.h"
#include "codec/select.h"

/* How kept values travel; the index of the choice in CWI_VALUES_CHOICES. */
typedef enum cwi_values { CWI_VALUES_FP32, CWI_VALUES_BF16, CWI_VALUES_FP16 } cwi_values;
#define CWI_VALUES_CHOICES "fp32|bf16|fp16"
#define CWI_SCOPE_CHOICES  "tensor|sample"
enum { CWI_SCOPE_TENSOR, CWI_SCOPE_SAMPLE };

static inline size_t cwi_values_size(cwi_values values)
{
    return values == CWI_VALUES_FP32 ? 4 : 2;
}

/* What planes and values look like, for encoder and decoder alike. */
typedef struct cwi_mask {
    cwi_layout layout;
    size_t kept; /* in each segment */
    unsigned bits;
    bool is_signed;
    bool signed_zero;    /* whether code 0 has a sign, too: it stands for something */
    unsigned index_size; /* bytes of an index; 0: bit planes */
    cwi_values values;
} cwi_mask;

static inline unsigned cwi_mask_planes(const cwi_mask *m)
{
    return m->bits + m->is_signed;
}

/* Bytes of the marks of one segment, of the values of one segment, and of both for all; false on overflow. */
static inline size_t cwi_mask_marks_size(const cwi_mask *m)
{
    return m->index_size ? m->kept * m->index_size : cwi_planes_size(m->layout.length, cwi_mask_planes(m));
}
static inline size_t cwi_mask_values_size(const cwi_mask *m)
{
    return m->kept * cwi_values_size(m->values);
}
bool cwi_mask_size(const cwi_mask *m, size_t *size);

/* n floats to their form in the payload, and back; the latter is false when one is infinite or NaN. */
void cwi_values_put(const cwi_kernels *k, cwi_values values, const float *x, size_t n, uint8_t *out);
bool cwi_values_get(const cwi_kernels *k, cwi_values values, const uint8_t *in, size_t n, float *out);

/* ---- indices instead of planes ---- */

/* Bytes that an index into n elements takes. */
unsigned cwi_index_size(size_t n);
/* Marks of elements [first, first + n) of a segment, given as one plane: copied, or turned into indices. Returns where
 * the next ones go. first is a multiple of 8. */
uint8_t *cwi_marks_put(const cwi_mask *m, const uint8_t *plane, size_t first, size_t n, uint8_t *marks);

/* ---- encoding ---- */

/* Scratch for picking and encoding, carved from job->work. */
typedef struct cwi_mask_work {
    cwi_pick *picks;  /* one for each segment */
    uint32_t *keys;   /* for selection */
    uint64_t *block;  /* two numbers for each block; only with several threads on one segment */
    size_t keys_each; /* of one worker */
} cwi_mask_work;

size_t cwi_mask_work_size(const cwi_layout *layout, unsigned threads);
void cwi_mask_work_init(cwi_mask_work *w, const cwi_layout *layout, unsigned threads, uint8_t *memory);

/* Selects m->kept elements of each segment into w->picks. CW_ERR_NONFINITE. *any_negative: whether a number < 0 occurs.
 */
cw_status cwi_mask_pick(const cwi_encode_job *job, const cwi_layout *layout, size_t kept, cwi_mask_work *w,
                        bool *any_negative);

typedef struct cwi_mask_encoder {
    const cwi_encode_job *job;
    const cwi_mask *mask;
    const cwi_mask_work *work;
    cwi_rounding rounding;
    uint8_t *marks, *values;
} cwi_mask_encoder;

/* The quantizer of the codes of a segment with that pick. */
void cwi_mask_quant(const cwi_mask *m, cwi_rounding rounding, const cwi_pick *pick, cwi_quant *q);
/* The magnitude that code `steps` would stand for: that of the least kept value, or where nothing is kept the largest
 * of all, which then gets the largest code that is not all ones. Code c stands for c * limit / steps. */
float cwi_mask_limit(const cwi_mask *m, const cwi_pick *pick);
/* 2^bits - 1, or 2^bits - 2 when nothing is kept. */
unsigned cwi_mask_steps(const cwi_mask *m);

void cwi_mask_encode(const cwi_mask_encoder *e);

/* ---- decoding ---- */

typedef struct cwi_mask_decoder {
    const cwi_decode_job *job;
    const cwi_mask *mask;
    const uint8_t *marks, *values;
    /* Fills in the levels of a segment; not asked when there are indices: all but the kept elements are 0. */
    void (*levels)(const void *ctx, size_t segment, float *level);
    const void *ctx;
} cwi_mask_decoder;

/* CW_ERR_CORRUPT when the codes do not ask for exactly the values there are, one of these is infinite or NaN, or
 * indices do not ascend within the segment. */
cw_status cwi_mask_decode(const cwi_mask_decoder *d);

typedef enum cwi_trouble { CWI_FINE, CWI_NOT_FINITE, CWI_WRONG_COUNT, CWI_BAD_INDEX } cwi_trouble;
/* One segment of indices and values; what cwi_mask_decode calls. */
cwi_trouble cwi_indices_decode(const cwi_mask_decoder *d, size_t segment);

#endif
