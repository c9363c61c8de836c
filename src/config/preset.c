/* preset.c - training recipes by name: the paper's full schedules, and short ones for a small machine. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "config/config.h"

/* clang-format off */
static const cw_preset presets[] = {
    {"paper-cifar10", "VGG19 on CIFAR-10 as in the paper: 200 epochs, cosine",
     "data=cifar-10 model=vgg19 uplink=ms:r=0.99,b=2 downlink=none update=none epochs=200 batch=256 lr=0.1 schedule=cosine momentum=0.9 weight-decay=0.0005 flip=1 crop-pad=4"},
    {"paper-cifar100", "ResNet18 on CIFAR-100 as in the paper: 200 epochs, x0.2 at 60, 120, 160",
     "data=cifar-100 model=resnet18 uplink=ms:r=0.99,b=2 downlink=none update=none epochs=200 batch=256 lr=0.1 schedule=multistep:at=60/120/160,gamma=0.2 momentum=0.9 weight-decay=0.0005 flip=1 crop-pad=4"},
    {"paper-imagenet", "ResNet34 on ImageNet (--data imagefolder:DIR) as in the paper: 90 epochs, x0.1 every 30",
     "data=imagefolder model=resnet34 uplink=ms:r=0.99,b=2 downlink=none update=none epochs=90 batch=256 lr=0.1 schedule=multistep:at=30/60,gamma=0.1 momentum=0.9 weight-decay=0.0001 flip=1 resized-crop=1"},
    {"cifar10-resnet9", "ResNet9 on CIFAR-10, 12 epochs: 93.8% in 65 minutes of two cores that have bf16",
     "data=cifar-10 model=resnet9 activation=gelu init=dirac precision=auto epochs=12 batch=128 lr=0.12 bias-lr=64 schedule=onecycle:warmup=0.25 momentum=0.9 nesterov=1 weight-decay=0.0005 label-smoothing=0.2 flip=1 crop-pad=4"},
    {"cifar10-resnet9s", "ResNet9s on CIFAR-10, 12 epochs: 93.0% in 40 minutes of two cores that have bf16",
     "data=cifar-10 model=resnet9s activation=gelu init=dirac precision=auto epochs=12 batch=128 lr=0.12 bias-lr=64 schedule=onecycle:warmup=0.25 momentum=0.9 nesterov=1 weight-decay=0.0005 label-smoothing=0.2 flip=1 crop-pad=4"},
    {"cifar10-vgg19", "VGG19 on CIFAR-10, 20 epochs: 93.0% in two hours of two cores that have bf16",
     "data=cifar-10 model=vgg19 init=dirac precision=auto epochs=20 batch=128 lr=0.06 schedule=onecycle momentum=0.9 nesterov=1 weight-decay=0.0005 label-smoothing=0.1 flip=1 crop-pad=4"},
    {"cifar100-resnet18", "ResNet18 on CIFAR-100, 10 epochs: 70.6% in 70 minutes of two cores that have bf16",
     "data=cifar-100 model=resnet18 init=dirac precision=auto epochs=10 batch=128 lr=0.12 bias-lr=64 schedule=onecycle:warmup=0.25 momentum=0.9 nesterov=1 weight-decay=0.0005 label-smoothing=0.1 flip=1 crop-pad=4"},
    {"cifar10-study", "ResNet20 on CIFAR-10, 4 epochs: the recipe of the studies",
     "data=cifar-10 model=resnet20 init=dirac precision=auto epochs=4 batch=128 lr=0.2 schedule=onecycle:warmup=0.25 momentum=0.9 nesterov=1 weight-decay=0.0005 flip=1 crop-pad=4"},
    {"sst-2", "textcnn on SST-2, 2 epochs of Adam: docs/notebook/training.md",
     "data=sst-2@48 model=textcnn cut=shallow optimizer=adam lr=0.001 weight-decay=0 epochs=2"},
    {"ag-news", "textcnn on AG News, 3 epochs of Adam: docs/notebook/training.md",
     "data=ag-news model=textcnn cut=shallow optimizer=adam lr=0.002 weight-decay=0 epochs=3"},
    {"adult", "mlp on Adult, 10 epochs: docs/notebook/training.md",
     "data=adult model=mlp cut=shallow lr=0.05 epochs=10"},
};
/* clang-format on */

size_t cw_preset_count(void)
{
    return CWI_COUNT(presets);
}

const cw_preset *cw_preset_at(size_t i)
{
    return i < CWI_COUNT(presets) ? &presets[i] : NULL;
}

/* settings: KEY=VALUE with single spaces between; keys whose value has spaces do not occur. */
static cw_status apply(cw_config *config, const char *settings, cw_error *err)
{
    while (*settings) {
        char pair[256];
        size_t length = strcspn(settings, " ");
        snprintf(pair, sizeof pair, "%.*s", (int)length, settings);
        char *value = strchr(pair, '=');
        if (!value)
            return cwi_fail(err, CW_ERR_SPEC, "preset: '%s' is not KEY=VALUE", pair);
        *value++ = '\0';
        CWI_TRY(cw_config_set(config, pair, value, err));
        settings += length + (settings[length] == ' ');
    }
    return CW_OK;
}

cw_status cw_config_apply_preset(cw_config *config, const char *name, cw_error *err)
{
    cwi_list list = {""};
    for (size_t i = 0; i < CWI_COUNT(presets); i++) {
        if (strcmp(presets[i].name, name) == 0)
            return apply(config, presets[i].settings, err);
        cwi_list_add(&list, presets[i].name);
    }
    return cwi_fail(err, CW_ERR_SPEC, "unknown preset '%.40s'; known: %s", name, list.text);
}
