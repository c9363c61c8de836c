/* model_text.c - `textcnn`: words embedded, three convolutions over time, the maximum over time, a linear layer.
 *
 * A text of L words is a map of 1 x L with 128 channels; convolutions are 1 x 5. Cut i lies after convolution i and its
 * activation. There is neither bias nor batch norm: padding, most of a short text, then stays the zero that it is
 * embedded as, which no maximum after a ReLU picks, where batch norm would take its statistics mostly from padding (AG
 * News after three epochs: 86% against 80%, docs/notebook/training.md).
 */
#include <stdio.h>

#include "nn/graph.h"

void cwi_build_textcnn(cw_model_builder *b)
{
    enum { CHANNELS = 128, WINDOW = 5 };
    static const char *const alias[] = {"shallow", "medium", "deep"};
    const cw_shape *s = &b->model->options.sample;
    if (b->model->input.kind != CWI_TOKENS || s->ndim != 1) {
        char text[64];
        cwi_build_fail(
            b, CW_ERR_INVALID,
            "takes texts, the sample is %s (%s): choose data of texts, or say --input tokens:V --sample L: L "
            "words from a vocabulary of V",
            cw_shape_format(s, text, sizeof text), cwi_input_name(&b->model->input));
        return;
    }
    cw_build_embedding(b, "embedding", CHANNELS);
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "features.%d", 2 * i);
        cw_build_conv_time(b, name, CHANNELS, WINDOW);
        snprintf(name, sizeof name, "features.%d", 2 * i + 1);
        cw_build_activation(b, name, NULL);
        cw_build_cut(b, i + 1, alias[i]);
    }
    cw_build_max_time(b, "pool");
    cw_build_flatten(b, "flatten");
    cw_build_dropout(b, "dropout", 0.5f);
    cw_build_classifier(b, "classifier");
}
