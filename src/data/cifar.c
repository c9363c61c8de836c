/* cifar.c - CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the official binary layout: records of one label byte
 * (CIFAR-100: coarse, then fine) and 3072 bytes of a 32x32 image, channel after channel. */
#include <stdio.h>
#include <string.h>

#include "data/dataset.h"

enum { IMAGE_BYTES = 3 * 32 * 32 };

typedef struct layout {
    const char *const *files; /* of the split, NULL-terminated */
    size_t records;           /* in each file */
    size_t label_bytes;       /* before the image; the last of them is the label */
} layout;

static cw_status load_file(const char *dir, const char *name, const layout *l, size_t first, cw_dataset *ds,
                           cw_error *err)
{
    char path[4096];
    uint8_t *bytes;
    size_t size, record = l->label_bytes + IMAGE_BYTES;
    if (!cwi_path_join(path, sizeof path, dir, name))
        return cwi_fail(err, CW_ERR_INVALID, "the folder's name is too long");
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    if (size != l->records * record) {
        cw_bytes_free(bytes);
        return cwi_fail(err, size < l->records * record ? CW_ERR_TRUNCATED : CW_ERR_CORRUPT,
                        "%s has %zu bytes, not the %zu of %zu images", path, size, l->records * record, l->records);
    }
    for (size_t i = 0; i < l->records; i++) {
        const uint8_t *p = bytes + i * record;
        ds->labels[first + i] = p[l->label_bytes - 1];
        memcpy(ds->pixels + (first + i) * IMAGE_BYTES, p + l->label_bytes, IMAGE_BYTES);
    }
    cw_bytes_free(bytes);
    ds->info.count = first + l->records;
    return cwi_labels_check(ds, path, err);
}

static cw_status load_split(const char *dir, const layout *l, cw_dataset *ds, cw_error *err)
{
    size_t files = 0;
    while (l->files[files])
        files++;
    size_t count = files * l->records;
    ds->ops = &cwi_pixel_ops;
    ds->info.sample = cw_shape_of(3, (int64_t[]){3, 32, 32});
    ds->labels = cwi_alloc(count, sizeof *ds->labels);
    ds->pixels = cwi_alloc(count, IMAGE_BYTES);
    if (!ds->labels || !ds->pixels)
        return cwi_fail_memory(err, count * IMAGE_BYTES);
    for (size_t i = 0; i < files; i++)
        CWI_TRY(load_file(dir, l->files[i], l, i * l->records, ds, err));
    return CW_OK;
}

static bool has(const char *dir, const char *file)
{
    char path[4096];
    return cwi_path_join(path, sizeof path, dir, file) && cwi_file_exists(path);
}

/* ---- CIFAR-10 ---- */

static const char *const names_10[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                       "dog",      "frog",       "horse", "ship", "truck"};

static const char *const train_10[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                       "data_batch_4.bin", "data_batch_5.bin", NULL};
static const char *const test_10[] = {"test_batch.bin", NULL};

static bool probe_10(const char *dir, cw_split split)
{
    return has(dir, split == CW_SPLIT_TRAIN ? train_10[0] : test_10[0]);
}

/* Means and deviations are of the training split's pixels. */
static const cwi_normal normal_10 = {
    3, {0.49139968f, 0.48215841f, 0.44653091f}, {0.24703223f, 0.24348513f, 0.26158784f}};

static cw_status open_10(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    ds->info.classes = 10;
    ds->info.class_names = names_10;
    memcpy(ds->info.mean, normal_10.mean, sizeof normal_10.mean);
    memcpy(ds->info.std, normal_10.std, sizeof normal_10.std);
    const layout l = {split == CW_SPLIT_TRAIN ? train_10 : test_10, 10000, 1};
    return load_split(dir, &l, ds, err);
}

const cwi_format cwi_format_cifar_10 = {
    .known = {.name = "cifar-10",
              .summary = "50,000 + 10,000 colour images 32x32, 10 classes",
              .install = "cutwire data fetch cifar-10"},
    .folders = {"cifar-10-batches-bin"},
    .probe = probe_10,
    .wants = {"data_batch_1.bin", "test_batch.bin"},
    .open = open_10,
    .normal = &normal_10,
};

/* ---- CIFAR-100 ---- */

static const char *const names_100[] = {
    "apple",      "aquarium_fish", "baby",         "bear",       "beaver",      "bed",         "bee",
    "beetle",     "bicycle",       "bottle",       "bowl",       "boy",         "bridge",      "bus",
    "butterfly",  "camel",         "can",          "castle",     "caterpillar", "cattle",      "chair",
    "chimpanzee", "clock",         "cloud",        "cockroach",  "couch",       "crab",        "crocodile",
    "cup",        "dinosaur",      "dolphin",      "elephant",   "flatfish",    "forest",      "fox",
    "girl",       "hamster",       "house",        "kangaroo",   "keyboard",    "lamp",        "lawn_mower",
    "leopard",    "lion",          "lizard",       "lobster",    "man",         "maple_tree",  "motorcycle",
    "mountain",   "mouse",         "mushroom",     "oak_tree",   "orange",      "orchid",      "otter",
    "palm_tree",  "pear",          "pickup_truck", "pine_tree",  "plain",       "plate",       "poppy",
    "porcupine",  "possum",        "rabbit",       "raccoon",    "ray",         "road",        "rocket",
    "rose",       "sea",           "seal",         "shark",      "shrew",       "skunk",       "skyscraper",
    "snail",      "snake",         "spider",       "squirrel",   "streetcar",   "sunflower",   "sweet_pepper",
    "table",      "tank",          "telephone",    "television", "tiger",       "tractor",     "train",
    "trout",      "tulip",         "turtle",       "wardrobe",   "whale",       "willow_tree", "wolf",
    "woman",      "worm"};

static const char *const train_100[] = {"train.bin", NULL};
static const char *const test_100[] = {"test.bin", NULL};

static bool probe_100(const char *dir, cw_split split)
{
    return has(dir, split == CW_SPLIT_TRAIN ? train_100[0] : test_100[0]);
}

static const cwi_normal normal_100 = {
    3, {0.50707516f, 0.48654887f, 0.44091784f}, {0.26733429f, 0.25643846f, 0.27615047f}};

static cw_status open_100(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    ds->info.classes = 100;
    ds->info.class_names = names_100;
    memcpy(ds->info.mean, normal_100.mean, sizeof normal_100.mean);
    memcpy(ds->info.std, normal_100.std, sizeof normal_100.std);
    const layout l = {split == CW_SPLIT_TRAIN ? train_100 : test_100, split == CW_SPLIT_TRAIN ? 50000 : 10000, 2};
    return load_split(dir, &l, ds, err);
}

const cwi_format cwi_format_cifar_100 = {
    .known = {.name = "cifar-100",
              .summary = "50,000 + 10,000 colour images 32x32, 100 classes",
              .install = "cutwire data fetch cifar-100"},
    .folders = {"cifar-100-binary"},
    .probe = probe_100,
    .wants = {"train.bin", "test.bin"},
    .open = open_100,
    .normal = &normal_100,
};
