/* codec_sp.c - `sp`: the k elements of largest magnitude, everything else zero (sparse.c has the body). */
#include "codec/sparse.h"

enum { KEY_R, KEY_VALUES, KEY_SCOPE, KEY_COUNT };

static const cwi_key keys[KEY_COUNT] = {
    [KEY_R] = CWI_SPARSE_KEY_R,
    [KEY_VALUES] = {.name = "values", .type = CWI_KEY_CHOICE, .choices = CWI_VALUES_CHOICES},
    [KEY_SCOPE] = {.name = "scope", .type = CWI_KEY_CHOICE, .choices = CWI_SCOPE_CHOICES},
};

static cwi_mask describe(const cwi_value *v, const cw_shape *shape, size_t elements)
{
    return cwi_sparse_mask(v[KEY_R].real, (cwi_values)v[KEY_VALUES].whole, v[KEY_SCOPE].whole == CWI_SCOPE_SAMPLE,
                           shape, elements);
}

static bool bound(const cwi_input *in, size_t *size)
{
    cwi_mask m = describe(in->value, in->shape, in->elements);
    return cwi_sparse_bound(&m, size);
}

static size_t work_size(const cwi_input *in)
{
    cwi_mask m = describe(in->value, in->shape, in->elements);
    return cwi_mask_work_size(&m.layout, in->threads);
}

static cw_status encode(cwi_encode_job *job)
{
    cwi_mask m = describe(job->codec->value, job->shape, job->elements);
    return cwi_sparse_encode_largest(job, &m);
}

static cw_status check(const cwi_payload *p, cw_error *err)
{
    return cwi_sparse_check(p, describe(p->value, &p->shape, p->elements), err);
}

static cw_status decode(cwi_decode_job *job)
{
    const cwi_payload *p = job->payload;
    return cwi_sparse_decode(job, describe(p->value, &p->shape, p->elements));
}

const cwi_family cwi_family_sp = {
    .info = {.name = "sp",
             .summary = "top-k sparsification: the largest values exactly, zero for every other",
             .keys = "r=[0,1) values=" CWI_VALUES_CHOICES " scope=" CWI_SCOPE_CHOICES},
    .id = 5,
    .version = 1,
    .traits = {.keeps_zero = true},
    .keys = keys,
    .key_count = KEY_COUNT,
    .bound = bound,
    .work_size = work_size,
    .encode = encode,
    .check = check,
    .decode = decode,
};
