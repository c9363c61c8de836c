/* nn_fixture.h - what the engine's tests share: models, batches, parts. */
#ifndef CWI_NN_FIXTURE_H
#define CWI_NN_FIXTURE_H

#include "test.h"

#include "base/base.h"
#include "cutwire/nn.h"
#include "nn/graph.h"

/* count numbers of unit variance, a function of seed alone; freed by cwi_free. */
static inline float *fixture_noise(size_t count, uint64_t seed)
{
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_TEST, 0, 0);
    float *x = cwi_alloc(count, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)cwi_rng_normal(&r);
    return x;
}

static inline int32_t *fixture_labels(size_t n, int classes, uint64_t seed)
{
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_TEST, 1, 0);
    int32_t *labels = cwi_alloc(n, sizeof *labels);
    assert_non_null(labels);
    for (size_t i = 0; i < n; i++)
        labels[i] = (int32_t)cwi_rng_below(&r, (uint64_t)classes);
    return labels;
}

static inline size_t fixture_count(cw_shape shape)
{
    size_t count = 0;
    assert_ok(cw_shape_count(&shape, &count));
    return count;
}

static inline cw_model *fixture_model(const char *name, int64_t c, int64_t h, int64_t w, int classes,
                                      const char *activation)
{
    cw_error err;
    cw_model *model;
    cw_model_options o = {.sample = {.ndim = 3, .dim = {c, h, w}}, .classes = classes, .activation = activation};
    assert_ok_err(cw_model_open(name, &o, &model, &err), err);
    return model;
}

/* Whether `auto` means bf16 on this machine. */
static inline bool fixture_has_bf16(void)
{
    cw_model_options o = {.sample = {.ndim = 3, .dim = {1, 16, 16}}, .classes = 2};
    cw_part_options po = {.max_batch = 1, .inference = true, .precision = CW_PRECISION_AUTO};
    cw_model *model;
    cw_part *part;
    assert_ok(cw_model_open("cnn", &o, &model, NULL));
    assert_ok(cw_part_create(model, 0, cw_model_layer_count(model), &po, &part, NULL));
    bool has = cw_part_precision(part) == CW_PRECISION_BF16;
    cw_part_destroy(&part);
    cw_model_close(&model);
    return has;
}

/* Of the parts made below. One thread unless a test is about two: oneDNN's threads wait for each other by spinning,
 * which takes for ever on a machine that is busy with something else. */
static int fixture_threads = 1;
static cw_precision fixture_precision = CW_PRECISION_FP32;

static inline cw_part *fixture_part(const cw_model *model, size_t first, size_t last, size_t max_batch)
{
    cw_error err;
    cw_part *part;
    cw_part_options o = {.max_batch = max_batch, .seed = 7, .threads = fixture_threads, .input_grad = first > 0};
    o.precision = fixture_precision;
    assert_ok_err(cw_part_create(model, first, last, &o, &part, &err), err);
    return part;
}

static inline cw_part *fixture_whole(const cw_model *model, size_t max_batch)
{
    return fixture_part(model, 0, cw_model_layer_count(model), max_batch);
}

#endif
