/* fashion_mnist.c - Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): 28x28 grey images in IDX files. */
#include <stdio.h>
#include <string.h>

#include "data/dataset.h"
#include "data/idx.h"

static const char *const class_names[] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                          "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

/* Of the training split's pixels. */
static const cwi_normal normal = {1, {0.28604060f}, {0.35302424f}};

/* The gzipped file, else the plain one; false when neither is there. */
static bool find_file(const char *dir, cw_split split, const char *kind, char *path, size_t size)
{
    char name[64];
    const char *prefix = split == CW_SPLIT_TRAIN ? "train" : "t10k";
    snprintf(name, sizeof name, "%s-%s-ubyte.gz", prefix, kind);
    if (cwi_path_join(path, size, dir, name) && cwi_file_exists(path))
        return true;
    snprintf(name, sizeof name, "%s-%s-ubyte", prefix, kind);
    return cwi_path_join(path, size, dir, name) && cwi_file_exists(path);
}

static bool probe(const char *dir, cw_split split)
{
    char path[4096];
    return find_file(dir, split, "images-idx3", path, sizeof path);
}

static cw_status load_images(const char *path, cw_dataset *ds, cw_error *err)
{
    cw_tensor images;
    CWI_TRY(cwi_idx_load(path, 3, &images, err));
    ds->pixels = images.data; /* handed over */
    const int64_t *dim = images.shape.dim;
    if (dim[1] == 28 && dim[2] == 28 && dim[0] == 0)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds no images", path);
    if (dim[0] > UINT32_MAX || dim[1] != 28 || dim[2] != 28)
        return cwi_fail(err, CW_ERR_CORRUPT, "%s holds %lld images of %lldx%lld, not of 28x28", path, (long long)dim[0],
                        (long long)dim[1], (long long)dim[2]);
    ds->info.count = (size_t)dim[0];
    ds->info.sample = cw_shape_of(3, (int64_t[]){1, dim[1], dim[2]});
    return CW_OK;
}

static cw_status load_labels(const char *path, cw_dataset *ds, cw_error *err)
{
    cw_tensor labels;
    CWI_TRY(cwi_idx_load(path, 1, &labels, err));
    size_t count = (size_t)labels.shape.dim[0];
    cw_status status = CW_OK;
    if (count != ds->info.count)
        status = cwi_fail(err, CW_ERR_CORRUPT, "%s holds %zu labels for %zu images", path, count, ds->info.count);
    else if (!(ds->labels = cwi_alloc(count, sizeof *ds->labels)))
        status = cwi_fail_memory(err, count * sizeof *ds->labels);
    for (size_t i = 0; status == CW_OK && i < count; i++)
        ds->labels[i] = ((const uint8_t *)labels.data)[i];
    cw_tensor_free(&labels);
    return status == CW_OK ? cwi_labels_check(ds, path, err) : status;
}

static cw_status open_split(const char *dir, cw_split split, cw_dataset *ds, cw_error *err)
{
    char path[4096];
    ds->ops = &cwi_pixel_ops;
    ds->info.classes = (int)CWI_COUNT(class_names);
    ds->info.class_names = class_names;
    ds->info.mean[0] = normal.mean[0];
    ds->info.std[0] = normal.std[0];
    if (!find_file(dir, split, "images-idx3", path, sizeof path))
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s holds no images", dir);
    CWI_TRY(load_images(path, ds, err));
    if (!find_file(dir, split, "labels-idx1", path, sizeof path))
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s holds images but not their labels (%s-labels-idx1-ubyte.gz)", dir,
                        split == CW_SPLIT_TRAIN ? "train" : "t10k");
    return load_labels(path, ds, err);
}

static const char *const system_places[] = {"/usr/share/datasets/fashion-mnist", NULL};

const cwi_format cwi_format_fashion_mnist = {
    .known = {.name = "fashion-mnist",
              .summary = "60,000 + 10,000 grey images 28x28 of clothing, 10 classes",
              .install = "apt-get install dataset-fashion-mnist"},
    .folders = {"fashion-mnist"},
    .system_places = system_places,
    .probe = probe,
    .wants = {"train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"},
    .open = open_split,
    .normal = &normal,
};
