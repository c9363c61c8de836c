/* nn_split.h - trains a model whole, cut in two and in many pieces, and compares bit by bit. */
#ifndef CWI_NN_SPLIT_H
#define CWI_NN_SPLIT_H

#include <math.h>

#include "nn_fixture.h"

typedef struct split_case {
    const char *model, *activation;
    int64_t channels, side;
    size_t max_batch, n;
} split_case;

typedef struct run {
    double loss;
    size_t correct, size, buffer_size;
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

/* A model's parts, each with an optimizer of its own, and what crosses the cuts between them. */
enum { MAX_PARTS = 40 };

typedef struct chain {
    size_t count;
    cw_part *part[MAX_PARTS];
    cw_optimizer *sgd[MAX_PARTS];
    float *z[MAX_PARTS], *dz[MAX_PARTS]; /* before part i */
} chain;

static inline chain open_chain(const cw_model *model, const size_t *cuts, size_t count, size_t max_batch)
{
    const cw_optimizer_options options = {.momentum = 0.9f, .weight_decay = 5e-4f};
    cw_error err;
    chain c = {.count = count + 1};
    assert_true(c.count <= MAX_PARTS);
    for (size_t i = 0; i < c.count; i++) {
        const size_t first = i ? cuts[i - 1] : 0, last = i < count ? cuts[i] : cw_model_layer_count(model);
        c.part[i] = fixture_part(model, first, last, max_batch);
        assert_ok_err(cw_optimizer_create(c.part[i], &options, &c.sgd[i], &err), err);
        const size_t smashed = i ? max_batch * fixture_count(cw_part_in_shape(c.part[i])) : 0;
        c.z[i] = i ? cwi_alloc(smashed, sizeof(float)) : NULL;
        c.dz[i] = i ? cwi_alloc(smashed, sizeof(float)) : NULL;
    }
    return c;
}

static inline void close_chain(chain *c)
{
    for (size_t i = 0; i < c->count; i++) {
        cw_optimizer_destroy(&c->sgd[i]);
        cw_part_destroy(&c->part[i]);
        cwi_free(c->z[i]);
        cwi_free(c->dz[i]);
    }
}

static inline cw_loss step_chain(chain *c, const float *x, const int32_t *labels, size_t n)
{
    cw_error err;
    cw_loss loss;
    const size_t last = c->count - 1;
    for (size_t i = 0; i <= last; i++)
        assert_ok_err(cw_part_forward(c->part[i], CW_TRAIN, i ? c->z[i] : x, n, i < last ? c->z[i + 1] : NULL, &err),
                      err);
    assert_ok_err(cw_part_loss(c->part[last], labels, n, &loss, &err), err);
    for (size_t i = last + 1; i-- > 0;)
        assert_ok_err(cw_part_backward(c->part[i], i < last ? c->dz[i + 1] : NULL, c->dz[i], &err), err);
    return loss;
}

/* All parts' gradients and statistics, one behind the other. */
static inline run collect(const chain *c)
{
    run r = {0};
    for (size_t i = 0; i < c->count; i++) {
        r.size += cw_part_trainable_size(c->part[i]);
        r.buffer_size += cw_part_buffer_size(c->part[i]);
    }
    float *grads = r.grads = cwi_calloc(r.size, sizeof(float));
    float *buffers = r.buffers = cwi_calloc(r.buffer_size, sizeof(float));
    for (size_t i = 0; i < c->count; i++) {
        cw_part_export_grads(c->part[i], grads);
        cw_part_export_buffers(c->part[i], buffers);
        grads += cw_part_trainable_size(c->part[i]);
        buffers += cw_part_buffer_size(c->part[i]);
    }
    return r;
}

/* The model cut at these layers: no cut is the whole. */
static inline run run_cut(const cw_model *model, const size_t *cuts, size_t count, size_t max_batch, const float *x,
                          const int32_t *labels, size_t n)
{
    chain c = open_chain(model, cuts, count, max_batch);
    cw_loss loss = {0};
    for (int s = 0; s < STEPS; s++) {
        loss = step_chain(&c, x, labels, n);
        for (size_t i = 0; i < c.count && s < STEPS - 1; i++)
            assert_ok(cw_optimizer_step(c.sgd[i], 0.05f));
    }
    run r = collect(&c);
    r.loss = loss.mean;
    r.correct = loss.correct;
    close_chain(&c);
    return r;
}

static inline run run_whole(const cw_model *model, size_t max_batch, const float *x, const int32_t *labels, size_t n)
{
    return run_cut(model, NULL, 0, max_batch, x, labels, n);
}

static inline run run_split(const cw_model *model, size_t cut, size_t max_batch, const float *x, const int32_t *labels,
                            size_t n)
{
    return run_cut(model, &cut, 1, max_batch, x, labels, n);
}

static inline void assert_same_bits(const float *a, const float *b, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s: element %zu differs: %.9g and %.9g", what, i, (double)a[i], (double)b[i]);
    }
}

static inline void assert_same_run(const run *whole, const run *cut, const char *what)
{
    if (memcmp(&whole->loss, &cut->loss, sizeof whole->loss) != 0 || whole->correct != cut->correct)
        fail_msg("%s: loss %.17g, whole %.17g", what, cut->loss, whole->loss);
    assert_int_equal(cut->size, whole->size);
    assert_int_equal(cut->buffer_size, whole->buffer_size);
    assert_same_bits(cut->grads, whole->grads, whole->size, what);
    assert_same_bits(cut->buffers, whole->buffers, whole->buffer_size, what);
}

static inline void check_halves(const cw_model *model, const split_case *c, cw_cut cut, const run *whole,
                                const float *x, const int32_t *labels)
{
    char what[100];
    run halves = run_split(model, cut.layer, c->max_batch, x, labels, c->n);
    snprintf(what, sizeof what, "%s, %s, cut %d, n %zu", c->model, c->activation, cut.number, c->n);
    assert_same_run(whole, &halves, what);
    free_run(&halves);
}

/* Cut at all places at once: what crosses each of them is the whole's, to the bit. */
static inline void check_pieces(const cw_model *model, const split_case *c, const run *whole, const float *x,
                                const int32_t *labels)
{
    size_t cuts[MAX_PARTS], count = 0;
    char what[100];
    for (size_t i = 0; i < cw_model_cut_count(model) && count < MAX_PARTS; i++) {
        const size_t layer = cw_model_cut_at(model, i).layer;
        if (count == 0 || layer > cuts[count - 1])
            cuts[count++] = layer;
    }
    run pieces = run_cut(model, cuts, count, c->max_batch, x, labels, c->n);
    snprintf(what, sizeof what, "%s, %s, in %zu pieces, n %zu", c->model, c->activation, count + 1, c->n);
    assert_same_run(whole, &pieces, what);
    free_run(&pieces);
}

/* Cut in two at these cuts, up to NULL, or at every cut if there are none; then in pieces. */
static inline void check_split_at(const split_case *c, const char *const *cuts)
{
    enum { CLASSES = 10 };
    cw_model *model = fixture_model(c->model, c->channels, c->side, c->side, CLASSES, c->activation);
    float *x = fixture_noise(c->n * (size_t)(c->channels * c->side * c->side), 1);
    int32_t *labels = fixture_labels(c->n, CLASSES, 2);
    run whole = run_whole(model, c->max_batch, x, labels, c->n);
    for (size_t i = 0; !cuts && i < cw_model_cut_count(model); i++)
        check_halves(model, c, cw_model_cut_at(model, i), &whole, x, labels);
    for (; cuts && *cuts; cuts++) {
        cw_cut cut;
        assert_ok(cw_model_cut(model, *cuts, &cut, NULL));
        check_halves(model, c, cut, &whole, x, labels);
    }
    check_pieces(model, c, &whole, x, labels);
    free_run(&whole);
    cwi_free(x);
    cwi_free(labels);
    cw_model_close(&model);
}

static inline void check_split(const split_case *c)
{
    check_split_at(c, NULL);
}

#endif
