/* layer_embed.c - rows of a table in the place of numbers that stand for words or categories.
 *
 * A sample is `numeric` plain numbers and then ids, as exact floats. Its output is those numbers and then, for each id,
 * the `dim` values of its row; the fields of a table data set have ranges of rows of their own in one weight (V,dim).
 * For texts the result is (N,L,dim), which is an (N,dim,1,L) map with its channels last. Id 0 of a text is padding: its
 * row is zero and gets no gradient. An id outside its range counts as unknown (1 in texts, 0 in tables).
 */
#include <string.h>

#include "nn/plan.h"

typedef struct cwi_embed {
    const cwi_input *input; /* the model's, which outlives the program */
    size_t n, numeric, ids, dim, rows;
} cwi_embed;

/* The row that field `id` of a sample names; -1 for padding. */
static int64_t row_of(const cwi_embed *e, size_t id, float value, const int64_t *base)
{
    if (e->input->kind == CWI_TOKENS) {
        int64_t row = value >= 0 && value < (float)e->input->vocabulary ? (int64_t)value : 1;
        return row == 0 ? -1 : row;
    }
    int32_t range = e->input->fields[id];
    return base[id] + (value >= 0 && value < (float)range ? (int64_t)value : 0);
}

static void bases(const cwi_input *input, int64_t base[CWI_MAX_FIELDS])
{
    int64_t at = 0;
    for (int f = 0; f < input->field_count; f++) {
        base[f] = at;
        at += input->fields[f];
    }
}

/* x, table; y. */
static void gather(void *const *pointers, const void *what)
{
    const cwi_embed *e = what;
    const float *x = pointers[0], *table = pointers[1];
    float *y = pointers[2];
    size_t in = e->numeric + e->ids, out = e->numeric + e->ids * e->dim;
    int64_t base[CWI_MAX_FIELDS];
    bases(e->input, base);
#pragma omp parallel for schedule(static)
    for (size_t s = 0; s < e->n; s++) {
        memcpy(y + s * out, x + s * in, e->numeric * sizeof *y);
        for (size_t id = 0; id < e->ids; id++) {
            int64_t row = row_of(e, id, x[s * in + e->numeric + id], base);
            float *to = y + s * out + e->numeric + id * e->dim;
            if (row < 0)
                memset(to, 0, e->dim * sizeof *to);
            else
                memcpy(to, table + (size_t)row * e->dim, e->dim * sizeof *to);
        }
    }
}

/* x, dy; the table's gradient. Threads share the columns: every sum has one order whatever their number. */
static void scatter(void *const *pointers, const void *what)
{
    const cwi_embed *e = what;
    const float *x = pointers[0], *dy = pointers[1];
    float *grad = pointers[2];
    size_t in = e->numeric + e->ids, out = e->numeric + e->ids * e->dim;
    int64_t base[CWI_MAX_FIELDS];
    bases(e->input, base);
    memset(grad, 0, e->rows * e->dim * sizeof *grad);
    enum { COLUMNS = 16 };
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < e->dim; first += COLUMNS) {
        size_t last = CWI_MIN(first + COLUMNS, e->dim);
        for (size_t i = 0; i < e->n * e->ids; i++) {
            size_t s = i / e->ids, id = i % e->ids;
            int64_t row = row_of(e, id, x[s * in + e->numeric + id], base);
            const float *from = dy + s * out + e->numeric + id * e->dim;
            for (size_t c = first; row >= 0 && c < last; c++)
                grad[(size_t)row * e->dim + c] += from[c];
        }
    }
}

static cwi_embed describe(const cwi_plan *p, int i)
{
    const cwi_layer *l = cwi_layer_of(p, i);
    const cwi_input *in = &p->model->input;
    cwi_embed e = {.input = in, .n = p->n, .dim = (size_t)l->kernel, .rows = (size_t)l->rows};
    e.numeric = (size_t)in->numeric;
    e.ids = in->kind == CWI_TOKENS ? (size_t)l->in.dim[0] : (size_t)in->field_count;
    return e;
}

/* fp32 whatever the precision: the next layer converts as it reorders. */
static cw_status embed_layout(cwi_plan *p, int i, cw_error *err)
{
    (void)err;
    const cwi_layer *l = cwi_layer_of(p, i);
    const bool text = l->out.ndim == 3;
    cwi_node_of(p, i)->out.md = text ? cwi_md_channels_last(&l->out, p->n) : cwi_md_plain(&l->out, p->n, dnnl_f32);
    return CW_OK;
}

static cwi_md table_md(const cwi_layer *l)
{
    cw_shape shape = {.ndim = 2, .dim = {l->rows, l->kernel}};
    return cwi_md_plain(&shape, 0, dnnl_f32);
}

static cw_status embed_forward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_embed what = describe(p, i);
    cwi_md md = table_md(cwi_layer_of(p, i));
    cwi_mem table;
    node->src = cwi_node_of(p, cwi_layer_of(p, i)->from)->out;
    CWI_TRY(cwi_plan_param(p, i, CWI_WEIGHT, &md, &table, err));
    CWI_TRY(cwi_plan_output(p, i, err));
    int buffers[] = {node->src.buffer, table.buffer, node->out.buffer};
    return cwi_program_call(&p->net->program, CWI_WORK_OTHER, i, gather, &what, sizeof what, 3, buffers, err);
}

static cw_status embed_backward(cwi_plan *p, int i, cw_error *err)
{
    cwi_node *node = cwi_node_of(p, i);
    cwi_embed what = describe(p, i);
    cwi_md md = table_md(cwi_layer_of(p, i));
    cwi_mem dy, grad;
    if (cwi_layer_of(p, i)->frozen)
        return CW_OK;
    CWI_TRY(cwi_plan_take_grad(p, i, &dy, err));
    CWI_TRY(cwi_plan_param_grad(p, i, CWI_WEIGHT, &md, &grad, err));
    int buffers[] = {node->src.buffer, dy.buffer, grad.buffer};
    return cwi_program_call(&p->net->program, CWI_WORK_OTHER, i, scatter, &what, sizeof what, 3, buffers, err);
}

const cwi_layer_class cwi_embed_class = {embed_layout, embed_forward, embed_backward};
