/* imagefolder.c - photos in folders, one folder a class: DIR/train/CLASS/FILE and DIR/val/CLASS/FILE, at any
 * depth below CLASS (valid, validation and test are taken where there is no val).
 *
 * Only the names are kept in memory; a sample is read and decoded when it is asked for, by the loader's workers.
 * Classes are numbered in the order of their names, in the training split; files come as torchvision's ImageFolder
 * lists them (folder_walk.c).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data/dataset.h"
#include "data/folder_walk.h"
#include "data/image_decode.h"
#include "data/resample.h"

enum { DEFAULT_SIZE = 224, PATH_SIZE = 4096 };

typedef struct folder {
    char *dir;       /* of the split */
    cwi_names class; /* names of the classes */
    cwi_names file;  /* "CLASS/.../FILE" of each sample */
} folder;

/* ---- opening ---- */

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool split_folder(const char *dir, cw_split split, char *path, size_t size)
{
    static const char *const train[] = {"train", NULL}, *const test[] = {"val", "valid", "validation", "test", NULL};
    for (const char *const *name = split == CW_SPLIT_TRAIN ? train : test; *name; name++)
        if (cwi_path_join(path, size, dir, *name) && is_folder(path))
            return true;
    return false;
}

static bool probe(const char *dir, cw_split split)
{
    char path[PATH_SIZE];
    return split_folder(dir, split, path, sizeof path);
}

/* The training split's, also for the other one, so that a class has the same number in both. */
static cw_status list_classes(const char *dir, folder *f, cw_error *err)
{
    char train[PATH_SIZE];
    cwi_skipped skipped = {0};
    const char *from = split_folder(dir, CW_SPLIT_TRAIN, train, sizeof train) ? train : f->dir;
    CWI_TRY(cwi_walk_classes(from, &f->class, &skipped, err));
    if (f->class.count == 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no folders: one for each class is expected", from);
    return CW_OK;
}

/* Which of the wanted names `have` lacks, as "a", "b" and how many more; false when none. */
static bool name_missing(const cwi_names *wanted, const cwi_names *have, char *text, size_t size)
{
    size_t count = 0, used = 0;
    enum { NAMED = 5 };
    for (size_t i = 0; i < wanted->count; i++)
        if (!cwi_names_hold(have, wanted->items[i]) && count++ < NAMED && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s\"%.60s\"", used ? ", " : "", wanted->items[i]);
    if (count > NAMED && used < size)
        snprintf(text + used, size - used, " and %zu more", count - NAMED);
    return count > 0;
}

static cw_status walk_class(folder *f, const char *class, cwi_names *full, cwi_skipped *skipped, cw_error *err)
{
    const size_t before = f->file.count;
    CWI_TRY(cwi_walk_photos(f->dir, class, &f->file, skipped, err));
    return f->file.count > before ? cwi_names_add(full, class, err) : CW_OK;
}

/* A class without photos is a mistake that torchvision does not pass over either. */
static cw_status fail_empty(const folder *f, const cwi_names *here, const cwi_names *full, const cwi_skipped *skipped,
                            cw_error *err)
{
    char empty[400], unread[160] = "";
    name_missing(here, full, empty, sizeof empty);
    if (skipped->count[CWI_SKIP_FORMAT])
        snprintf(unread, sizeof unread, " (%zu of formats that are not read, as %.80s)",
                 skipped->count[CWI_SKIP_FORMAT], skipped->first[CWI_SKIP_FORMAT]);
    return cwi_fail(err, CW_ERR_CORRUPT,
                    "%s holds no images (.jpg, .jpeg, .jpe, .jfif or .png) of %s %s%s: put some there, or remove the "
                    "folder",
                    f->dir, here->count - full->count > 1 ? "the classes" : "class", empty, unread);
}

/* What a user should know of a folder that is read nevertheless. */
static void note_folder(const folder *f, const cwi_names *full, const cwi_skipped *skipped, cw_dataset *ds)
{
    char missing[300], passed[sizeof ds->note];
    cwi_skipped_describe(skipped, passed, sizeof passed);
    ds->info.skipped = cwi_skipped_total(skipped);
    if (*passed)
        cwi_dataset_note(ds, "%s: %s", f->dir, passed);
    if (name_missing(&f->class, full, missing, sizeof missing))
        cwi_dataset_note(ds, "%s holds no images of %s", f->dir, missing);
}

static cw_status fail_unknown(const folder *f, const char *class, cw_error *err)
{
    char known[400];
    name_missing(&f->class, &(cwi_names){0}, known, sizeof known);
    return cwi_fail(
        err, CW_ERR_CORRUPT,
        "%s has a class \"%.60s\" that the training split lacks, which has %s: rename its folder or remove it", f->dir,
        class, known);
}

static cw_status list_files(folder *f, const cwi_names *here, cwi_names *full, cwi_skipped *skipped, cw_dataset *ds,
                            cw_error *err)
{
    for (size_t k = 0; k < here->count; k++) {
        if (!cwi_names_hold(&f->class, here->items[k]))
            return fail_unknown(f, here->items[k], err);
        CWI_TRY(walk_class(f, here->items[k], full, skipped, err));
    }
    if (full->count < here->count)
        return fail_empty(f, here, full, skipped, err);
    if (f->file.count == 0 || f->file.count > UINT32_MAX)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no images (.jpg, .jpeg, .jpe, .jfif or .png in class folders)",
                        f->dir);
    note_folder(f, full, skipped, ds);
    return CW_OK;
}

static cw_status list_split(folder *f, cw_dataset *ds, cw_error *err)
{
    cwi_names here = {0}, full = {0};
    cwi_skipped skipped = {0};
    cw_status status = cwi_walk_classes(f->dir, &here, &skipped, err);
    if (status == CW_OK)
        status = list_files(f, &here, &full, &skipped, ds, err);
    cwi_names_free(&here);
    cwi_names_free(&full);
    return status;
}

static void label_files(const folder *f, int32_t *labels)
{
    size_t class = 0;
    for (size_t i = 0; i < f->file.count; i++) {
        const char *file = f->file.items[i];
        size_t n = strcspn(file, "/");
        while (strncmp(f->class.items[class], file, n) != 0 || f->class.items[class][n] != '\0')
            class ++; /* both lists are sorted */
        labels[i] = (int32_t) class;
    }
}

static void close_folder(void *impl)
{
    folder *f = impl;
    if (!f)
        return;
    cwi_free(f->dir);
    cwi_names_free(&f->class);
    cwi_names_free(&f->file);
    cwi_free(f);
}

static const cwi_dataset_ops folder_ops;

static const cwi_normal normal = {3, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}}; /* ImageNet's */

static cw_status open_split(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    char path[PATH_SIZE];
    folder *f = cwi_calloc(1, sizeof *f);
    if (!f)
        return cwi_fail_memory(err, sizeof *f);
    ds->ops = &folder_ops;
    ds->impl = f;
    if (!split_folder(dir, split, path, sizeof path) || !(f->dir = cwi_strdup(path)))
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s has no folder of this split", dir);
    CWI_TRY(list_classes(dir, f, err));
    CWI_TRY(list_split(f, ds, err));
    ds->labels = cwi_alloc(f->file.count, sizeof *ds->labels);
    if (!ds->labels)
        return cwi_fail_memory(err, f->file.count * sizeof *ds->labels);
    label_files(f, ds->labels);
    int64_t size = ds->wanted_size > 0 ? ds->wanted_size : DEFAULT_SIZE;
    ds->info.sample = cw_shape_of(3, (int64_t[]){3, size, size});
    ds->info.count = f->file.count;
    ds->info.classes = (int)f->class.count;
    ds->info.class_names = (const char *const *)f->class.items;
    memcpy(ds->info.mean, normal.mean, sizeof normal.mean);
    memcpy(ds->info.std, normal.std, sizeof normal.std);
    return CW_OK;
}

/* ---- one sample ---- */

typedef struct worker {
    cwi_image_decoder decoder;
    cwi_resampler resampler;
} worker;

static void worker_destroy(void *p)
{
    worker *w = p;
    if (!w)
        return;
    cwi_image_decoder_free(&w->decoder);
    cwi_resampler_free(&w->resampler);
    cwi_free(w);
}

static cw_status worker_create(const cw_dataset *ds, void **out, cw_error *err)
{
    (void)ds;
    worker *w = cwi_calloc(1, sizeof *w);
    if (!w)
        return cwi_fail_memory(err, sizeof *w);
    cw_status status = cwi_image_decoder_init(&w->decoder, err);
    if (status != CW_OK)
        cwi_free(w);
    else
        *out = w;
    return status;
}

static cwi_axis crop_axis(size_t first, size_t length, size_t n)
{
    return (cwi_axis){.first = (double)first, .step = (double)length / (double)n, .low = first, .high = first + length};
}

/* RandomResizedCrop as in torchvision: 8% to 100% of the area, aspect 3/4 to 4/3; after ten misses the largest centred
 * part of a valid aspect. */
static void random_crop(cwi_rng *rng, size_t width, size_t height, size_t n, cwi_axis *x, cwi_axis *y)
{
    const double area = (double)width * (double)height, log_low = log(3.0 / 4), log_high = log(4.0 / 3);
    for (int attempt = 0; attempt < 10; attempt++) {
        double target = area * (0.08 + 0.92 * cwi_rng_double(rng));
        double aspect = exp(log_low + (log_high - log_low) * cwi_rng_double(rng));
        size_t w = (size_t)lround(sqrt(target * aspect)), h = (size_t)lround(sqrt(target / aspect));
        if (w == 0 || h == 0 || w > width || h > height)
            continue;
        *y = crop_axis((size_t)cwi_rng_below(rng, height - h + 1), h, n);
        *x = crop_axis((size_t)cwi_rng_below(rng, width - w + 1), w, n);
        return;
    }
    size_t w = CWI_MIN(width, CWI_MAX((size_t)lround((double)height * 4 / 3), 1));
    size_t h = CWI_MIN(height, CWI_MAX((size_t)lround((double)width * 4 / 3), 1));
    *x = crop_axis((width - w) / 2, w, n);
    *y = crop_axis((height - h) / 2, h, n);
}

static cw_status make_sample(const cw_dataset *ds, const char *path, cwi_augment *a, worker *w, float *x, cw_error *err)
{
    uint8_t *bytes;
    size_t size, n = (size_t)ds->info.sample.dim[1];
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    cwi_image_decoder *d = &w->decoder;
    cw_status status = cwi_image_decode(d, bytes, size, err);
    cw_bytes_free(bytes);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "%s", path);
    cwi_axis ax = cwi_axis_centre(d->width, CWI_MIN(d->width, d->height), n);
    cwi_axis ay = cwi_axis_centre(d->height, CWI_MIN(d->width, d->height), n);
    if (a->resized_crop)
        random_crop(&a->rng, d->width, d->height, n, &ax, &ay);
    return cwi_resample(&w->resampler, d->rgb, d->width, &ax, &ay, n, a->flip, ds->info.mean, ds->info.std, x, err);
}

static cw_status folder_sample(const cw_dataset *ds, size_t i, cwi_augment *a, void *w, float *x, cw_error *err)
{
    const folder *f = ds->impl;
    char path[PATH_SIZE];
    if (!cwi_path_join(path, sizeof path, f->dir, f->file.items[i]))
        return cwi_fail(err, CW_ERR_IO, "the name of %s is too long", f->file.items[i]);
    return make_sample(ds, path, a, w, x, err);
}

static const cwi_dataset_ops folder_ops = {.sample = folder_sample,
                                           .worker_create = worker_create,
                                           .worker_destroy = worker_destroy,
                                           .close = close_folder,
                                           .augments = CWI_CAN_FLIP | CWI_CAN_RESIZED_CROP};

const cwi_format cwi_format_imagenette = {
    .known = {.name = "imagenette",
              .summary = "photos of 10 ImageNet classes; imagenette@SIZE for other than 224x224",
              .install = "cutwire data fetch imagenette"},
    .folders = {"imagenette2-320", "imagenette-224"},
    .probe = probe,
    .wants = {"train/", "val/ (or valid/, validation/, test/)"},
    .open = open_split,
    .normal = &normal,
    .sizable = true,
};

const cwi_format cwi_format_imagefolder = {
    .known = {.name = "imagefolder",
              .summary = "your own JPEG or PNG files, imagefolder[@SIZE]:DIR with DIR/train/CLASS/ and DIR/val/CLASS/",
              .install = "name a folder that holds train/CLASS/*.jpg and val/CLASS/*.jpg"},
    .folders = {"imagefolder"},
    .probe = probe,
    .wants = {"train/", "val/ (or valid/, validation/, test/)"},
    .open = open_split,
    .normal = &normal,
    .own = true,
    .sizable = true,
};
