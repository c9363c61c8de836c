/* ec_about.c - symbols about a zero: which zero, levels, and what lies beyond the alphabet. */
#include "codec/ec_about.h"

#include <math.h>
#include <string.h>

/* ---- levels ---- */

void cwi_about_levels_clear(cwi_about_levels *l)
{
    memset(l, 0, sizeof *l);
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        l->common[s] = CWI_ABOUT_MIDDLE;
}

/* Of 16 symbols, or of 16 classes of one symbol. */
static unsigned class_marks(const cwi_about_levels *l, unsigned symbol)
{
    unsigned marks = 0;
    for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
        marks |= (unsigned)l->has[c][symbol] << c;
    return marks;
}

static unsigned symbols_with_classes(const cwi_about_levels *l)
{
    unsigned marks = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        marks |= (unsigned)(class_marks(l, s) != 0) << s;
    return marks;
}

static unsigned symbols_with_levels(const cwi_about_levels *l)
{
    unsigned marks = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        marks |= (unsigned)(l->common[s] != CWI_ABOUT_MIDDLE) << s;
    return marks;
}

size_t cwi_about_levels_size(const cwi_about_levels *l)
{
    size_t size = CWI_ABOUT_MARKS + sizeof *l->common * (size_t)__builtin_popcount(symbols_with_levels(l));
    if (l->count)
        size +=
            CWI_ABOUT_MARKS + CWI_ABOUT_CLASS_MARKS * (size_t)__builtin_popcount(symbols_with_classes(l)) + l->count;
    return size;
}

static uint8_t *put_marks(unsigned marks, uint8_t *out)
{
    cwi_put_le(out, marks, CWI_ABOUT_MARKS);
    return out + CWI_ABOUT_MARKS;
}

void cwi_about_levels_put(const cwi_about_levels *l, uint8_t *out)
{
    out = put_marks(symbols_with_levels(l), out);
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        if (l->common[s] != CWI_ABOUT_MIDDLE) {
            cwi_put_le(out, l->common[s], sizeof *l->common);
            out += sizeof *l->common;
        }
    if (l->count == 0)
        return;
    out = put_marks(symbols_with_classes(l), out);
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        if (class_marks(l, s) == 0)
            continue;
        out = put_marks(class_marks(l, s), out);
        for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
            if (l->has[c][s])
                *out++ = l->own[c][s];
    }
}

/* Marks, behind which there are `each` bytes or more for each one that is set; NULL when they end too early. */
static const uint8_t *get_marks(const uint8_t *in, const uint8_t *end, size_t each, unsigned *marks)
{
    *marks = 0;
    if (!in || end - in < CWI_ABOUT_MARKS)
        return NULL;
    *marks = (unsigned)cwi_get_le(in, CWI_ABOUT_MARKS);
    in += CWI_ABOUT_MARKS;
    return (size_t)(end - in) < each * (size_t)__builtin_popcount(*marks) ? NULL : in;
}

static const uint8_t *get_classes(const uint8_t *in, const uint8_t *end, unsigned symbol, cwi_about_levels *l)
{
    unsigned marks;
    in = get_marks(in, end, 1, &marks);
    for (unsigned c = 0; in && c < CWI_CTX_CLASSES; c++)
        if (marks >> c & 1) {
            l->has[c][symbol] = true;
            l->own[c][symbol] = *in++;
            l->count++;
        }
    return in;
}

const uint8_t *cwi_about_levels_get(const uint8_t *in, size_t size, bool classes, cwi_about_levels *l)
{
    const uint8_t *end = in + size;
    unsigned marks;
    cwi_about_levels_clear(l);
    in = get_marks(in, end, sizeof *l->common, &marks);
    for (unsigned s = 0; in && s < CWI_SYMBOLS; s++)
        if (marks >> s & 1) {
            l->common[s] = (uint16_t)cwi_get_le(in, sizeof *l->common);
            in += sizeof *l->common;
        }
    if (!classes)
        return in;
    in = get_marks(in, end, CWI_ABOUT_CLASS_MARKS, &marks);
    for (unsigned s = 0; in && s < CWI_SYMBOLS; s++)
        if (marks >> s & 1)
            in = get_classes(in, end, s, l);
    return in;
}

/* ---- tails ---- */

enum { PIECE = 64 };

#define EIGHT(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether any of 64 symbols is one: in a form that compilers make vectors of. */
static bool any_tail(const uint8_t *symbols, unsigned zero)
{
    const uint8_t first = zero > 0, count = (uint8_t)(CWI_ABOUT_TOP - first);
    uint8_t any = 0;
    for (size_t i = 0; i < PIECE; i++)
        any |= (uint8_t)(symbols[i] - first) >= count;
    return any;
}

bool cwi_about_next(const uint8_t *symbols, size_t n, unsigned zero, size_t *i)
{
    while (n - *i >= PIECE && !any_tail(symbols + *i, zero))
        *i += PIECE;
    const uint64_t low = zero ? EIGHT(0x10) : 0;
    for (uint64_t eight; n - *i >= sizeof eight; *i += sizeof eight) {
        memcpy(&eight, symbols + *i, sizeof eight);
        if (((eight + EIGHT(1)) & EIGHT(0x10)) | (~(eight + EIGHT(15)) & low))
            break;
    }
    while (*i < n && !cwi_about_is_tail(symbols[*i], zero))
        ++*i;
    return *i < n;
}

uint32_t cwi_about_excess(const cwi_quant *q, float x, unsigned symbol)
{
    const float left = x * q->pre - q->base, scaled = left * q->scale; /* each rounded */
    const float beyond = symbol ? floorf(scaled + 0.5f) - CWI_ABOUT_TOP : -floorf(scaled + 0.5f);
    return beyond < CWI_ABOUT_FAR ? (uint32_t)CWI_MAX(beyond, 0.0f) : CWI_ABOUT_FAR;
}

void cwi_about_tally(const cwi_quant *q, const float *x, const uint8_t *symbols, size_t n, unsigned zero,
                     cwi_about_tails *t)
{
    for (size_t i = 0; i < n && cwi_about_next(symbols, n, zero, &i); i++) {
        const uint32_t excess = cwi_about_excess(q, x[i], symbols[i]);
        for (unsigned order = 0; order < CWI_ABOUT_ORDERS; order++)
            t->bits[order] += 2 * (31 - (unsigned)__builtin_clz((excess >> order) + 1)) + 1 + order;
        t->escaped += excess == CWI_ABOUT_FAR;
    }
}

unsigned cwi_about_order(const cwi_about_tails *t)
{
    unsigned best = 0;
    for (unsigned order = 1; order < CWI_ABOUT_ORDERS; order++)
        best = t->bits[order] < t->bits[best] ? order : best;
    return best;
}

/* ---- the zero ---- */

enum {
    BIN = 16,
    /* bins in the root mean square */ LINE = 16,
    /* elements of the sample that lie together */ MOST = 64
};

/* `n` elements of one segment. */
static void bin_line(const float *x, size_t n, float bins_of_one, uint32_t bins[CWI_ABOUT_BINS])
{
    int32_t at[LINE];
    for (size_t k = 0; k < n; k++) {
        const float v = x[k] * bins_of_one + CWI_ABOUT_BINS / 2;
        at[k] = (int32_t)CWI_MIN(CWI_MAX(v, 0.0f), (float)(CWI_ABOUT_BINS - 1));
    }
    for (size_t k = 0; k < n; k++)
        bins[at[k]]++;
}

void cwi_about_sample(const cwi_source *s, const cwi_layout *l, const double *rms, uint32_t bins[CWI_ABOUT_BINS])
{
    float chunk[CWI_CHUNK];
    const size_t lines = l->elements / LINE, wanted = CWI_ABOUT_SAMPLE / LINE,
                 each = CWI_MAX(lines / wanted, (size_t)1);
    const cwi_rng r = cwi_rng_make(0, CWI_STREAM_CODEC, l->elements, each);
    memset(bins, 0, CWI_ABOUT_BINS * sizeof *bins);
    for (size_t i = 0; i <= lines; i += each) {
        const size_t turn = each > 1 ? (size_t)(cwi_rng_at(&r, i) % each) : 0;
        const size_t first = CWI_MIN((i + turn) * LINE, l->elements), end = CWI_MIN(first + LINE, l->elements);
        const float *x = cwi_source_get(s, first, end - first, chunk);
        for (size_t k = first; k < end;) {
            const size_t segment = l->segments == 1 ? 0 : k / l->length,
                         n = CWI_MIN(end, (segment + 1) * l->length) - k;
            const double per = rms[segment] > 0 ? BIN / rms[segment] : 0; /* or all are 0 */
            bin_line(x + (k - first), n, (float)CWI_MIN(per, 0x1p126), bins);
            k += n;
        }
    }
}

/* Of the sample at a step: how many have each k, below, at and above 0. */
typedef struct steps {
    double count[2 * MOST + 1], all;
    int least, most;       /* k of those there are */
    double bits[MOST + 1]; /* about what the code of an excess takes */
} steps;

static void count_steps(const uint32_t *bins, double step, steps *out)
{
    const double per = 1 / (BIN * step);
    memset(out, 0, sizeof *out);
    for (size_t b = 0; b < CWI_ABOUT_BINS; b++) {
        if (bins[b] == 0)
            continue;
        const double v = ((double)b + 0.5 - CWI_ABOUT_BINS / 2) * per;
        int k = (int)CWI_MIN(CWI_MAX(floor(v + 0.5), (double)-MOST), (double)MOST);
        if (k == 0 && (b == 0 || b == CWI_ABOUT_BINS - 1))
            k = b ? MOST : -MOST; /* anything */
        out->count[MOST + k] += bins[b];
        out->all += bins[b];
        out->least = CWI_MIN(out->least, k);
        out->most = CWI_MAX(out->most, k);
    }
    for (int i = 0; i <= CWI_MAX(out->most, -out->least); i++)
        out->bits[i] = 1 + 2 * log2(1.0 + i);
}

static double tail_bits(const steps *s, unsigned zero)
{
    double bits = 0;
    for (int k = CWI_ABOUT_TOP - (int)zero; k <= s->most; k++)
        bits += s->count[MOST + k] * s->bits[k + (int)zero - CWI_ABOUT_TOP];
    for (int k = s->least; zero > 0 && k <= -(int)zero; k++)
        bits += s->count[MOST + k] * s->bits[-k - (int)zero];
    return bits;
}

/* What signs and the lower bits of magnitudes take. */
static double bits_apart(const steps *s, bool is_signed)
{
    double bits = 0;
    for (int k = s->least; k <= s->most; k++) {
        const int v = k < 0 ? -k : k;
        const unsigned lower = v >= CWI_EC_EXACT ? 31 - (unsigned)__builtin_clz((unsigned)v) : 0;
        bits += s->count[MOST + k] * ((v && is_signed) + lower);
    }
    return bits;
}

bool cwi_about_choose(const uint32_t bins[CWI_ABOUT_BINS], double step, double more, unsigned *zero)
{
    steps s;
    bool is_signed = false;
    count_steps(bins, step, &s);
    for (size_t b = 0; b < CWI_ABOUT_BINS / 2; b++)
        is_signed |= bins[b] != 0;
    double least = INFINITY;
    for (unsigned z = is_signed; z <= (is_signed ? CWI_ABOUT_TOP - 1 : 0); z++) {
        /* where several will do, one that leaves as much room below as above */
        const double bits = tail_bits(&s, z) * (1 + 1e-3 * fabs(z - CWI_ABOUT_TOP / 2.0)) + 1e-9 * fabs(z - 7.0);
        if (bits < least) {
            least = bits;
            *zero = z;
        }
    }
    return s.count[MOST] < s.all && least <= bits_apart(&s, is_signed) + more * s.all;
}
