/* ec_about.h - ec's symbols about a zero: those of signed numbers, in one alphabet. Internal.
 *
 * k = round(x / step) has symbol k + zero where that is 1 .. 14, or 0 with zero = 0. What lies below has symbol 0, and
 * what lies above 15, which are tails: how far k is beyond follows in an exponential Golomb code, and what is too far
 * as it is. */
#ifndef CWI_EC_ABOUT_H
#define CWI_EC_ABOUT_H

#include "codec/bits.h"
#include "codec/ctx.h"

enum {
    CWI_ABOUT_TOP = CWI_SYMBOLS - 1,
    CWI_ABOUT_ORDERS = 8,    /* of the Golomb codes */
    CWI_ABOUT_FAR = 1 << 10, /* an excess from which on an element is sent as it is */
    CWI_ABOUT_GAMMA_MOST = 11,
    CWI_ABOUT_BINS = 1 << 10,          /* of a tensor's values, over the root mean square: 1/16 each, from -32 on */
    CWI_ABOUT_SAMPLE = 1 << 13,        /* elements in them */
    CWI_ABOUT_MARKS = CWI_SYMBOLS / 8, /* bytes: which symbols have a level, and which one in any class */
    CWI_ABOUT_CLASS_MARKS = CWI_CTX_CLASSES / 8, /* the same: which classes have one of a symbol */
    CWI_ABOUT_LEVELS_MOST =
        2 * CWI_ABOUT_MARKS + CWI_SYMBOLS * (2 + CWI_ABOUT_CLASS_MARKS + CWI_CTX_CLASSES), /* bytes */
};

/* ---- levels: where within its step an element of a symbol is taken to lie, from its lower end on ---- */

enum { CWI_ABOUT_FINE = 1 << 16, CWI_ABOUT_COARSE = 1 << 8, CWI_ABOUT_MIDDLE = CWI_ABOUT_FINE / 2 };

typedef struct cwi_about_levels {
    uint16_t common[CWI_SYMBOLS];              /* in 1/CWI_ABOUT_FINE; with CWI_ABOUT_MIDDLE nothing is written */
    uint8_t own[CWI_CTX_CLASSES][CWI_SYMBOLS]; /* in 1/CWI_ABOUT_COARSE */
    bool has[CWI_CTX_CLASSES][CWI_SYMBOLS];
    unsigned count; /* of those that classes have */
} cwi_about_levels;

/* In steps. */
static inline float cwi_about_level(const cwi_about_levels *l, unsigned class, unsigned symbol, unsigned zero)
{
    const float k = (float)((int)symbol - (int)zero) - 0.5f;
    if (l->has[class][symbol])
        return k + (float)l->own[class][symbol] / CWI_ABOUT_COARSE;
    return k + (float)l->common[symbol] / CWI_ABOUT_FINE;
}
static inline bool cwi_about_is_tail(unsigned symbol, unsigned zero)
{
    return symbol == CWI_ABOUT_TOP || (symbol == 0 && zero > 0);
}
/* Of no symbol. */
void cwi_about_levels_clear(cwi_about_levels *l);
/* Their bytes, and their writing; with count = 0 classes have none. */
size_t cwi_about_levels_size(const cwi_about_levels *l);
void cwi_about_levels_put(const cwi_about_levels *l, uint8_t *out);
/* Where they end; NULL where they are not within `size` bytes. */
const uint8_t *cwi_about_levels_get(const uint8_t *in, size_t size, bool classes, cwi_about_levels *l);

/* ---- tails ---- */

/* Moves *i on to the next tail of n symbols; false when there is none. */
bool cwi_about_next(const uint8_t *symbols, size_t n, unsigned zero, size_t *i);

typedef struct cwi_about_tails {
    uint64_t bits[CWI_ABOUT_ORDERS]; /* that they take with each order */
    uint64_t escaped;
} cwi_about_tails;

/* How far an element of a tail is beyond. */
uint32_t cwi_about_excess(const cwi_quant *q, float x, unsigned symbol);
/* Of elements and their symbols. */
void cwi_about_tally(const cwi_quant *q, const float *x, const uint8_t *symbols, size_t n, unsigned zero,
                     cwi_about_tails *t);
unsigned cwi_about_order(const cwi_about_tails *t);
static inline void cwi_about_excess_put(cwi_bit_writer *w, uint32_t excess, unsigned order)
{
    cwi_gamma_put(w, (excess >> order) + 1);
    cwi_bits_put(w, excess & ((1u << order) - 1), order);
}
/* CWI_ABOUT_FAR + 1 where there is none. */
static inline uint32_t cwi_about_excess_get(cwi_bit_reader *r, unsigned order)
{
    const uint32_t high = cwi_gamma_get(r, CWI_ABOUT_GAMMA_MOST);
    const uint64_t excess = high ? (uint64_t)(high - 1) << order | cwi_bits_get(r, order) : CWI_ABOUT_FAR + 1;
    return excess <= CWI_ABOUT_FAR && !r->short_of ? (uint32_t)excess : CWI_ABOUT_FAR + 1;
}

/* ---- whether, and about which zero ---- */

/* Of a sample; `rms` of each segment. */
void cwi_about_sample(const cwi_source *s, const cwi_layout *l, const double *rms, uint32_t bins[CWI_ABOUT_BINS]);
/* False where magnitudes and signs apart would take less at this step, or where all is 0. Counted is what no context
 * foretells; where these foretell signs, too, symbols about a zero may take `more` bits an element and win all the
 * same.
 */
bool cwi_about_choose(const uint32_t bins[CWI_ABOUT_BINS], double step, double more, unsigned *zero);

#endif
