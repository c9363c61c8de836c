/* spec.c - spec strings, and their values as the parameter block of a payload. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec_impl.h"

/* A piece of the spec being parsed. */
typedef struct token {
    const char *text;
    size_t length;
} token;

static bool token_is(token t, const char *name)
{
    return strlen(name) == t.length && memcmp(t.text, name, t.length) == 0;
}

/* For "%.*s": error messages stay readable whatever they quote. */
static int shown(token t)
{
    return (int)CWI_MIN(t.length, (size_t)40);
}

static token until(const char *text, const char *stops)
{
    return (token){text, strcspn(text, stops)};
}

/* ---- numbers, independent of the process's locale ---- */

static char locale_point(void)
{
    const char *point = localeconv()->decimal_point;
    return point && point[0] && !point[1] ? point[0] : '.';
}

static bool parse_real(token t, double *out)
{
    char buf[64];
    if (t.length == 0 || t.length >= sizeof buf || strspn(t.text, "0123456789.eE+-") < t.length)
        return false;
    memcpy(buf, t.text, t.length);
    buf[t.length] = 0;
    char *point = strchr(buf, '.');
    if (point)
        *point = locale_point();
    char *end;
    *out = strtod(buf, &end);
    return *end == 0 && isfinite(*out);
}

static bool parse_whole(token t, uint64_t *out)
{
    uint64_t v = 0;
    if (t.length == 0)
        return false;
    for (size_t i = 0; i < t.length; i++) {
        unsigned digit = (unsigned)(t.text[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    *out = v;
    return true;
}

/* The shortest decimal that reads back as the same double. */
static void format_real(double v, char *out, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    char *point = strchr(out, locale_point());
    if (point)
        *point = '.';
}

static bool parse_choice(const char *choices, token t, uint64_t *out)
{
    uint64_t index = 0;
    for (const char *p = choices;; index++) {
        token choice = until(p, "|");
        if (choice.length == t.length && memcmp(choice.text, t.text, t.length) == 0) {
            *out = index;
            return true;
        }
        p += choice.length;
        if (*p++ == 0)
            return false;
    }
}

static token choice_at(const char *choices, uint64_t index)
{
    const char *p = choices;
    for (; index; index--)
        p += strcspn(p, "|") + 1;
    return until(p, "|");
}

static uint64_t choice_count(const char *choices)
{
    uint64_t count = 1;
    for (const char *p = choices; *p; p++)
        count += *p == '|';
    return count;
}

/* ---- values ---- */

static cwi_value standard_value(const cwi_key *key)
{
    cwi_value v = {.whole = 0};
    if (key->type == CWI_KEY_REAL)
        v.real = key->standard;
    else
        v.whole = (uint64_t)key->standard;
    return v;
}

static bool in_range(const cwi_key *key, cwi_value v)
{
    switch (key->type) {
    case CWI_KEY_REAL: /* min belongs to it, max and -0 do not */
        return v.real >= key->min && v.real < key->max && !(v.real == 0.0 && signbit(v.real));
    case CWI_KEY_INT:
        return (double)v.whole >= key->min && (double)v.whole <= key->max;
    case CWI_KEY_CHOICE:
        return v.whole < choice_count(key->choices);
    case CWI_KEY_SEED:
        return true;
    }
    return false;
}

/* "a number in [0,1)", for error messages. */
static const char *wanted(const cwi_key *key, char *buf, size_t size)
{
    switch (key->type) {
    case CWI_KEY_REAL:
        snprintf(buf, size, "a number in [%g,%g)", key->min, key->max);
        break;
    case CWI_KEY_INT:
        snprintf(buf, size, "a whole number from %g to %g", key->min, key->max);
        break;
    case CWI_KEY_CHOICE:
        snprintf(buf, size, "one of %s", key->choices);
        break;
    case CWI_KEY_SEED:
        snprintf(buf, size, "a whole number from 0 to 2^64-1");
        break;
    }
    return buf;
}

static bool parse_value(const cwi_key *key, token t, cwi_value *out)
{
    cwi_value v = {.whole = 0};
    bool good = false;
    switch (key->type) {
    case CWI_KEY_REAL:
        good = parse_real(t, &v.real);
        v.real += 0.0; /* -0 is 0 */
        break;
    case CWI_KEY_INT:
    case CWI_KEY_SEED:
        good = parse_whole(t, &v.whole);
        break;
    case CWI_KEY_CHOICE:
        good = parse_choice(key->choices, t, &v.whole);
        break;
    }
    *out = v;
    return good && in_range(key, v);
}

/* ---- specs ---- */

static const cwi_family *family_named(token name)
{
    for (size_t i = 0; i < cwi_family_count(); i++)
        if (token_is(name, cwi_family_at(i)->info.name))
            return cwi_family_at(i);
    return NULL;
}

static cw_status unknown_family(const char *spec, token name, cw_error *err)
{
    cwi_list names = {""};
    for (size_t i = 0; i < cwi_family_count(); i++)
        cwi_list_add(&names, cwi_family_at(i)->info.name);
    return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)(name.text - spec), "unknown codec \"%.*s\": the codecs are %s",
                       shown(name), name.text, names.text);
}

/* One "key=value"; seen is a bit set of the keys met so far. */
static cw_status parse_pair(const char *spec, token pair, cw_codec *codec, unsigned *seen, cw_error *err)
{
    const cwi_family *family = codec->family;
    const uint64_t at = (uint64_t)(pair.text - spec);
    token name = until(pair.text, "=,");
    name.length = CWI_MIN(name.length, pair.length);
    size_t i = 0;
    while (i < family->key_count && !token_is(name, family->keys[i].name))
        i++;
    if (family->key_count == 0)
        return cwi_fail_at(err, CW_ERR_SPEC, at, "codec %s takes no keys: write \"%s\" alone", family->info.name,
                           family->info.name);
    if (i == family->key_count)
        return cwi_fail_at(err, CW_ERR_SPEC, at, "codec %s has no key \"%.*s\": its keys are %s", family->info.name,
                           shown(name), name.text, family->info.keys);
    const cwi_key *key = &family->keys[i];
    char buf[160];
    if (name.length == pair.length)
        return cwi_fail_at(err, CW_ERR_SPEC, at, "key \"%s\" of codec %s has no value: write %s=VALUE, %s", key->name,
                           family->info.name, key->name, wanted(key, buf, sizeof buf));
    if (*seen & 1u << i)
        return cwi_fail_at(err, CW_ERR_SPEC, at, "key \"%s\" of codec %s is given twice", key->name, family->info.name);
    *seen |= 1u << i;
    token value = {name.text + name.length + 1, pair.length - name.length - 1};
    if (!parse_value(key, value, &codec->value[i]))
        return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)(value.text - spec), "%s=%.*s of codec %s: %s must be %s",
                           key->name, shown(value), value.text, family->info.name, key->name,
                           wanted(key, buf, sizeof buf));
    return CW_OK;
}

/* Whether two keys are given that exclude each other. */
static bool excluded(const cwi_family *f, const cwi_value *v)
{
    return f->either != f->other && v[f->either].real != 0 && v[f->other].real != 0;
}

cw_status cwi_spec_parse(const char *spec, cw_codec *codec, cw_error *err)
{
    token name = until(spec, ":");
    if (name.length == 0)
        return unknown_family(spec, name, err);
    codec->family = family_named(name);
    if (!codec->family)
        return unknown_family(spec, name, err);
    for (size_t i = 0; i < codec->family->key_count; i++)
        codec->value[i] = standard_value(&codec->family->keys[i]);
    unsigned seen = 0;
    for (const char *p = name.text + name.length; *p;) {
        token pair = until(p + 1, ",");
        CWI_TRY(parse_pair(spec, pair, codec, &seen, err));
        p = pair.text + pair.length;
    }
    const cwi_family *f = codec->family;
    if (excluded(f, codec->value))
        return cwi_fail_at(err, CW_ERR_SPEC, name.length + 1,
                           "codec %s takes %s or %s, not both: leave one of them out", f->info.name,
                           f->keys[f->either].name, f->keys[f->other].name);
    if (f->normalize)
        f->normalize(codec->value);
    cwi_spec_format(codec->family, codec->value, codec->spec, sizeof codec->spec);
    return CW_OK;
}

void cwi_spec_format(const cwi_family *family, const cwi_value *values, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", family->info.name);
    for (size_t i = 0; i < family->key_count && used < size; i++) {
        const cwi_key *key = &family->keys[i];
        char text[40];
        token choice;
        switch (key->type) {
        case CWI_KEY_REAL:
            format_real(values[i].real, text, sizeof text);
            break;
        case CWI_KEY_INT:
        case CWI_KEY_SEED:
            snprintf(text, sizeof text, "%llu", (unsigned long long)values[i].whole);
            break;
        case CWI_KEY_CHOICE:
            choice = choice_at(key->choices, values[i].whole);
            snprintf(text, sizeof text, "%.*s", (int)choice.length, choice.text);
            break;
        }
        used += (size_t)snprintf(out + used, size - used, "%c%s=%s", i ? ',' : ':', key->name, text);
    }
}

/* ---- parameter blocks ---- */

static unsigned value_bytes(const cwi_key *key)
{
    return key->type == CWI_KEY_REAL || key->type == CWI_KEY_SEED ? 8 : 1;
}

size_t cwi_params_size(const cwi_family *family, size_t keys)
{
    size_t size = 0;
    for (size_t i = 0; i < keys; i++)
        size += value_bytes(&family->keys[i]);
    return size;
}

size_t cwi_payload_keys(const cwi_family *family)
{
    return family->payload_keys ? family->payload_keys : family->key_count;
}

void cwi_params_put(const cwi_family *family, const cwi_value *values, uint8_t *out)
{
    for (size_t i = 0; i < cwi_payload_keys(family); i++) {
        uint64_t bits = values[i].whole;
        if (family->keys[i].type == CWI_KEY_REAL)
            memcpy(&bits, &values[i].real, sizeof bits);
        cwi_put_le(out, bits, value_bytes(&family->keys[i]));
        out += value_bytes(&family->keys[i]);
    }
}

/* Whether values are such as a spec can have, and as they are written once only. */
static bool agree(const cwi_family *family, const cwi_value *values, size_t *bad_key)
{
    *bad_key = family->other;
    if (excluded(family, values))
        return false;
    if (!family->normalize)
        return true;
    cwi_value normal[CWI_MAX_KEYS];
    memcpy(normal, values, sizeof normal);
    family->normalize(normal);
    for (*bad_key = 0; *bad_key < family->key_count; ++*bad_key)
        if (normal[*bad_key].whole != values[*bad_key].whole)
            return false;
    return true;
}

bool cwi_params_get(const cwi_family *family, size_t keys, const uint8_t *in, cwi_value *values, size_t *bad_key)
{
    for (size_t i = keys; i < family->key_count; i++)
        values[i] = standard_value(&family->keys[i]);
    for (size_t i = 0; i < keys; i++) {
        uint64_t bits = cwi_get_le(in, value_bytes(&family->keys[i]));
        if (family->keys[i].type == CWI_KEY_REAL)
            memcpy(&values[i].real, &bits, sizeof bits);
        else
            values[i].whole = bits;
        if (!in_range(&family->keys[i], values[i])) {
            *bad_key = i;
            return false;
        }
        in += value_bytes(&family->keys[i]);
    }
    return agree(family, values, bad_key);
}

/* ---- the same in few bytes: a bit for each key that is not as it is by default; then for each of them a real number
 * as m / 10^d, or as it is, and other ones as above ---- */

enum { DECIMALS_MOST = 15, AS_IT_IS = 255 };

static double power_of_ten(unsigned n)
{
    double power = 1; /* all of these are exact */
    for (; n > 0; n--)
        power *= 10;
    return power;
}

static uint8_t *put_real(double v, uint8_t *out)
{
    const double most = 0x1p53;
    for (unsigned d = 0; d <= DECIMALS_MOST; d++) {
        const double m = floor(v * power_of_ten(d) + 0.5);
        if (!(m < most))
            break;
        if (m / power_of_ten(d) == v) {
            *out++ = (uint8_t)d;
            return cwi_number_put((uint64_t)m, out);
        }
    }
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    *out++ = AS_IT_IS;
    cwi_put_le(out, bits, sizeof bits);
    return out + sizeof bits;
}

static const uint8_t *get_real(const uint8_t *in, const uint8_t *end, double *v)
{
    uint64_t m;
    const unsigned d = in < end ? *in++ : DECIMALS_MOST + 1;
    if (d <= DECIMALS_MOST) {
        in = cwi_number_get(in, end, &m);
        *v = in ? (double)m / power_of_ten(d) : 0;
        return in;
    }
    if (d != AS_IT_IS || (size_t)(end - in) < sizeof m)
        return NULL;
    m = cwi_get_le(in, sizeof m);
    memcpy(v, &m, sizeof m);
    return in + sizeof m;
}

uint8_t *cwi_params_put_short(const cwi_family *family, const cwi_value *values, uint8_t *out)
{
    uint8_t *set = out++;
    *set = 0;
    for (size_t i = 0; i < cwi_payload_keys(family); i++) {
        const cwi_key *key = &family->keys[i];
        if (values[i].whole == standard_value(key).whole) /* of reals their bits */
            continue;
        *set |= (uint8_t)(1u << i);
        if (key->type == CWI_KEY_REAL) {
            out = put_real(values[i].real, out);
        } else {
            cwi_put_le(out, values[i].whole, value_bytes(key));
            out += value_bytes(key);
        }
    }
    return out;
}

static const uint8_t *get_value(const cwi_key *key, const uint8_t *in, const uint8_t *end, cwi_value *v)
{
    if (key->type == CWI_KEY_REAL)
        return get_real(in, end, &v->real);
    if ((size_t)(end - in) < value_bytes(key))
        return NULL;
    v->whole = cwi_get_le(in, value_bytes(key));
    return in + value_bytes(key);
}

bool cwi_params_get_short(const cwi_family *family, const uint8_t *in, size_t size, cwi_value *values, size_t *bad_key)
{
    uint8_t again[CWI_PARAMS_MOST];
    const uint8_t *at = in + 1, *end = in + size;
    *bad_key = 0;
    for (size_t i = 0; i < family->key_count; i++)
        values[i] = standard_value(&family->keys[i]);
    if (size == 0)
        return false;
    for (size_t i = 0; i < cwi_payload_keys(family); i++) {
        *bad_key = i;
        if (*in >> i & 1)
            at = get_value(&family->keys[i], at, end, &values[i]);
        if (!at || !in_range(&family->keys[i], values[i]))
            return false;
    }
    if (!agree(family, values, bad_key))
        return false;
    *bad_key = 0; /* whatever could be written in another way */
    return (size_t)(cwi_params_put_short(family, values, again) - again) == size && memcmp(again, in, size) == 0;
}
