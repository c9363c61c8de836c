/* codec_ec.h - what encoder and decoder of ec share. Internal. */
#ifndef CWI_CODEC_EC_H
#define CWI_CODEC_EC_H

#include <string.h>

#include "codec/ctx.h"
#include "codec/ec_about.h"
#include "codec/ec_offsets.h"
#include "codec/order.h"
#include "codec/profile.h"

enum {
    CWI_EC_ERR,
    CWI_EC_BPE,
    CWI_EC_BYTES,
    CWI_EC_STEP,
    CWI_EC_ROUND,
    CWI_EC_SCOPE,
    CWI_EC_LAYOUT,
    CWI_EC_EFFORT,
    CWI_EC_KEYS
};
enum {
    CWI_EC_FIRST_KEYS = CWI_EC_LAYOUT,   /* of version 1 */
    CWI_EC_PAYLOAD_KEYS = CWI_EC_EFFORT, /* of version 2: what follows is the encoder's own business */
    CWI_EC_FIRST_PREFIX = 4,             /* bytes, likewise; those of version 2: */
    CWI_EC_AT_ORDER = 1,                 /* low 4 bits: its name; high 4: number of levels */
    CWI_EC_ORDER_KLT = 6,                /* such a name: that of the profile, whose transform was taken */
    CWI_EC_LEAST_PREFIX = 2,
    CWI_EC_MORE_BYTES = 3, /* width, 2 bytes, and bands */
    CWI_EC_PREFIX_MOST = 2 + 1 + CWI_EC_MORE_BYTES + CWI_PROFILE_HASH,
    CWI_EC_SIGNED = 1, /* flags */
    CWI_EC_CLASSES = 2,
    CWI_EC_SUPPORT = 4,  /* elements outside a support, which is not in the payload, are not coded */
    CWI_EC_ABOUT = 8,    /* symbols about a zero, of which there are signs in no other way; a byte for zero and tails */
    CWI_EC_OFFSETS = 16, /* channels have a background of their own */
    CWI_EC_NARROW = 32,  /* groups of one channel though samples are few */
    CWI_EC_PROFILE = 64, /* zero, levels, offsets, weights and tables are those of a profile, whose hash follows */
    CWI_EC_MORE = 128,   /* width and bands follow */
    CWI_EC_CLASS_LEVELS = CWI_CTX_CLASSES * CWI_CTX_CLASSED, /* bytes */
};

/* Bytes before steps, of version 2. */
static inline size_t cwi_ec_prefix(unsigned flags)
{
    return CWI_EC_LEAST_PREFIX + (flags & CWI_EC_ABOUT ? 1u : 0u) + (flags & CWI_EC_MORE ? CWI_EC_MORE_BYTES : 0u) +
           (flags & CWI_EC_PROFILE ? CWI_PROFILE_HASH : 0u);
}

cwi_layout cwi_ec_layout(const cwi_value *v, const cw_shape *shape, size_t elements);
/* The order of such a tensor, as cwi_order_of() has it. */
bool cwi_ec_order(const cwi_value *v, cwi_order_id id, const cw_shape *shape, cwi_order *out);
/* How such a tensor is coded; false where that cannot be. */
bool cwi_ec_ctx_shape(cwi_order_id id, const cw_shape *ordered, size_t elements, cwi_ctx_shape *out);
/* Bytes of the body between its prefix and the symbols. */
size_t cwi_ec_fixed(const cwi_layout *l, unsigned levels, bool classes);
/* Where a class's level of a symbol lies within half a step about the symbol, as a byte, and back, in steps. */
static inline uint8_t cwi_ec_level_put(unsigned symbol, double level)
{
    const double v = symbol ? (level - symbol + 0.5) * 256 : level * 512 + 0.5;
    return (uint8_t)CWI_MAX(CWI_MIN(v, 255.0), 0.0);
}
static inline float cwi_ec_level_get(unsigned symbol, uint8_t byte)
{
    return symbol ? (float)symbol - 0.5f + ((float)byte + 0.5f) / 256 : (float)byte / 512;
}

/* Moves *i on to the next of n symbols that is CWI_EC_EXACT or more; false when there is none. */
static inline bool cwi_ec_large(const uint8_t *symbols, size_t n, size_t *i)
{
    for (uint64_t eight; n - *i >= sizeof eight; *i += sizeof eight) {
        memcpy(&eight, symbols + *i, sizeof eight);
        if (eight & UINT64_C(0x0808080808080808))
            break;
    }
    while (*i < n && symbols[*i] < CWI_EC_EXACT)
        ++*i;
    return *i < n;
}

bool cwi_ec_bound(const cwi_input *in, size_t *size);
size_t cwi_ec_work_size(const cwi_input *in);
cw_status cwi_ec_encode(cwi_encode_job *job);

#endif
