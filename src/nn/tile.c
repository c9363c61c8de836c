/* tile.c - many small images side by side in one wide one, for the weights' gradient of a convolution.
 *
 * That gradient sums over images and positions; oneDNN's kernel keeps a block of it in registers along one row of one
 * image, so that on maps of 4x4 or 2x2 it spends its time loading and storing weights. Images laid side by side, with
 * as many zero columns between them as the convolution pads, give the same sum (another image's pixels meet only zero
 * gradients) from rows that are long enough.
 */
#include <string.h>

#include "nn/tile.h"

typedef struct cwi_tiling {
    size_t images, per_row; /* of the batch, and side by side */
    size_t blocks, height;  /* channel blocks, rows */
    size_t row, gap;        /* bytes of an image's row, and of the zeros after it */
} cwi_tiling;

/* from: [image][block][y][row]; to: [group][block][y][per_row][row + gap]. */
static void tile(void *const *pointers, const void *what)
{
    const cwi_tiling *t = what;
    const unsigned char *from = pointers[0];
    unsigned char *to = pointers[1];
    size_t planes = t->blocks * t->height, step = t->row + t->gap;
#pragma omp parallel for schedule(static)
    for (size_t image = 0; image < t->images; image++) {
        const unsigned char *in = from + image * planes * t->row;
        unsigned char *out = to + (image / t->per_row) * planes * t->per_row * step + (image % t->per_row) * step;
        for (size_t p = 0; p < planes; p++) {
            memcpy(out + p * t->per_row * step, in + p * t->row, t->row);
            memset(out + p * t->per_row * step + t->row, 0, t->gap);
        }
    }
}

/* nChw16c and its like: one inner block, over channels, dense. */
static bool is_channel_blocked(const cwi_md *md)
{
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    int64_t block = b->inner_nblks == 1 && b->inner_idxs[0] == 1 ? b->inner_blks[0] : 0;
    return md->format_kind == dnnl_blocked && md->ndims == 4 && block > 1 && md->padded_dims[1] == md->dims[1] &&
           b->strides[3] == block && b->strides[2] == block * md->dims[3] &&
           b->strides[1] == block * md->dims[3] * md->dims[2] &&
           b->strides[0] == md->dims[1] * md->dims[2] * md->dims[3];
}

size_t cwi_tile_images(const cwi_layer *l, const cwi_md *src, const cwi_md *dst)
{
    enum { SMALL = 4, WIDE = 28 };
    size_t n = (size_t)src->dims[0], best = 1;
    bool keeps_size = l->stride == 1 && l->kernel == 2 * l->pad + 1 && l->pad > 0 && !l->time;
    if (!keeps_size || src->dims[3] > SMALL || !is_channel_blocked(src) || !is_channel_blocked(dst))
        return 1;
    for (size_t k = 2; k <= n && (src->dims[3] + l->pad) * (int64_t)k <= WIDE; k++) {
        if (n % k == 0)
            best = k;
    }
    return best;
}

cwi_md cwi_tile_md(const cwi_layer *l, const cw_shape *shape, const cwi_md *md, size_t per_row)
{
    cw_shape wide = {.ndim = 3, .dim = {shape->dim[0], shape->dim[1], (shape->dim[2] + l->pad) * (int64_t)per_row}};
    return cwi_md_any(&wide, (size_t)md->dims[0] / per_row, md->data_type);
}

cw_status cwi_tile_step(cwi_plan *p, int layer, const cwi_mem *from, size_t per_row, const cwi_md *md, cwi_mem *to,
                        cw_error *err)
{
    const cwi_layer *l = cwi_layer_of(p, layer);
    size_t block = (size_t)from->md.format_desc.blocking.inner_blks[0];
    size_t pixel = block * dnnl_data_type_size(from->md.data_type);
    cwi_tiling what = {.images = (size_t)from->md.dims[0],
                       .per_row = per_row,
                       .blocks = (size_t)from->md.dims[1] / block,
                       .height = (size_t)from->md.dims[2],
                       .row = (size_t)from->md.dims[3] * pixel,
                       .gap = (size_t)l->pad * pixel};
    CWI_TRY(cwi_program_mem(&p->net->program, md, to, err));
    int buffers[] = {from->buffer, to->buffer};
    return cwi_program_call(&p->net->program, CWI_WORK_REORDER, layer, tile, &what, sizeof what, 2, buffers, err);
}

bool cwi_tile_fits(const cwi_md *plain, const cwi_md *tiled)
{
    return is_channel_blocked(tiled) &&
           tiled->format_desc.blocking.inner_blks[0] == plain->format_desc.blocking.inner_blks[0];
}
