/* tile.h - small images side by side, for the weights' gradient of convolutions. Internal. */
#ifndef CWI_TILE_H
#define CWI_TILE_H

#include "nn/plan.h"

/* How many images go side by side for this layer; 1: tiling is not for it. */
size_t cwi_tile_images(const cwi_layer *l, const cwi_md *src, const cwi_md *dst);
/* The tiled shape of maps described by md, layout open. */
cwi_md cwi_tile_md(const cwi_layer *l, const cw_shape *shape, const cwi_md *md, size_t per_row);
/* Whether oneDNN's choice for the tiled maps is one that tiling can write. */
bool cwi_tile_fits(const cwi_md *plain, const cwi_md *tiled);
cw_status cwi_tile_step(cwi_plan *p, int layer, const cwi_mem *from, size_t per_row, const cwi_md *md, cwi_mem *to,
                        cw_error *err);

#endif
