/* utf8.c - which bytes are text (RFC 3629: no overlong forms, no surrogates). */
#include "base/base.h"

size_t cwi_utf8_length(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool beyond = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
    return overlong || beyond ? 0 : n;
}

bool cwi_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t step = cwi_utf8_length((const uint8_t *)s + i, n - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}
