/* repro_figure2.h - Figure 2's measurements, and how they are shown. */
#ifndef CLI_REPRO_FIGURE2_H
#define CLI_REPRO_FIGURE2_H

#include "repro.h"

typedef enum figure2_codec { F2_MS, F2_MS_PAPER, F2_QU, F2_SP, F2_RT, F2_CODECS } figure2_codec;

/* One codec at one size on one feature map. What does not apply is NaN. */
typedef struct figure2_row {
    bool measured; /* false: the codec has no setting of this size */
    char spec[64];
    repro_coded coded;
    double bits;  /* an element, of the whole payload */
    double alpha; /* ms: |what is not kept| / |x| */
    double bound; /* of the relative error: the paper's (31) qu, (32) sp, (33) ms */
} figure2_row;

enum { F2_SIZES = 11 }; /* 2, 2.32, 3, 3.32 ... 6.32, 7 bits an element */

typedef struct figure2_map {
    cw_cut cut;
    cw_mode mode;
    cw_shape shape;
    size_t elements;
    figure2_row rows[F2_SIZES][F2_CODECS];
} figure2_map;

double figure2_size(size_t i);
extern const char *const figure2_names[F2_CODECS];

/* Every codec at every size on x. */
cw_status figure2_measure(const cw_tensor *x, figure2_map *map, cw_error *err);

/* folder/figure2.csv. */
cw_status figure2_csv(const figure2_map *maps, size_t count, const char *folder, cw_error *err);
/* Two pictures, of training and of evaluation maps, by the scripts figure2-train.gp and figure2-eval.gp. */
bool figure2_plot(const figure2_map *maps, size_t count, const cw_config *config, const char *folder);
void figure2_print(const figure2_map *maps, size_t count);
json_t *figure2_json(const figure2_map *maps, size_t count);

#endif
