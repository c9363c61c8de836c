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
#define HARDWARE __attribute__((target("sse4.2")))

HARDWARE static inline uint64_t crc_8(uint64_t crc, uint64_t v)
{
    return _mm_crc32_u64(crc, v);
}

HARDWARE static inline uint32_t crc_1(uint32_t crc, uint8_t v)
{
    return _mm_crc32_u8(crc, v);
}

static bool have_hardware(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
#define HARDWARE

/* By the assembler's name: the compiler's intrinsics need the extension switched on for the whole file. */
static inline uint64_t crc_8(uint64_t crc, uint64_t v)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(v));
    return crc;
}

static inline uint32_t crc_1(uint32_t crc, uint8_t v)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)v));
    return crc;
}

static bool have_hardware(void)
{
    enum { HWCAP_CRC32_BIT = 1 << 7 };
    return (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT) != 0;
}
#endif

#if defined(HARDWARE)
/* The instruction takes three cycles but can start every cycle: three runs of LANE bytes are summed side by side and
 * joined. A sum is moved past LANE bytes by tables, as that is linear in its bits. */
enum { LANE = 1024, LANES = 3 };
static uint32_t past_lane[4][256];

static inline uint64_t move_past_lane(uint64_t crc)
{
    return past_lane[0][crc & 255] ^ past_lane[1][crc >> 8 & 255] ^ past_lane[2][crc >> 16 & 255] ^
           past_lane[3][crc >> 24 & 255];
}

static void init_lanes(void)
{
    static const uint8_t zeros[LANE];
    for (unsigned byte = 0; byte < 4; byte++) {
        for (unsigned bit = 0; bit < 8; bit++)
            past_lane[byte][1u << bit] = crc_table(UINT32_C(1) << (8 * byte + bit), zeros, LANE);
        for (unsigned i = 1; i < 256; i++)
            past_lane[byte][i] = past_lane[byte][i & (i - 1)] ^ past_lane[byte][i & -i];
    }
}

HARDWARE static inline uint64_t crc_8_at(uint64_t crc, const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return crc_8(crc, v);
}

HARDWARE static uint32_t crc_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t a = crc;
    for (; n >= LANE * LANES; n -= LANE * LANES, p += LANE * LANES) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = crc_8_at(a, p + i);
            b = crc_8_at(b, p + LANE + i);
            c = crc_8_at(c, p + 2 * LANE + i);
        }
        a = move_past_lane(move_past_lane(a) ^ b) ^ c;
    }
    for (; n >= 8; n -= 8, p += 8)
        a = crc_8_at(a, p);
    crc = (uint32_t)a;
    for (; n; n--, p++)
        crc = crc_1(crc, *p);
    return crc;
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
#if defined(HARDWARE)
    init_lanes();
    if (have_hardware())
        crc_bytes = crc_hardware;
#endif
}

uint32_t cwi_crc32c(uint32_t crc, const void *data, size_t size)
{
    pthread_once(&once, init);
    return ~crc_bytes(~crc, data, size);
}
