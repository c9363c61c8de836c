/* init.c - initial weights.
 *
 * Convolutions: Kaiming normal over the fan-out, as torchvision's residual networks and VGG have it. Hidden linear
 * layers: Kaiming normal over the fan-in. The output layer: uniform within 1/sqrt(fan-in), PyTorch's default. Where the
 * model says so, normal of its deviation instead. Biases 0, batch norm 1 and 0, the embedding of padding 0.
 *
 * CW_INIT_DIRAC begins with convolutions that let through what they get: the first outputs, as many as there are
 * inputs, are the identity (PyTorch's dirac_), the rest is as before. The convolution that sees the image begins as a
 * whitening of its patches, each direction with both signs (after Jordan, "94% on CIFAR-10 in 3.29 seconds",
 * arXiv:2404.00498). Their covariance is not measured, for data may not leave the clients: cosines are the principal
 * components of what is correlated like neighbouring pixels (Ahmed, Natarajan, Rao 1974), and their variances follow.
 * Inputs of more than 64 channels are no photos: there that convolution stays Kaiming's.
 *
 * Each number depends on (seed, init, parameter name, canonical index) alone.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/param.h"

static void fill(float *w, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        w[i] = value;
}

static void fill_normal(float *w, size_t count, cwi_rng stream, double deviation)
{
    /* A normal draw takes two numbers of the stream, so that element i starts at 2i whoever computes it. */
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++) {
        cwi_rng own = {.key = stream.key, .next = 2 * i};
        w[i] = (float)(deviation * cwi_rng_normal(&own));
    }
}

static void fill_uniform(float *w, size_t count, cwi_rng stream, double bound)
{
    for (size_t i = 0; i < count; i++)
        w[i] = (float)(bound * (2.0 * cwi_rng_double(&stream) - 1.0));
}

/* ---- whitening of patches ---- */

#define PIXEL_CORRELATION   0.95 /* of neighbours */
#define CHANNEL_CORRELATION 0.9  /* of red and green, green and blue */
#define NOISE_VARIANCE      0.01 /* so that what photos have next to nothing of is not blown up */

enum { MAX_WHITENED = 64 }; /* channels, and pixels along a side: the variances take their third power in cosines */

/* Vector k of the orthonormal cosine basis (DCT-II) of n dimensions, at i. */
static double cosine(int n, int k, int i)
{
    return sqrt((k ? 2.0 : 1.0) / n) * cos(acos(-1.0) * k * (i + 0.5) / n);
}

/* Of the coefficient k of n numbers of variance 1, each correlated so with the next. */
static double variance(int n, int k, double correlation)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            sum += cosine(n, k, i) * cosine(n, k, j) * pow(correlation, abs(i - j));
    return sum;
}

typedef struct direction {
    double variance;
    int channel, y, x; /* which cosine along each */
} direction;

static int by_variance(const void *a, const void *b)
{
    const direction *p = a, *q = b;
    if (p->variance != q->variance)
        return p->variance < q->variance ? 1 : -1;
    return memcmp(&p->channel, &q->channel, 3 * sizeof(int));
}

/* All directions of a patch, the one of most variance first; as many as a filter has weights. */
static void list_directions(int channels, int kernel, direction *d)
{
    double of_channels[MAX_WHITENED], of_pixels[MAX_WHITENED];
    int count = 0;
    for (int c = 0; c < channels; c++)
        of_channels[c] = variance(channels, c, CHANNEL_CORRELATION);
    for (int k = 0; k < kernel; k++)
        of_pixels[k] = variance(kernel, k, PIXEL_CORRELATION);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < kernel; y++)
            for (int x = 0; x < kernel; x++)
                d[count++] =
                    (direction){.variance = of_channels[c] * of_pixels[y] * of_pixels[x], .channel = c, .y = y, .x = x};
    qsort(d, (size_t)count, sizeof *d, by_variance);
}

static void fill_direction(const direction *d, int channels, int kernel, double scale, float *w)
{
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < kernel; y++)
            for (int x = 0; x < kernel; x++)
                *w++ = (float)(scale * cosine(channels, d->channel, c) * cosine(kernel, d->y, y) *
                               cosine(kernel, d->x, x));
}

static cw_status fill_whitening(const cwi_param *p, float *w)
{
    const int channels = (int)p->shape.dim[1], kernel = p->layer->kernel;
    if (channels > MAX_WHITENED || kernel > MAX_WHITENED)
        return CW_OK;
    const size_t size = (size_t)(channels * kernel * kernel), filters = CWI_MIN((size_t)p->shape.dim[0], 2 * size);
    direction *d = cwi_alloc(size, sizeof *d);
    if (!d)
        return CW_ERR_NO_MEMORY;
    list_directions(channels, kernel, d);
    for (size_t o = 0; o < filters; o++) {
        const double scale = (o & 1 ? -1.0 : 1.0) / sqrt(d[o / 2].variance + NOISE_VARIANCE);
        fill_direction(&d[o / 2], channels, kernel, scale, w + o * size);
    }
    cwi_free(d);
    return CW_OK;
}

/* ---- convolutions ---- */

static void fill_identity(const cwi_param *p, float *w)
{
    const size_t outputs = (size_t)p->shape.dim[0], inputs = (size_t)p->shape.dim[1];
    const size_t window = p->count / (outputs * inputs), identities = CWI_MIN(outputs, inputs);
    fill(w, identities * inputs * window, 0.0f);
    for (size_t o = 0; o < identities; o++)
        w[(o * inputs + o) * window + window / 2] = 1.0f;
}

static cw_status fill_conv(const cwi_param *p, float *w, cwi_rng stream, cw_init init)
{
    const cwi_layer *l = p->layer;
    const double fan_out = (double)p->shape.dim[0] * l->kernel * (l->time ? 1 : l->kernel);
    fill_normal(w, p->count, stream, sqrt(2.0 / fan_out));
    if (init == CW_INIT_KAIMING)
        return CW_OK;
    if (l->from == CW_MODEL_INPUT)
        return fill_whitening(p, w);
    fill_identity(p, w);
    return CW_OK;
}

/* ---- all ---- */

static cw_status fill_weight(const cwi_param *p, float *w, uint64_t seed, cw_init init)
{
    const cwi_rng stream = cwi_rng_make(seed, CWI_STREAM_WEIGHTS, cwi_hash_string(p->name), 0);
    const cwi_layer *l = p->layer;
    const double fan_in = (double)(p->count / (size_t)p->shape.dim[0]);
    if (l->kind == CWI_CONV)
        return fill_conv(p, w, stream, init);
    if (l->kind == CWI_BATCHNORM)
        fill(w, p->count, 1.0f);
    else if (l->deviation > 0)
        fill_normal(w, p->count, stream, (double)l->deviation);
    else if (l->output)
        fill_uniform(w, p->count, stream, 1.0 / sqrt(fan_in));
    else
        fill_normal(w, p->count, stream, sqrt(2.0 / fan_in));
    if (l->kind == CWI_EMBED && l->out.ndim == 3) /* a text's row 0 is padding's */
        fill(w, (size_t)l->kernel, 0.0f);
    return CW_OK;
}

cw_status cwi_params_init(cwi_params *set, uint64_t seed, cw_init init, cw_error *err)
{
    size_t largest = 1;
    cw_status status = CW_OK;
    for (size_t i = 0; i < set->count; i++)
        largest = CWI_MAX(largest, set->items[i].count);
    float *plain = cwi_alloc(largest, sizeof *plain);
    if (!plain)
        return cwi_fail_memory(err, largest * sizeof *plain);
    for (size_t i = 0; i < set->count && status == CW_OK; i++) {
        cwi_param *p = &set->items[i];
        if (p->role == CWI_WEIGHT)
            status = fill_weight(p, plain, seed, init);
        else
            fill(plain, p->count, p->role == CWI_RUNNING_VAR ? 1.0f : 0.0f);
        cwi_param_import(set, p, plain, p->value);
        p->version++;
    }
    cwi_free(plain);
    return status == CW_OK ? CW_OK : cwi_fail_memory(err, 0);
}

/* ---- names ---- */

static const char *const names[] = {[CW_INIT_KAIMING] = "kaiming", [CW_INIT_DIRAC] = "dirac"};

const char *cw_init_name(cw_init init)
{
    return (size_t)init < CWI_COUNT(names) ? names[init] : "?";
}

cw_status cw_init_parse(const char *name, cw_init *out, cw_error *err)
{
    size_t i;
    CWI_TRY(cwi_name_find("init", out ? name : NULL, names, CWI_COUNT(names), &i, err));
    *out = (cw_init)i;
    return CW_OK;
}
