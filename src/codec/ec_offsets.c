/* ec_offsets.c - the background of each channel: found, written, read. */
#include "codec/ec_offsets.h"

#include <math.h>
#include <string.h>

#include "codec/bits.h"

enum {
    LINE = 16,       /* elements of the sample that lie together */
    SAMPLED = 256,   /* of each channel */
    EACH_LEAST = 64, /* elements of a channel that may have one */
    PARTS = 8,       /* bins in a step */
    REACH = 24,      /* steps on either side of the sample's mean that are looked at */
    BINS = 2 * REACH * PARTS,
    CODES = 64,
    LOW_BITS = 5,
    GAMMA_MOST = 18,
    FINE = 64,   /* units in a step, at most */
    COARSE = 16, /* and at least */
};

size_t cwi_offsets_channels(const cw_shape *shape)
{
    size_t count;
    if (shape->ndim != 4 || cw_shape_count(shape, &count) != CW_OK || count == 0)
        return 0;
    const size_t channels = (size_t)shape->dim[1];
    return channels <= CWI_OFFSETS_CHANNELS_MOST && count / channels >= EACH_LEAST ? channels : 0;
}

/* ---- what a channel would take ---- */

/* In GNU C's vectors. */
typedef float floats4 __attribute__((vector_size(16)));
typedef int32_t whole4 __attribute__((vector_size(16)));
enum { AT_ONCE = 4 };

typedef struct channel {
    float v[SAMPLED];          /* in steps */
    size_t n;                  /* a multiple of AT_ONCE */
    float weight[SAMPLED + 1]; /* of i elements alike: i log2 i */
} channel;

static void take(const cwi_source *s, const cw_shape *shape, size_t c, float scale, channel *out)
{
    float chunk[LINE];
    const size_t channels = (size_t)shape->dim[1], plane = (size_t)(shape->dim[2] * shape->dim[3]);
    const size_t samples = (size_t)shape->dim[0], line = CWI_MIN((size_t)LINE, plane);
    const size_t lines = CWI_MIN((size_t)SAMPLED / line, samples * plane / line);
    size_t n = 0;
    const cwi_rng r = cwi_rng_make(0, CWI_STREAM_CODEC, c, lines);
    for (size_t i = 0; i < lines; i++) {
        const size_t sample = i * samples / lines, at = (size_t)(cwi_rng_at(&r, i) % (plane - line + 1));
        const float *x = cwi_source_get(s, (sample * channels + c) * plane + at, line, chunk);
        for (size_t k = 0; k < line; k++)
            out->v[n++] = x[k] * scale;
    }
    out->n = n / AT_ONCE * AT_ONCE;
}

static floats4 floats_at(const float *p)
{
    floats4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static floats4 choose4(whole4 mask, floats4 yes, floats4 no)
{
    return (floats4)(((whole4)yes & mask) | ((whole4)no & ~mask));
}

static floats4 between4(floats4 v, float low, float high)
{
    const floats4 least = (floats4){0} + low, most = (floats4){0} + high;
    v = choose4(v > least, v, least);
    return choose4(v < most, v, most);
}

static float sum_of(floats4 v)
{
    return (v[0] + v[1]) + (v[2] + v[3]);
}

/* Bits an element, its error weighed as bits: at a step where half the error takes 0.4 to 1 bits more. */
static float cost(const channel *c, float offset)
{
    enum { FAR = 1 << 14 }; /* steps, beyond which nothing is told apart */
    uint16_t count[CODES] = {0};
    floats4 error = {0};
    float alike = 0;
    int least = CODES, most = 0;
    for (size_t i = 0; i + AT_ONCE <= c->n; i += AT_ONCE) {
        const floats4 v = between4(floats_at(c->v + i) - offset, -FAR, FAR) + (FAR + 0.5f);
        const whole4 k = __builtin_convertvector(v, whole4);
        const floats4 off = v - __builtin_convertvector(k, floats4) - 0.5f;
        error += off * off;
        for (int j = 0; j < AT_ONCE; j++) {
            const int code = CWI_MIN(CWI_MAX(k[j] - FAR + CODES / 2, 0), CODES - 1);
            count[code]++;
            least = CWI_MIN(least, code);
            most = CWI_MAX(most, code);
        }
    }
    for (int k = least; k <= most; k++)
        alike += c->weight[count[k]];
    return c->weight[c->n] - alike + 9 * sum_of(error);
}

static float mean_of(const channel *c)
{
    floats4 sum = {0};
    for (size_t i = 0; i + AT_ONCE <= c->n; i += AT_ONCE)
        sum += floats_at(c->v + i);
    return sum_of(sum) / (float)c->n;
}

static int32_t units_of(float steps, float fine)
{
    return (int32_t)CWI_MIN(CWI_MAX(floorf(steps * fine + 0.5f), -0x1p19f), 0x1p19f);
}

/* Units in a step: what a coarser one loses grows with a channel's elements, what it saves does not. */
static float fineness(size_t each)
{
    size_t fine = COARSE;
    while (fine < FINE && 2 * fine * fine < each)
        fine *= 2;
    return (float)fine;
}

/* The bins of a channel about its mean, and which of them have anything. */
typedef struct binned {
    uint16_t bins[BINS];
    int first, last;
} binned;

static void bin_channel(const channel *c, float low, binned *b)
{
    memset(b->bins, 0, sizeof b->bins);
    b->first = BINS;
    b->last = 0;
    for (size_t i = 0; i + AT_ONCE <= c->n; i += AT_ONCE) {
        const floats4 at = between4((floats_at(c->v + i) - low) * PARTS, 0, BINS - 1);
        const whole4 k = __builtin_convertvector(at, whole4);
        for (int j = 0; j < AT_ONCE; j++) {
            b->bins[k[j]]++;
            b->first = CWI_MIN(b->first, k[j]);
            b->last = CWI_MAX(b->last, k[j]);
        }
    }
}

/* The mean of what lies in the step that holds most. */
static float background(const channel *c, float mean)
{
    binned b;
    const float low = floorf(mean) - REACH;
    bin_channel(c, low, &b);
    unsigned sum = 0, most = 0;
    int best = 0;
    for (int i = b.first; i <= b.last; i++) {
        sum += b.bins[i];
        sum -= i >= PARTS ? b.bins[i - PARTS] : 0u;
        if (sum > most) {
            most = sum;
            best = i + 1;
        }
    }
    const floats4 end = (floats4){0} + (low + (float)best / PARTS), one = (floats4){0} + 1.0f, none = {0};
    floats4 inside = none, n = none;
    for (size_t i = 0; i + AT_ONCE <= c->n; i += AT_ONCE) {
        const floats4 v = floats_at(c->v + i);
        const whole4 in = (v < end) & (v >= end - 1.0f);
        inside += choose4(in, v, none);
        n += choose4(in, one, none);
    }
    return sum_of(n) > 0 ? sum_of(inside) / sum_of(n) : mean;
}

double cwi_offsets_find(const cwi_source *s, const cw_shape *shape, double step, int32_t *offset, float *unit)
{
    const size_t channels = cwi_offsets_channels(shape);
    const float scale = (float)(1 / step), fine = fineness((size_t)(shape->dim[0] * shape->dim[2] * shape->dim[3]));
    channel c;
    double plain = 0, saved = 0;
    c.weight[0] = 0;
    for (size_t i = 1; i <= SAMPLED; i++)
        c.weight[i] = (float)i * log2f((float)i);
    *unit = (float)step / fine;
    if (!(*unit >= 0x1p-100f && *unit <= 0x1p90f))
        return 0;
    for (size_t i = 0; i < channels; i++) {
        take(s, shape, i, scale, &c);
        const float without = cost(&c, 0), limit = 0.97f * without;
        const float middle = mean_of(&c);
        const int32_t mode = units_of(background(&c, middle), fine), mean = units_of(middle, fine);
        const float of_mode = cost(&c, (float)mode / fine), of_mean = 1.05f * cost(&c, (float)mean / fine);
        plain += without;
        offset[i] = CWI_MIN(of_mode, of_mean) >= limit ? 0 : of_mode < of_mean ? mode : mean;
        saved += offset[i] ? without - CWI_MIN(of_mode, of_mean) : 0;
    }
    return plain > 0 ? saved / plain : 0;
}

bool cwi_offsets_has_zeros(const cwi_source *s, size_t elements)
{
    enum { LOOKED_AT = 1024, PART = 10 };
    const cwi_rng r = cwi_rng_make(0, CWI_STREAM_CODEC, elements, LOOKED_AT);
    size_t zeros = 0;
    for (size_t i = 0; i < LOOKED_AT; i++)
        zeros += cwi_source_at(s, (size_t)(cwi_rng_at(&r, i) % elements)) == 0;
    return zeros > LOOKED_AT / PART;
}

/* ---- bytes ---- */

static uint32_t folded(int32_t v)
{
    return v < 0 ? 2 * (uint32_t)-v - 1 : 2 * (uint32_t)v;
}

static unsigned number_bits(int32_t v)
{
    return v ? 1 + 2 * (31 - (unsigned)__builtin_clz((folded(v) >> LOW_BITS) + 1)) + 1 + LOW_BITS : 1;
}

size_t cwi_offsets_size(const int32_t *offset, size_t channels)
{
    size_t bits = 0;
    for (size_t i = 0; i < channels; i++)
        bits += number_bits(offset[i]);
    return CWI_OFFSETS_UNIT + (bits + 7) / 8;
}

void cwi_offsets_put(const int32_t *offset, size_t channels, float unit, uint8_t *out)
{
    uint32_t bits;
    memcpy(&bits, &unit, sizeof bits);
    cwi_put_le(out, bits, CWI_OFFSETS_UNIT);
    cwi_bit_writer w = {.next = out + CWI_OFFSETS_UNIT};
    for (size_t i = 0; i < channels; i++) {
        const uint32_t u = folded(offset[i]);
        cwi_bits_put(&w, u != 0, 1);
        if (u) {
            cwi_gamma_put(&w, (u >> LOW_BITS) + 1);
            cwi_bits_put(&w, u & ((1u << LOW_BITS) - 1), LOW_BITS);
        }
    }
    cwi_bits_finish(&w);
}

const uint8_t *cwi_offsets_get(const uint8_t *in, size_t size, size_t channels, float *out)
{
    float unit;
    if (size < CWI_OFFSETS_UNIT)
        return NULL;
    const uint32_t bits = (uint32_t)cwi_get_le(in, CWI_OFFSETS_UNIT);
    memcpy(&unit, &bits, sizeof unit);
    if (!(unit > 0 && unit <= 0x1p90f))
        return NULL;
    cwi_bit_reader r = {.next = in + CWI_OFFSETS_UNIT, .end = in + size};
    for (size_t i = 0; i < channels; i++) {
        uint32_t u = 0;
        if (cwi_bits_get(&r, 1)) {
            const uint32_t high = cwi_gamma_get(&r, GAMMA_MOST);
            if (high == 0)
                return NULL;
            u = (high - 1) << LOW_BITS | (uint32_t)cwi_bits_get(&r, LOW_BITS);
        }
        const int32_t v = u & 1 ? -(int32_t)(u / 2) - 1 : (int32_t)(u / 2);
        if (r.short_of || v > CWI_OFFSETS_MOST || v < -CWI_OFFSETS_MOST)
            return NULL;
        if (out)
            out[i] = (float)v * unit;
    }
    return r.next;
}
