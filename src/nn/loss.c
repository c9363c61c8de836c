/* loss.c - softmax cross-entropy over the logits, and its gradient.
 *
 * With label smoothing s, the target is 1 - s at the label plus s / classes everywhere (Szegedy et al., CVPR 2016,
 * section 7; PyTorch's definition). */
#include <math.h>

#include "nn/part.h"

typedef struct cwi_row {
    double loss;
    bool correct;
} cwi_row;

/* One sample: log-sum-exp about the largest logit, in double. dz is NULL when no gradient is wanted. */
static cwi_row sample_loss(const float *z, size_t classes, size_t label, double smoothing, double scale, float *dz)
{
    size_t best = 0;
    for (size_t c = 1; c < classes; c++) {
        if (z[c] > z[best])
            best = c;
    }
    double top = z[best], sum = 0.0, total = 0.0;
    for (size_t c = 0; c < classes; c++) {
        sum += exp((double)z[c] - top);
        total += (double)z[c];
    }
    const double everywhere = smoothing / (double)classes, at_label = 1.0 - smoothing;
    for (size_t c = 0; dz && c < classes; c++)
        dz[c] = (float)((exp((double)z[c] - top) / sum - everywhere - (c == label ? at_label : 0.0)) * scale);
    return (cwi_row){.loss = log(sum) + top - at_label * (double)z[label] - everywhere * total,
                     .correct = best == label};
}

static cw_status check_loss(const cw_part *part, const int32_t *labels, size_t n, cw_error *err)
{
    int classes = part->model->options.classes;
    if (!part->ticket->logits)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_loss: this part does not end the model");
    if (n != part->ticket->forward_n)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_loss: %zu labels for the %zu samples of the last forward", n,
                        part->ticket->forward_n);
    for (size_t i = 0; i < n; i++) {
        if (labels[i] < 0 || labels[i] >= classes)
            return cwi_fail_at(err, CW_ERR_INVALID, i, "cw_part_loss: label %d of sample %zu is not in 0..%d",
                               (int)labels[i], i, classes - 1);
    }
    return CW_OK;
}

cw_status cw_part_loss(cw_part *part, const int32_t *labels, size_t n, cw_loss *out, cw_error *err)
{
    if (!part || !labels || !out || n == 0)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_loss: NULL argument or no samples");
    CWI_TRY(check_loss(part, labels, n, err));
    size_t classes = (size_t)part->model->options.classes;
    cwi_ticket *t = part->ticket;
    bool gradient = t->forward_mode == CW_TRAIN;
    double sum = 0.0, smoothing = gradient ? (double)part->options.label_smoothing : 0.0;
    *out = (cw_loss){0};
    t->loss_ready = false;
    for (size_t i = 0; i < n; i++) {
        float *dz = gradient ? t->dlogits + i * classes : NULL;
        cwi_row row = sample_loss(t->logits + i * classes, classes, (size_t)labels[i], smoothing, 1.0 / (double)n, dz);
        sum += row.loss;
        out->correct += row.correct;
    }
    out->mean = sum / (double)n;
    if (!isfinite(out->mean))
        return cwi_fail(err, CW_ERR_DIVERGED,
                        "the loss is %s: training has diverged: lower the learning rate, or look for bad input",
                        isnan(out->mean) ? "NaN" : "infinite");
    t->loss_ready = gradient;
    return CW_OK;
}
