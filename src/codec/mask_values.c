/* mask_values.c - kept values in fewer bits: Golomb's code (Rice's) of what they exceed the least one by. */
#include "codec/mask_values.h"

#include "codec/bits.h"

enum { SIZE_BYTES = 6, SHIFT_AT = 6, LOW_AT = 7, PREFIX = 8, LOW_MOST = 31 };

/* A value's magnitude as a number that grows with it. */
static uint32_t magnitude(const cwi_mask *m, const uint8_t *value, bool *negative)
{
    const unsigned size = cwi_values_size(m->values);
    const uint32_t bits = (uint32_t)cwi_get_le(value, size), sign = UINT32_C(1) << (8 * size - 1);
    *negative = bits & sign;
    return bits & ~sign;
}

static size_t fixed_size(const cwi_mask *m)
{
    return PREFIX + m->layout.segments * cwi_values_size(m->values);
}

static uint32_t least_of(const cwi_mask *m, const uint8_t *values)
{
    const size_t size = cwi_values_size(m->values);
    bool negative;
    uint32_t least = UINT32_MAX;
    for (size_t i = 0; i < m->kept; i++)
        least = CWI_MIN(least, magnitude(m, values + i * size, &negative));
    return least;
}

/* ---- packing ---- */

/* Calls of one value each. */
typedef void visitor(void *ctx, uint32_t distance, bool negative);

static void visit_all(const cwi_mask *m, const uint8_t *values, visitor *visit, void *ctx)
{
    const size_t size = cwi_values_size(m->values);
    for (size_t s = 0; s < m->layout.segments; s++, values += m->kept * size) {
        const uint32_t least = least_of(m, values);
        for (size_t i = 0; i < m->kept; i++) {
            bool negative;
            const uint32_t all = magnitude(m, values + i * size, &negative);
            visit(ctx, all - least, negative);
        }
    }
}

typedef struct totals {
    uint32_t any; /* all distances, or'ed */
    uint64_t sum;
    bool negative; /* any value */
} totals;

static void visit_total(void *ctx, uint32_t distance, bool negative)
{
    totals *t = ctx;
    t->negative |= negative;
    t->any |= distance;
    t->sum += distance;
}

typedef struct packing {
    cwi_bit_writer writer;
    bool is_signed;
    unsigned shift, low;
    uint64_t bits; /* of all */
} packing;

static void visit_measure(void *ctx, uint32_t distance, bool negative)
{
    (void)negative;
    packing *p = ctx;
    p->bits += (distance >> p->shift >> p->low) + 1u + p->low + p->is_signed;
}

static void visit_put(void *ctx, uint32_t distance, bool negative)
{
    packing *p = ctx;
    const uint32_t d = distance >> p->shift;
    if (p->is_signed)
        cwi_bits_put(&p->writer, negative, 1);
    uint32_t high = d >> p->low;
    for (; high >= 32; high -= 32)
        cwi_bits_put(&p->writer, 0, 32);
    cwi_bits_put(&p->writer, UINT64_C(1) << high, high + 1);
    cwi_bits_put(&p->writer, d & (uint32_t)((UINT64_C(1) << p->low) - 1), p->low);
}

/* The number of low bits that suits distances of this sum: about log2 of their mean. */
static unsigned low_for(uint64_t sum, size_t count)
{
    unsigned low = 0;
    while (low < LOW_MOST && (uint64_t)count << (low + 1) <= sum)
        low++;
    return low;
}

size_t cwi_values_pack(const cwi_mask *m, const uint8_t *values, uint8_t *out)
{
    const size_t count = m->layout.segments * m->kept, plain = count * cwi_values_size(m->values);
    totals t = {0};
    if (count == 0)
        return 0;
    visit_all(m, values, visit_total, &t);
    if (t.negative && !m->is_signed)
        return 0; /* -0, kept where there is nothing larger: its sign has no place here */
    packing p = {.is_signed = m->is_signed};
    p.shift = t.any ? (unsigned)__builtin_ctz(t.any) : 0;
    const unsigned about = low_for(t.sum >> p.shift, count);
    uint64_t best = UINT64_MAX;
    unsigned best_low = 0;
    for (p.low = about ? about - 1 : 0; p.low <= CWI_MIN(about + 1, (unsigned)LOW_MOST); p.low++) {
        p.bits = 0;
        visit_all(m, values, visit_measure, &p);
        if (p.bits < best) {
            best = p.bits;
            best_low = p.low;
        }
    }
    const uint64_t size = fixed_size(m) + (best + 7) / 8;
    if (size >= plain)
        return 0;
    p.low = best_low;
    cwi_put_le(out, size, SIZE_BYTES);
    out[SHIFT_AT] = (uint8_t)p.shift;
    out[LOW_AT] = (uint8_t)p.low;
    const size_t each = cwi_values_size(m->values);
    for (size_t s = 0; s < m->layout.segments; s++)
        cwi_put_le(out + PREFIX + s * each, least_of(m, values + s * m->kept * each), (unsigned)each);
    p.writer.next = out + fixed_size(m);
    visit_all(m, values, visit_put, &p);
    cwi_bits_finish(&p.writer);
    return (size_t)size;
}

/* ---- unpacking ---- */

size_t cwi_values_packed(const cwi_mask *m, const uint8_t *in, size_t size)
{
    const size_t fixed = fixed_size(m);
    if (size < fixed)
        return 0;
    const uint64_t claimed = cwi_get_le(in, SIZE_BYTES);
    const bool fits = claimed >= fixed && claimed <= size && in[SHIFT_AT] <= LOW_MOST && in[LOW_AT] <= LOW_MOST;
    return fits && (claimed - fixed) * 8 / (1u + in[LOW_AT]) >= m->layout.segments * m->kept ? (size_t)claimed : 0;
}

/* False when there are more than `most` zeros. */
static bool get_zeros(cwi_bit_reader *r, uint64_t most, uint64_t *zeros)
{
    for (*zeros = 0; *zeros <= most && !r->short_of; ++*zeros)
        if (cwi_bits_get(r, 1))
            return true;
    return false;
}

bool cwi_values_unpack(const cwi_mask *m, const uint8_t *in, size_t size, uint8_t *values)
{
    const unsigned each = cwi_values_size(m->values), shift = in[SHIFT_AT], low = in[LOW_AT];
    const uint32_t sign = UINT32_C(1) << (8 * each - 1);
    cwi_bit_reader r = {.next = in + fixed_size(m), .end = in + size};
    for (size_t s = 0; s < m->layout.segments; s++) {
        const uint64_t least = cwi_get_le(in + PREFIX + s * each, each);
        for (size_t i = 0; i < m->kept; i++, values += each) {
            const bool negative = m->is_signed && cwi_bits_get(&r, 1);
            uint64_t high;
            if (!get_zeros(&r, (uint64_t)sign >> shift >> low, &high))
                return false;
            const uint64_t v = least + ((high << low | cwi_bits_get(&r, low)) << shift);
            if (v >= sign)
                return false;
            cwi_put_le(values, v | (negative ? sign : 0), each);
        }
    }
    return !r.short_of && r.next == r.end;
}
