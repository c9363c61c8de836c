/* guard.c - see guard.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "modes/guard.h"

/* A client is far when it stands so many spreads above the median of all; a spread is the median absolute deviation, as
 * a standard deviation, but no less than LEAST: clients that are alike differ by some percent by chance. */
static const double FAR = 6, LEAST = 0.08, NORMAL = 1.4826;
/* And no more than this, where the others differ much: 400 times the median, or of a distance 20 times, is far. */
static const double most_spread[CWI_TRAITS] = {1, 1, 1, 0.5, 0.5};
/* Weight of a step in what is smoothed. */
static const double NEW = 0.1;

static const char *const screen_names[] = {"off", "warn", "drop"};

static cw_status find_averaging(const cw_config *config, const cwi_averaging **averaging, cw_error *err)
{
    const char *names[CWI_AVERAGINGS];
    size_t i;
    for (i = 0; i < CWI_AVERAGINGS; i++)
        names[i] = cwi_averagings[i].name;
    CWI_TRY(cwi_name_find("average", config->average, names, CWI_AVERAGINGS, &i, err));
    *averaging = &cwi_averagings[i];
    return CW_OK;
}

static cw_status find_screening(const cw_config *config, cwi_screening *screen, cw_error *err)
{
    size_t i;
    CWI_TRY(cwi_name_find("screen", config->screen, screen_names, CWI_COUNT(screen_names), &i, err));
    *screen = (cwi_screening)i;
    return CW_OK;
}

cw_status cwi_guard_check(const cw_config *config, cw_error *err)
{
    const cwi_averaging *averaging;
    cwi_screening screen;
    CWI_TRY(find_averaging(config, &averaging, err));
    return find_screening(config, &screen, err);
}

cw_status cwi_guard_open(cwi_guard *g, const cw_config *config, cw_error *err)
{
    const size_t clients = (size_t)config->clients;
    *g = (cwi_guard){.clients = clients, .clip_norm = config->clip_norm};
    CWI_TRY(find_averaging(config, &g->averaging, err));
    CWI_TRY(find_screening(config, &g->screen, err));
    g->active = g->clip_norm > 0 || g->screen != CWI_SCREEN_OFF || g->averaging != &cwi_averagings[0];
    bool good = true;
    for (size_t t = 0; t < CWI_TRAITS; t++) {
        g->smooth[t] = cwi_calloc(clients, sizeof(double));
        g->value[t] = cwi_calloc(clients, sizeof(double));
        good = good && g->smooth[t] && g->value[t];
        for (size_t i = 0; good && i < clients; i++)
            g->smooth[t][i] = (double)NAN;
    }
    g->far = cwi_calloc(clients, sizeof *g->far);
    g->was_far = cwi_calloc(clients, sizeof *g->was_far);
    g->why = cwi_calloc(clients, sizeof *g->why);
    g->score = cwi_calloc(clients, sizeof *g->score);
    good = good && g->far && g->was_far && g->why && g->score;
    return good ? CW_OK : cwi_fail_memory(err, clients * sizeof(double) * 2 * CWI_TRAITS);
}

void cwi_guard_close(cwi_guard *g)
{
    cwi_ballot_close(&g->gradients);
    cwi_ballot_close(&g->client_gradients);
    cwi_ballot_close(&g->buffers);
    cwi_ballot_close(&g->client_buffers);
    for (size_t t = 0; t < CWI_TRAITS; t++) {
        cwi_free(g->smooth[t]);
        cwi_free(g->value[t]);
    }
    void *const own[] = {g->far, g->was_far, g->why, g->score, g->flat, g->begun};
    for (size_t i = 0; i < CWI_COUNT(own); i++)
        cwi_free(own[i]);
    memset(g, 0, sizeof *g);
}

void cwi_guard_begin(cwi_guard *g)
{
    cwi_ballot_clear(&g->gradients);
    cwi_ballot_clear(&g->client_gradients);
    cwi_ballot_clear(&g->buffers);
    for (size_t i = 0; i < g->clients; i++) {
        g->far[i] = false;
        for (size_t t = 0; t < CWI_TRAITS; t++)
            g->value[t][i] = (double)NAN;
    }
}

void cwi_guard_note(cwi_guard *g, cwi_trait trait, size_t client, double value)
{
    g->value[trait][client] = log(CWI_MAX(value, 1e-12));
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* The smoothed values of those who have one in this step, into `values`. */
static size_t smooth_trait(cwi_guard *g, cwi_trait trait, double *values)
{
    size_t count = 0;
    for (size_t i = 0; i < g->clients; i++) {
        const double now = g->value[trait][i];
        double *smooth = &g->smooth[trait][i];
        if (isnan(now))
            continue;
        *smooth = isnan(*smooth) || trait == CWI_TRAIT_STATISTICS ? now : *smooth + NEW * (now - *smooth);
        values[count++] = *smooth;
    }
    return count;
}

/* Either the step alone or the smoothed course may be far: one huge gradient must not get through for being rare. */
static double score_of(const cwi_guard *g, cwi_trait trait, size_t client, double middle, double spread)
{
    const double smooth = (g->smooth[trait][client] - middle) / spread;
    const double now = (g->value[trait][client] - middle) / spread / 3;
    return CWI_MAX(smooth, now);
}

void cwi_guard_compare(cwi_guard *g, cwi_trait trait)
{
    double values[CWI_BALLOT_MOST];
    const size_t count = g->screen == CWI_SCREEN_OFF ? 0 : smooth_trait(g, trait, values);
    if (count < 3)
        return;
    const double middle = median_of(values, count);
    for (size_t i = 0; i < count; i++)
        values[i] = fabs(values[i] - middle);
    const double spread = CWI_MIN(CWI_MAX(NORMAL * median_of(values, count), LEAST), most_spread[trait]);
    for (size_t i = 0; i < g->clients; i++) {
        if (isnan(g->value[trait][i]))
            continue;
        const double score = score_of(g, trait, i, middle, spread);
        if (score <= FAR)
            continue;
        g->far[i] = true;
        g->why[i] = trait;
        g->score[i] = score;
    }
}

bool cwi_guard_counts(const cwi_guard *g, const cwi_ballot *b, size_t client)
{
    return b->is_given[client] && !(g->screen == CWI_SCREEN_DROP && g->far[client]);
}

bool cwi_guard_average(cwi_guard *g, cwi_ballot *b, bool clip, float *out)
{
    const float *rows[CWI_BALLOT_MOST];
    double weights[CWI_BALLOT_MOST];
    size_t count = 0;
    for (size_t i = 0; i < b->clients; i++) {
        if (!cwi_guard_counts(g, b, i))
            continue;
        const double norm = clip && g->clip_norm > 0 ? cwi_ballot_norm(b, i) : 0;
        if (norm > g->clip_norm)
            cwi_average_add(b->given[i], b->given[i], b->floats, (float)(g->clip_norm / norm), true);
        rows[count] = b->given[i];
        weights[count++] = b->weight[i];
    }
    if (count)
        g->averaging->average(rows, weights, count, b->floats, out);
    return count > 0;
}

const char *cwi_trait_name(cwi_trait trait)
{
    static const char *const names[CWI_TRAITS] = {"loss", "gradient of the server's half", "gradient of its half",
                                                  "batch-norm statistics at the server", "batch-norm statistics"};
    return names[trait];
}
