/* model_vgg.c - VGG19 with batch norm (configuration E of Simonyan, Zisserman 2014), torchvision's names.
 *
 * The classifier is 512-4096-4096-classes as in the paper: what is left of the map (1x1 for 32x32 images) is averaged.
 * Linear layers start with torchvision's deviation of 0.01: they have no batch norm, and with Kaiming's and dropout the
 * loss rises before it falls.
 *
 * Cut i lies after convolution i, its batch norm and activation, and the pooling where one follows.
 */
#include <stdio.h>

#include "nn/graph.h"

static const char *alias_of(int convolution)
{
    switch (convolution) {
    case 2:
        return "shallow";
    case 8:
        return "medium";
    case 15:
        return "deep";
    default:
        return NULL;
    }
}

static void features(cw_model_builder *b)
{
    static const int widths[5] = {64, 128, 256, 512, 512}, repeats[5] = {2, 2, 4, 4, 4};
    char name[32];
    int at = 0, convolution = 0;
    for (int group = 0; group < 5; group++) {
        for (int i = 0; i < repeats[group]; i++) {
            snprintf(name, sizeof name, "features.%d", at++);
            cw_build_conv(b, name, widths[group], 3, 1, 1, true);
            snprintf(name, sizeof name, "features.%d", at++);
            cw_build_batchnorm(b, name);
            snprintf(name, sizeof name, "features.%d", at++);
            cw_build_activation(b, name, NULL);
            convolution++;
            if (i + 1 == repeats[group]) {
                snprintf(name, sizeof name, "features.%d", at++);
                cw_build_maxpool(b, name, 2, 2, 0);
            }
            cw_build_cut(b, convolution, alias_of(convolution));
        }
    }
}

void cwi_build_vgg19(cw_model_builder *b)
{
    if (!cwi_build_needs_image(b, 32))
        return;
    features(b);
    if (cw_build_shape(b).dim[1] * cw_build_shape(b).dim[2] > 1)
        cw_build_avgpool(b, "avgpool");
    cw_build_flatten(b, "flatten");
    cw_build_linear_deviation(b, 0.01f);
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "classifier.%d", 3 * i);
        cw_build_linear(b, name, 4096);
        snprintf(name, sizeof name, "classifier.%d", 3 * i + 1);
        cw_build_activation(b, name, NULL);
        snprintf(name, sizeof name, "classifier.%d", 3 * i + 2);
        cw_build_dropout(b, name, 0.5f);
    }
    cw_build_classifier(b, "classifier.6");
}
