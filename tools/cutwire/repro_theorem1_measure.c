/* repro_theorem1_measure.c - gradients with and without a codec, and the statistics of their difference.
 *
 * With d_i the difference of seed i's gradient to the uncompressed one g, in n seeds the mean's error |sum d_i| / n has
 * the squared expectation |b|^2 + S / n: the bias b = E d, which stays, and the spread S, which averaging removes. The
 * seeds are dealt to T1_GROUPS groups with mean differences m_k; these are independent, so the mean of <m_k, m_l> over
 * pairs k != l has the expectation |b|^2 exactly. Its standard error is the jackknife's over groups. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro_theorem1.h"

/* One half: its part, the true gradient, and sums of differences to it. */
typedef struct half_sums {
    cw_part *part;
    size_t count;
    float *truth, *grad;
    double *sum; /* of all seeds */
    float *group[T1_GROUPS];
    double norm;    /* |truth| */
    double squares; /* sum of |d_i|^2 */
} half_sums;

struct theorem1 {
    half_sums client, server;
    repro_batch taken;
    cw_tensor z, dz;       /* activations and gradient at the cut */
    cw_tensor coded, back; /* what arrives instead; the gradient that then comes back */
    cw_tensor first;       /* what arrived with the first seed */
};

/* ---- halves ---- */

static cw_status open_half(const repro_net *net, size_t first, size_t last, size_t n, half_sums *h, cw_error *err)
{
    cw_status status = repro_part(net, first, last, CW_TRAIN, n, &h->part, err);
    if (status != CW_OK)
        return status;
    h->count = cw_part_trainable_size(h->part);
    bool ok = (h->truth = malloc(h->count * sizeof *h->truth)) && (h->grad = malloc(h->count * sizeof *h->grad)) &&
              (h->sum = malloc(h->count * sizeof *h->sum));
    for (size_t k = 0; k < T1_GROUPS && ok; k++)
        ok = (h->group[k] = malloc(h->count * sizeof *h->group[k]));
    return ok ? CW_OK : CW_ERR_NO_MEMORY;
}

static void close_half(half_sums *h)
{
    cw_part_destroy(&h->part);
    free(h->truth);
    free(h->grad);
    free(h->sum);
    for (size_t k = 0; k < T1_GROUPS; k++)
        free(h->group[k]);
}

static void keep_truth(half_sums *h)
{
    double squares = 0;
    cw_part_export_grads(h->part, h->truth);
    for (size_t i = 0; i < h->count; i++)
        squares += (double)h->truth[i] * (double)h->truth[i];
    h->norm = sqrt(squares);
}

static void clear(half_sums *h)
{
    h->squares = 0;
    memset(h->sum, 0, h->count * sizeof *h->sum);
    for (size_t k = 0; k < T1_GROUPS; k++)
        memset(h->group[k], 0, h->count * sizeof *h->group[k]);
}

static void add_seed(half_sums *h, size_t seed)
{
    float *group = h->group[seed % T1_GROUPS];
    cw_part_export_grads(h->part, h->grad);
    for (size_t i = 0; i < h->count; i++) {
        double d = (double)h->grad[i] - (double)h->truth[i];
        h->squares += d * d;
        h->sum[i] += d;
        group[i] += (float)d;
    }
}

/* |mean difference of n seeds| / |g| */
static double error_of_mean(const half_sums *h, size_t n)
{
    double squares = 0;
    for (size_t i = 0; i < h->count; i++)
        squares += h->sum[i] * h->sum[i];
    return sqrt(squares) / ((double)n * h->norm);
}

/* Mean of <m_k, m_l> over the pairs of K groups, from |sum of m|^2 and the sum of |m_k|^2. */
static double over_pairs(double all, double own, int groups)
{
    return (all - own) / (groups * (groups - 1.0));
}

static void finish_half(const half_sums *h, size_t seeds, theorem1_half *out)
{
    const double scale = (double)(seeds / T1_GROUPS) * h->norm; /* makes sums of groups relative means */
    double own[T1_GROUPS] = {0}, with_all[T1_GROUPS] = {0}, all = 0, total = 0;
    for (size_t i = 0; i < h->count; i++) {
        const double sum = h->sum[i] / scale;
        all += sum * sum;
        for (size_t k = 0; k < T1_GROUPS; k++) {
            const double m = (double)h->group[k][i] / scale;
            own[k] += m * m;
            with_all[k] += m * sum;
        }
    }
    for (size_t k = 0; k < T1_GROUPS; k++)
        total += own[k];
    out->squared = over_pairs(all, total, T1_GROUPS);
    double left[T1_GROUPS], mean = 0, squares = 0;
    for (size_t k = 0; k < T1_GROUPS; k++) {
        left[k] = over_pairs(all - 2 * with_all[k] + own[k], total - own[k], T1_GROUPS - 1);
        mean += left[k] / T1_GROUPS;
    }
    for (size_t k = 0; k < T1_GROUPS; k++)
        squares += (left[k] - mean) * (left[k] - mean);
    out->squared_error = sqrt(squares * (T1_GROUPS - 1) / T1_GROUPS);
    out->bias = sqrt(fmax(out->squared, 0));
    out->final_error = error_of_mean(h, seeds);
    const double n = (double)seeds, relative = h->squares / (h->norm * h->norm);
    out->spread = sqrt(fmax(relative - n * out->final_error * out->final_error, 0) / (n - 1));
}

/* A codec without random numbers: its one difference is all bias. */
static void finish_fixed(const half_sums *h, theorem1_half *out)
{
    out->final_error = out->bias = error_of_mean(h, 1);
    out->squared = out->bias * out->bias;
    out->squared_error = out->spread = 0;
}

/* ---- gradients ---- */

static cw_status forward_client(theorem1 *t, float *z, cw_error *err)
{
    cw_part_set_position(t->client.part, 0); /* the same dropout every time */
    return cw_part_forward(t->client.part, CW_TRAIN, t->taken.batch.x, t->taken.batch.n, z, err);
}

/* The server's half on activations x; the gradient at the cut goes into dx. */
static cw_status run_server(theorem1 *t, const float *x, float *dx, cw_error *err)
{
    const cw_batch *b = &t->taken.batch;
    cw_loss loss;
    cw_part_set_position(t->server.part, 0);
    cw_status status = cw_part_forward(t->server.part, CW_TRAIN, x, b->n, NULL, err);
    if (status == CW_OK)
        status = cw_part_loss(t->server.part, b->labels, b->n, &loss, err);
    return status == CW_OK ? cw_part_backward(t->server.part, NULL, dx, err) : status;
}

/* The client's half from the gradient at the cut; a backward wants its own forward. */
static cw_status run_client(theorem1 *t, const float *dy, cw_error *err)
{
    cw_status status = forward_client(t, NULL, err);
    return status == CW_OK ? cw_part_backward(t->client.part, dy, NULL, err) : status;
}

static cw_status measure_truth(theorem1 *t, cw_error *err)
{
    cw_status status = forward_client(t, t->z.data, err);
    if (status == CW_OK)
        status = run_server(t, t->z.data, t->dz.data, err);
    if (status == CW_OK)
        status = cw_part_backward(t->client.part, t->dz.data, NULL, err);
    if (status == CW_OK) {
        keep_truth(&t->client);
        keep_truth(&t->server);
    }
    return status;
}

cw_status theorem1_open(const repro_net *net, const cw_cut *cut, size_t samples, theorem1 **out, cw_error *err)
{
    theorem1 *t = *out = calloc(1, sizeof *t);
    if (!t)
        return CW_ERR_NO_MEMORY;
    cw_status status = repro_batch_open(net, CW_TRAIN, samples, &t->taken, err);
    const size_t n = t->taken.batch.n;
    if (status == CW_OK)
        status = open_half(net, 0, cut->layer, n, &t->client, err);
    if (status == CW_OK)
        status = open_half(net, cut->layer, cw_model_layer_count(net->model), n, &t->server, err);
    cw_tensor *const at_cut[] = {&t->z, &t->dz, &t->coded, &t->back, &t->first};
    const cw_shape shape = repro_smashed_view(cut, n, NULL).shape;
    for (size_t i = 0; i < sizeof at_cut / sizeof at_cut[0] && status == CW_OK; i++)
        status = cw_tensor_alloc(at_cut[i], CW_F32, &shape);
    if (status == CW_OK)
        status = measure_truth(t, err);
    if (status != CW_OK)
        theorem1_close(out);
    return status;
}

void theorem1_close(theorem1 **t)
{
    if (!*t)
        return;
    close_half(&(*t)->client);
    close_half(&(*t)->server);
    repro_batch_close(&(*t)->taken);
    cw_tensor *const at_cut[] = {&(*t)->z, &(*t)->dz, &(*t)->coded, &(*t)->back, &(*t)->first};
    for (size_t i = 0; i < sizeof at_cut / sizeof at_cut[0]; i++)
        cw_tensor_free(at_cut[i]);
    free(*t);
    *t = NULL;
}

cw_status theorem1_save_maps(const theorem1 *t, int cut, const char *folder, cw_error *err)
{
    char path[600];
    snprintf(path, sizeof path, "%s/cut%d-train.npy", folder, cut);
    const cw_status status = cw_npy_save(path, &t->z, err);
    snprintf(path, sizeof path, "%s/cut%d-gradient.npy", folder, cut);
    return status == CW_OK ? cw_npy_save(path, &t->dz, err) : status;
}

/* ---- a codec ---- */

/* The gradients of both halves with this seed; with a coded downlink the server's is the true one. */
static cw_status run_seed(theorem1 *t, size_t seed, theorem1_row *row, cw_error *err)
{
    size_t elements;
    repro_coded coded;
    const cw_tensor *x = row->downlink ? &t->dz : &t->z;
    cw_status status = cw_shape_count(&x->shape, &elements);
    if (status == CW_OK)
        status = repro_through(row->spec, seed + 1, x, t->coded.data, &coded, err);
    if (status != CW_OK)
        return status;
    row->bits += 8.0 * (double)coded.payload_bytes / (double)elements;
    row->error += coded.relative;
    if (row->downlink)
        return run_client(t, t->coded.data, err);
    status = run_server(t, t->coded.data, t->back.data, err);
    return status == CW_OK ? run_client(t, t->back.data, err) : status;
}

static void finish(theorem1 *t, size_t seeds, theorem1_row *row)
{
    row->seeds = seeds;
    row->bits /= (double)seeds;
    row->error /= (double)seeds;
    if (seeds == 1) {
        finish_fixed(&t->client, &row->client);
        finish_fixed(&t->server, &row->server);
        return;
    }
    finish_half(&t->client, seeds, &row->client);
    finish_half(&t->server, seeds, &row->server);
}

/* Whether the second seed brought the same as the first: then so will all others. */
static cw_status draws_nothing(theorem1 *t, theorem1_row *row, bool *nothing, cw_error *err)
{
    repro_coded coded;
    const cw_tensor *x = row->downlink ? &t->dz : &t->z;
    size_t elements;
    cw_status status = cw_shape_count(&x->shape, &elements);
    if (status == CW_OK)
        status = repro_through(row->spec, 1, x, t->first.data, &coded, err);
    if (status == CW_OK)
        status = repro_through(row->spec, 2, x, t->coded.data, &coded, err);
    *nothing = status == CW_OK && memcmp(t->first.data, t->coded.data, elements * sizeof(float)) == 0;
    return status;
}

cw_status theorem1_measure(theorem1 *t, size_t seeds, theorem1_row *row, bool (*tick)(void *ctx, size_t done),
                           void *ctx, cw_error *err)
{
    bool fixed;
    clear(&t->client);
    clear(&t->server);
    cw_status status = draws_nothing(t, row, &fixed, err);
    if (fixed)
        seeds = 1;
    size_t point = 0;
    for (size_t i = 0; i < seeds && status == CW_OK; i++) {
        status = run_seed(t, i, row, err);
        if (status != CW_OK)
            break;
        add_seed(&t->client, i);
        if (!row->downlink)
            add_seed(&t->server, i);
        if (i + 1 == (size_t)1 << point) {
            row->client.error[point] = error_of_mean(&t->client, i + 1);
            row->server.error[point++] = error_of_mean(&t->server, i + 1);
        }
        if (tick && !tick(ctx, i + 1))
            return CW_ERR_CANCELLED;
    }
    if (status == CW_OK)
        finish(t, seeds, row);
    return status;
}

bool theorem1_biased(const theorem1_row *row, const theorem1_half *half)
{
    return row->seeds == 1 ? half->bias > 0 : half->squared > 4 * half->squared_error;
}
