/* network.h - a trained network and what it is fed, inside. Internal. */
#ifndef CWI_NETWORK_H
#define CWI_NETWORK_H

#include "config/setup.h"
#include "cutwire/infer.h"

typedef enum cwi_side { CWI_SIDE_WHOLE, CWI_SIDE_HEAD, CWI_SIDE_TAIL } cwi_side;

struct cw_network {
    cwi_setup setup;
    cw_tensor_set weights; /* of the whole, or of the side that a file has */
    cw_network_info info;
    char *path;
    cwi_side side;        /* what of the network there is */
    cw_half *head, *tail; /* made when asked for */
    size_t max_batch;
    cw_profile *profile; /* of maps at the cut; NULL: none */
};

/* Which side a named tensor is of; of none (CWI_SIDE_WHOLE), where no layer of the model has it. */
cwi_side cwi_network_side_of(const cw_network *network, const char *tensor);
/* A file of cw_network_export into a network that is zero but for path and max_batch. */
cw_status cwi_network_open_file(cw_network *network, const char *path, const cw_network_options *options,
                                cw_error *err);

/* The profile that the run's folder keeps for the network's cut, or none. */
cw_status cwi_network_read_profile(cw_network *network, cw_error *err);
/* That of any cut; *out is NULL where there is none. */
cw_status cwi_network_profile_of(const char *folder, int cut, cw_profile **out, cw_error *err);

/* What the opened network is told beside its run; the setup's data are changed. */
cw_status cwi_network_set_data(cw_network *network, const char *data, const char *data_dir, size_t limit,
                               cw_error *err);
/* Layers [first, last) with their weights, ready to answer: forwards in CW_EVAL, up to max_batch samples. */
cw_status cwi_network_layers(const cw_network *network, size_t first, size_t last, cw_half **out, cw_error *err);

/* ---- test samples ---- */

/* The test split of the network's data set, batches of max_batch; labels as the network has them. */
typedef struct cwi_test {
    cwi_feed feed;
    int32_t *map;    /* the run's label for each of the data's; NULL: the same */
    int32_t *labels; /* [max_batch] */
} cwi_test;

cw_status cwi_test_open(const cw_network *network, cwi_test *test, cw_error *err);
void cwi_test_close(cwi_test *test);
/* CW_END after the last batch. batch->labels are the run's. */
cw_status cwi_test_next(cwi_test *test, cw_batch *batch, cw_error *err);

#endif
