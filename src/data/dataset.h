/* dataset.h - what a data set is inside, and what a format provides to become one. Internal.
 *
 * A format knows its files and fills a cw_dataset: info, labels and the `ops` that make one sample as floats. To add a
 * format: write a cwi_format in its own file and list it in dataset.c.
 */
#ifndef CWI_DATASET_H
#define CWI_DATASET_H

#include "base/base.h"
#include "cutwire/data.h"

/* How one sample is augmented in one epoch; the stream is its own. */
typedef struct cwi_augment {
    bool flip; /* this time */
    int crop_pad;
    bool resized_crop;
    cwi_rng rng;
} cwi_augment;

/* Which of them a format can do. */
enum { CWI_CAN_FLIP = 1, CWI_CAN_CROP_PAD = 2, CWI_CAN_RESIZED_CROP = 4 };

typedef struct cwi_dataset_ops {
    /* Writes sample i, normalized, as info.sample floats. Called by several threads at once, each with what its own
     * worker_create made (NULL when that is NULL). */
    cw_status (*sample)(const cw_dataset *ds, size_t i, cwi_augment *augment, void *worker, float *x, cw_error *err);
    cw_status (*worker_create)(const cw_dataset *ds, void **worker, cw_error *err);
    void (*worker_destroy)(void *worker);
    void (*close)(void *impl); /* NULL when impl is freed by cwi_free */
    unsigned augments;         /* CWI_CAN_... */
} cwi_dataset_ops;

struct cw_dataset {
    cw_dataset_info info;
    const cwi_dataset_ops *ops;
    int32_t *labels;          /* [info.count], owned, each checked to lie in [0, info.classes) */
    uint8_t *pixels;          /* in-memory images: count x C,H,W bytes, owned; else NULL */
    float *rows;              /* rows in memory: count x sample floats, owned; else NULL */
    void *impl;               /* the format's own, owned */
    char *recipe;             /* what cw_dataset_recipe gives, owned; else NULL */
    char input[1024];         /* what info.input points to */
    char note[512];           /* what info.note points to, once there is one */
    int wanted_size;          /* NAME@SIZE of the spec: edge of images, length of texts; or 0 */
    const char *given_recipe; /* while opening: to be used in place of learning from the training split; or NULL */
};

/* By which pixels scaled to [0,1] are normalized, channel by channel. */
typedef struct cwi_normal {
    int channels;
    float mean[4], std[4];
} cwi_normal;

typedef struct cwi_format {
    cw_dataset_known known;
    const char *folders[3];           /* under $CUTWIRE_DATA and the cache; NULL-terminated */
    const char *const *system_places; /* NULL-terminated list of absolute folders; NULL: none */
    /* Whether dir seems to hold this set (its first file exists). */
    bool (*probe)(const char *dir, cw_split split);
    const char *wants[2];     /* by split: what probe looks for, for the error message */
    bool sizable;             /* takes NAME@SIZE */
    const cwi_normal *normal; /* of images; else NULL */
    bool own;                 /* for the user's own files, which nobody can fetch again */
    /* Fills the zeroed *ds; on failure what was allocated into it is freed by the caller. */
    cw_status (*open)(const char *dir, cw_split split, cw_dataset *ds, cw_error *err);
} cwi_format;

extern const cwi_format cwi_format_fashion_mnist, cwi_format_cifar_10, cwi_format_cifar_100, cwi_format_imagenette,
    cwi_format_imagefolder, cwi_format_sst_2, cwi_format_ag_news, cwi_format_adult, cwi_format_csv;

/* Adds a sentence to what the user is told of this split (info.note). */
void cwi_dataset_note(cw_dataset *ds, const char *fmt, ...) CWI_PRINTF(2, 3);

/* As opening has it; NULL: no set has that name. NAME[@SIZE][:DIR]. */
const cwi_format *cwi_format_of(const char *spec);

/* ---- images in memory ---- */

extern const cwi_dataset_ops cwi_pixel_ops;

/* CW_ERR_CORRUPT naming the first label that is not in [0, classes). */
cw_status cwi_labels_check(const cw_dataset *ds, const char *path, cw_error *err);

/* ---- rows in memory ---- */

extern const cwi_dataset_ops cwi_row_ops;
cw_status cwi_row_sample(const cw_dataset *ds, size_t i, cwi_augment *augment, void *worker, float *x, cw_error *err);
/* Room for one more sample in rows and labels; *capacity begins at 0. */
cw_status cwi_rows_reserve(cw_dataset *ds, size_t *capacity, cw_error *err);

/* ---- files ---- */

/* "DIR/NAME"; false when it does not fit. */
bool cwi_path_join(char *out, size_t size, const char *dir, const char *name);
bool cwi_file_exists(const char *path);

#endif
