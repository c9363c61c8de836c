/* ctx_regression.c - see ctx_regression.h. */
#include <string.h>

#include "codec/ctx_regression.h"

void cwi_var_moments_add(cwi_var_moments to, const cwi_var_near_moments m)
{
    for (unsigned a = 0; a < CWI_VAR_FIRST; a++)
        for (unsigned b = 0; b < CWI_VAR_FIRST; b++)
            to[a][b] += m[a][b];
}

void cwi_var_near_moments_add(cwi_var_near_moments to, const cwi_var_moments m)
{
    for (unsigned a = 0; a < CWI_VAR_FIRST; a++)
        for (unsigned b = 0; b < CWI_VAR_FIRST; b++)
            to[a][b] += m[a][b];
}

void cwi_regression_set_up(cwi_regression *r, cwi_var_moments m, double n, unsigned variables)
{
    r->m = m;
    r->variables = variables;
    r->count = 0;
    r->n = n;
    memset(r->known, 0, sizeof r->known);
    for (unsigned i = 0; i < variables; i++) {
        r->square[i] = m[i][i] + (i == CWI_VAR_TARGET ? 0 : 1e-4 * m[i][i] + 1e-2);
        r->foretold[i] = m[CWI_VAR_TARGET][i];
    }
}

static void subtract(double *restrict from, double part, const double *restrict row, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        from[i] -= part * row[i];
}

void cwi_regression_choose(cwi_regression *r, unsigned v)
{
    double *row = r->row[r->count];
    memcpy(row, r->m[v], r->variables * sizeof *row);
    for (unsigned i = 0; i < r->count; i++)
        subtract(row, r->row[i][v] / r->row[i][r->chosen[i]], r->row[i], r->variables);
    row[v] = r->square[v];
    subtract(r->foretold, row[CWI_VAR_TARGET] / row[v], row, r->variables);
    for (unsigned i = 0; i < r->variables; i++)
        r->square[i] -= row[i] * row[i] / row[v];
    r->chosen[r->count++] = v;
    r->known[v] = true;
}

void cwi_regression_choose_near(cwi_regression *r)
{
    for (unsigned v = 0; v < CWI_VAR_TARGET; v++)
        cwi_regression_choose(r, v);
}

double cwi_regression_error(const cwi_regression *r)
{
    return CWI_MAX(r->square[CWI_VAR_TARGET], 0.0) / r->n;
}

void cwi_regression_weights(const cwi_regression *r, double weight[1 + CWI_CTX_WEIGHTS])
{
    for (unsigned i = r->count; i-- > 0;) {
        const double *row = r->row[i];
        weight[i] = row[CWI_VAR_TARGET];
        for (unsigned j = i + 1; j < r->count; j++)
            weight[i] -= row[r->chosen[j]] * weight[j];
        weight[i] /= row[r->chosen[i]];
    }
}

void cwi_regression_put(const cwi_regression *r, const cwi_ctx_view *view, unsigned zero, const size_t *channels,
                        cwi_ctx_set *set)
{
    double weight[1 + CWI_CTX_WEIGHTS], bias = -view->low * view->scale;
    cwi_regression_weights(r, weight);
    memset(set, 0, sizeof *set);
    for (unsigned i = 0; i < r->count; i++) {
        const unsigned v = r->chosen[i];
        const double w = weight[i] * view->scale;
        if (v == CWI_VAR_ONE) {
            bias += w;
            continue;
        }
        const int16_t rounded_to = cwi_ctx_whole(w, CWI_CTX_WEIGHT_MOST);
        bias += (w - rounded_to) * zero;
        if (v < CWI_VAR_TARGET) {
            set->weight[v - CWI_VAR_NEAR] = rounded_to;
        } else {
            set->weight[CWI_CTX_NEAR + set->refs] = rounded_to;
            set->ref[set->refs++] = (uint16_t)channels[v - CWI_VAR_FIRST];
        }
    }
    set->bias = cwi_ctx_whole(bias, CWI_CTX_BIAS_MOST);
}
