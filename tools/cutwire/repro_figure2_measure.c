/* repro_figure2_measure.c - the codecs at matched sizes, with the error bounds of the paper's section 4.
 *
 * A size of T bits an element is reached by ms with b bits of mask and r = 1 - (T - b) / 32, by sp and rt with
 * r = 1 - (T - 1) / 32 or as much as a list of indices allows, by qu with b = T where T is whole. `ms` is the b of
 * least error, `ms-paper` is r = 0.99. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro_figure2.h"

const char *const figure2_names[F2_CODECS] = {"ms", "ms-paper", "qu", "sp", "rt"};

static const double paper_r = 0.99, value_bits = 32;
static const int smallest = 2;

double figure2_size(size_t i)
{
    return smallest + (double)(i / 2) + (i % 2 ? value_bits * (1 - paper_r) : 0);
}

typedef struct measurer {
    const cw_tensor *x;
    float *back;
    double elements;
    double alpha_r, alpha; /* the last one computed: sizes share it */
} measurer;

static cw_status through(measurer *m, figure2_row *row, cw_error *err)
{
    cw_status status = repro_through(row->spec, 0, m->x, m->back, &row->coded, err);
    row->measured = status == CW_OK;
    row->bits = 8 * (double)row->coded.payload_bytes / m->elements;
    return status;
}

/* What sp leaves out at the same r is what ms filters. */
static cw_status find_alpha(measurer *m, double r, double *alpha, cw_error *err)
{
    if (r != m->alpha_r) {
        figure2_row row = {.measured = false};
        snprintf(row.spec, sizeof row.spec, "sp:r=%.9g", r);
        cw_status status = through(m, &row, err);
        if (status != CW_OK)
            return status;
        m->alpha_r = r;
        m->alpha = row.coded.relative;
    }
    *alpha = m->alpha;
    return CW_OK;
}

static cw_status measure_ms(measurer *m, int bits, double r, figure2_row *row, cw_error *err)
{
    snprintf(row->spec, sizeof row->spec, "ms:r=%.9g,b=%d", r, bits);
    cw_status status = through(m, row, err);
    if (status == CW_OK)
        status = find_alpha(m, r, &row->alpha, err);
    row->bound = row->alpha * sqrt(r * m->elements) / (exp2(bits) - 1);
    return status;
}

/* A mask as wide as the whole size leaves room for next to no values: Theorem 4's k2/d -> 0. */
static cw_status measure_best_ms(measurer *m, double size, figure2_row *best, cw_error *err)
{
    static const double next_to_none = 1e-4;
    for (int bits = 1; bits <= size && bits <= 8; bits++) {
        figure2_row row = {.measured = false};
        const double kept = (size - bits) / value_bits;
        cw_status status = measure_ms(m, bits, 1 - (kept > 0 ? kept : next_to_none), &row, err);
        if (status != CW_OK)
            return status;
        if (!best->measured || row.coded.l2 < best->coded.l2)
            *best = row;
    }
    return CW_OK;
}

static cw_status measure_qu(measurer *m, int bits, figure2_row *row, cw_error *err)
{
    snprintf(row->spec, sizeof row->spec, "qu:b=%d", bits);
    row->bound = sqrt(m->elements) / (exp2(bits) - 1);
    return through(m, row, err);
}

/* A list of indices is smaller than a bitmap where little is kept: then more can be kept at the same size. */
static cw_status measure_sparse(measurer *m, const char *name, double size, figure2_row *row, cw_error *err)
{
    static const double close_enough = 0.99;
    double kept = (size - 1) / value_bits;
    snprintf(row->spec, sizeof row->spec, "%s:r=%.9g", name, 1 - kept);
    cw_status status = through(m, row, err);
    if (status == CW_OK && row->bits < close_enough * size) {
        kept *= size / row->bits;
        snprintf(row->spec, sizeof row->spec, "%s:r=%.9g", name, 1 - kept);
        status = through(m, row, err);
    }
    row->bound = 1 - kept;
    return status;
}

static cw_status measure_size(measurer *m, size_t i, figure2_row *rows, cw_error *err)
{
    const double size = figure2_size(i);
    for (size_t c = 0; c < F2_CODECS; c++)
        rows[c] = (figure2_row){.alpha = NAN, .bound = NAN};
    cw_status status = measure_best_ms(m, size, &rows[F2_MS], err);
    if (status == CW_OK)
        status = i % 2 ? measure_ms(m, (int)size, paper_r, &rows[F2_MS_PAPER], err)
                       : measure_qu(m, (int)size, &rows[F2_QU], err);
    if (status == CW_OK)
        status = measure_sparse(m, "sp", size, &rows[F2_SP], err);
    if (status == CW_OK)
        status = measure_sparse(m, "rt", size, &rows[F2_RT], err);
    rows[F2_RT].bound = NAN; /* the paper gives none */
    return status;
}

cw_status figure2_measure(const cw_tensor *x, figure2_map *map, cw_error *err)
{
    map->shape = x->shape;
    cw_status status = cw_shape_count(&x->shape, &map->elements);
    measurer m = {.x = x, .elements = (double)map->elements, .alpha_r = NAN, .back = malloc(4 * map->elements)};
    if (status == CW_OK && !m.back)
        status = CW_ERR_NO_MEMORY;
    for (size_t i = 0; i < F2_SIZES && status == CW_OK; i++)
        status = measure_size(&m, i, map->rows[i], err);
    free(m.back);
    return status;
}
