/* table_file.c - comma-separated values as people have them: marks and lines that spreadsheets add, missing headers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/table_file.h"

static cw_status fail_count(const cwi_records *r, size_t expected, cw_error *err)
{
    const char *other = r->fields == 1 ? strpbrk(r->field[0], ";\t") : NULL;
    if (other)
        return cwi_fail(
            err, CW_ERR_CORRUPT,
            "%s, line %zu: its fields are separated by %s, not by commas: save it as comma-separated values", r->path,
            r->line, *other == ';' ? "semicolons" : "tabs");
    return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: %zu fields, not %zu", r->path, r->line, r->fields, expected);
}

/* A spreadsheet's own first line, "sep=,". */
static bool is_separator_line(const cwi_records *r)
{
    return r->fields == 2 && strcmp(r->field[0], "sep=") == 0 && !*r->field[1];
}

static cw_status read_header(cwi_table_file *s, cwi_names *header, cw_error *err)
{
    cwi_records *r = &s->records;
    cw_status status = cwi_records_next(r, err);
    if (status == CW_OK && is_separator_line(r))
        status = cwi_records_next(r, err);
    if (status == CW_END)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s is empty", r->path);
    if (status != CW_OK)
        return status;
    s->fields = r->fields;
    for (size_t i = 0; i < r->fields; i++)
        CWI_TRY(cwi_names_add(header, r->field[i], err));
    return r->fields == 1 && strpbrk(r->field[0], ";\t") ? fail_count(r, 2, err) : CW_OK;
}

/* UCI's adult.test begins with a remark: "|1x3 Cross validator". */
static cw_status pass_remark(cwi_records *r, cw_error *err)
{
    if (*r->p != '|')
        return CW_OK;
    cw_status status = cwi_records_next(r, err);
    return status == CW_END ? CW_OK : status;
}

cw_status cwi_table_open(cwi_table_file *s, const char *path, cwi_names *header, cw_error *err)
{
    const char *name = strrchr(path, '/'), *dot = strrchr(path, '.');
    memset(s, 0, sizeof *s);
    CWI_TRY(cwi_records_open(&s->records, path, ',', err));
    s->stops = strcmp(name ? name + 1 : path, "adult.test") == 0;
    cw_status status = CW_OK;
    if (strcmp(dot, ".csv") == 0)
        status = read_header(s, header, err);
    else if (s->stops)
        status = pass_remark(&s->records, err);
    if (status != CW_OK)
        cwi_table_close(s);
    return status;
}

/* A recipe has one value a line: line breaks within one become a blank. */
static void join_lines(char *value)
{
    char *to = value;
    for (const char *p = value; *p; p++) {
        const bool breaks = *p == '\n' || *p == '\r';
        if (!breaks || to == value || to[-1] != ' ')
            *to++ = breaks ? ' ' : *p;
    }
    *to = '\0';
}

static cw_status check_values(const cwi_records *r, cw_error *err)
{
    for (size_t i = 0; i < r->fields; i++) {
        join_lines(r->field[i]);
        if (strlen(r->field[i]) > CWI_MAX_VALUE)
            return cwi_records_fail(r, err, "a value of more than 1000 bytes");
    }
    if (!*r->field[r->fields - 1])
        return cwi_records_fail(r, err, "the class, which is the last field, is missing");
    return CW_OK;
}

cw_status cwi_table_next(cwi_table_file *s, cw_error *err)
{
    cwi_records *r = &s->records;
    CWI_TRY(cwi_records_next(r, err));
    if (s->fields == 0)
        s->fields = r->fields;
    if (r->fields != s->fields || r->fields < 2)
        return fail_count(r, CWI_MAX(s->fields, (size_t)2), err);
    char *class = r->field[r->fields - 1];
    const size_t n = strlen(class);
    if (s->stops && n > 0 && class[n - 1] == '.')
        class[n - 1] = '\0';
    return check_values(r, err);
}

void cwi_table_close(cwi_table_file *s)
{
    cwi_records_close(&s->records);
}

/* ---- cells ---- */

/* How programs write that there is no number, besides NaN. */
static bool is_missing(const char *text)
{
    static const char *const names[] = {"", "?", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "NULL", "null"};
    for (size_t i = 0; i < CWI_COUNT(names); i++)
        if (strcmp(text, names[i]) == 0)
            return true;
    return false;
}

cwi_cell cwi_cell_read(const char *text, double *value)
{
    char *end;
    if (is_missing(text))
        return CWI_CELL_MISSING;
    *value = strtod(text, &end);
    end += strspn(end, " ");
    if (end == text || *end)
        return CWI_CELL_OTHER;
    if (!isfinite(*value))
        return isnan(*value) ? CWI_CELL_MISSING : CWI_CELL_INFINITE;
    return text[strcspn(text, "xX")] ? CWI_CELL_OTHER : CWI_CELL_NUMBER;
}
