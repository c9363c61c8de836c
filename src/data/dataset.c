/* dataset.c - the known data sets: finding their folder and opening a split. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data/dataset.h"

static const cwi_format *const formats[] = {
    &cwi_format_fashion_mnist, &cwi_format_cifar_10,    &cwi_format_cifar_100,
    &cwi_format_imagenette,    &cwi_format_imagefolder, &cwi_format_sst_2,
    &cwi_format_ag_news,       &cwi_format_adult,       &cwi_format_csv,
};

enum { PATH_SIZE = 4096 };

size_t cw_dataset_known_count(void)
{
    return CWI_COUNT(formats);
}

const cw_dataset_known *cw_dataset_known_at(size_t i)
{
    return i < CWI_COUNT(formats) ? &formats[i]->known : NULL;
}

bool cwi_path_join(char *out, size_t size, const char *dir, const char *name)
{
    int n = snprintf(out, size, "%s/%s", dir, name);
    return n >= 0 && (size_t)n < size;
}

bool cwi_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

cw_status cwi_labels_check(const cw_dataset *ds, const char *path, cw_error *err)
{
    for (size_t i = 0; i < ds->info.count; i++)
        if (ds->labels[i] < 0 || ds->labels[i] >= ds->info.classes)
            return cwi_fail_at(err, CW_ERR_CORRUPT, i, "%s: label %d of sample %zu is not in 0..%d", path,
                               ds->labels[i], i, ds->info.classes - 1);
    return CW_OK;
}

/* Names of files are any bytes; a note is text of one line. */
static void clean_text(char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        size_t n = cwi_utf8_length((const uint8_t *)text, left);
        if (n == 0 || (uint8_t)*text < ' ' || *text == 0x7f)
            *text = '?';
        n = CWI_MAX(n, (size_t)1);
        text += n;
        left -= n;
    }
}

void cwi_dataset_note(cw_dataset *ds, const char *fmt, ...)
{
    const size_t used = strlen(ds->note);
    va_list args;
    if (used)
        snprintf(ds->note + used, sizeof ds->note - used, "; ");
    const size_t at = strlen(ds->note);
    va_start(args, fmt);
    vsnprintf(ds->note + at, sizeof ds->note - at, fmt, args);
    va_end(args);
    clean_text(ds->note + at);
    ds->info.note = ds->note;
}

/* ---- finding ---- */

/* What a spec asks for. */
typedef struct wanted {
    const cwi_format *format;
    const char *dir; /* NULL: the usual places */
    int size;        /* 0: the format's own */
} wanted;

static cw_status fail_unknown(const char *name, size_t n, cw_error *err)
{
    cwi_list known = {""};
    for (size_t i = 0; i < CWI_COUNT(formats); i++)
        cwi_list_add(&known, formats[i]->known.name);
    return cwi_fail(err, CW_ERR_SPEC, "unknown data set \"%.*s\"; known: %s", (int)CWI_MIN(n, (size_t)100), name,
                    known.text);
}

/* "@SIZE" of a NAME@SIZE, up to `end`. */
static cw_status parse_size(const char *spec, const char *at, const char *end, wanted *w, cw_error *err)
{
    enum { MIN_SIZE = 8, MAX_SIZE = 1024 };
    char *stop;
    if (!w->format->sizable)
        return cwi_fail(err, CW_ERR_SPEC, "data set \"%s\": %s has samples of one size only", spec,
                        w->format->known.name);
    long size = strtol(at + 1, &stop, 10);
    if (stop != end || stop == at + 1 || size < MIN_SIZE || size > MAX_SIZE)
        return cwi_fail(err, CW_ERR_SPEC, "data set \"%s\": the size after '@' is not in %d..%d", spec, MIN_SIZE,
                        MAX_SIZE);
    w->size = (int)size;
    return CW_OK;
}

const cwi_format *cwi_format_of(const char *spec)
{
    const size_t n = strcspn(spec, "@:");
    for (size_t i = 0; i < CWI_COUNT(formats); i++)
        if (strlen(formats[i]->known.name) == n && memcmp(formats[i]->known.name, spec, n) == 0)
            return formats[i];
    return NULL;
}

/* NAME[@SIZE][:DIR] */
static cw_status parse_spec(const char *spec, wanted *w, cw_error *err)
{
    const char *end = spec + strcspn(spec, ":"), *at = spec + strcspn(spec, "@:");
    size_t n = (size_t)(at - spec);
    *w = (wanted){.dir = *end ? end + 1 : NULL};
    w->format = cwi_format_of(spec);
    if (!w->format)
        return fail_unknown(spec, n, err);
    if (w->dir && !*w->dir)
        return cwi_fail(err, CW_ERR_SPEC, "data set \"%s\": no folder after the colon", spec);
    return at < end ? parse_size(spec, at, end, w, err) : CW_OK;
}

/* The i-th folder that is searched when none was named; false after the last. */
static bool usual_place(const cwi_format *f, size_t i, char *out, size_t size)
{
    const char *data = getenv("CUTWIRE_DATA"), *home = getenv("HOME");
    for (const char *const *folder = f->folders; data && *data && *folder; folder++)
        if (i-- == 0)
            return cwi_path_join(out, size, data, *folder);
    for (const char *const *folder = f->folders; home && *home && *folder; folder++)
        if (i-- == 0) {
            int n = snprintf(out, size, "%s/.cache/cutwire/data/%s", home, *folder);
            return n >= 0 && (size_t)n < size;
        }
    for (const char *const *p = f->system_places; p && *p; p++)
        if (i-- == 0)
            return snprintf(out, size, "%s", *p) < (int)size;
    return false;
}

/* "no val/ in DIR", or, where the other split is there, "DIR has train/ but no val/". */
static cw_status fail_missing(const cwi_format *f, cw_split split, const char *searched, const char *half,
                              cw_error *err)
{
    const cw_split other = split == CW_SPLIT_TRAIN ? CW_SPLIT_TEST : CW_SPLIT_TRAIN;
    if (*half)
        return cwi_fail(err, CW_ERR_NOT_FOUND, "data set %s: %s has %s but no %s; to get it: %s", f->known.name, half,
                        f->wants[other], f->wants[split], f->known.install);
    return cwi_fail(err, CW_ERR_NOT_FOUND, "data set %s: no %s in %s; to get it: %s", f->known.name, f->wants[split],
                    searched, f->known.install);
}

/* Looks in the folder that is named, else in the usual places. */
static cw_status find_folder(const cwi_format *f, const char *named, cw_split split, char *out, size_t size,
                             cw_error *err)
{
    char searched[800] = "", half[PATH_SIZE] = ""; /* a folder with the other split only */
    size_t used = 0;
    for (size_t i = 0; named ? i == 0 : usual_place(f, i, out, size); i++) {
        const char *place = named ? named : out;
        if (strlen(place) < size && f->probe(place, split)) {
            memmove(out, place, strlen(place) + 1);
            return CW_OK;
        }
        if (!*half && f->probe(place, split == CW_SPLIT_TRAIN ? CW_SPLIT_TEST : CW_SPLIT_TRAIN))
            snprintf(half, sizeof half, "%s", place);
        if (used < sizeof searched)
            used += (size_t)snprintf(searched + used, sizeof searched - used, "%s%s", i ? ", " : "", place);
    }
    return fail_missing(f, split, searched, half, err);
}

/* ---- opening ---- */

static cw_status open_in(const cwi_format *f, const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    cw_status status = f->open(dir, split, ds, err);
    bool damaged = status == CW_ERR_CORRUPT || status == CW_ERR_TRUNCATED || status == CW_ERR_MAGIC;
    if (damaged && err && !f->own) {
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof err->message - used, "; to get it again: %s", f->known.install);
    }
    return status;
}

cw_status cw_dataset_find(const char *spec, cw_split split, char *dir, size_t size, cw_error *err)
{
    wanted w;
    CWI_TRY(parse_spec(spec, &w, err));
    return find_folder(w.format, w.dir, split, dir, size, err);
}

cw_status cw_dataset_open(const char *spec, cw_split split, cw_dataset **out, cw_error *err)
{
    return cw_dataset_open_with(spec, split, NULL, out, err);
}

cw_status cw_dataset_open_with(const char *spec, cw_split split, const char *recipe, cw_dataset **out, cw_error *err)
{
    *out = NULL;
    wanted w;
    char dir[PATH_SIZE];
    CWI_TRY(parse_spec(spec, &w, err));
    CWI_TRY(find_folder(w.format, w.dir, split, dir, sizeof dir, err));
    cw_dataset *ds = cwi_calloc(1, sizeof *ds);
    if (!ds)
        return cwi_fail_memory(err, sizeof *ds);
    ds->info.name = w.format->known.name;
    ds->info.input = ds->input;
    snprintf(ds->input, sizeof ds->input, "image");
    ds->wanted_size = w.size;
    ds->given_recipe = recipe && strncmp(recipe, "\xef\xbb\xbf", 3) == 0 ? recipe + 3 : recipe; /* an editor's mark */
    cw_status status = open_in(w.format, dir, split, ds, err);
    ds->given_recipe = NULL;
    if (status != CW_OK) {
        cw_dataset_close(&ds);
        return status;
    }
    *out = ds;
    return CW_OK;
}

void cw_dataset_close(cw_dataset **ds)
{
    if (!ds || !*ds)
        return;
    if ((*ds)->ops && (*ds)->ops->close)
        (*ds)->ops->close((*ds)->impl);
    else
        cwi_free((*ds)->impl);
    cwi_free((*ds)->labels);
    cwi_free((*ds)->pixels);
    cwi_free((*ds)->rows);
    cwi_free((*ds)->recipe);
    cwi_free(*ds);
    *ds = NULL;
}

const cw_dataset_info *cw_dataset_get_info(const cw_dataset *ds)
{
    return &ds->info;
}

const char *cw_dataset_recipe(const cw_dataset *ds)
{
    return ds->recipe;
}

int32_t cw_dataset_label(const cw_dataset *ds, size_t i)
{
    return ds->labels[i];
}
