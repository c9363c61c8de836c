/* test_torch.c - whole models against PyTorch: the same weights, the same batch; logits, loss, every parameter's
 * gradient, ten training steps, and evaluation after them.
 *
 *     test_torch SCRIPT
 *
 * PyTorch computes everything twice, in single and in double precision. The double result is the truth; ours may be
 * 1e-4 away from it, or as far as three times PyTorch's own single-precision result is (deep networks amplify
 * rounding).
 */
#include "nn_fixture.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLASSES = 10, TRAINING_STEPS = 10 };

static const char *script;

typedef struct torch_case {
    const char *model, *activation;
    int64_t channels, side;
    size_t n;
} torch_case;

typedef struct directory {
    char path[64];
} directory;

static const char *in_dir(const directory *d, const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", d->path, name);
    return path[turn];
}

static void write_inputs(const directory *d, const torch_case *c, cw_part *part, float *x, int32_t *labels)
{
    cw_error err;
    cw_named_tensor *items;
    size_t count;
    assert_ok_err(cw_part_state_export(part, &items, &count, &err), err);
    assert_ok_err(cw_safetensors_save(in_dir(d, "weights.safetensors"), items, count, NULL, &err), err);
    cw_named_tensors_free(items, count);
    cw_shape xs = {.ndim = 4, .dim = {(int64_t)c->n, c->channels, c->side, c->side}};
    cw_shape ls = {.ndim = 1, .dim = {(int64_t)c->n}};
    cw_tensor xt = cw_tensor_view(CW_F32, &xs, x), lt = cw_tensor_view(CW_I32, &ls, labels);
    assert_ok_err(cw_npy_save(in_dir(d, "x.npy"), &xt, &err), err);
    assert_ok_err(cw_npy_save(in_dir(d, "labels.npy"), &lt, &err), err);
}

static void run_torch(const directory *d, const torch_case *c)
{
    char command[600];
    snprintf(command, sizeof command, "/usr/bin/python3 %s %s %s %s %d", script, c->model, c->activation, d->path,
             TRAINING_STEPS);
    if (system(command) != 0)
        fail_msg("the PyTorch reference failed for %s", c->model);
}

static cw_tensor load(const directory *d, const char *name)
{
    cw_error err;
    cw_tensor t;
    assert_ok_err(cw_npy_load(in_dir(d, name), &t, &err), err);
    return t;
}

static double distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / (norm + 1e-30));
}

/* `floor` keeps tensors whose true value is almost zero (a gradient that cancels) from being compared by ratio. */
static double check_close(const directory *d, const char *name, const float *ours, size_t offset, size_t count,
                          const char *what)
{
    char name64[40];
    snprintf(name64, sizeof name64, "%s64.npy", name);
    char name32[40];
    snprintf(name32, sizeof name32, "%s.npy", name);
    cw_tensor single = load(d, name32), truth = load(d, name64);
    double theirs = distance((float *)single.data + offset, (float *)truth.data + offset, count);
    double mine = distance(ours + offset, (float *)truth.data + offset, count);
    if (!(mine <= fmax(1e-4, 3 * theirs)))
        fail_msg("%s: %s is %.3g away from PyTorch in double; PyTorch's single is %.3g", what, name, mine, theirs);
    cw_tensor_free(&single);
    cw_tensor_free(&truth);
    return mine;
}

static void check_gradients(const directory *d, const torch_case *c, const cw_part *part)
{
    float *grads = cwi_alloc(cw_part_trainable_size(part), sizeof *grads);
    cw_part_export_grads(part, grads);
    size_t offset = 0;
    double worst = 0;
    for (size_t i = 0; i < cw_part_param_count(part); i++) {
        cw_param p = cw_part_param(part, i);
        if (!p.trainable)
            continue;
        char what[200];
        snprintf(what, sizeof what, "%s(%s): %s", c->model, c->activation, p.name);
        worst = fmax(worst, check_close(d, "grads", grads, offset, p.count, what));
        offset += p.count;
    }
    printf("%s(%s): worst relative error of a gradient %.2g\n", c->model, c->activation, worst);
    cwi_free(grads);
}

static void train(const directory *d, const torch_case *c, cw_part *part, const float *x, const int32_t *labels)
{
    cw_error err;
    cw_sgd *sgd;
    cw_loss loss;
    float losses[TRAINING_STEPS], *logits = cwi_alloc(c->n * CLASSES, sizeof *logits);
    assert_ok_err(cw_sgd_create(part, &(cw_sgd_options){.momentum = 0.9f, .weight_decay = 5e-4f}, &sgd, &err), err);
    for (int s = 0; s < TRAINING_STEPS; s++) {
        assert_ok_err(cw_part_forward(part, CW_TRAIN, x, c->n, logits, &err), err);
        if (s == 0)
            check_close(d, "logits", logits, 0, c->n * CLASSES, c->model);
        assert_ok_err(cw_part_loss(part, labels, c->n, &loss, &err), err);
        losses[s] = (float)loss.mean;
        assert_ok_err(cw_part_backward(part, NULL, NULL, &err), err);
        if (s == 0)
            check_gradients(d, c, part);
        assert_ok(cw_sgd_step(sgd, 0.05f));
    }
    check_close(d, "losses", losses, 0, 1, c->model);
    printf("%s(%s): ten losses differ by %.2g, ", c->model, c->activation,
           check_close(d, "losses", losses, 0, TRAINING_STEPS, c->model));
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, c->n, logits, &err), err);
    printf("evaluation after them by %.2g\n", check_close(d, "eval", logits, 0, c->n * CLASSES, c->model));
    cw_sgd_destroy(&sgd);
    cwi_free(logits);
}

static void remove_files(const directory *d)
{
    static const char *const names[] = {"weights.safetensors", "x.npy",        "labels.npy", "logits.npy",
                                        "grads.npy",           "losses.npy",   "eval.npy",   "logits64.npy",
                                        "grads64.npy",         "losses64.npy", "eval64.npy"};
    for (size_t i = 0; i < CWI_COUNT(names); i++)
        unlink(in_dir(d, names[i]));
    rmdir(d->path);
}

static void check_model(const torch_case *c)
{
    directory d = {"/tmp/cutwire-torch-XXXXXX"};
    assert_non_null(mkdtemp(d.path));
    cw_model *model = fixture_model(c->model, c->channels, c->side, c->side, CLASSES, c->activation);
    for (size_t i = 0; i < model->layer_count; i++)
        model->layers[i].rate = 0; /* PyTorch draws other dropout masks */
    cw_part *part = fixture_whole(model, c->n);
    float *x = fixture_noise(c->n * (size_t)(c->channels * c->side * c->side), 1);
    int32_t *labels = fixture_labels(c->n, CLASSES, 2);
    write_inputs(&d, c, part, x, labels);
    run_torch(&d, c);
    train(&d, c, part, x, labels);
    remove_files(&d);
    cw_part_destroy(&part);
    cw_model_close(&model);
    cwi_free(x);
    cwi_free(labels);
}

static void test_cnn(void **state)
{
    (void)state;
    static const torch_case cases[] = {
        {"cnn", "relu", 1, 28, 32}, {"cnn", "relu", 3, 32, 9}, {"cnn", "leaky_relu", 1, 28, 8},
        {"cnn", "gelu", 1, 28, 8},  {"cnn", "silu", 1, 28, 8}, {"cnn", "tanh", 1, 28, 8},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++)
        check_model(&cases[i]);
}

int main(int argc, char **argv)
{
    script = argc > 1 ? argv[1] : "tests/nn/torch_reference.py";
    if (system("/usr/bin/python3 -c 'import torch, numpy' 2>/dev/null") != 0) {
        printf("SKIP: /usr/bin/python3 has no torch (Debian: python3-torch)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cnn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
