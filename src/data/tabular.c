/* tabular.c - tables of numeric and categorical columns with a class in the last one: UCI Adult, and any CSV like it.
 *
 * All that is learned comes from the training split: a column is numeric when every value in it is a number or missing
 * ('?', nothing, NaN, NA, null and their like), and is then standardized by its mean and deviation (what is missing
 * becomes the mean, 0); any other column is categorical, its values numbered from 1 by frequency, and 0 stands for a
 * value that the training split lacks. '?' is a value like any other there. A sample is the numeric columns, in order,
 * then the categorical ones.
 */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "data/recipe.h"
#include "data/table_file.h"
#include "data/vocabulary.h"

enum { MAX_COLUMNS = CWI_RECORD_FIELDS - 1 };

typedef struct column {
    bool numeric;
    double mean, std;
    cwi_vocabulary values; /* categorical */
    /* While learning: */
    double low, high, known;      /* the numbers' range and count */
    double sum, squares;          /* of their deviations from the mean, in units of the range */
    size_t others;                /* values that are neither numbers nor missing */
    size_t other_at, infinite_at; /* lines of the first such, and of the first infinity; 0: none */
    char other[41];
} column;

typedef struct table {
    column *columns; /* [count], without the class */
    size_t count, numeric;
    cwi_vocabulary classes;
    const char **class_names; /* into classes */
    cwi_names header;         /* of the training split's file, when it was read and has one */
} table;

static void close_table(void *impl)
{
    table *t = impl;
    if (!t)
        return;
    for (size_t i = 0; t->columns && i < t->count; i++)
        cwi_vocabulary_free(&t->columns[i].values);
    cwi_vocabulary_free(&t->classes);
    cwi_free(t->columns);
    cwi_free(t->class_names);
    cwi_names_free(&t->header);
    cwi_free(t);
}

static cw_status make_columns(table *t, size_t count, cw_error *err)
{
    t->columns = cwi_calloc(count, sizeof *t->columns);
    if (!t->columns)
        return cwi_fail_memory(err, count * sizeof *t->columns);
    t->count = count;
    for (size_t i = 0; i < count; i++)
        t->columns[i].numeric = true;
    return CW_OK;
}

/* ---- learning ---- */

/* A running mean, which no offset harms. */
static void learn_number(column *c, double value)
{
    c->low = c->known == 0 ? value : fmin(c->low, value);
    c->high = c->known == 0 ? value : fmax(c->high, value);
    c->known++;
    c->mean += (value - c->mean) / c->known;
}

static void learn_other(column *c, const char *text, size_t line)
{
    if (c->others++ == 0) {
        snprintf(c->other, sizeof c->other, "%s", text);
        c->other_at = line;
    }
}

/* First pass: which columns are numeric, and their ranges and means; the classes. */
static cw_status learn_row(table *t, const cwi_records *r, cw_error *err)
{
    if (!t->columns)
        CWI_TRY(make_columns(t, r->fields - 1, err));
    for (size_t i = 0; i < t->count; i++) {
        column *c = &t->columns[i];
        double value;
        const cwi_cell kind = cwi_cell_read(r->field[i], &value);
        if (kind == CWI_CELL_NUMBER)
            learn_number(c, value);
        else if (kind == CWI_CELL_OTHER)
            learn_other(c, r->field[i], r->line);
        else if (kind == CWI_CELL_INFINITE && !c->infinite_at)
            c->infinite_at = r->line;
    }
    return cwi_vocabulary_add(&t->classes, r->field[t->count], strlen(r->field[t->count]), err);
}

/* Second pass: how far numbers are from the mean; the values of the categorical columns. */
static cw_status learn_values(table *t, const cwi_records *r, cw_error *err)
{
    for (size_t i = 0; i < t->count; i++) {
        column *c = &t->columns[i];
        double value;
        if (!c->numeric) {
            CWI_TRY(cwi_vocabulary_add(&c->values, r->field[i], strlen(r->field[i]), err));
        } else if (c->high > c->low && cwi_cell_read(r->field[i], &value) == CWI_CELL_NUMBER) {
            const double deviation = (value - c->mean) / (c->high - c->low);
            c->sum += deviation;
            c->squares += deviation * deviation;
        }
    }
    return CW_OK;
}

static cw_status for_each_row(table *t, const char *path, cw_status (*visit)(table *, const cwi_records *, cw_error *),
                              cw_error *err)
{
    cwi_table_file s;
    cwi_names_free(&t->header);
    CWI_TRY(cwi_table_open(&s, path, &t->header, err));
    cw_status status;
    while ((status = cwi_table_next(&s, err)) == CW_OK && (status = visit(t, &s.records, err)) == CW_OK)
        ;
    cwi_table_close(&s);
    if (status == CW_END && !t->columns)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no rows", path);
    return status == CW_END ? CW_OK : status;
}

/* Between the passes: what kind of column it is. */
static cw_status learn_kind(column *c, size_t number, const char *path, cw_error *err)
{
    c->numeric = c->others == 0 && c->known > 0;
    if (c->numeric && c->infinite_at)
        return cwi_fail(err, CW_ERR_CORRUPT,
                        "%s, line %zu: column %zu is infinite there: leave the field empty, or give a number", path,
                        c->infinite_at, number);
    return CW_OK;
}

/* A column whose numbers differ by rounding alone is constant, and becomes 0. */
static cw_status learn_scale(column *c, size_t number, const char *path, cw_error *err)
{
    const double range = c->high - c->low, largest = fmax(fabs(c->low), fabs(c->high));
    c->std = 1;
    if (range > 4 * DBL_EPSILON * largest) {
        const double variance = (c->squares - c->sum * c->sum / c->known) / c->known;
        c->mean += range * (c->sum / c->known);
        c->std = range * sqrt(variance);
    }
    if (isfinite(c->mean) && isfinite(c->std) && c->std > 0)
        return CW_OK;
    return cwi_fail(err, CW_ERR_CORRUPT,
                    "%s: column %zu: its mean or deviation is beyond what a double holds: rescale its values", path,
                    number);
}

static cw_status learn(table *t, const char *path, cw_error *err)
{
    CWI_TRY(for_each_row(t, path, learn_row, err));
    for (size_t i = 0; i < t->count; i++)
        CWI_TRY(learn_kind(&t->columns[i], i + 1, path, err));
    CWI_TRY(for_each_row(t, path, learn_values, err));
    for (size_t i = 0; i < t->count; i++) {
        column *c = &t->columns[i];
        CWI_TRY(c->numeric ? learn_scale(c, i + 1, path, err)
                           : cwi_vocabulary_rank(&c->values, CWI_BY_COUNT, 1, SIZE_MAX, err));
    }
    return cwi_vocabulary_rank(&t->classes, CWI_BY_TEXT, 1, SIZE_MAX, err);
}

/* ---- the recipe: one line a column, then its values, then the classes ---- */

static const char recipe_head[] = "cutwire-recipe 1 table";

static cw_status write_values(cwi_text *out, const cwi_vocabulary *v, cw_error *err)
{
    for (size_t i = 0; i < v->count; i++)
        CWI_TRY(cwi_text_add(out, err, "%s\n", cwi_vocabulary_text(v, i)));
    return CW_OK;
}

static cw_status write_recipe(const table *t, cwi_text *out, cw_error *err)
{
    CWI_TRY(cwi_text_add(out, err, "%s %zu\n", recipe_head, t->count));
    for (size_t i = 0; i < t->count; i++) {
        const column *c = &t->columns[i];
        if (c->numeric) {
            CWI_TRY(cwi_text_add(out, err, "numeric %.17g %.17g\n", c->mean, c->std));
            continue;
        }
        CWI_TRY(cwi_text_add(out, err, "values %zu\n", c->values.count));
        CWI_TRY(write_values(out, &c->values, err));
    }
    CWI_TRY(cwi_text_add(out, err, "classes %zu\n", t->classes.count));
    return write_values(out, &t->classes, err);
}

static cw_status fail_recipe(cw_error *err)
{
    return cwi_fail(err, CW_ERR_CORRUPT, "the recipe is not one of a table");
}

static cw_status read_values(const char **at, size_t count, cwi_vocabulary *v, cw_error *err)
{
    char line[CWI_MAX_VALUE + 2];
    for (size_t i = 0; i < count; i++) {
        if (!cwi_text_line(at, line, sizeof line) || cwi_vocabulary_find(v, line, strlen(line)) >= 0)
            return fail_recipe(err);
        CWI_TRY(cwi_vocabulary_add(v, line, strlen(line), err));
    }
    return CW_OK;
}

static cw_status read_recipe(table *t, const char *at, cw_error *err)
{
    char line[CWI_MAX_VALUE + 2], extra;
    size_t count, values;
    if (!cwi_text_line(&at, line, sizeof line) || strncmp(line, recipe_head, sizeof recipe_head - 1) != 0 ||
        sscanf(line + sizeof recipe_head - 1, "%zu%c", &count, &extra) != 1 || count == 0 || count > MAX_COLUMNS)
        return fail_recipe(err);
    CWI_TRY(make_columns(t, count, err));
    for (size_t i = 0; i < count; i++) {
        column *c = &t->columns[i];
        if (!cwi_text_line(&at, line, sizeof line))
            return fail_recipe(err);
        if (sscanf(line, "numeric %lf %lf%c", &c->mean, &c->std, &extra) == 2) {
            if (!isfinite(c->mean) || !isfinite(c->std) || c->std <= 0)
                return fail_recipe(err);
            continue;
        }
        c->numeric = false;
        if (sscanf(line, "values %zu%c", &values, &extra) != 1)
            return fail_recipe(err);
        CWI_TRY(read_values(&at, values, &c->values, err));
    }
    if (!cwi_text_line(&at, line, sizeof line) || sscanf(line, "classes %zu%c", &values, &extra) != 1)
        return fail_recipe(err);
    CWI_TRY(read_values(&at, values, &t->classes, err));
    return *at == '\0' ? CW_OK : fail_recipe(err);
}

/* ---- headers ---- */

/* 0, 1, 2, ... are names, too: data frames have them when nobody gave any. */
static bool is_numbering(const cwi_names *header)
{
    for (size_t i = 0; i < header->count; i++)
        if (strtoul(header->items[i], NULL, 10) != i)
            return false;
    return true;
}

/* Whether the header could be a row of the table: then it probably is one, and would be lost. */
static bool is_row(const table *t, const cwi_names *header)
{
    if (header->count != t->count + 1 || is_numbering(header))
        return false;
    for (size_t i = 0; i < header->count; i++) {
        const char *cell_text = header->items[i];
        const cwi_vocabulary *values = i < t->count ? &t->columns[i].values : &t->classes;
        double value;
        const bool fits = i < t->count && t->columns[i].numeric
                              ? cwi_cell_read(cell_text, &value) <= CWI_CELL_MISSING
                              : cwi_vocabulary_find(values, cell_text, strlen(cell_text)) >= 0;
        if (!fits)
            return false;
    }
    return true;
}

/* The place where the training split has a column of this name; -1. */
static ptrdiff_t place_of(const cwi_names *header, const char *name)
{
    for (size_t i = 0; i < header->count; i++)
        if (strcmp(header->items[i], name) == 0)
            return (ptrdiff_t)i;
    return -1;
}

/* Columns of other names are taken as they come; the same names in another order are a mistake. */
static cw_status check_header(const table *t, const cwi_names *header, const char *path, cw_error *err)
{
    if (is_row(t, header))
        return cwi_fail(err, CW_ERR_CORRUPT,
                        "%s, line 1: a row of data stands where the columns' names are expected: put a header above it",
                        path);
    for (size_t i = 0; i < CWI_MIN(header->count, t->header.count); i++) {
        const char *name = header->items[i];
        if (strcmp(name, t->header.items[i]) != 0 && place_of(&t->header, name) >= 0)
            return cwi_fail(err, CW_ERR_CORRUPT,
                            "%s: column %zu is '%.60s', in the training split it is '%.60s': put the columns into the "
                            "same order",
                            path, i + 1, name, t->header.items[i]);
    }
    return CW_OK;
}

/* ---- a split ---- */

static cw_status encode_row(const table *t, const cwi_records *r, float *row, int32_t *label, cw_error *err)
{
    float *number = row, *category = row + t->numeric;
    for (size_t i = 0; i < t->count; i++) {
        const column *c = &t->columns[i];
        double value;
        cwi_cell kind;
        if (!c->numeric)
            *category++ = (float)(cwi_vocabulary_find(&c->values, r->field[i], strlen(r->field[i])) + 1);
        else if ((kind = cwi_cell_read(r->field[i], &value)) == CWI_CELL_MISSING)
            *number++ = 0;
        else if (kind == CWI_CELL_NUMBER) {
            *number = (float)((value - c->mean) / c->std);
            if (!isfinite(*number++))
                return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: '%.40s' in column %zu is too far from its mean",
                                r->path, r->line, r->field[i], i + 1);
        } else
            return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: '%.40s' in column %zu, which is numeric", r->path,
                            r->line, r->field[i], i + 1);
    }
    const char *class = r->field[t->count];
    int64_t found = cwi_vocabulary_find(&t->classes, class, strlen(class));
    if (found < 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: the training split has no class '%.40s'", r->path, r->line,
                        class);
    *label = (int32_t)found;
    return CW_OK;
}

/* One slip of a pen makes a column of numbers one of words: whoever made it should hear of it. */
static void note_mixed_columns(const char *path, cw_dataset *ds)
{
    const table *t = ds->impl;
    for (size_t i = 0; i < t->count; i++) {
        const column *c = &t->columns[i];
        if (!c->numeric && c->others > 0 && c->known > (double)c->others)
            cwi_dataset_note(ds,
                             "%s: column %zu counts as words because of '%s' in line %zu, though %.0f of its values "
                             "are numbers",
                             path, i + 1, c->other, c->other_at, c->known);
    }
}

static void count_cells(table *t, const cwi_records *r)
{
    for (size_t i = 0; i < t->count; i++) {
        double value;
        const cwi_cell kind = t->columns[i].numeric ? CWI_CELL_MISSING : cwi_cell_read(r->field[i], &value);
        if (kind == CWI_CELL_NUMBER)
            t->columns[i].known++;
        else if (kind == CWI_CELL_OTHER)
            learn_other(&t->columns[i], r->field[i], r->line);
    }
}

static cw_status load_rows(table *t, cwi_table_file *s, cw_dataset *ds, cw_error *err)
{
    size_t capacity = 0;
    cw_status status;
    for (size_t i = 0; i < t->count; i++)
        t->columns[i].known = 0, t->columns[i].others = 0;
    while ((status = cwi_table_next(s, err)) == CW_OK) {
        if (s->fields != t->count + 1)
            return cwi_records_fail(&s->records, err, "not as many columns as in the training split");
        CWI_TRY(cwi_rows_reserve(ds, &capacity, err));
        count_cells(t, &s->records);
        CWI_TRY(encode_row(t, &s->records, ds->rows + ds->info.count * t->count, &ds->labels[ds->info.count], err));
        ds->info.count++;
    }
    if (status == CW_END && ds->info.count == 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no rows", s->records.path);
    return status == CW_END ? CW_OK : status;
}

static cw_status load_split(table *t, const char *path, cw_dataset *ds, cw_error *err)
{
    cwi_table_file s;
    cwi_names header = {0};
    cw_status status = cwi_table_open(&s, path, &header, err);
    if (status == CW_OK) {
        status = check_header(t, &header, path, err);
        if (status == CW_OK)
            status = load_rows(t, &s, ds, err);
        cwi_table_close(&s);
    }
    cwi_names_free(&header);
    if (status == CW_OK)
        note_mixed_columns(path, ds);
    return status;
}

/* ---- opening ---- */

static bool find_split(const char *dir, cw_split split, char *path, size_t size)
{
    static const char *const train[] = {"train.csv", "adult.data"}, *const test[] = {"test.csv", "adult.test"};
    for (size_t i = 0; i < 2; i++)
        if (cwi_path_join(path, size, dir, (split == CW_SPLIT_TRAIN ? train : test)[i]) && cwi_file_exists(path))
            return true;
    return false;
}

static bool probe(const char *dir, cw_split split)
{
    char path[4096];
    return find_split(dir, split, path, sizeof path);
}

/* "table:NUMERIC/CARDINALITY/..." */
static cw_status describe(const table *t, cw_dataset *ds, cw_error *err)
{
    size_t used = (size_t)snprintf(ds->input, sizeof ds->input, "table:%zu", t->numeric);
    for (size_t i = 0; i < t->count && used < sizeof ds->input; i++)
        if (!t->columns[i].numeric)
            used += (size_t)snprintf(ds->input + used, sizeof ds->input - used, "/%zu", t->columns[i].values.count + 1);
    if (used >= sizeof ds->input)
        return cwi_fail(err, CW_ERR_UNSUPPORTED, "the table has too many categorical columns");
    return CW_OK;
}

static cw_status name_classes(table *t, cw_dataset *ds, cw_error *err)
{
    t->class_names = cwi_alloc(t->classes.count, sizeof *t->class_names);
    if (!t->class_names)
        return cwi_fail_memory(err, t->classes.count * sizeof *t->class_names);
    for (size_t i = 0; i < t->classes.count; i++)
        t->class_names[i] = cwi_vocabulary_text(&t->classes, i);
    ds->info.class_names = t->class_names;
    ds->info.classes = (int)t->classes.count;
    return CW_OK;
}

static const cwi_dataset_ops table_ops = {.sample = cwi_row_sample, .close = close_table};

static cw_status learn_and_check(table *t, const char *path, cw_error *err)
{
    CWI_TRY(learn(t, path, err));
    return check_header(t, &t->header, path, err);
}

/* What is learned from the training split, or what the recipe keeps of that. */
static cw_status open_recipe(table *t, const char *dir, cw_dataset *ds, cw_error *err)
{
    char path[4096];
    if (ds->given_recipe)
        CWI_TRY(read_recipe(t, ds->given_recipe, err));
    else if (find_split(dir, CW_SPLIT_TRAIN, path, sizeof path))
        CWI_TRY(learn_and_check(t, path, err));
    else
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s has no training split, which the statistics come from", dir);
    for (size_t i = 0; i < t->count; i++)
        t->numeric += t->columns[i].numeric;
    cwi_text recipe = {0};
    cw_status status = write_recipe(t, &recipe, err);
    ds->recipe = recipe.data;
    return status;
}

static cw_status open_in_c_locale(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    char path[4096];
    table *t = cwi_calloc(1, sizeof *t);
    if (!t)
        return cwi_fail_memory(err, sizeof *t);
    ds->ops = &table_ops;
    ds->impl = t;
    CWI_TRY(open_recipe(t, dir, ds, err));
    CWI_TRY(describe(t, ds, err));
    CWI_TRY(name_classes(t, ds, err));
    ds->info.sample = cw_shape_of(1, (int64_t[]){(int64_t)t->count});
    if (!find_split(dir, split, path, sizeof path))
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s does not hold this split", dir);
    return load_split(t, path, ds, err);
}

/* Numbers have a point in files and recipes, whatever the program's language has. */
static cw_status open_table(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return cwi_fail_memory(err, 0);
    locale_t before = uselocale(c);
    cw_status status = open_in_c_locale(dir, split, ds, err);
    uselocale(before);
    freelocale(c);
    return status;
}

const cwi_format cwi_format_adult = {
    .known = {.name = "adult",
              .summary = "UCI Adult: income above 50K from 14 columns of the census, 2 classes",
              .install = "cutwire data fetch adult"},
    .folders = {"adult"},
    .probe = probe,
    .wants = {"train.csv or adult.data", "test.csv or adult.test"},
    .open = open_table,
};

const cwi_format cwi_format_csv = {
    .known = {.name = "csv",
              .summary = "your own table, csv:DIR with train.csv and test.csv: a header, the class in the last column",
              .install = "name a folder that holds train.csv and test.csv"},
    .folders = {"csv"},
    .probe = probe,
    .wants = {"train.csv", "test.csv"},
    .open = open_table,
    .own = true,
};
