/* records.c - RFC 4180 commas and plain tabs, cut in place. */
#include <string.h>

#include "cutwire/io.h"
#include "data/records.h"

/* Old Macs, and Excel for them, end lines by '\r' alone: so it is when the first line ends like that. */
static char find_newline(const char *p, const char *end, char separator)
{
    bool quoted = false;
    for (; p < end; p++) {
        quoted ^= separator == ',' && *p == '"';
        if (!quoted && (*p == '\n' || *p == '\r'))
            return *p == '\r' && p[1] != '\n' ? '\r' : '\n';
    }
    return '\n';
}

static cw_status check_text(const char *path, const char *text, size_t size, cw_error *err)
{
    if (size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return cwi_fail(err, CW_ERR_CORRUPT, "%s is UTF-16 text: save it as UTF-8", path);
    if (memchr(text, '\0', size))
        return cwi_fail(err, CW_ERR_CORRUPT,
                        "%s holds NUL bytes: it is no text, or UTF-16 that has to be saved as UTF-8", path);
    return CW_OK;
}

cw_status cwi_records_take(cwi_records *r, const char *path, uint8_t *bytes, size_t size, char separator, cw_error *err)
{
    memset(r, 0, sizeof *r);
    char *text = cwi_realloc(bytes, size, size + 1);
    char *name = cwi_strdup(path);
    if (!text || !name) {
        cwi_free(text ? (void *)text : bytes);
        cwi_free(name);
        return cwi_fail_memory(err, size);
    }
    text[size] = '\0';
    *r = (cwi_records){.path = name, .text = text, .end = text + size, .separator = separator, .next_line = 1};
    cw_status status = check_text(path, text, size, err);
    if (status != CW_OK) {
        cwi_records_close(r);
        return status;
    }
    r->p = text + (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
    r->newline = find_newline(r->p, r->end, separator);
    return CW_OK;
}

cw_status cwi_records_open(cwi_records *r, const char *path, char separator, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    return cwi_records_take(r, path, bytes, size, separator, err);
}

void cwi_records_close(cwi_records *r)
{
    cwi_free(r->path);
    cwi_free(r->text);
    memset(r, 0, sizeof *r);
}

cw_status cwi_records_fail(const cwi_records *r, cw_error *err, const char *what)
{
    return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: %s", r->path, r->line, what);
}

/* A quoted field, unescaped to where it stands; r->p is left behind the closing quote. */
static cw_status cut_quoted(cwi_records *r, char **field, cw_error *err)
{
    char *to = ++r->p;
    *field = to;
    for (;; r->p++) {
        if (r->p == r->end)
            return cwi_records_fail(r, err, "a quote is not closed");
        if (*r->p == '"') {
            if (r->p[1] != '"')
                break;
            r->p++;
        }
        r->next_line += *r->p == r->newline;
        *to++ = *r->p;
    }
    r->p++;
    *to = '\0';
    return CW_OK;
}

/* Behind a closing quote; what else stands there would be lost. */
static cw_status expect_field_end(cwi_records *r, cw_error *err)
{
    while (r->p < r->end && (*r->p == ' ' || (*r->p == '\r' && r->newline != '\r')))
        r->p++;
    if (r->p == r->end || *r->p == r->separator || *r->p == r->newline)
        return CW_OK;
    return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: a closing quote is followed by '%c', not by a comma", r->path,
                    r->next_line, *r->p);
}

static void trim_end(char *first, char *last)
{
    while (last > first && (last[-1] == ' ' || last[-1] == '\r'))
        last--;
    *last = '\0';
}

/* One field; r->p is left on the separator, the newline or the end, which *stop keeps, for the field's terminator may
 * have taken its place. */
static cw_status cut_field(cwi_records *r, char **field, char *stop, cw_error *err)
{
    const bool commas = r->separator == ',';
    while (commas && *r->p == ' ')
        r->p++;
    const bool quoted = commas && *r->p == '"';
    if (quoted)
        CWI_TRY(cut_quoted(r, field, err));
    char *first = r->p;
    if (quoted)
        CWI_TRY(expect_field_end(r, err));
    while (r->p < r->end && *r->p != r->separator && *r->p != r->newline)
        r->p++;
    *stop = *r->p;
    if (!quoted) {
        *field = first;
        if (commas)
            trim_end(first, r->p);
        else if (r->p > first && r->p[-1] == '\r' && *stop != r->separator)
            r->p[-1] = '\0';
        else
            *r->p = '\0';
    }
    return CW_OK;
}

static cw_status next_record(cwi_records *r, cw_error *err)
{
    while (r->p < r->end && (*r->p == r->newline || (*r->p == '\r' && r->p[1] == '\n'))) {
        r->next_line += *r->p == r->newline;
        r->p++;
    }
    if (r->p == r->end)
        return CW_END;
    r->line = r->next_line;
    r->fields = 0;
    for (char stop = r->separator; stop == r->separator;) {
        if (r->fields == CWI_RECORD_FIELDS)
            return cwi_records_fail(r, err, "more than 256 fields");
        CWI_TRY(cut_field(r, &r->field[r->fields++], &stop, err));
        if (r->p < r->end)
            r->p++;
        r->next_line += stop == r->newline;
    }
    return CW_OK;
}

/* Spreadsheets leave rows of nothing but separators at the end of a table. */
static bool is_blank(const cwi_records *r)
{
    for (size_t i = 0; i < r->fields; i++)
        if (*r->field[i])
            return false;
    return r->separator == ',';
}

cw_status cwi_records_next(cwi_records *r, cw_error *err)
{
    do {
        CWI_TRY(next_record(r, err));
    } while (is_blank(r));
    return CW_OK;
}
