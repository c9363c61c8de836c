/* cli_text.c - texts that came from elsewhere (paths, other programs' words), made fit for a terminal and for JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Bytes of the UTF-8 character at p, whose text is terminated; 0: none is there (RFC 3629). */
static size_t utf8_length(const unsigned char *p)
{
    const size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    const bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    const bool beyond = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
    return overlong || beyond ? 0 : n;
}

static bool steers(const unsigned char *p)
{
    return p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0); /* C0, DEL, C1 */
}

void cli_put_clean(FILE *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const size_t n = utf8_length(p);
        if (n && !steers(p))
            fwrite(p, 1, n, out);
        else if (*p == '\n')
            fputs("\\n", out);
        else
            for (size_t i = 0; i < (n ? n : 1); i++)
                fprintf(out, "\\x%02x", p[i]);
        p += n ? n : 1;
    }
}

json_t *cli_json_text(const char *text)
{
    static const char unknown[] = "\xef\xbf\xbd"; /* U+FFFD */
    char *clean = malloc(3 * strlen(text) + 1);
    size_t used = 0;
    if (!clean)
        return NULL;
    while (*text) {
        const size_t n = utf8_length((const unsigned char *)text);
        memcpy(clean + used, n ? text : unknown, n ? n : 3);
        used += n ? n : 3;
        text += n ? n : 1;
    }
    json_t *string = json_stringn(clean, used);
    free(clean);
    return string;
}

json_t *cli_json_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}
