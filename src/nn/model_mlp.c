/* model_mlp.c - `mlp` for tables: categories embedded in 8 numbers each, beside the numeric columns; three hidden
 * layers of 256, 128 and 64. Cut i lies after hidden layer i and its activation. */
#include <stdio.h>

#include "nn/graph.h"

void cwi_build_mlp(cw_model_builder *b)
{
    enum { EMBEDDING = 8 };
    static const int widths[] = {256, 128, 64};
    static const char *const alias[] = {"shallow", "medium", "deep"};
    const cwi_input *in = &b->model->input;
    const cw_shape *s = &b->model->options.sample;
    if (in->kind == CWI_TABLE && (s->ndim != 1 || s->dim[0] != in->numeric + in->field_count)) {
        char text[64];
        cwi_build_fail(b, CW_ERR_INVALID,
                       "a row of this table has %d columns, the sample is %s: say --sample %d, or another table by "
                       "--input table:N/C1/C2/...",
                       in->numeric + in->field_count, cw_shape_format(s, text, sizeof text),
                       in->numeric + in->field_count);
        return;
    }
    if (in->kind == CWI_TOKENS) {
        cwi_build_fail(b, CW_ERR_INVALID, "takes tables or images, not texts: use textcnn");
        return;
    }
    if (in->kind == CWI_TABLE && in->field_count > 0)
        cw_build_embedding(b, "embedding", EMBEDDING);
    else if (s->ndim == 3)
        cw_build_flatten(b, "flatten");
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d", 2 * i);
        cw_build_linear(b, name, widths[i]);
        snprintf(name, sizeof name, "layers.%d", 2 * i + 1);
        cw_build_activation(b, name, NULL);
        cw_build_cut(b, i + 1, alias[i]);
    }
    cw_build_classifier(b, "classifier");
}
