/* text.c - sentences as rows of token ids: SST-2 (Socher et al. 2013; GLUE's layout) and AG News (Zhang et al. 2015).
 *
 * Tokens: runs of letters, digits and non-ASCII bytes, lower-cased (ASCII), and every other visible character by
 * itself; a backslash is a blank (AG News has it for line breaks). Ids: 0 padding, 1 a word the vocabulary lacks, then
 * the words of the training split that occur at least twice, at most 20,000, the most frequent first. A sentence is
 * cut or padded behind to a fixed length.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "data/recipe.h"
#include "data/records.h"
#include "data/vocabulary.h"

enum { PAD = 0, UNKNOWN = 1, FIRST_WORD = 2, MAX_WORDS = 20000, MIN_COUNT = 2, DEFAULT_LENGTH = 64, MAX_TOKEN = 64 };

/* ---- tokens ---- */

static bool in_word(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || (ch & 0x80);
}

/* The next token of *p, lower-cased into token[MAX_TOKEN] (longer ones are cut); its length, 0 at the end. */
static size_t next_token(const char **p, char *token)
{
    const char *s = *p;
    size_t n = 0;
    while (*s && !in_word(*s) && ((unsigned char)*s <= ' ' || *s == '\\' || *s == 0x7f))
        s++;
    if (*s && !in_word(*s)) {
        token[n++] = *s++;
    } else {
        for (; in_word(*s); s++)
            if (n < MAX_TOKEN)
                token[n++] = *s >= 'A' && *s <= 'Z' ? (char)(*s | 0x20) : *s;
    }
    *p = s;
    return n;
}

/* ---- the files ---- */

/* A file of labelled sentences, in whichever of the known layouts it is. */
typedef struct source {
    cwi_records records;
    bool official_csv; /* AG News: "class from 1","title","description", no header */
    size_t text, label;
} source;

static bool find_columns(source *s)
{
    size_t found = 0;
    for (size_t i = 0; i < s->records.fields; i++) {
        const char *name = s->records.field[i];
        if (strcmp(name, "label") == 0)
            s->label = i, found |= 1;
        if (strcmp(name, "sentence") == 0 || strcmp(name, "text") == 0)
            s->text = i, found |= 2;
    }
    return found == 3;
}

static cw_status open_source(source *s, const char *path, cw_error *err)
{
    memset(s, 0, sizeof *s);
    s->official_csv = strlen(path) > 4 && strcmp(path + strlen(path) - 4, ".csv") == 0;
    CWI_TRY(cwi_records_open(&s->records, path, s->official_csv ? ',' : '\t', err));
    if (s->official_csv)
        return CW_OK;
    cw_status status = cwi_records_next(&s->records, err);
    if (status == CW_OK && find_columns(s))
        return CW_OK;
    if (status == CW_OK || status == CW_END)
        status = cwi_fail(err, CW_ERR_CORRUPT, "%s has no header with 'label' and 'sentence' or 'text'", path);
    cwi_records_close(&s->records);
    return status;
}

/* The next sentence, as one or two texts, and its label. CW_END. */
static cw_status next_sentence(source *s, const char *text[2], long *label, cw_error *err)
{
    cwi_records *r = &s->records;
    CWI_TRY(cwi_records_next(r, err));
    size_t need = s->official_csv ? 3 : CWI_MAX(s->text, s->label) + 1;
    if (r->fields < need)
        return cwi_records_fail(r, err, "fields are missing");
    char *end;
    const char *number = r->field[s->official_csv ? 0 : s->label];
    *label = strtol(number, &end, 10) - (s->official_csv ? 1 : 0);
    if (*end || end == number)
        return cwi_records_fail(r, err, "the label is not a number");
    text[0] = r->field[s->official_csv ? 1 : s->text];
    text[1] = s->official_csv ? r->field[2] : "";
    return CW_OK;
}

/* ---- the vocabulary ---- */

static cw_status count_words(const char *path, cwi_vocabulary *v, cw_error *err)
{
    source s;
    const char *text[2];
    long label;
    CWI_TRY(open_source(&s, path, err));
    cw_status status;
    while ((status = next_sentence(&s, text, &label, err)) == CW_OK) {
        for (size_t i = 0; i < 2 && status == CW_OK; i++) {
            char token[MAX_TOKEN];
            for (size_t n; status == CW_OK && (n = next_token(&text[i], token)) > 0;)
                status = cwi_vocabulary_add(v, token, n, err);
        }
        if (status != CW_OK)
            break;
    }
    cwi_records_close(&s.records);
    return status == CW_END ? cwi_vocabulary_rank(v, CWI_BY_COUNT, MIN_COUNT, MAX_WORDS, err) : status;
}

static const char recipe_head[] = "cutwire-recipe 1 tokens";

static cw_status write_recipe(const cwi_vocabulary *v, size_t length, cw_dataset *ds, cw_error *err)
{
    cwi_text t = {0};
    cw_status status = cwi_text_add(&t, err, "%s %zu\n", recipe_head, length);
    for (size_t i = 0; i < v->count && status == CW_OK; i++)
        status = cwi_text_add(&t, err, "%s\n", cwi_vocabulary_text(v, i));
    ds->recipe = t.data;
    return status;
}

static cw_status read_recipe(const char *recipe, cwi_vocabulary *v, int *length, cw_error *err)
{
    char line[2 * MAX_TOKEN];
    bool ok = cwi_text_line(&recipe, line, sizeof line) && strncmp(line, recipe_head, sizeof recipe_head - 1) == 0;
    *length = ok ? atoi(line + sizeof recipe_head - 1) : 0;
    if (*length < 1 || *length > 1024)
        return cwi_fail(err, CW_ERR_CORRUPT, "the recipe is not one of a text");
    while (cwi_text_line(&recipe, line, sizeof line)) {
        size_t n = strlen(line);
        if (n == 0 || n > MAX_TOKEN || v->count == MAX_WORDS || cwi_vocabulary_find(v, line, n) >= 0)
            return cwi_fail(err, CW_ERR_CORRUPT, "the recipe's word %zu is empty, too long, repeated or one too many",
                            v->count);
        CWI_TRY(cwi_vocabulary_add(v, line, n, err));
    }
    return *recipe ? cwi_fail(err, CW_ERR_CORRUPT, "the recipe's word %zu is too long", v->count) : CW_OK;
}

/* ---- a split ---- */

static void encode(const cwi_vocabulary *v, const char *text[2], size_t length, float *row)
{
    size_t used = 0;
    char token[MAX_TOKEN];
    for (size_t i = 0; i < 2; i++) {
        for (size_t n; used < length && (n = next_token(&text[i], token)) > 0;) {
            int64_t number = cwi_vocabulary_find(v, token, n);
            row[used++] = (float)(number < 0 ? UNKNOWN : number + FIRST_WORD);
        }
    }
    for (; used < length; used++)
        row[used] = PAD;
}

static cw_status load_split(const char *path, const cwi_vocabulary *v, cw_dataset *ds, cw_error *err)
{
    source s;
    const char *text[2];
    long label;
    size_t capacity = 0, wordless = 0, length = (size_t)ds->info.sample.dim[0];
    CWI_TRY(open_source(&s, path, err));
    cw_status status;
    while ((status = next_sentence(&s, text, &label, err)) == CW_OK) {
        if (label < 0 || label >= ds->info.classes)
            status = cwi_fail(err, CW_ERR_CORRUPT, "%s, line %zu: label %ld is not in 0..%d", path, s.records.line,
                              label, ds->info.classes - 1);
        else
            status = cwi_rows_reserve(ds, &capacity, err);
        if (status != CW_OK)
            break;
        ds->labels[ds->info.count] = (int32_t)label;
        float *row = ds->rows + ds->info.count++ * length;
        encode(v, text, length, row);
        wordless += row[0] == PAD;
    }
    cwi_records_close(&s.records);
    if (status == CW_END && ds->info.count == 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no sentences", path);
    if (status == CW_END && wordless > 0)
        cwi_dataset_note(ds, "%s: %zu of its texts are empty", path, wordless);
    return status == CW_END ? CW_OK : status;
}

/* The first of the names that dir has; CW_ERR_NOT_FOUND. */
static bool find_file(const char *dir, const char *const *names, char *path, size_t size)
{
    for (; *names; names++)
        if (cwi_path_join(path, size, dir, *names) && cwi_file_exists(path))
            return true;
    return false;
}

static const char *const train_files[] = {"train.tsv", "train.csv", NULL};
static const char *const test_files[] = {"test.tsv", "test.csv", NULL};

/* GLUE's own test.tsv of SST-2 has no labels: there the test split is dev.tsv, as in every paper that reports it. */
static bool find_split(const char *dir, cw_split split, char *path, size_t size)
{
    if (split == CW_SPLIT_TRAIN)
        return find_file(dir, train_files, path, size);
    source s;
    if (find_file(dir, test_files, path, size) && open_source(&s, path, NULL) == CW_OK) {
        cwi_records_close(&s.records);
        return true;
    }
    static const char *const dev[] = {"dev.tsv", NULL};
    char instead[4096];
    if (!find_file(dir, dev, instead, sizeof instead))
        return find_file(dir, test_files, path, size);
    return snprintf(path, size, "%s", instead) < (int)size;
}

static bool probe(const char *dir, cw_split split)
{
    char path[4096];
    return find_file(dir, split == CW_SPLIT_TRAIN ? train_files : test_files, path, sizeof path);
}

static cw_status open_with(const char *dir, cw_split split, cwi_vocabulary *v, cw_dataset *ds, cw_error *err)
{
    char path[4096];
    int length = ds->wanted_size > 0 ? ds->wanted_size : DEFAULT_LENGTH;
    if (ds->given_recipe) {
        CWI_TRY(read_recipe(ds->given_recipe, v, &length, err));
    } else {
        if (!find_split(dir, CW_SPLIT_TRAIN, path, sizeof path))
            return cwi_fail(err, CW_ERR_NOT_FOUND, "%s has no training split, which the vocabulary comes from", dir);
        CWI_TRY(count_words(path, v, err));
    }
    CWI_TRY(write_recipe(v, (size_t)length, ds, err));
    ds->info.sample = cw_shape_of(1, (int64_t[]){length});
    snprintf(ds->input, sizeof ds->input, "tokens:%zu", v->count + FIRST_WORD);
    if (!find_split(dir, split, path, sizeof path))
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s does not hold this split", dir);
    return load_split(path, v, ds, err);
}

static cw_status open_text(const char *dir, cw_split split, const char *const *classes, int count, cw_dataset *ds,
                           cw_error *err)
{
    cwi_vocabulary v = {0};
    ds->ops = &cwi_row_ops;
    ds->info.classes = count;
    ds->info.class_names = classes;
    cw_status status = open_with(dir, split, &v, ds, err);
    cwi_vocabulary_free(&v);
    return status;
}

/* ---- the sets ---- */

static cw_status open_sst_2(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    static const char *const classes[] = {"negative", "positive"};
    return open_text(dir, split, classes, 2, ds, err);
}

static cw_status open_ag_news(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    static const char *const classes[] = {"World", "Sports", "Business", "Sci/Tech"};
    return open_text(dir, split, classes, 4, ds, err);
}

const cwi_format cwi_format_sst_2 = {
    .known = {.name = "sst-2",
              .summary = "sentences of film reviews, 2 classes; sst-2@LENGTH for other than 64 tokens",
              .install = "cutwire data fetch sst-2"},
    .folders = {"sst-2"},
    .probe = probe,
    .wants = {"train.tsv or train.csv", "test.tsv or test.csv"},
    .open = open_sst_2,
    .sizable = true,
};

const cwi_format cwi_format_ag_news = {
    .known = {.name = "ag-news",
              .summary = "news in short, 4 classes; ag-news@LENGTH for other than 64 tokens",
              .install = "cutwire data fetch ag-news"},
    .folders = {"ag-news"},
    .probe = probe,
    .wants = {"train.tsv or train.csv", "test.tsv or test.csv"},
    .open = open_ag_news,
    .sizable = true,
};
