/* ctx_regression.h - least squares, by which symbols are predicted from their neighbours and from earlier channels.
 * Internal.
 *
 * Variables are chosen one by one; of the others only what is left of their squares, and of their products with the
 * target, is kept at hand (the rows of a Cholesky factor, made as they are asked for). */
#ifndef CWI_CTX_REGRESSION_H
#define CWI_CTX_REGRESSION_H

#include <math.h>

#include "codec/ctx.h"

enum {
    CWI_CTX_SHORTLIST = 2 * CWI_CTX_REFS, /* earlier channels that are looked at closely */
    CWI_CTX_NUMBER_BITS = 8,              /* about what a weight takes */
    /* variables: */
    CWI_VAR_ONE = 0,
    CWI_VAR_NEAR = 1, /* left, up, upper left, upper right */
    CWI_VAR_TARGET = CWI_VAR_NEAR + CWI_CTX_NEAR,
    CWI_VAR_FIRST, /* of the shortlist */
    CWI_VARS = CWI_VAR_FIRST + CWI_CTX_SHORTLIST,
};

/* Sums of products of the variables; both halves. */
typedef double cwi_var_near_moments[CWI_VAR_FIRST][CWI_VAR_FIRST];
typedef double cwi_var_moments[CWI_VARS][CWI_VARS];

/* What of a prediction a context is. */
typedef struct cwi_ctx_view {
    double scale; /* what a weight of 1 is in whole numbers */
    double low;   /* the prediction at which contexts begin */
} cwi_ctx_view;

typedef struct cwi_regression {
    double (*m)[CWI_VARS]; /* symmetric */
    unsigned variables;    /* that it has */
    unsigned count, chosen[1 + CWI_CTX_WEIGHTS];
    bool known[CWI_VARS]; /* those that are chosen */
    double n;
    double square[CWI_VARS], foretold[CWI_VARS]; /* what is left of each one's square and product with the target */
    double row[1 + CWI_CTX_WEIGHTS][CWI_VARS];   /* of a chosen one its products with all, as they were then */
} cwi_regression;

/* Adds those of the neighbours. */
void cwi_var_moments_add(cwi_var_moments to, const cwi_var_near_moments m);
void cwi_var_near_moments_add(cwi_var_near_moments to, const cwi_var_moments m);

/* None is chosen yet. `m` is used by what follows. */
void cwi_regression_set_up(cwi_regression *r, cwi_var_moments m, double n, unsigned variables);
void cwi_regression_choose(cwi_regression *r, unsigned v);
void cwi_regression_choose_near(cwi_regression *r);
/* Of the target, for each element. */
double cwi_regression_error(const cwi_regression *r);
/* Of the chosen variables, in their order. */
void cwi_regression_weights(const cwi_regression *r, double weight[1 + CWI_CTX_WEIGHTS]);
/* The same as a set; `channels` are those of the shortlist, `zero` is the tables'. */
void cwi_regression_put(const cwi_regression *r, const cwi_ctx_view *view, unsigned zero, const size_t *channels,
                        cwi_ctx_set *set);

/* To the nearest whole number of at most this magnitude. */
static inline int16_t cwi_ctx_whole(double v, int most)
{
    return (int16_t)CWI_MAX(CWI_MIN(floor(v + 0.5), (double)most), (double)-most);
}

#endif
