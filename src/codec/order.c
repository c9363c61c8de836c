/* order.c - layouts: what they are, how they are told from the data, and elements moved from one to another. */
#include "codec/order.h"

#include "codec/ctx.h"

#include <math.h>
#include <string.h>

enum { ENOUGH_SAMPLES = CWI_LANES / 2 }; /* from which on channels are predicted from each other (ctx_rows.c) */

/* ---- what layouts are ---- */

static cw_shape shape_of(size_t n, size_t c, size_t h, size_t w)
{
    return cw_shape_of(4, (int64_t[]){(int64_t)n, (int64_t)c, (int64_t)h, (int64_t)w});
}

static void channels_last(cwi_order *o, size_t samples, size_t height, size_t width, size_t channels)
{
    o->shape = shape_of(samples, channels, height, width);
    o->batch = samples;
    o->rows = height * width;
    o->columns = channels;
}

static bool order_without_bands(cwi_order_id id, const cw_shape *shape, bool per_sample, cwi_order *o)
{
    const cwi_order_name name = id.name;
    const int n = shape->ndim;
    size_t d[CW_MAX_DIMS + 1] = {0};
    for (int i = 0; i < n; i++)
        d[i] = (size_t)shape->dim[i];
    *o = (cwi_order){.shape = *shape, .batch = 1, .rows = 1, .columns = 1, .block = 1};
    const bool places = n == 3 && (name == CWI_ORDER_NLC || name == CWI_ORDER_NCL);
    const size_t length = d[name == CWI_ORDER_NLC ? 1 : 2], width = id.width ? id.width : length;
    if (id.width && (!places || length % id.width))
        return false;
    if (name == CWI_ORDER_NCHW && n == 3) /* planes of one channel */
        o->shape = shape_of(d[0], 1, d[1], d[2]);
    if (name == CWI_ORDER_AUTO || (name == CWI_ORDER_NCHW && n != 5))
        return true;
    if (name == CWI_ORDER_NCHW) {
        o->shape = shape_of(d[0] * d[2], d[1], d[3], d[4]);
        o->batch = d[0];
        o->rows = d[1];
        o->columns = d[2];
        o->block = d[3] * d[4];
        return true;
    }
    if (name == CWI_ORDER_NHWC && n == 4)
        channels_last(o, d[0], d[1], d[2], d[3]);
    else if (name == CWI_ORDER_NHWC && n == 5)
        channels_last(o, d[0] * d[1], d[2], d[3], d[4]);
    else if (places && name == CWI_ORDER_NLC)
        channels_last(o, d[0], width ? length / width : 0, width, d[2]);
    else if (places)
        o->shape = shape_of(d[0], d[1], width ? length / width : 0, width);
    else if (name == CWI_ORDER_NC && n == 2 && !per_sample) {
        o->shape = cw_shape_of(2, (int64_t[]){shape->dim[1], shape->dim[0]});
        o->rows = d[0];
        o->columns = d[1];
    } else if (name == CWI_ORDER_NC && n == 1) {
        o->shape = cw_shape_of(2, (int64_t[]){1, shape->dim[0]});
    } else {
        return name == CWI_ORDER_NC && n == 2;
    }
    return true;
}

/* Rows of planes, or places where there is one row. */
static bool cut_into_bands(cwi_order *o, bool last, size_t bands)
{
    const size_t n = (size_t)o->shape.dim[0], c = (size_t)o->shape.dim[1], h = (size_t)o->shape.dim[2];
    const size_t w = (size_t)o->shape.dim[3], cut = h > 1 ? h : w;
    if (cut == 0 || cut % bands)
        return false;
    o->shape = shape_of(n * bands, c, h > 1 ? h / bands : h, h > 1 ? w : w / bands);
    if (last) {
        o->batch *= bands;
        o->rows /= bands;
        return true;
    }
    *o = (cwi_order){.shape = o->shape, .batch = n, .rows = c, .columns = bands, .block = h * w / bands};
    return true;
}

bool cwi_order_of(cwi_order_id id, const cw_shape *shape, bool per_sample, cwi_order *o)
{
    if (!order_without_bands(id, shape, per_sample, o))
        return false;
    if (id.bands == 0)
        return true;
    return id.bands > 1 && id.bands <= CWI_ORDER_BANDS_MOST && shape->ndim <= 4 && o->shape.ndim == 4 &&
           cut_into_bands(o, id.name == CWI_ORDER_NHWC || id.name == CWI_ORDER_NLC, id.bands);
}

/* As which they are coded; 0 where there are no dimensions. */
static size_t samples_of(cwi_order_name name, const cw_shape *shape, bool per_sample)
{
    if (name == CWI_ORDER_NC && shape->ndim == 1)
        return 1;
    if (name == CWI_ORDER_NC && shape->ndim == 2 && !per_sample)
        return (size_t)shape->dim[1];
    return shape->ndim ? (size_t)shape->dim[0] : 0;
}

bool cwi_order_for_few(cwi_order_id *id, const cw_shape *shape, size_t elements, bool per_sample)
{
    cwi_order o;
    cwi_ctx_shape s;
    const size_t samples = samples_of(id->name, shape, per_sample);
    if (samples == 0 || samples >= ENOUGH_SAMPLES)
        return false;
    cwi_order_id few = {.name = id->name, .width = id->width};
    if (!cwi_order_of(few, shape, per_sample, &o))
        return false;
    bool found = cwi_ctx_shape_narrow(&o.shape, elements, &s);
    few.narrow = found;
    for (unsigned bands = 2; !found && bands <= CWI_ORDER_BANDS_MOST; bands++) {
        few.bands = bands;
        if (!cwi_order_of(few, shape, per_sample, &o))
            continue;
        few.narrow = cwi_ctx_shape_narrow(&o.shape, elements, &s);
        found = few.narrow || samples * bands >= ENOUGH_SAMPLES;
    }
    *id = found ? few : *id;
    return found;
}

/* Whether anything can be cut into so many. */
static bool divides_any(const cw_shape *shape, unsigned bands)
{
    bool any = false;
    for (int i = 1; i < shape->ndim; i++)
        any |= shape->dim[i] % bands == 0;
    return any;
}

/* Any length of rows may be found: with it other bands, and more blocks, than without. */
bool cwi_order_next(cwi_order_id *id, const cw_shape *shape)
{
    const bool places = shape->ndim == 3 && (id->name == CWI_ORDER_NLC || id->name == CWI_ORDER_NCL);
    const size_t length = places ? (size_t)shape->dim[id->name == CWI_ORDER_NLC ? 1 : 2] : 0;
    const size_t most = CWI_MIN(length, (size_t)CWI_CTX_WIDTH);
    for (unsigned width = id->width + 1; id->bands == 0 && width <= most; width++)
        if (length % width == 0) {
            id->width = width;
            return true;
        }
    id->width = 0;
    if (shape->ndim >= 3 && shape->ndim <= 4 && (size_t)shape->dim[0] < ENOUGH_SAMPLES && id->name != CWI_ORDER_AUTO) {
        for (id->bands = CWI_MAX(id->bands, 1u) + 1; id->bands <= CWI_ORDER_BANDS_MOST; id->bands++)
            if (divides_any(shape, id->bands))
                return true;
    }
    id->bands = 0;
    if (id->name == CWI_ORDER_NC)
        return false;
    id->name = (cwi_order_name)(id->name + 1);
    return true;
}

/* ---- telling them from the data ---- */

enum {
    PAIRS = 2048,         /* that are compared along each dimension */
    FEATURES_MOST = 1024, /* samples of features up to which these are coded side by side */
};

typedef struct sample {
    const cwi_source *source;
    const cw_shape *shape;
    size_t elements;
    double mean, scale;
} sample;

/* A random element. */
static size_t any_of(const sample *s, const cwi_rng *r, size_t i)
{
    return (size_t)((cwi_rng_at(r, i) >> 32) * s->elements >> 32); /* without a division; where they fit into 32 bits */
}

/* Large elements count little more than others. */
static double at(const sample *s, size_t i)
{
    const double v = ((double)cwi_source_at(s->source, i) - s->mean) * s->scale;
    return v / (1 + fabs(v));
}

static void measure(sample *s)
{
    double sum = 0, square = 0;
    const cwi_rng r = cwi_rng_make(0, CWI_STREAM_CODEC, s->elements, PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        const double x = (double)cwi_source_at(s->source, any_of(s, &r, i));
        sum += x;
        square += fabs(x);
    }
    s->mean = sum / PAIRS;
    s->scale = square > 0 ? PAIRS / square : 0;
}

/* How much alike elements are that lie `lag` places apart along a dimension: 1 minus their difference's square over
 * that of any two. */
static double likeness_by(const sample *s, int dim, size_t lag, size_t pairs)
{
    size_t stride = 1;
    double beside = 0, any = 0;
    for (int i = dim + 1; i < s->shape->ndim; i++)
        stride *= (size_t)s->shape->dim[i];
    const size_t n = (size_t)s->shape->dim[dim];
    if (n <= lag)
        return 0;
    const cwi_rng r = cwi_rng_make(0, CWI_STREAM_CODEC, s->elements, PAIRS + 1);
    for (size_t i = 0; i < pairs; i++) {
        size_t first = any_of(s, &r, 2 * i);
        const size_t place = stride == 1 ? first % n : first / stride % n;
        if (place >= n - lag)
            first -= (place - (n - lag - 1)) * stride;
        const double a = at(s, first), b = at(s, first + lag * stride);
        const double c = at(s, any_of(s, &r, 2 * i + 1));
        beside += (a - b) * (a - b);
        any += (a - c) * (a - c);
    }
    return any > 0 ? 1 - beside / any : 0;
}

static double likeness(const sample *s, int dim, size_t lag)
{
    return likeness_by(s, dim, lag, PAIRS);
}

/* One dimension is the channels': the second, or the last. Shapes such as 64 x 8 x 8 say something of their own; frames
 * may be alike or not. Few pairs are enough where it is clear. */
static cwi_order_name guess_planes(const sample *s)
{
    static const struct {
        size_t pairs;
        double clear;
    } look[] = {{PAIRS / 8, 0.3}, {PAIRS / 2, 0.12}, {PAIRS, 0}};
    const int last = s->shape->ndim - 1;
    const int64_t *d = s->shape->dim;
    double favour = 0.02, more = 0;
    if (d[last] == d[last - 1] && d[last - 2] != d[last])
        favour += 0.15;
    if (d[last - 2] == d[last - 1] && d[last - 1] != d[last])
        favour -= 0.15;
    for (size_t i = 0; i < CWI_COUNT(look) && (i == 0 || fabs(more) < look[i - 1].clear); i++) {
        double first = likeness_by(s, last - 2, 1, look[i].pairs);
        if (last > 3)
            first = CWI_MIN(first, likeness_by(s, last - 1, 1, look[i].pairs));
        more = first - likeness_by(s, last, 1, look[i].pairs) - favour;
    }
    return more > 0 ? CWI_ORDER_NHWC : CWI_ORDER_NCHW;
}

/* By how much alike neighbours are along the second dimension, and the last. */
static cwi_order_name guess_places(const sample *s, double first, double last)
{
    const double unlike = 0.05; /* features, of which neighbours have nothing in common: they are channels */
    if (s->shape->dim[1] == 1 && last < unlike)
        return CWI_ORDER_NLC;
    if (s->shape->dim[2] == 1 && first < unlike)
        return CWI_ORDER_NCL;
    const double most = CWI_MAX(first, last), least = CWI_MIN(first, last);
    if (least > 0.4 && least > 0.8 * most)
        return CWI_ORDER_NCHW; /* planes of one channel */
    return last > first ? CWI_ORDER_NCL : CWI_ORDER_NLC;
}

/* Places that are the rows of an image, one after the other: those above each other are alike, more than
 * ones that lie a little nearer or farther. Returns the rows' length, or 0. */
static unsigned guess_width(const sample *s, int dim)
{
    enum { LEAST = 4, BESIDE = 2 };
    const double clearly = 0.015;
    const size_t length = (size_t)s->shape->dim[dim];
    double most = CWI_MAX(0.7 * likeness(s, dim, 1), likeness(s, dim, 2) - clearly);
    unsigned best = 0;
    for (size_t width = LEAST; width <= length / LEAST && width <= CWI_CTX_WIDTH; width++) {
        if (length % width)
            continue;
        const double above = likeness(s, dim, width);
        if (above > most && above > likeness(s, dim, width - BESIDE) + clearly &&
            above > likeness(s, dim, width + BESIDE) + clearly) {
            most = above;
            best = (unsigned)width;
        }
    }
    return best;
}

/* Rows that are too long for planes, as several that follow each other: the longest that divide them, or 0. */
static unsigned fold(size_t length)
{
    enum { LEAST = 64 };
    for (unsigned width = CWI_CTX_WIDTH; length > CWI_CTX_WIDTH && width >= LEAST; width--)
        if (length % width == 0)
            return width;
    return 0;
}

/* Neighbours along both dimensions are alike: either may be the channels, which foretell each other, too. Or they are
 * so much alike along one that what little is left may be foretold in any way. */
static bool places_are_in_doubt(double first, double last)
{
    const double alike = 0.1, as_much = 0.3, nearly_the_same = 0.97, most = CWI_MAX(first, last);
    return most >= nearly_the_same || CWI_MIN(first, last) >= CWI_MAX(alike, as_much * most);
}

/* But of 3 dimensions. */
static cwi_order_name guess_name(const sample *s, bool per_sample)
{
    const cw_shape *shape = s->shape;
    if (shape->ndim == 1 && !per_sample && shape->dim[0] <= CWI_CTX_NARROW)
        return CWI_ORDER_NC;
    if (shape->ndim < 2 || shape->ndim > 5)
        return CWI_ORDER_NCHW;
    if (shape->ndim == 2)
        return per_sample || shape->dim[0] > FEATURES_MOST ? CWI_ORDER_NCHW : CWI_ORDER_NC;
    return guess_planes(s);
}

static cwi_order_id with_width(const sample *s, cwi_order_name name)
{
    cwi_order_id id = {.name = name};
    if (s->shape->ndim == 3 && (name == CWI_ORDER_NLC || name == CWI_ORDER_NCL)) {
        const int places = name == CWI_ORDER_NLC ? 1 : 2;
        const unsigned width = guess_width(s, places);
        id.width = width ? width : fold((size_t)s->shape->dim[places]);
    }
    return id;
}

size_t cwi_order_guess(cwi_order_name name, const cwi_source *source, const cw_shape *shape, size_t elements,
                       bool per_sample, size_t most, cwi_order_id *out)
{
    static const cwi_order_name names[CWI_ORDER_GUESSES] = {CWI_ORDER_NCHW, CWI_ORDER_NLC, CWI_ORDER_NCL};
    sample s = {.source = source, .shape = shape, .elements = elements};
    measure(&s);
    if (name != CWI_ORDER_AUTO || shape->ndim != 3) {
        out[0] = with_width(&s, name == CWI_ORDER_AUTO ? guess_name(&s, per_sample) : name);
        return 1;
    }
    const double first = likeness(&s, 1, 1), last = likeness(&s, 2, 1);
    size_t count = 1;
    out[0] = with_width(&s, guess_places(&s, first, last));
    for (size_t i = 0; places_are_in_doubt(first, last) && i < CWI_ORDER_GUESSES && count < most; i++)
        if (names[i] != out[0].name)
            out[count++] = with_width(&s, names[i]);
    return count;
}

/* ---- moving elements ---- */

enum { TILE = 32 };

#define MOVE(type)                                                                                                     \
    static void move_##type(const type *in, size_t rows, size_t columns, type *out)                                    \
    {                                                                                                                  \
        for (size_t r = 0; r < rows; r += TILE)                                                                        \
            for (size_t c = 0; c < columns; c += TILE)                                                                 \
                for (size_t j = c; j < CWI_MIN(c + TILE, columns); j++)                                                \
                    for (size_t i = r; i < CWI_MIN(r + TILE, rows); i++)                                               \
                        out[j * rows + i] = in[i * columns + j];                                                       \
    }

MOVE(uint8_t)
MOVE(uint16_t)
MOVE(uint32_t)

static void move_blocks(const uint8_t *in, size_t rows, size_t columns, size_t bytes, uint8_t *out)
{
    for (size_t c = 0; c < columns; c++)
        for (size_t r = 0; r < rows; r++)
            memcpy(out + (c * rows + r) * bytes, in + (r * columns + c) * bytes, bytes);
}

static void move(const cwi_order *o, size_t rows, size_t columns, const void *in, size_t size, void *out)
{
    const size_t bytes = rows * columns * o->block * size;
    const uint8_t *from = in;
    uint8_t *to = out;
    for (size_t b = 0; b < o->batch; b++, from += bytes, to += bytes) {
        if (o->block > 1)
            move_blocks(from, rows, columns, o->block * size, to);
        else if (size == sizeof(uint8_t))
            move_uint8_t(from, rows, columns, to);
        else if (size == sizeof(uint16_t))
            move_uint16_t((const void *)from, rows, columns, (void *)to);
        else
            move_uint32_t((const void *)from, rows, columns, (void *)to);
    }
}

void cwi_order_put(const cwi_order *o, const void *in, size_t size, void *out)
{
    move(o, o->rows, o->columns, in, size, out);
}

void cwi_order_undo(const cwi_order *o, const void *in, size_t size, void *out)
{
    move(o, o->columns, o->rows, in, size, out);
}
