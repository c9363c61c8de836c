/* json.c - strict JSON pieces: punctuation, strings, non-negative integers. */
#include <string.h>

#include "io/json.h"

cw_status cwi_json_fail(const cwi_json *j, const char *what)
{
    return cwi_fail_at(j->err, CW_ERR_CORRUPT, (uint64_t)(j->p - j->base), "%s at byte %td", what, j->p - j->base);
}

static void skip_space(cwi_json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\t' || *j->p == '\r'))
        j->p++;
}

bool cwi_json_take(cwi_json *j, char ch)
{
    skip_space(j);
    if (j->p == j->end || *j->p != (uint8_t)ch)
        return false;
    j->p++;
    return true;
}

cw_status cwi_json_expect(cwi_json *j, char ch)
{
    if (cwi_json_take(j, ch))
        return CW_OK;
    return cwi_fail_at(j->err, CW_ERR_CORRUPT, (uint64_t)(j->p - j->base), "'%c' expected at byte %td", ch,
                       j->p - j->base);
}

cw_status cwi_json_more(cwi_json *j, char close, bool *more)
{
    *more = cwi_json_take(j, ',');
    return *more ? CW_OK : cwi_json_expect(j, close);
}

cw_status cwi_json_end(cwi_json *j)
{
    skip_space(j);
    return j->p == j->end ? CW_OK : cwi_json_fail(j, "something follows the last '}'");
}

cw_status cwi_json_int(cwi_json *j, int64_t *out)
{
    skip_space(j);
    const uint8_t *first = j->p;
    int64_t v = 0;
    for (; j->p < j->end && *j->p >= '0' && *j->p <= '9'; j->p++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *j->p - '0', &v))
            return cwi_json_fail(j, "a number of more than 63 bits");
    if (j->p == first || (*first == '0' && j->p - first > 1))
        return cwi_json_fail(j, "a non-negative integer expected");
    *out = v;
    return CW_OK;
}

/* ---- strings ---- */

static size_t utf8_put(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(lead[n] | code);
    return n;
}

static cw_status take_hex4(cwi_json *j, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, j->p++) {
        unsigned ch = j->p < j->end ? *j->p : 0;
        if (ch >= '0' && ch <= '9')
            v = v * 16 + (ch - '0');
        else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
            v = v * 16 + ((ch | 0x20) - 'a' + 10);
        else
            return cwi_json_fail(j, "four hexadecimal digits expected");
    }
    *out = v;
    return CW_OK;
}

/* After a backslash: decodes the escape into out, its bytes into *n. */
static cw_status take_escape(cwi_json *j, uint8_t out[4], size_t *n)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const uint8_t ch = j->p < j->end ? *j->p : 0;
    const char *name = ch ? strchr(names, ch) : NULL;
    if (name) {
        j->p++;
        out[0] = (uint8_t)values[name - names];
        *n = 1;
        return CW_OK;
    }
    if (ch != 'u')
        return cwi_json_fail(j, "unknown escape");
    j->p++;
    uint32_t code;
    CWI_TRY(take_hex4(j, &code));
    if (code >= 0xd800 && code < 0xdc00) {
        uint32_t low;
        if (j->end - j->p < 2 || j->p[0] != '\\' || j->p[1] != 'u')
            return cwi_json_fail(j, "half a surrogate pair");
        j->p += 2;
        CWI_TRY(take_hex4(j, &low));
        if (low < 0xdc00 || low > 0xdfff)
            return cwi_json_fail(j, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code == 0 || (code >= 0xdc00 && code < 0xe000)) {
        return cwi_json_fail(j, "a character that no string here may hold");
    }
    *n = utf8_put(code, out);
    return CW_OK;
}

size_t cwi_json_string_bound(const cwi_json *j)
{
    cwi_json k = *j;
    if (!cwi_json_take(&k, '"'))
        return 1;
    const uint8_t *first = k.p;
    while (k.p < k.end && *k.p != '"')
        k.p += *k.p == '\\' && k.end - k.p > 1 ? 2 : 1;
    return (size_t)(k.p - first) + 1; /* no escape is shorter than what it stands for */
}

cw_status cwi_json_string(cwi_json *j, char *out, size_t size)
{
    CWI_TRY(cwi_json_expect(j, '"'));
    size_t used = 0;
    while (j->p < j->end && *j->p != '"') {
        uint8_t escaped[4];
        const uint8_t *from = j->p;
        size_t n = 0;
        if (*j->p == '\\') {
            j->p++;
            CWI_TRY(take_escape(j, escaped, &n));
            from = escaped;
        } else {
            n = *j->p < 0x20 ? 0 : cwi_utf8_length(j->p, (size_t)(j->end - j->p));
            if (n == 0)
                return cwi_json_fail(j, "a control character or malformed UTF-8");
            j->p += n;
        }
        if (out && used + n >= size)
            return cwi_json_fail(j, "a string longer than this reader takes");
        if (out)
            memcpy(out + used, from, n);
        used += n;
    }
    CWI_TRY(cwi_json_expect(j, '"'));
    if (out)
        out[used] = '\0';
    return CW_OK;
}

/* ---- writing ---- */

size_t cwi_json_escaped_size(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += (uint8_t)*s < 0x20 ? 6 : *s == '"' || *s == '\\' ? 2 : 1;
    return n;
}

char *cwi_json_escape(char *out, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    for (; *s; s++) {
        if ((uint8_t)*s < 0x20) {
            memcpy(out, "\\u00", 4);
            out[4] = hex[*s >> 4];
            out[5] = hex[*s & 15];
            out += 6;
            continue;
        }
        if (*s == '"' || *s == '\\')
            *out++ = '\\';
        *out++ = *s;
    }
    return out;
}
