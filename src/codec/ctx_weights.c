/* ctx_weights.c - the weights of predictions, written and read. */
#include "codec/bits.h"
#include "codec/ctx.h"

enum { SHARED_BITS = 3, REFS_BITS = 4, LOW_BITS = 3, GAMMA_MOST = 12 };

/* Bits of numbers below n. */
static unsigned bits_below(size_t n)
{
    return n > 1 ? 64 - (unsigned)__builtin_clzll(n - 1) : 0;
}

/* Small numbers in few bits: sign folded in, the low bits as they are, the rest a gamma code. */
static uint32_t folded(int v)
{
    return v < 0 ? 2 * (uint32_t)-v - 1 : 2 * (uint32_t)v;
}

static void put_number(cwi_bit_writer *w, int v)
{
    const uint32_t u = folded(v);
    cwi_gamma_put(w, (u >> LOW_BITS) + 1);
    cwi_bits_put(w, u & ((1u << LOW_BITS) - 1), LOW_BITS);
}

static unsigned number_bits(int v)
{
    return 2 * (31 - (unsigned)__builtin_clz((folded(v) >> LOW_BITS) + 1)) + 1 + LOW_BITS;
}

static bool get_number(cwi_bit_reader *r, int most, int16_t *v)
{
    const uint32_t high = cwi_gamma_get(r, GAMMA_MOST);
    if (high == 0)
        return false;
    const uint32_t u = (high - 1) << LOW_BITS | (uint32_t)cwi_bits_get(r, LOW_BITS);
    const int value = u & 1 ? -(int)(u / 2) - 1 : (int)(u / 2);
    *v = (int16_t)value;
    return value >= -most && value <= most;
}

/* ---- sets ---- */

/* Channel `channel` has this set of its own, or with SIZE_MAX it is shared. */
static unsigned count_of(const cwi_ctx_set *set, size_t channel)
{
    return CWI_CTX_NEAR + (channel < SIZE_MAX ? set->refs : 0u);
}

static size_t set_bits(const cwi_ctx_set *set, size_t channel, bool may_refer)
{
    size_t bits = number_bits(set->bias);
    for (unsigned i = 0; i < count_of(set, channel); i++)
        bits += number_bits(set->weight[i]);
    return bits + (channel < SIZE_MAX && may_refer ? REFS_BITS + set->refs * bits_below(channel) : 0);
}

static void put_set(cwi_bit_writer *w, const cwi_ctx_set *set, size_t channel, bool may_refer)
{
    if (channel < SIZE_MAX && may_refer) {
        cwi_bits_put(w, set->refs, REFS_BITS);
        for (unsigned i = 0; i < set->refs; i++)
            cwi_bits_put(w, set->ref[i], bits_below(channel));
    }
    put_number(w, set->bias);
    for (unsigned i = 0; i < count_of(set, channel); i++)
        put_number(w, set->weight[i]);
}

static bool get_set(cwi_bit_reader *r, cwi_ctx_set *set, size_t channel, bool may_refer)
{
    memset(set, 0, sizeof *set);
    if (channel < SIZE_MAX && may_refer) {
        set->refs = (uint16_t)cwi_bits_get(r, REFS_BITS);
        if (set->refs > CWI_MIN(channel, (size_t)CWI_CTX_REFS))
            return false;
        for (unsigned i = 0; i < set->refs; i++) {
            set->ref[i] = (uint16_t)cwi_bits_get(r, bits_below(channel));
            if (set->ref[i] >= channel)
                return false;
        }
    }
    if (!get_number(r, CWI_CTX_BIAS_MOST, &set->bias))
        return false;
    for (unsigned i = 0; i < count_of(set, channel); i++)
        if (!get_number(r, CWI_CTX_WEIGHT_MOST, &set->weight[i]))
            return false;
    return !r->short_of;
}

/* ---- all ---- */

size_t cwi_ctx_weights_bits(const cwi_ctx_tables *t, const cwi_ctx_shape *s)
{
    size_t bits = 0;
    if (t->mode == CWI_CTX_OWN)
        for (size_t c = 0; c < s->channels; c++)
            bits += set_bits(&t->sets[c], c, cwi_ctx_may_refer(s));
    if (t->mode == CWI_CTX_SHARE) {
        bits += SHARED_BITS + s->channels * bits_below(t->shared);
        for (unsigned i = 0; i < t->shared; i++)
            bits += set_bits(&t->sets[i], SIZE_MAX, false);
    }
    return bits;
}

void cwi_ctx_weights_put(const cwi_ctx_tables *t, const cwi_ctx_shape *s, cwi_bit_writer *w)
{
    if (t->mode == CWI_CTX_OWN)
        for (size_t c = 0; c < s->channels; c++)
            put_set(w, &t->sets[c], c, cwi_ctx_may_refer(s));
    if (t->mode == CWI_CTX_SHARE) {
        cwi_bits_put(w, t->shared - 1, SHARED_BITS);
        for (size_t c = 0; c < s->channels; c++)
            cwi_bits_put(w, t->of[c], bits_below(t->shared));
        for (unsigned i = 0; i < t->shared; i++)
            put_set(w, &t->sets[i], SIZE_MAX, false);
    }
}

bool cwi_ctx_weights_get(cwi_bit_reader *r, const cwi_ctx_shape *s, cwi_ctx_tables *t)
{
    if (t->mode == CWI_CTX_OWN) {
        if (!cwi_ctx_may_own(s))
            return false;
        for (size_t c = 0; c < s->channels; c++)
            if (!get_set(r, &t->sets[c], c, cwi_ctx_may_refer(s)))
                return false;
    }
    if (t->mode == CWI_CTX_SHARE) {
        t->shared = (unsigned)cwi_bits_get(r, SHARED_BITS) + 1;
        for (size_t c = 0; c < s->channels; c++) {
            t->of[c] = (uint8_t)cwi_bits_get(r, bits_below(t->shared));
            if (t->of[c] >= t->shared)
                return false;
        }
        for (unsigned i = 0; i < t->shared; i++)
            if (!get_set(r, &t->sets[i], SIZE_MAX, false))
                return false;
    }
    return !r->short_of;
}
