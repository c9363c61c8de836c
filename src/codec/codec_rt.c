/* codec_rt.c - `rt`: randomized top-k (Zheng et al., IJCAI 2023, arXiv 2305.18469); sparse.c has the body.
 *
 * From each sample k elements are drawn one after the other without replacement, each of the k largest with weight
 * (1 - alpha) / k and each of the others with weight alpha / (d - k). When evaluating, the k largest are kept.
 *
 * Elements of one class are exchangeable, so it is enough to draw how many of the k come from the others (a walk of k
 * steps), and then as many of each class at random, in one pass in element order (Knuth's algorithm S). */
#include <string.h>

#include "codec/sparse.h"

enum { KEY_R, KEY_ALPHA, KEY_VALUES, KEY_SEED, KEY_COUNT };

static const cwi_key keys[KEY_COUNT] = {
    [KEY_R] = CWI_SPARSE_KEY_R,
    [KEY_ALPHA] = {.name = "alpha", .type = CWI_KEY_REAL, .min = 0, .max = 100, .standard = 0.1},
    [KEY_VALUES] = {.name = "values", .type = CWI_KEY_CHOICE, .choices = CWI_VALUES_CHOICES},
    [KEY_SEED] = {.name = "seed", .type = CWI_KEY_SEED},
};

/* alpha is a share; from 1 on it is taken as per cent. */
static void normalize(cwi_value *v)
{
    if (v[KEY_ALPHA].real >= 1.0)
        v[KEY_ALPHA].real /= 100.0;
}

static cwi_mask describe(const cwi_value *v, const cw_shape *shape, size_t elements)
{
    return cwi_sparse_mask(v[KEY_R].real, (cwi_values)v[KEY_VALUES].whole, true, shape, elements);
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

/* How many of k draws fall on the d - k elements that are not among the largest. */
static size_t draw_others(cwi_rng *rng, size_t d, size_t k, double alpha)
{
    const size_t others = d - k;
    if (others == 0 || k == 0)
        return 0;
    const double top_weight = (1.0 - alpha) / (double)k, other_weight = alpha / (double)others;
    size_t drawn = 0;
    for (size_t i = 0; i < k; i++) {
        double other = other_weight * (double)(others - drawn), top = top_weight * (double)(k - (i - drawn));
        drawn += drawn < others && cwi_rng_double(rng) * (other + top) < other;
    }
    return drawn;
}

/* Choosing `need` of the `left` elements of a class that are still to come. */
typedef struct lot {
    uint64_t left, need;
} lot;

static bool lot_take(lot *l, uint32_t noise)
{
    bool take = ((uint64_t)noise * l->left >> 32) < l->need;
    l->left--;
    l->need -= take;
    return take;
}

typedef struct drawing {
    cwi_encode_job *job;
    const cwi_mask *mask;
    const cwi_mask_work *work;
    uint8_t *marks, *values;
} drawing;

/* State of the pass over one sample. */
typedef struct pass {
    uint32_t threshold;
    uint64_t ties; /* still to be counted among the largest */
    lot top, other;
    uint64_t key;
} pass;

/* Marks the chosen of n elements in `plane` and copies them to kept; returns how many they are. */
static size_t draw_chunk(pass *p, const float *x, size_t first, size_t n, uint8_t *plane, float *kept)
{
    size_t count = 0;
    memset(plane, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        uint32_t key;
        memcpy(&key, &x[i], sizeof key);
        key &= UINT32_C(0x7fffffff);
        bool top = key > p->threshold;
        if (key == p->threshold && p->ties) {
            top = true;
            p->ties--;
        }
        if (lot_take(top ? &p->top : &p->other, cwi_noise_bits(p->key, first + i))) {
            plane[i / 8] |= (uint8_t)(1u << i % 8);
            kept[count++] = x[i];
        }
    }
    return count;
}

static void draw_sample(void *ctx, unsigned worker, size_t sample)
{
    (void)worker;
    const drawing *d = ctx;
    const cwi_mask *m = d->mask;
    const cwi_value *v = d->job->codec->value;
    const size_t length = m->layout.length;
    const cwi_pick *pick = &d->work->picks[sample];
    cwi_rng rng = cwi_rng_make(d->job->seed, CWI_STREAM_CODEC, v[KEY_SEED].whole, sample);
    const size_t others = draw_others(&rng, length, m->kept, v[KEY_ALPHA].real);
    pass p = {.threshold = pick->threshold, .ties = pick->ties, .key = cwi_rng_u64(&rng)};
    p.top = (lot){.left = m->kept, .need = m->kept - others};
    p.other = (lot){.left = length - m->kept, .need = others};
    uint8_t *marks = d->marks + sample * cwi_mask_marks_size(m);
    uint8_t *values = d->values + sample * cwi_mask_values_size(m);
    float chunk[CWI_CHUNK], kept[CWI_CHUNK];
    uint8_t plane[CWI_CHUNK / 8];
    for (size_t done = 0; done < length; done += CWI_CHUNK) {
        size_t n = CWI_MIN((size_t)CWI_CHUNK, length - done);
        const float *x = cwi_source_get(&d->job->source, sample * length + done, n, chunk);
        size_t count = draw_chunk(&p, x, done, n, plane, kept);
        marks = cwi_marks_put(m, plane, done, n, marks);
        cwi_values_put(d->job->kernels, m->values, kept, count, values);
        values += count * cwi_values_size(m->values);
    }
}

static cw_status encode(cwi_encode_job *job)
{
    cwi_mask m = describe(job->codec->value, job->shape, job->elements);
    if (job->evaluate || job->elements == 0)
        return cwi_sparse_encode_largest(job, &m);
    cwi_mask_work work;
    bool any_negative;
    drawing d = {.job = job, .mask = &m, .work = &work};
    CWI_TRY(cwi_sparse_begin(job, &m, &d.marks, &d.values));
    cwi_mask_work_init(&work, &m.layout, job->threads, job->work);
    CWI_TRY(cwi_mask_pick(job, &m.layout, m.kept, &work, &any_negative));
    cwi_parallel(job->threads, m.layout.segments, draw_sample, &d);
    return CW_OK;
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

const cwi_family cwi_family_rt = {
    .info = {.name = "rt",
             .summary = "randomized top-k: k values of each sample, most of them the largest, drawn at random",
             .keys = "r=[0,1) alpha=[0,100) values=" CWI_VALUES_CHOICES " seed=N"},
    .id = 6,
    .version = 1,
    .traits = {.keeps_zero = true},
    .keys = keys,
    .key_count = KEY_COUNT,
    .normalize = normalize,
    .bound = bound,
    .work_size = work_size,
    .encode = encode,
    .check = check,
    .decode = decode,
};
