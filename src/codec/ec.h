/* ec.h - the parts of codec ec: what it knows of a tensor, and the choice of its step. Internal. */
#ifndef CWI_EC_H
#define CWI_EC_H

#include "codec/codec_impl.h"

enum {
    CWI_EC_BINS = CWI_HISTOGRAM_BINS, /* of 1/64 octave each, magnitudes 2^-16 .. 2^16 times the root mean square */
    CWI_EC_SAMPLE = 1 << 16,
};

/* Number, mean and sum of squares of magnitudes, in units of their segment's root mean square. */
typedef struct cwi_ec_stats {
    double count[CWI_EC_BINS], mean[CWI_EC_BINS], square[CWI_EC_BINS];
    size_t bins; /* that have anything: these come first, in their order */
    double count_to[CWI_EC_BINS + 1], sum_to[CWI_EC_BINS + 1], square_to[CWI_EC_BINS + 1]; /* of those before */
    double energy;                                                                         /* of all */
    bool doubtful; /* bins or sample may mislead: errors and means are to be confirmed on the tensor itself */
} cwi_ec_stats;

/* The root mean square of each segment into rms. False when there is a NaN or infinity. */
bool cwi_ec_measure(const cwi_source *s, const cwi_layout *l, double *rms, bool *is_signed);
/* Of all elements where there is one segment (in large tensors of some lines, where these tell of all), else of a
 * sample; for steps whose relative error is about `error`, or 0 where that is not known. `fast`: of some lines even
 * where these may not tell of all, which is doubtful then. */
void cwi_ec_sample(const cwi_source *s, const cwi_layout *l, const double *rms, double error, bool fast,
                   cwi_ec_stats *stats);
/* The same of some lines, whatever these hold: for a first idea of a step. One segment. */
void cwi_ec_sample_roughly(const cwi_source *s, const cwi_layout *l, const double *rms, cwi_ec_stats *stats);
/* Whether elements that are not nearly 0 are so common that a sample has many of them. */
bool cwi_ec_is_filled(const cwi_ec_stats *stats);
/* What an element of a segment counts, so that errors are of the tensor's whole energy: top (its rms / most)^2, which
 * is 1 on average over segments. */
void cwi_ec_weigh(const cwi_layout *l, const double *rms, double *most, double *top);
/* The relative 2-norm error (squared, as a part of 1) that step * rms makes, and where `level` is not NULL the mean
 * magnitude of symbols 0 .. 7 in steps. Stochastic: the expected error, and no means. */
double cwi_ec_error(const cwi_ec_stats *stats, double step, bool stochastic, float level[8]);
/* The same of the elements whose symbols are `first` or more alone. */
double cwi_ec_error_from(const cwi_ec_stats *stats, double step, bool stochastic, size_t first, float level[8]);
/* The largest step with at most that relative error. */
double cwi_ec_step_for(const cwi_ec_stats *stats, double error, bool stochastic);

#endif
