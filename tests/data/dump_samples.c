/* dump_samples.c - the first N samples of a split as OUT.x.npy (fp32) and OUT.y.npy (labels): the C half of
 * data_interop.py. dump_samples SPEC train|test N OUT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cutwire/data.h"

static cw_status save(const cw_dataset *ds, const cw_batch *b, const char *out, cw_error *err)
{
    char path[4096];
    const cw_shape sample = cw_dataset_get_info(ds)->sample;
    cw_shape shape = {.ndim = sample.ndim + 1, .dim = {(int64_t)b->n}};
    memcpy(shape.dim + 1, sample.dim, (size_t)sample.ndim * sizeof *shape.dim);
    cw_shape labels = {.ndim = 1, .dim = {(int64_t)b->n}};
    snprintf(path, sizeof path, "%s.x.npy", out);
    cw_tensor t;
    cw_status status = cw_tensor_alloc(&t, CW_F32, &shape);
    if (status != CW_OK)
        return status;
    size_t count;
    status = cw_shape_count(&shape, &count);
    memcpy(t.data, b->x, count * sizeof(float));
    status = status == CW_OK ? cw_npy_save(path, &t, err) : status;
    cw_tensor_free(&t);
    if (status != CW_OK || (status = cw_tensor_alloc(&t, CW_I32, &labels)) != CW_OK)
        return status;
    memcpy(t.data, b->labels, b->n * sizeof *b->labels);
    snprintf(path, sizeof path, "%s.y.npy", out);
    status = cw_npy_save(path, &t, err);
    cw_tensor_free(&t);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    cw_dataset *ds = NULL;
    cw_loader *l = NULL;
    cw_batch b;
    cw_error err = {.message = ""};
    cw_loader_options o = {.batch = (size_t)atol(argv[3])};
    cw_status status =
        cw_dataset_open(argv[1], strcmp(argv[2], "train") == 0 ? CW_SPLIT_TRAIN : CW_SPLIT_TEST, &ds, &err);
    if (status == CW_OK)
        status = cw_loader_create(ds, NULL, 0, &o, &l, &err);
    if (status == CW_OK)
        status = cw_loader_next(l, &b, &err);
    if (status == CW_OK)
        status = save(ds, &b, argv[4], &err);
    if (status == CW_OK)
        printf("%s\n", cw_dataset_get_info(ds)->input);
    else
        fprintf(stderr, "%s\n", err.message);
    cw_loader_destroy(&l);
    cw_dataset_close(&ds);
    return status == CW_OK ? 0 : status == CW_ERR_NOT_FOUND ? 77 : 1;
}
