/* model_resnet.c - residual networks of basic blocks (He, Zhang, Ren, Sun 2015), torchvision's names.
 *
 * resnet18 and resnet34 have four stages of 64 to 512 channels; images with sides of 64 and more get the ImageNet stem
 * (7x7, stride 2, max pooling), smaller ones the CIFAR stem (3x3, stride 1). resnet20, 56 and 110 have three stages of
 * 16 to 64 channels and the CIFAR stem. Where the shape changes, the skip is a 1x1 convolution with batch norm.
 *
 * Cut numbers count convolutions along the main path, the stem's being 1: a block's end is at 3, 5, 7, ... The paper's
 * shallow cut "2" lies after the first pair of convolutions, which is the place that counting calls 3: both work.
 *
 * resnet9 is the fast one: three stages of a 3x3 convolution and a halving max pool, a basic block after the first and
 * the third (after Page, "How to train your ResNet", 2018; the blocks and the end are the other networks'). resnet9s
 * has three quarters of its channels, little over half of its work.
 */
#include <stdio.h>

#include "nn/graph.h"

typedef struct cwi_resnet {
    int stages;
    int blocks[4];
    int width;
    int medium, deep; /* cut numbers */
} cwi_resnet;

static void named(char *name, size_t size, int stage, int block, const char *what)
{
    snprintf(name, size, "layer%d.%d.%s", stage + 1, block, what);
}

static int conv_norm(cw_model_builder *b, int stage, int block, const char *conv, const char *norm, int channels,
                     int kernel, int stride)
{
    char name[CWI_NAME_MAX];
    named(name, sizeof name, stage, block, conv);
    cw_build_conv(b, name, channels, kernel, stride, kernel / 2, false);
    named(name, sizeof name, stage, block, norm);
    return cw_build_batchnorm(b, name);
}

static void basic_block(cw_model_builder *b, int stage, int block, int channels, int stride)
{
    char name[CWI_NAME_MAX];
    int input = cw_build_last(b), skip = input;
    bool project = stride != 1 || cw_build_shape(b).dim[0] != channels;
    conv_norm(b, stage, block, "conv1", "bn1", channels, 3, stride);
    named(name, sizeof name, stage, block, "relu1");
    cw_build_activation(b, name, NULL);
    int main_path = conv_norm(b, stage, block, "conv2", "bn2", channels, 3, 1);
    if (project) {
        cw_build_from(b, input);
        skip = conv_norm(b, stage, block, "downsample.0", "downsample.1", channels, 1, stride);
        cw_build_from(b, main_path);
    }
    named(name, sizeof name, stage, block, "add");
    cw_build_add(b, name, skip);
    named(name, sizeof name, stage, block, "relu2");
    cw_build_activation(b, name, NULL);
}

static const char *alias_of(const cwi_resnet *r, int number)
{
    return number == r->medium ? "medium" : number == r->deep ? "deep" : NULL;
}

static void build(cw_model_builder *b, const cwi_resnet *r)
{
    if (!cwi_build_needs_image(b, 16))
        return;
    const cw_shape *sample = &b->model->options.sample;
    bool large = r->stages == 4 && CWI_MIN(sample->dim[1], sample->dim[2]) >= 64;
    cw_build_conv(b, "conv1", r->width, large ? 7 : 3, large ? 2 : 1, large ? 3 : 1, false);
    cw_build_batchnorm(b, "bn1");
    cw_build_activation(b, "relu", NULL);
    if (large)
        cw_build_maxpool(b, "maxpool", 3, 2, 1);
    cw_build_cut(b, 1, NULL);
    int number = 1;
    for (int stage = 0; stage < r->stages; stage++) {
        for (int block = 0; block < r->blocks[stage]; block++) {
            basic_block(b, stage, block, r->width << stage, stage > 0 && block == 0 ? 2 : 1);
            number += 2;
            if (number == 3)
                cw_build_cut(b, 2, "shallow");
            cw_build_cut(b, number, alias_of(r, number));
        }
    }
    cw_build_avgpool(b, "avgpool");
    cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "fc");
}

void cwi_build_resnet18(cw_model_builder *b)
{
    build(b, &(cwi_resnet){.stages = 4, .blocks = {2, 2, 2, 2}, .width = 64, .medium = 9, .deep = 13});
}

void cwi_build_resnet34(cw_model_builder *b)
{
    build(b, &(cwi_resnet){.stages = 4, .blocks = {3, 4, 6, 3}, .width = 64, .medium = 15, .deep = 27});
}

/* 6n + 2 layers; medium in the middle of the second stage, deep at its end. */
static void build_small(cw_model_builder *b, int n)
{
    cwi_resnet r = {.stages = 3, .blocks = {n, n, n}, .width = 16};
    r.medium = 1 + 2 * n + 2 * ((n + 1) / 2);
    r.deep = 1 + 4 * n;
    build(b, &r);
}

void cwi_build_resnet20(cw_model_builder *b)
{
    build_small(b, 3);
}

void cwi_build_resnet56(cw_model_builder *b)
{
    build_small(b, 9);
}

void cwi_build_resnet110(cw_model_builder *b)
{
    build_small(b, 18);
}

/* ---- resnet9 ---- */

static void pooled_stage(cw_model_builder *b, int stage, int channels)
{
    char name[CWI_NAME_MAX];
    conv_norm(b, stage, 0, "conv1", "bn1", channels, 3, 1);
    named(name, sizeof name, stage, 0, "relu1");
    cw_build_activation(b, name, NULL);
    named(name, sizeof name, stage, 0, "pool");
    cw_build_maxpool(b, name, 2, 2, 0);
}

static void build_fast(cw_model_builder *b, int width)
{
    if (!cwi_build_needs_image(b, 16))
        return;
    cw_build_conv(b, "conv1", width, 3, 1, 1, false);
    cw_build_batchnorm(b, "bn1");
    cw_build_activation(b, "relu", NULL);
    cw_build_cut(b, 1, NULL);
    pooled_stage(b, 0, 2 * width);
    cw_build_cut(b, 2, "shallow");
    basic_block(b, 0, 1, 2 * width, 1);
    cw_build_cut(b, 4, NULL);
    pooled_stage(b, 1, 4 * width);
    cw_build_cut(b, 5, "medium");
    pooled_stage(b, 2, 8 * width);
    cw_build_cut(b, 6, "deep");
    basic_block(b, 2, 1, 8 * width, 1);
    cw_build_cut(b, 8, NULL);
    cw_build_avgpool(b, "avgpool");
    cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "fc");
}

void cwi_build_resnet9(cw_model_builder *b)
{
    build_fast(b, 64);
}

void cwi_build_resnet9s(cw_model_builder *b)
{
    build_fast(b, 48);
}
