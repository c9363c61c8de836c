/* ctx_moments.h - sums of products of symbols, exact. Internal. */
#ifndef CWI_CTX_MOMENTS_H
#define CWI_CTX_MOMENTS_H

#include <string.h>

#include "base/base.h"

/* In GNU C's vectors: pieces of 8 symbols, sums of 16 bits that are emptied in time. */
typedef uint8_t cwi_symbols8 __attribute__((vector_size(8)));
typedef int8_t cwi_signed8 __attribute__((vector_size(8)));
typedef int16_t cwi_products8 __attribute__((vector_size(16)));

static inline int64_t cwi_sum_of_8(cwi_products8 v)
{
    int64_t sum = 0;
    for (int i = 0; i < 8; i++)
        sum += v[i];
    return sum;
}

static inline cwi_products8 cwi_symbols_at(const uint8_t *p)
{
    cwi_symbols8 v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, cwi_products8);
}

/* Symbols are below 16: 128 products fit a sum. */
static inline uint64_t cwi_sum_products(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t total = 0;
    size_t i = 0;
    while (i + 8 <= n) {
        cwi_products8 sum = {0};
        for (size_t end = CWI_MIN(n - 7, i + 1024); i < end; i += 8)
            sum += cwi_symbols_at(a + i) * cwi_symbols_at(b + i);
        total += (uint64_t)cwi_sum_of_8(sum);
    }
    for (; i < n; i++)
        total += (uint64_t)a[i] * b[i];
    return total;
}

static inline uint64_t cwi_sum_symbols(const uint8_t *a, size_t n)
{
    uint64_t total = 0;
    size_t i = 0;
    while (i + 8 <= n) {
        cwi_products8 sum = {0};
        for (size_t end = CWI_MIN(n - 7, i + 8192); i < end; i += 8)
            sum += cwi_symbols_at(a + i);
        total += (uint64_t)cwi_sum_of_8(sum);
    }
    for (; i < n; i++)
        total += a[i];
    return total;
}

/* Of numbers of magnitude 127 at most and symbols: 16 products fit a sum. */
static inline int64_t cwi_sum_signed(const int8_t *a, const uint8_t *b, size_t n)
{
    int64_t total = 0;
    size_t i = 0;
    while (i + 8 <= n) {
        cwi_products8 sum = {0};
        for (size_t end = CWI_MIN(n - 7, i + 128); i < end; i += 8) {
            cwi_signed8 v;
            memcpy(&v, a + i, sizeof v);
            sum += __builtin_convertvector(v, cwi_products8) * cwi_symbols_at(b + i);
        }
        total += cwi_sum_of_8(sum);
    }
    for (; i < n; i++)
        total += (int64_t)a[i] * b[i];
    return total;
}

#endif
