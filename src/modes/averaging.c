/* averaging.c - how the vectors of several clients become one: mean, trimmed mean, median. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "modes/guard.h"

/* ---- ballots ---- */

cw_status cwi_ballot_open(cwi_ballot *b, size_t clients, size_t floats, cw_error *err)
{
    *b = (cwi_ballot){.clients = clients, .floats = floats};
    b->given = cwi_calloc(clients, sizeof *b->given);
    b->is_given = cwi_calloc(clients, sizeof *b->is_given);
    b->weight = cwi_calloc(clients, sizeof *b->weight);
    return b->given && b->is_given && b->weight ? CW_OK : cwi_fail_memory(err, clients * sizeof *b->given);
}

void cwi_ballot_close(cwi_ballot *b)
{
    for (size_t i = 0; b->given && i < b->clients; i++)
        cwi_free(b->given[i]);
    cwi_free(b->given);
    cwi_free(b->is_given);
    cwi_free(b->weight);
    memset(b, 0, sizeof *b);
}

void cwi_ballot_clear(cwi_ballot *b)
{
    memset(b->is_given, 0, b->clients * sizeof *b->is_given);
}

cw_status cwi_ballot_give(cwi_ballot *b, size_t client, const float *x, float scale, bool add, double weight,
                          cw_error *err)
{
    if (!b->given[client] && !(b->given[client] = cwi_alloc(b->floats, sizeof(float))))
        return cwi_fail_memory(err, b->floats * sizeof(float));
    cwi_average_add(b->given[client], x, b->floats, scale, !add || !b->is_given[client]);
    b->is_given[client] = true;
    b->weight[client] = weight;
    return CW_OK;
}

double cwi_ballot_norm(const cwi_ballot *b, size_t client)
{
    double sum = 0;
    for (size_t i = 0; i < b->floats; i++)
        sum += (double)b->given[client][i] * (double)b->given[client][i];
    return sqrt(sum);
}

/* ---- averages ---- */

static void average_mean(const float *const *rows, const double *weights, size_t count, size_t floats, float *out)
{
    double total = 0;
    for (size_t r = 0; r < count; r++)
        total += weights[r];
    for (size_t r = 0; r < count; r++)
        cwi_average_add(out, rows[r], floats, (float)(weights[r] / total), r == 0);
}

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Of each element: the mean of its values but for `cut` at either end. */
static void average_sorted(const float *const *rows, size_t count, size_t floats, size_t cut, float *out)
{
    float column[CWI_BALLOT_MOST];
    for (size_t i = 0; i < floats; i++) {
        double sum = 0;
        for (size_t r = 0; r < count; r++)
            column[r] = rows[r][i];
        qsort(column, count, sizeof *column, compare_floats);
        for (size_t r = cut; r < count - cut; r++)
            sum += (double)column[r];
        out[i] = (float)(sum / (double)(count - 2 * cut));
    }
}

/* A fifth at either end, at least one where that leaves any. */
static void average_trimmed(const float *const *rows, const double *weights, size_t count, size_t floats, float *out)
{
    const size_t fifth = CWI_MAX(count / 5, (size_t)1);
    (void)weights;
    average_sorted(rows, count, floats, count > 2 ? fifth : 0, out);
}

static void average_median(const float *const *rows, const double *weights, size_t count, size_t floats, float *out)
{
    (void)weights;
    average_sorted(rows, count, floats, (count - 1) / 2, out);
}

const cwi_averaging cwi_averagings[CWI_AVERAGINGS] = {
    {"mean", average_mean}, {"trimmed", average_trimmed}, {"median", average_median}};

/* ---- distances ---- */

static size_t sorted_column(const cwi_ballot *b, size_t i, float *column)
{
    size_t count = 0;
    for (size_t c = 0; c < b->clients; c++)
        if (b->is_given[c])
            column[count++] = b->given[c][i];
    qsort(column, count, sizeof *column, compare_floats);
    return count;
}

/* A few thousand elements tell as well as millions. What differs by less than a thousandth is as good as equal. */
void cwi_guard_note_distances(cwi_guard *g, cwi_trait trait, const cwi_ballot *b)
{
    enum { LOOKED_AT = 4096 };
    const double equal = 1e-3;
    float column[CWI_BALLOT_MOST];
    double away[CWI_BALLOT_MOST] = {0}, norm = 0;
    const size_t stride = CWI_MAX(b->floats / LOOKED_AT, (size_t)1);
    for (size_t i = 0; i < b->floats; i += stride) {
        const size_t count = sorted_column(b, i, column);
        if (count < 3)
            return;
        const double middle = (double)column[(count - 1) / 2];
        norm += middle * middle;
        for (size_t c = 0; c < b->clients; c++) {
            const double off = b->is_given[c] ? (double)b->given[c][i] - middle : 0;
            away[c] += off * off;
        }
    }
    for (size_t c = 0; c < b->clients; c++)
        if (b->is_given[c] && norm > 0)
            cwi_guard_note(g, trait, c, equal + sqrt(away[c] / norm));
}
