/* cutwire/data.h - data sets, their split among clients, and the loader that makes batches.
 *
 * A data set is opened from "NAME" or "NAME:DIR" and holds one split (train or test): small images in memory, photos as
 * a list of files that are decoded when they are needed ("NAME@SIZE" sets the edge of what comes out), texts
 * ("NAME@LENGTH") and tables as rows of numbers. A shard is a list of sample indices. A loader walks a shard in an
 * order that depends on (seed, epoch) alone, and augments each sample by a random stream keyed (seed, epoch, sample
 * index): neither threads, nor prefetching, nor the number of clients changes what a sample looks like.
 *
 * Thread-safety: a cw_dataset is immutable after opening and may be shared; a cw_loader belongs to one thread.
 */
#ifndef CUTWIRE_DATA_H
#define CUTWIRE_DATA_H

#include "cutwire/io.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cw_split { CW_SPLIT_TRAIN, CW_SPLIT_TEST } cw_split;

typedef struct cw_dataset cw_dataset;

typedef struct cw_dataset_info {
    const char *name; /* "fashion-mnist" */
    cw_shape sample;  /* of one input: C,H,W for images, L for texts, D for tables */
    /* What the floats of a sample are, as a model has to know it:
     * "image": pixels, normalized;
     * "tokens:V": ids in [0, V) as exact floats, 0 padding, 1 unknown;
     * "table:N/C1/C2/...": N standardized numbers, then for each Ci a category in [0, Ci) as an exact float, 0 unknown
     */
    const char *input;
    size_t count; /* samples in this split */
    int classes;
    const char *const *class_names; /* `classes` strings, or NULL */
    float mean[4], std[4];          /* images: per channel, of pixels scaled to [0,1]; the loader normalizes by them */
    size_t skipped;                 /* folders of photos: files and folders of this split that were passed over */
    /* For the user, one line: what was passed over, with examples, and what looks like a mistake; NULL: nothing. */
    const char *note;
} cw_dataset_info;

/* The data sets known by name: 0 <= i < cw_dataset_known_count(). Static storage. */
typedef struct cw_dataset_known {
    const char *name;
    const char *summary;
    const char *install; /* how a user gets it, one sentence */
} cw_dataset_known;
size_t cw_dataset_known_count(void);
const cw_dataset_known *cw_dataset_known_at(size_t i);

/* Opens one split. Without DIR the set's usual places are searched ($CUTWIRE_DATA, ~/.cache/cutwire/data, where Debian
 * installs it). Every file's magic, counts and sizes are checked. On failure *out is NULL and err names the file, what
 * is wrong with it and how to get it. CW_ERR_NOT_FOUND, CW_ERR_IO, CW_ERR_MAGIC, CW_ERR_TRUNCATED, CW_ERR_CORRUPT,
 * CW_ERR_NO_MEMORY, CW_ERR_SPEC (unknown name: err lists the known ones). */
cw_status cw_dataset_open(const char *spec, cw_split split, cw_dataset **out, cw_error *err);
/* The folder that opening would read from, into dir (terminated). CW_ERR_NOT_FOUND as there. */
cw_status cw_dataset_find(const char *spec, cw_split split, char *dir, size_t size, cw_error *err);

/* Texts and tables become numbers by a recipe (vocabulary, statistics) that is learned from the training split, also
 * when the test split is opened. A run keeps the recipe's text, and later splits are opened with it: the same words
 * get the same numbers, and the training split need not be at hand. recipe NULL, or a set without one: as
 * cw_dataset_open. CW_ERR_CORRUPT: not a recipe of this kind of set. */
cw_status cw_dataset_open_with(const char *spec, cw_split split, const char *recipe, cw_dataset **out, cw_error *err);
/* The data set's own text; NULL for images. */
const char *cw_dataset_recipe(const cw_dataset *ds);
void cw_dataset_close(cw_dataset **ds);
const cw_dataset_info *cw_dataset_get_info(const cw_dataset *ds);
/* Label of sample i < count, in [0, classes). */
int32_t cw_dataset_label(const cw_dataset *ds, size_t i);

/* Disjoint shards that together are the whole split. Sample indices, each list in increasing order. */
typedef struct cw_shards {
    size_t clients;
    size_t *count;    /* [clients] */
    uint32_t **index; /* [clients][count] */
} cw_shards;

/* How samples are dealt to clients. dirichlet <= 0: evenly, shuffled by seed (sizes differ by at most one). dirichlet >
 * 0: label-skewed: the classes' proportions of each client are drawn from Dirichlet(dirichlet) by seed (Hsu, Qi, Brown
 * 2019, arXiv 1909.06335), and each class is divided among the clients in proportion to them, so that every sample is
 * dealt; redrawn until no client is empty. CW_ERR_INVALID when clients is 0 or exceeds the samples, or when no draw
 * leaves every client some. */
cw_status cw_shards_make(const cw_dataset *ds, size_t clients, double dirichlet, uint64_t seed, cw_shards *out,
                         cw_error *err);
void cw_shards_free(cw_shards *s);

typedef struct cw_loader cw_loader;

typedef struct cw_loader_options {
    size_t batch; /* samples a batch; the last one of an epoch may be shorter */
    uint64_t seed;
    bool shuffle;
    bool flip;         /* horizontal flip every other epoch, half of the samples at a time */
    int crop_pad;      /* random crop of the original size after zero-padding by this many pixels; 0: none */
    int threads;       /* prefetching workers; 0: batches are made in the caller */
    bool resized_crop; /* folders of photos: a random part (8% to 100% of the area, aspect 3/4 to 4/3) resized, in place
                          of the whole resized and cropped in the centre */
} cw_loader_options;

typedef struct cw_batch {
    size_t n;              /* samples, 1..batch */
    const float *x;        /* n x sample, normalized, row-major NCHW; the loader's, until the next call */
    const int32_t *labels; /* n; of a feed's own (feed.h): or NULL, where it has none or a tensor for targets */
    const uint32_t *index; /* n sample indices in the data set */
    cw_tensor targets;   /* of a feed's own: dtype 0, or in place of labels a tensor whose first dimension is n, and */
    cw_dtype targets_as; /* the dtype that its elements stand for: its own, or of whole numbers a wider one */
} cw_batch;

/* index == NULL: all samples of ds (count ignored). The list is copied; ds must outlive the loader. */
cw_status cw_loader_create(const cw_dataset *ds, const uint32_t *index, size_t count, const cw_loader_options *options,
                           cw_loader **out, cw_error *err);
void cw_loader_destroy(cw_loader **l);
size_t cw_loader_batches(const cw_loader *l); /* per epoch */
/* Positions the loader at batch `first_batch` (0: the start) of an epoch. */
cw_status cw_loader_seek(cw_loader *l, uint64_t epoch, size_t first_batch);
/* CW_END after the epoch's last batch. */
cw_status cw_loader_next(cw_loader *l, cw_batch *out, cw_error *err);

#ifdef __cplusplus
}
#endif
#endif
