/* nn_split.h - trains a model whole and cut in two, and compares bit by bit. */
#ifndef CWI_NN_SPLIT_H
#define CWI_NN_SPLIT_H

#include <math.h>

#include "nn_fixture.h"

typedef struct run {
    double loss;
    size_t correct, size;
    float *grads, *buffers, *dx;
} run;

static inline void free_run(run *r)
{
    cwi_free(r->grads);
    cwi_free(r->buffers);
    cwi_free(r->dx);
}

/* Two training steps (so that the running statistics and an update take part), then a third one's gradients. */
enum { STEPS = 3 };

static inline void collect(run *r, cw_part *part, size_t grads_at, size_t buffers_at)
{
    cw_part_export_grads(part, r->grads + grads_at);
    cw_part_export_buffers(part, r->buffers + buffers_at);
}

static inline run room_for(const cw_part *whole)
{
    run r = {.size = cw_part_trainable_size(whole)};
    r.grads = cwi_calloc(r.size, sizeof(float));
    r.buffers = cwi_calloc(cw_part_buffer_size(whole), sizeof(float));
    return r;
}

static inline run run_whole(const cw_model *model, size_t max_batch, const float *x, const int32_t *labels, size_t n)
{
    cw_error err;
    cw_loss loss = {0};
    cw_part *part = fixture_whole(model, max_batch);
    cw_optimizer *sgd;
    assert_ok_err(
        cw_optimizer_create(part, &(cw_optimizer_options){.momentum = 0.9f, .weight_decay = 5e-4f}, &sgd, &err), err);
    for (int s = 0; s < STEPS; s++) {
        assert_ok_err(cw_part_forward(part, CW_TRAIN, x, n, NULL, &err), err);
        assert_ok_err(cw_part_loss(part, labels, n, &loss, &err), err);
        assert_ok_err(cw_part_backward(part, NULL, NULL, &err), err);
        if (s < STEPS - 1)
            assert_ok(cw_optimizer_step(sgd, 0.05f));
    }
    run r = room_for(part);
    r.loss = loss.mean;
    r.correct = loss.correct;
    collect(&r, part, 0, 0);
    cw_optimizer_destroy(&sgd);
    cw_part_destroy(&part);
    return r;
}

static inline run run_split(const cw_model *model, size_t cut, size_t max_batch, const float *x, const int32_t *labels,
                            size_t n)
{
    cw_error err;
    cw_loss loss = {0};
    cw_part *whole = fixture_whole(model, 1);
    run r = room_for(whole);
    cw_part_destroy(&whole);
    cw_part *half[2] = {fixture_part(model, 0, cut, max_batch),
                        fixture_part(model, cut, cw_model_layer_count(model), max_batch)};
    cw_optimizer *sgd[2];
    for (int h = 0; h < 2; h++)
        assert_ok_err(cw_optimizer_create(half[h], &(cw_optimizer_options){.momentum = 0.9f, .weight_decay = 5e-4f},
                                          &sgd[h], &err),
                      err);
    size_t smashed = n * fixture_count(cw_part_out_shape(half[0]));
    float *z = cwi_alloc(smashed, sizeof *z), *dz = cwi_alloc(smashed, sizeof *dz);
    for (int s = 0; s < STEPS; s++) {
        assert_ok_err(cw_part_forward(half[0], CW_TRAIN, x, n, z, &err), err);
        assert_ok_err(cw_part_forward(half[1], CW_TRAIN, z, n, NULL, &err), err);
        assert_ok_err(cw_part_loss(half[1], labels, n, &loss, &err), err);
        assert_ok_err(cw_part_backward(half[1], NULL, dz, &err), err);
        assert_ok_err(cw_part_backward(half[0], dz, NULL, &err), err);
        for (int h = 0; h < 2 && s < STEPS - 1; h++)
            assert_ok(cw_optimizer_step(sgd[h], 0.05f));
    }
    r.loss = loss.mean;
    r.correct = loss.correct;
    collect(&r, half[0], 0, 0);
    collect(&r, half[1], cw_part_trainable_size(half[0]), cw_part_buffer_size(half[0]));
    for (int h = 0; h < 2; h++) {
        cw_optimizer_destroy(&sgd[h]);
        cw_part_destroy(&half[h]);
    }
    cwi_free(z);
    cwi_free(dz);
    return r;
}

static inline void assert_same_bits(const float *a, const float *b, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s: element %zu differs: %.9g and %.9g", what, i, (double)a[i], (double)b[i]);
    }
}

typedef struct split_case {
    const char *model, *activation;
    int64_t channels, side;
    size_t max_batch, n;
} split_case;

static inline void check_split(const split_case *c)
{
    enum { CLASSES = 10 };
    cw_model *model = fixture_model(c->model, c->channels, c->side, c->side, CLASSES, c->activation);
    float *x = fixture_noise(c->n * (size_t)(c->channels * c->side * c->side), 1);
    int32_t *labels = fixture_labels(c->n, CLASSES, 2);
    run whole = run_whole(model, c->max_batch, x, labels, c->n);
    for (size_t i = 0; i < cw_model_cut_count(model); i++) {
        cw_cut cut = cw_model_cut_at(model, i);
        run split = run_split(model, cut.layer, c->max_batch, x, labels, c->n);
        char what[100];
        snprintf(what, sizeof what, "%s, %s, cut %d, n %zu", c->model, c->activation, cut.number, c->n);
        if (memcmp(&whole.loss, &split.loss, sizeof whole.loss) != 0 || whole.correct != split.correct)
            fail_msg("%s: loss %.17g, whole %.17g", what, split.loss, whole.loss);
        assert_same_bits(split.grads, whole.grads, whole.size, what);
        free_run(&split);
    }
    free_run(&whole);
    cwi_free(x);
    cwi_free(labels);
    cw_model_close(&model);
}

#endif
