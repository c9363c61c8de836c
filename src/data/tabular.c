/* tabular.c - tables of numeric and categorical columns with a class in the last one: UCI Adult, and any CSV like it.
 *
 * All that is learned comes from the training split: a column is numeric when every value in it is a number or '?', and
 * is then standardized by its mean and deviation ('?' becomes the mean, 0); any other column is categorical, its
 * values numbered from 1 by frequency, and 0 stands for a value that the training split lacks. '?' is a value like any
 * other there. A sample is the numeric columns, in order, then the categorical ones.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "data/recipe.h"
#include "data/records.h"
#include "data/vocabulary.h"

enum { MAX_COLUMNS = CWI_RECORD_FIELDS - 1, MAX_VALUE = 1000 };

typedef struct column {
    bool numeric;
    double sum, squares, known; /* while learning */
    float mean, std;
    cwi_vocabulary values; /* categorical */
} column;

typedef struct table {
    column *columns; /* [count], without the class */
    size_t count, numeric;
    cwi_vocabulary classes;
    const char **class_names; /* into classes */
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

/* ---- the file ---- */

typedef struct source {
    cwi_records records;
    size_t fields; /* 0: not known yet */
} source;

/* UCI's own adult.data and adult.test have no header; others have one. */
static cw_status open_source(source *s, const char *path, cw_error *err)
{
    s->fields = 0;
    CWI_TRY(cwi_records_open(&s->records, path, ',', err));
    const char *dot = strrchr(path, '.');
    if (strcmp(dot, ".csv") != 0)
        return CW_OK;
    cw_status status = cwi_records_next(&s->records, err);
    s->fields = s->records.fields;
    if (status == CW_OK)
        return CW_OK;
    cwi_records_close(&s->records);
    return status == CW_END ? cwi_fail(err, CW_ERR_CORRUPT, "%s is empty", path) : status;
}

/* The next row; the class, without the full stop that adult.test puts behind it, is the last field. */
static cw_status next_row(source *s, cw_error *err)
{
    cwi_records *r = &s->records;
    do {
        CWI_TRY(cwi_records_next(r, err));
    } while (r->field[0][0] == '|'); /* the remark on top of adult.test */
    if (s->fields == 0)
        s->fields = r->fields;
    if (r->fields != s->fields || r->fields < 2)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: %zu fields, not %zu", r->path, r->line, r->fields,
                        CWI_MAX(s->fields, (size_t)2));
    for (size_t i = 0; i < r->fields; i++)
        if (strlen(r->field[i]) > MAX_VALUE || strchr(r->field[i], '\n'))
            return cwi_records_fail(r, err, "a value of more than 1000 bytes or of several lines");
    char *class = r->field[r->fields - 1];
    size_t n = strlen(class);
    if (n > 0 && class[n - 1] == '.')
        class[n - 1] = '\0';
    return CW_OK;
}

static bool parse_number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value);
}

static bool is_missing(const char *text)
{
    return strcmp(text, "?") == 0 || *text == '\0';
}

/* ---- learning ---- */

/* First pass: which columns are numeric, and their sums; the classes. */
static cw_status learn_row(table *t, const cwi_records *r, cw_error *err)
{
    if (!t->columns)
        CWI_TRY(make_columns(t, r->fields - 1, err));
    for (size_t i = 0; i < t->count; i++) {
        column *c = &t->columns[i];
        double value;
        if (!c->numeric || is_missing(r->field[i]))
            continue;
        c->numeric = parse_number(r->field[i], &value);
        if (c->numeric) {
            c->sum += value;
            c->squares += value * value;
            c->known++;
        }
    }
    return cwi_vocabulary_add(&t->classes, r->field[t->count], strlen(r->field[t->count]), err);
}

/* Second pass: the values of the categorical columns. */
static cw_status learn_values(table *t, const cwi_records *r, cw_error *err)
{
    for (size_t i = 0; i < t->count; i++)
        if (!t->columns[i].numeric)
            CWI_TRY(cwi_vocabulary_add(&t->columns[i].values, r->field[i], strlen(r->field[i]), err));
    return CW_OK;
}

static cw_status for_each_row(table *t, const char *path, cw_status (*visit)(table *, const cwi_records *, cw_error *),
                              cw_error *err)
{
    source s;
    CWI_TRY(open_source(&s, path, err));
    cw_status status;
    while ((status = next_row(&s, err)) == CW_OK && (status = visit(t, &s.records, err)) == CW_OK)
        ;
    cwi_records_close(&s.records);
    if (status == CW_END && !t->columns)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no rows", path);
    return status == CW_END ? CW_OK : status;
}

static cw_status learn_scale(column *c, size_t number, const char *path, cw_error *err)
{
    double mean = c->sum / c->known, variance = c->squares / c->known - mean * mean;
    c->mean = (float)mean;
    c->std = variance > 1e-12 * mean * mean ? (float)sqrt(variance) : 1.0f; /* a constant column becomes 0 */
    if (isfinite(variance) && isfinite(c->mean) && isfinite(c->std) && c->std > 0)
        return CW_OK;
    return cwi_fail(err, CW_ERR_CORRUPT,
                    "%s: column %zu: its mean or deviation is beyond what a float holds: rescale its values", path,
                    number);
}

static cw_status learn(table *t, const char *path, cw_error *err)
{
    CWI_TRY(for_each_row(t, path, learn_row, err));
    for (size_t i = 0; i < t->count; i++) {
        column *c = &t->columns[i];
        c->numeric = c->numeric && c->known > 0;
        if (c->numeric)
            CWI_TRY(learn_scale(c, i + 1, path, err));
    }
    CWI_TRY(for_each_row(t, path, learn_values, err));
    for (size_t i = 0; i < t->count; i++)
        if (!t->columns[i].numeric)
            CWI_TRY(cwi_vocabulary_rank(&t->columns[i].values, CWI_BY_COUNT, 1, SIZE_MAX, err));
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
            CWI_TRY(cwi_text_add(out, err, "numeric %.9g %.9g\n", c->mean, c->std));
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
    char line[MAX_VALUE + 2];
    for (size_t i = 0; i < count; i++) {
        if (!cwi_text_line(at, line, sizeof line) || cwi_vocabulary_find(v, line, strlen(line)) >= 0)
            return fail_recipe(err);
        CWI_TRY(cwi_vocabulary_add(v, line, strlen(line), err));
    }
    return CW_OK;
}

static cw_status read_recipe(table *t, const char *at, cw_error *err)
{
    char line[MAX_VALUE + 2], extra;
    size_t count, values;
    if (!cwi_text_line(&at, line, sizeof line) || strncmp(line, recipe_head, sizeof recipe_head - 1) != 0 ||
        sscanf(line + sizeof recipe_head - 1, "%zu%c", &count, &extra) != 1 || count == 0 || count > MAX_COLUMNS)
        return fail_recipe(err);
    CWI_TRY(make_columns(t, count, err));
    for (size_t i = 0; i < count; i++) {
        column *c = &t->columns[i];
        if (!cwi_text_line(&at, line, sizeof line))
            return fail_recipe(err);
        if (sscanf(line, "numeric %f %f%c", &c->mean, &c->std, &extra) == 2) {
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

/* ---- a split ---- */

static cw_status encode_row(const table *t, const cwi_records *r, float *row, int32_t *label, cw_error *err)
{
    float *number = row, *category = row + t->numeric;
    for (size_t i = 0; i < t->count; i++) {
        const column *c = &t->columns[i];
        double value;
        if (!c->numeric)
            *category++ = (float)(cwi_vocabulary_find(&c->values, r->field[i], strlen(r->field[i])) + 1);
        else if (is_missing(r->field[i]))
            *number++ = 0;
        else if (parse_number(r->field[i], &value)) {
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

static cw_status load_split(const table *t, const char *path, cw_dataset *ds, cw_error *err)
{
    source s;
    size_t capacity = 0;
    CWI_TRY(open_source(&s, path, err));
    cw_status status;
    while ((status = next_row(&s, err)) == CW_OK) {
        if (s.fields != t->count + 1)
            status = cwi_records_fail(&s.records, err, "not as many columns as in the training split");
        if (status == CW_OK)
            status = cwi_rows_reserve(ds, &capacity, err);
        if (status == CW_OK)
            status = encode_row(t, &s.records, ds->rows + ds->info.count * t->count, &ds->labels[ds->info.count], err);
        if (status != CW_OK)
            break;
        ds->info.count++;
    }
    cwi_records_close(&s.records);
    if (status == CW_END && ds->info.count == 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no rows", path);
    return status == CW_END ? CW_OK : status;
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

static cw_status open_table(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    char path[4096];
    table *t = cwi_calloc(1, sizeof *t);
    if (!t)
        return cwi_fail_memory(err, sizeof *t);
    ds->ops = &table_ops;
    ds->impl = t;
    if (ds->given_recipe)
        CWI_TRY(read_recipe(t, ds->given_recipe, err));
    else if (find_split(dir, CW_SPLIT_TRAIN, path, sizeof path))
        CWI_TRY(learn(t, path, err));
    else
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s has no training split, which the statistics come from", dir);
    for (size_t i = 0; i < t->count; i++)
        t->numeric += t->columns[i].numeric;
    cwi_text recipe = {0};
    cw_status status = write_recipe(t, &recipe, err);
    ds->recipe = recipe.data;
    if (status != CW_OK)
        return status;
    CWI_TRY(describe(t, ds, err));
    CWI_TRY(name_classes(t, ds, err));
    ds->info.sample = cw_shape_of(1, (int64_t[]){(int64_t)t->count});
    if (!find_split(dir, split, path, sizeof path))
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s does not hold this split", dir);
    return load_split(t, path, ds, err);
}

const cwi_format cwi_format_adult = {
    .known = {.name = "adult",
              .summary = "UCI Adult: income above 50K from 14 columns of the census, 2 classes",
              .install = "cutwire data fetch adult"},
    .folders = {"adult"},
    .probe = probe,
    .wants = "train.csv, test.csv, adult.data or adult.test",
    .open = open_table,
};

const cwi_format cwi_format_csv = {
    .known = {.name = "csv",
              .summary = "your own table, csv:DIR with train.csv and test.csv: a header, the class in the last column",
              .install = "name a folder that holds train.csv and test.csv"},
    .folders = {"csv"},
    .probe = probe,
    .wants = "train.csv or test.csv",
    .open = open_table,
};
