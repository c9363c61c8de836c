/* own_model.c - a network of one's own: its layers, its cuts, trained split in this process.
 *
 *     cc own_model.c $(pkg-config --cflags --libs cutwire) -o own_model && ./own_model [SAMPLES]
 *
 * The name makes it known everywhere: a server and its clients that both register it may be separate programs.
 */
#include <stdio.h>
#include <stdlib.h>

#include <cutwire/cutwire.h>

/* 28x28 grey images -> 16 maps -> a block with a skip connection -> classes. Cut 1 is behind the first ReLU. */
static void build_small_net(cw_model_builder *b, void *ctx)
{
    (void)ctx;
    cw_build_conv(b, "conv1", 16, 3, 2, 1, false); /* channels, kernel, stride, padding, bias */
    cw_build_batchnorm(b, "bn1");
    int skip = cw_build_activation(b, "relu1", NULL);
    cw_build_cut(b, 1, "shallow");
    cw_build_conv(b, "conv2", 16, 3, 1, 1, false);
    cw_build_batchnorm(b, "bn2");
    cw_build_add(b, "add", skip);
    cw_build_activation(b, "relu2", NULL);
    cw_build_cut(b, 2, "deep");
    cw_build_avgpool(b, "pool");
    cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "fc");
}

static void on_event(void *ctx, const cw_event *event)
{
    (void)ctx;
    if (event->kind == CW_EVENT_EPOCH)
        printf("epoch %d: loss %.3f, test accuracy %.1f%%, %llu bytes up, %llu down\n", event->report->epoch + 1,
               event->report->train_loss, 100 * event->report->test_accuracy,
               (unsigned long long)event->report->up.socket, (unsigned long long)event->report->down.socket);
}

static int fail(const cw_error *err)
{
    fprintf(stderr, "own_model: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv)
{
    const cw_model_known known = {
        .name = "small-net", .summary = "an example", .sample = "1x28x28", .input = "image", .classes = 10};
    const cw_hooks hooks = {.event = on_event};
    cw_config *config = NULL;
    cw_result result;
    cw_error err;
    if (cw_model_register(&known, build_small_net, NULL, &err) != CW_OK)
        return fail(&err);
    if (cw_config_create(&config, &err) != CW_OK)
        return fail(&err);
    const char *const settings[][2] = {
        {"data", "fashion-mnist"},
        {"model", "small-net"},
        {"cut", "shallow"},
        {"clients", "2"},
        {"epochs", "2"},
        {"threads", "1"},
        {"lr", "0.05"},
        {"train-limit", argc > 1 ? argv[1] : "4000"},
        {"test-limit", "1000"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (cw_config_set(config, settings[i][0], settings[i][1], &err) != CW_OK)
            return fail(&err);
    if (cw_train_inproc(config, &hooks, &result, &err) != CW_OK)
        return fail(&err);
    cw_config_destroy(&config);
    return 0;
}
