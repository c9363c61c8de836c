/* ec_choose.c - the encoder of ec: in which order, and with a profile or without, a payload is shortest. */
#include <math.h>
#include <string.h>

#include "codec/ec_plan.h"
#include "codec/mask.h"
#include "codec/profile.h"

/* ---- orders ---- */

/* Bands so thin that what is lost at their edges may be more than what they gain. */
static bool has_thin_bands(const cwi_encode_job *job, cwi_order_id id)
{
    enum { ROWS = 3, MOST = 1 << 17 };
    cwi_order order;
    return id.bands > 0 && job->elements <= MOST && cwi_ec_order(job->codec->value, id, job->shape, &order) &&
           order.shape.dim[2] <= ROWS;
}

/* Orders of which the one whose payload is shortest is taken. */
typedef struct trials {
    size_t count;
    cwi_order_id order[2 * CWI_ORDER_GUESSES];
} trials;

/* Where samples are few, channels that foretell each other nearly always take less. */
static void add_trial(const cwi_encode_job *job, cwi_order_id id, bool tries, trials *t)
{
    cwi_order_id few = {.name = id.name, .width = id.width};
    const bool per_sample = job->codec->value[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE;
    const bool found = cwi_order_for_few(&few, job->shape, job->elements, per_sample);
    if (!found || (tries && has_thin_bands(job, few)))
        t->order[t->count++] = id;
    if (found)
        t->order[t->count++] = few;
}

/* Features side by side, or one sample after the other. */
static void add_features(const cwi_encode_job *job, cwi_order_id beside, bool tries, trials *t)
{
    add_trial(job, (cwi_order_id){.name = CWI_ORDER_NCHW}, tries, t);
    if (t->order[0].narrow && (job->shape->dim[0] == 1 || job->elements < CWI_CTX_FITTED))
        return;
    t->count = tries ? t->count : 0;
    add_trial(job, beside, tries, t);
}

static void list_trials(const cwi_encode_job *job, trials *t)
{
    enum { MOST = 1 << 20 }; /* elements, above which it takes too long to try what is in doubt */
    const cwi_value *v = job->codec->value;
    const cwi_order_name asked = (cwi_order_name)v[CWI_EC_LAYOUT].whole;
    const bool tries = !cwi_ec_is_sized_alone(job) && !v[CWI_EC_EFFORT].whole;
    const bool per_sample = v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE;
    const size_t most = tries && job->elements <= MOST ? CWI_ORDER_GUESSES : 1;
    cwi_order_id id[CWI_ORDER_GUESSES];
    const size_t count = cwi_order_guess(asked, &job->source, job->shape, job->elements, per_sample, most, id);
    t->count = 0;
    if (asked == CWI_ORDER_AUTO && id[0].name == CWI_ORDER_NC && job->shape->ndim == 2) {
        add_features(job, id[0], tries, t);
        return;
    }
    for (size_t i = 0; i < count; i++)
        add_trial(job, id[i], tries, t);
}

/* Few elements are tried by making all payloads, others by plans. */
static cw_status encode_shortest(cwi_encode_job *job, const trials *t)
{
    enum { FEW = 1 << 18 };
    const bool made = job->elements <= FEW;
    double least = INFINITY;
    size_t best = 0;
    cw_status status = CW_OK;
    for (size_t i = 0; i < t->count; i++) {
        double bits;
        const cw_status one = made ? cwi_ec_encode_as(job, t->order[i]) : cwi_ec_bits_as(job, t->order[i], &bits);
        if (one != CW_OK) {
            status = one;
            continue;
        }
        bits = made ? (double)job->size : bits;
        best = bits < least ? i : best;
        least = CWI_MIN(least, bits);
    }
    if (isinf(least) && status != CW_OK)
        return status;
    return made && best == t->count - 1 ? CW_OK : cwi_ec_encode_as(job, t->order[best]);
}

/* Without a profile. */
static cw_status encode_alone(cwi_encode_job *job)
{
    trials t;
    list_trials(job, &t);
    return t.count == 1 ? cwi_ec_encode_as(job, t.order[0]) : encode_shortest(job, &t);
}

/* ---- profiles ---- */

/* Whether it took about what was to be expected. A sample that takes much less is another kind of sample, of which
 * contexts of its own may make even less. */
static bool took_as_learned(const cwi_encode_job *job)
{
    enum { FIXED = CWI_EC_PREFIX_MOST + 12 };
    const double learned = job->profile->bits * (double)job->elements / 8, least = 0.9, most = 1.25;
    return (double)job->size >= least * learned && (double)job->size <= most * learned + FIXED;
}

/* Whether tables of its own would save so little that they would not pay, nor would all else that a payload without a
 * profile has to say. Long ones have room for weights of their own, too. */
static bool is_short(const cwi_encode_job *job)
{
    enum { SHORT = 1 << 12 };
    const double part = 0.04, bits = 320;
    return job->size < SHORT && job->wasted < part * 8 * (double)job->size + bits;
}

/* Whether nothing else need be tried. */
static bool suits(const cwi_encode_job *job)
{
    return is_short(job) || (job->codec->value[CWI_EC_EFFORT].whole && took_as_learned(job));
}

/* With the profile's tables. */
static cw_status encode_as_learned(cwi_encode_job *job)
{
    cwi_order_id id = job->profile->order;
    if (cwi_profile_transforms(job->profile))
        return cwi_ec_encode_transformed(job);
    cwi_order_for_few(&id, job->shape, job->elements, job->codec->value[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE);
    return cwi_ec_encode_as(job, id);
}

static cw_status encode_without_profile(cwi_encode_job *job)
{
    cwi_encode_job alone = *job;
    alone.profile = NULL;
    CWI_TRY(encode_alone(&alone));
    job->size = alone.size;
    return CW_OK;
}

/* Without it; and back to the payload with it, where that is shorter. */
static cw_status encode_if_shorter(cwi_encode_job *job)
{
    const size_t size = job->size;
    uint8_t *learned = cwi_alloc(size, 1);
    if (!learned)
        return cwi_fail_memory(job->err, size);
    memcpy(learned, job->body, size);
    if (encode_without_profile(job) != CW_OK || job->size > size) {
        memcpy(job->body, learned, size);
        job->size = size;
    }
    cwi_free(learned);
    return CW_OK;
}

/* With a profile or without, whatever is shorter: the latter is tried where the former may not suit. */
static cw_status encode_by_profile(cwi_encode_job *job)
{
    const cw_status status = encode_as_learned(job);
    if (status == CW_OK)
        return suits(job) ? CW_OK : encode_if_shorter(job);
    return status == CW_ERR_TOO_SMALL ? encode_without_profile(job) : status;
}

cw_status cwi_ec_encode(cwi_encode_job *job)
{
    const cw_profile *profile = job->profile;
    if (profile && job->codec->value[CWI_EC_ROUND].whole)
        return cwi_fail(job->err, CW_ERR_INVALID, "codec %s: a profile goes with round=nearest alone",
                        cw_codec_spec(job->codec));
    if (profile && !cwi_profile_fits(profile, job->shape)) {
        char has[100], wants[100];
        return cwi_fail(job->err, CW_ERR_MISMATCH,
                        "the tensor is %s, profile %016llx was learned from ones like %s: but for the first dimension "
                        "they are the same",
                        cw_shape_format(job->shape, has, sizeof has), (unsigned long long)profile->hash,
                        cw_shape_format(&profile->shape, wants, sizeof wants));
    }
    if (job->elements == 0)
        return cwi_ec_encode_nothing(job);
    return profile && !job->support ? encode_by_profile(job) : encode_alone(job);
}
