/* ec_plan.h - one call of ec's encoder, and what its files do for each other. Internal. */
#ifndef CWI_EC_PLAN_H
#define CWI_EC_PLAN_H

#include "codec/codec_ec.h"
#include "codec/ec.h"

/* One call. */
typedef struct cwi_ec_encoding {
    cwi_encode_job *job; /* its elements, and their support, in the order in which they are coded */
    cwi_order_id order;
    cw_shape shape; /* as which they are coded */
    cwi_layout layout;
    bool is_signed, stochastic;
    const cw_profile *profile; /* or NULL */
    bool learns;               /* one: symbols are about a zero */
    bool fast;                 /* what takes long and saves little is left out */
    uint64_t noise;            /* key */
    double *rms;
    double loudest, loudest_weight; /* cwi_ec_weigh() */
    cwi_ec_stats *stats;
    size_t offsets; /* channels that have them, or 0 */
    int32_t *offset;
    float unit;
    double transformed; /* of the error that is asked, for a transform; 1 without one */
    double larger;      /* the same times the tensor's root mean square over what is left with offsets */
    bool may_be_about;  /* symbols about a zero, where they pay */
    double lean;        /* towards them: cwi_about_choose() */
    uint32_t *bins;
    cwi_ctx_encoder ctx;
    uint8_t *symbols;
    size_t cap; /* bytes that the body may have */
    /* of the present step: */
    double step;        /* of the root mean square; infinite: all elements become 0 */
    double fitted;      /* the one that the contexts' weights were chosen for */
    cwi_ec_quant first; /* of the first segment, which mostly is the only one */
    bool about;         /* symbols are about a zero */
    unsigned zero, fitted_zero;
    cwi_about_tails tails;
    cwi_about_levels own; /* with those */
    float level[CWI_EC_EXACT];
    unsigned levels; /* sent */
    bool classes;    /* whether each class of contexts has levels of its own */
    double error;    /* with those: the relative error (squared) */
    cwi_ec_tally tally;
} cwi_ec_encoding;

/* ---- all (ec_encode.c) ---- */

/* False when there is a NaN or infinity. */
bool cwi_ec_begin(cwi_ec_encoding *e, cwi_encode_job *job, cwi_order_id id, const cw_shape *shape);
/* Those of the present plan's payload. */
unsigned cwi_ec_flags(const cwi_ec_encoding *e);
/* Plans what is asked for, with offsets or without, and returns its step. */
double cwi_ec_plan_asked(cwi_ec_encoding *e);

/* In one order, with the job's profile if it has one; or nothing is written, and *bits are about what an element would
 * take. */
cw_status cwi_ec_encode_as(cwi_encode_job *job, cwi_order_id id);
cw_status cwi_ec_bits_as(cwi_encode_job *job, cwi_order_id id, double *bits);
/* Of a tensor without elements. */
cw_status cwi_ec_encode_nothing(cwi_encode_job *job);
/* Whether a size is asked for, and no error or step. */
bool cwi_ec_is_sized_alone(const cwi_encode_job *job);

/* ---- by way of a transform (ec_klt.c) ---- */

/* `n` elements as floats, in an order; `spare` has room for as many. */
void cwi_ec_floats(const cwi_source *s, size_t n, const cwi_order *order, float *spare, float *out);
/* With the profile's transform and tables, in memory of its own. CW_ERR_TOO_SMALL: they are of no use here. */
cw_status cwi_ec_encode_transformed(cwi_encode_job *job);

/* ---- symbols (ec_quantize.c) ---- */

/* The step of a segment, in units of the tensor. */
float cwi_ec_step_of(const cwi_ec_encoding *e, size_t segment);
void cwi_ec_set_step(cwi_ec_encoding *e, double step);
size_t cwi_ec_segment_of(const cwi_ec_encoding *e, size_t element);
cwi_ec_quant cwi_ec_quant_of(const cwi_ec_encoding *e, size_t segment);
cwi_quant cwi_ec_about_quant(const cwi_ec_encoding *e, const cwi_ec_quant *q);
/* `n` elements from `first` on, to `symbols`. */
void cwi_ec_quantize(cwi_ec_encoding *e, size_t first, size_t n, uint8_t *symbols);
/* All of them at another step, with what the contexts' encoder is to know. */
void cwi_ec_quantize_all(cwi_ec_encoding *e, double step);
/* About a zero, of one segment: the sum of the squares of how far elements but tails lie from the middles of their
 * steps, in squares of 1/CWI_EC_SPREAD. */
uint64_t cwi_ec_spread_of(const cwi_ec_encoding *e);
/* What was counted of symbols. */
void cwi_ec_forget(cwi_ec_encoding *e);
/* Bytes behind the symbols. */
size_t cwi_ec_rest(const cwi_ec_encoding *e);
/* The step, or the first of ever finer ones that keeps the error. */
double cwi_ec_confirmed(cwi_ec_encoding *e, double step, double error);
void cwi_ec_set_levels(cwi_ec_encoding *e);

/* ---- levels (ec_levels.c) ---- */

/* A cwi_ctx_magnitudes of a cwi_ec_encoding. */
unsigned cwi_ec_magnitudes(const void *of, size_t first, size_t stride, size_t n, uint16_t *out);
/* A cwi_ctx_expected, likewise. */
void cwi_ec_expected(const void *of, size_t first, const size_t *row, size_t rows, size_t width, int8_t *out);
/* Which levels the plan at hand should have, and which error it has then. `tried`: on a part alone. */
void cwi_ec_weigh_levels(cwi_ec_encoding *e, bool tried);
uint8_t cwi_ec_class_level(const cwi_ec_encoding *e, unsigned class, unsigned symbol);

/* ---- steps (ec_step.c) ---- */

/* Bytes before the symbols. */
size_t cwi_ec_head(const cwi_ec_encoding *e);
/* About the bytes of the body. */
size_t cwi_ec_plan(cwi_ec_encoding *e, double step);
/* The step for the bytes there are, planned. */
double cwi_ec_fit(cwi_ec_encoding *e, double step, bool freely);
/* Whether anything is asked of the magnitudes' distribution: an error, or the levels. */
bool cwi_ec_wants_stats(const cwi_ec_encoding *e);
/* The step for an error, planned; `plain` is the one without levels of classes. `planned`: it has a plan already, which
 * tells about where to look. */
double cwi_ec_plan_for_error(cwi_ec_encoding *e, double error, double plain, bool planned);
/* The relative error of the present plan. */
double cwi_ec_planned_error(const cwi_ec_encoding *e);
/* About the relative error, where it is known before. */
double cwi_ec_expected_error(const cwi_value *v);
/* The relative error that the elements coded may have, less than 1; and whether they may all be 0. */
double cwi_ec_asked_error(const cwi_ec_encoding *e);
bool cwi_ec_asks_nothing(const cwi_ec_encoding *e);
double cwi_ec_first_step(cwi_ec_encoding *e, bool *freely);

#endif
