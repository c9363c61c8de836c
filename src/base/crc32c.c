/* crc32c.c - CRC-32C: sliced tables everywhere, the CPU's instruction where there is one. */
#include <pthread.h>
#include <string.h>

#include "base/base.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

enum { SLICES = 8 };
static uint32_t table[SLICES][256];
static uint32_t (*crc_bytes)(uint32_t crc, const uint8_t *p, size_t n);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t crc_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= SLICES; n -= SLICES, p += SLICES) {
        uint64_t v = cwi_get_le(p, 8) ^ crc;
        crc = 0;
        for (int s = 0; s < SLICES; s++)
            crc ^= table[SLICES - 1 - s][(v >> (8 * s)) & 255];
    }
    for (; n; n--, p++)
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 255];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t wide = crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        wide = _mm_crc32_u64(wide, v);
    }
    crc = (uint32_t)wide;
    for (; n; n--, p++)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}

static bool have_hardware(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
/* By the assembler's name: the compiler's intrinsics need the extension switched on for the whole file. */
static uint32_t crc_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(v));
    }
    for (; n; n--, p++)
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*p));
    return crc;
}

static bool have_hardware(void)
{
    enum { HWCAP_CRC32_BIT = 1 << 7 };
    return (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT) != 0;
}
#endif

static void init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (c & 1 ? UINT32_C(0x82f63b78) : 0);
        table[0][i] = c;
    }
    for (int s = 1; s < SLICES; s++)
        for (uint32_t i = 0; i < 256; i++)
            table[s][i] = (table[s - 1][i] >> 8) ^ table[0][table[s - 1][i] & 255];
    crc_bytes = crc_table;
#if defined(__x86_64__) || defined(__aarch64__)
    if (have_hardware())
        crc_bytes = crc_hardware;
#endif
}

uint32_t cwi_crc32c(uint32_t crc, const void *data, size_t size)
{
    pthread_once(&once, init);
    return ~crc_bytes(~crc, data, size);
}
