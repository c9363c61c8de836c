/* shards.c - dealing the samples of a split to clients, evenly or skewed by label. */
#include <string.h>

#include "data/dataset.h"

enum { MAX_DRAWS = 1000 };

void cw_shards_free(cw_shards *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->index && i < s->clients; i++)
        cwi_free(s->index[i]);
    cwi_free(s->index);
    cwi_free(s->count);
    memset(s, 0, sizeof *s);
}

/* owner[i] is the client of sample i; walking them in order leaves each list in increasing order. */
static cw_status lists_from_owners(const uint32_t *owner, size_t samples, size_t clients, cw_shards *out)
{
    out->clients = clients;
    out->count = cwi_calloc(clients, sizeof *out->count);
    out->index = cwi_calloc(clients, sizeof *out->index);
    if (!out->count || !out->index)
        return CW_ERR_NO_MEMORY;
    for (size_t i = 0; i < samples; i++)
        out->count[owner[i]]++;
    for (size_t c = 0; c < clients; c++) {
        if (!(out->index[c] = cwi_alloc(out->count[c], sizeof **out->index)))
            return CW_ERR_NO_MEMORY;
        out->count[c] = 0;
    }
    for (size_t i = 0; i < samples; i++)
        out->index[owner[i]][out->count[owner[i]]++] = (uint32_t)i;
    return CW_OK;
}

/* ---- label-skewed ---- */

/* q[client * classes + class]: for each client a draw from Dirichlet(alpha) over the classes. A draw that underflows to
 * zero everywhere (tiny alpha) becomes one class, which is its limit. A class that no client wants is then given to
 * one of them. */
static void draw_proportions(cwi_rng *r, double alpha, size_t clients, size_t classes, double *q)
{
    for (size_t c = 0; c < clients; c++, q += classes) {
        double sum = 0;
        for (size_t k = 0; k < classes; k++)
            sum += q[k] = cwi_rng_gamma(r, alpha);
        size_t only = (size_t)cwi_rng_below(r, classes);
        for (size_t k = 0; k < classes; k++)
            q[k] = sum > 0 ? q[k] / sum : (double)(k == only);
    }
    q -= clients * classes;
    for (size_t k = 0; k < classes; k++) {
        double sum = 0;
        for (size_t c = 0; c < clients; c++)
            sum += q[c * classes + k];
        if (!(sum > 0))
            q[cwi_rng_below(r, clients) * classes + k] = 1;
    }
}

/* Cuts the class's samples (already in random order) into runs, one for each client, in proportion to q[.][k]. */
static void deal_class(const uint32_t *sample, size_t n, size_t k, const double *q, size_t clients, size_t classes,
                       uint32_t *owner)
{
    double total = 0, sum = 0;
    for (size_t c = 0; c < clients; c++)
        total += q[c * classes + k];
    for (size_t c = 0, at = 0; c < clients; c++) {
        sum += q[c * classes + k] / total;
        size_t end = c + 1 == clients ? n : CWI_MIN((size_t)(sum * (double)n), n);
        for (; at < end; at++)
            owner[sample[at]] = (uint32_t)c;
    }
}

static bool every_client_has_some(const uint32_t *owner, size_t samples, size_t clients, uint32_t *seen)
{
    size_t found = 0;
    memset(seen, 0, clients * sizeof *seen);
    for (size_t i = 0; i < samples && found < clients; i++)
        if (seen[owner[i]]++ == 0)
            found++;
    return found == clients;
}

typedef struct skew {
    double *q;
    uint32_t *sample; /* sample indices, class after class */
    uint32_t *seen;
    size_t *first; /* [classes + 1] */
} skew;

static void group_by_class(const cw_dataset *ds, skew *s)
{
    size_t classes = (size_t)ds->info.classes;
    memset(s->first, 0, (classes + 1) * sizeof *s->first);
    for (size_t i = 0; i < ds->info.count; i++)
        s->first[ds->labels[i] + 1]++;
    for (size_t k = 0; k < classes; k++)
        s->first[k + 1] += s->first[k];
    for (size_t i = ds->info.count; i-- > 0;) /* from the back, with first[k + 1] as the running end */
        s->sample[--s->first[ds->labels[i] + 1]] = (uint32_t)i;
    for (size_t k = 0; k < classes; k++)
        s->first[k] = s->first[k + 1];
    s->first[classes] = ds->info.count;
}

static cw_status deal_skewed(const cw_dataset *ds, size_t clients, double alpha, uint64_t seed, skew *s,
                             uint32_t *owner, cw_error *err)
{
    size_t classes = (size_t)ds->info.classes;
    group_by_class(ds, s);
    for (uint64_t draw = 0; draw < MAX_DRAWS; draw++) {
        cwi_rng r = cwi_rng_make(seed, CWI_STREAM_SHARD, 1, draw);
        draw_proportions(&r, alpha, clients, classes, s->q);
        for (size_t k = 0; k < classes; k++) {
            cwi_rng_shuffle(&r, s->sample + s->first[k], s->first[k + 1] - s->first[k]);
            deal_class(s->sample + s->first[k], s->first[k + 1] - s->first[k], k, s->q, clients, classes, owner);
        }
        if (every_client_has_some(owner, ds->info.count, clients, s->seen))
            return CW_OK;
    }
    return cwi_fail(err, CW_ERR_INVALID,
                    "no split of %zu samples among %zu clients with Dirichlet parameter %g leaves none of them empty "
                    "(%d draws): take fewer clients or a larger parameter",
                    ds->info.count, clients, alpha, MAX_DRAWS);
}

static cw_status own_skewed(const cw_dataset *ds, size_t clients, double alpha, uint64_t seed, uint32_t *owner,
                            cw_error *err)
{
    size_t classes = (size_t)ds->info.classes, cells;
    skew s = {0};
    cw_status status = CW_ERR_NO_MEMORY;
    if (cwi_mul_size(clients, classes, &cells)) {
        s = (skew){.q = cwi_alloc(cells, sizeof *s.q),
                   .sample = cwi_alloc(ds->info.count, sizeof *s.sample),
                   .seen = cwi_alloc(clients, sizeof *s.seen),
                   .first = cwi_alloc(classes + 1, sizeof *s.first)};
    }
    if (s.q && s.sample && s.seen && s.first)
        status = deal_skewed(ds, clients, alpha, seed, &s, owner, err);
    else
        cwi_fail_memory(err, ds->info.count * sizeof *s.sample);
    cwi_free(s.q);
    cwi_free(s.sample);
    cwi_free(s.seen);
    cwi_free(s.first);
    return status;
}

/* ---- even ---- */

static cw_status own_evenly(const cw_dataset *ds, size_t clients, uint64_t seed, uint32_t *owner, cw_error *err)
{
    size_t n = ds->info.count;
    uint32_t *order = cwi_alloc(n, sizeof *order);
    if (!order)
        return cwi_fail_memory(err, n * sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_SHARD, 0, 0);
    cwi_rng_shuffle(&r, order, n);
    for (size_t i = 0; i < n; i++)
        owner[order[i]] = (uint32_t)(i % clients);
    cwi_free(order);
    return CW_OK;
}

cw_status cw_shards_make(const cw_dataset *ds, size_t clients, double dirichlet, uint64_t seed, cw_shards *out,
                         cw_error *err)
{
    memset(out, 0, sizeof *out);
    size_t n = ds->info.count;
    if (clients == 0 || clients > n || dirichlet != dirichlet)
        return cwi_fail(err, CW_ERR_INVALID, "%zu samples cannot be split among %zu clients", n, clients);
    uint32_t *owner = cwi_alloc(n, sizeof *owner);
    if (!owner)
        return cwi_fail_memory(err, n * sizeof *owner);
    cw_status status = dirichlet > 0 ? own_skewed(ds, clients, dirichlet, seed, owner, err)
                                     : own_evenly(ds, clients, seed, owner, err);
    if (status == CW_OK && lists_from_owners(owner, n, clients, out) != CW_OK)
        status = cwi_fail_memory(err, n * sizeof *owner);
    cwi_free(owner);
    if (status != CW_OK)
        cw_shards_free(out);
    return status;
}
