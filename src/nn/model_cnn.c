/* model_cnn.c - `cnn`: small enough to train on Fashion-MNIST within a minute, deep enough to be worth cutting.
 *
 * Six 3x3 convolutions, each with batch norm and activation, in three pairs of 16, 32 and 64 channels with max pooling
 * between the pairs. The half before cut 2 has 2,512 parameters against 12,544 values a sample at 28x28: the
 * gradients that it sends up each step stay small beside its smashed data.
 */
#include <stdio.h>

#include "nn/graph.h"

void cwi_build_cnn(cw_model_builder *b)
{
    static const int channels[] = {16, 16, 32, 32, 64, 64};
    static const char *const alias[] = {NULL, "shallow", NULL, "medium", "deep", NULL};
    if (!cwi_build_needs_image(b, 8))
        return;
    int at = 0; /* position in `features`, as torch.nn.Sequential counts */
    for (int i = 0; i < 6; i++) {
        char name[32];
        if (i == 2 || i == 4) {
            snprintf(name, sizeof name, "features.%d", at++);
            cw_build_maxpool(b, name, 2, 2, 0);
        }
        snprintf(name, sizeof name, "features.%d", at++);
        cw_build_conv(b, name, channels[i], 3, 1, 1, false);
        snprintf(name, sizeof name, "features.%d", at++);
        cw_build_batchnorm(b, name);
        snprintf(name, sizeof name, "features.%d", at++);
        cw_build_activation(b, name, NULL);
        cw_build_cut(b, i + 1, alias[i]);
    }
    cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "classifier");
}
