/* samples.c - the test samples of a network's data set, with the network's labels. */
#include <string.h>

#include "infer/network.h"

static cw_status map_labels(const cw_network *network, cwi_test *test, cw_error *err)
{
    const cwi_classes *run = &network->setup.classes, *own = &test->feed.classes;
    if (!run->count || !own->count)
        return CW_OK;
    if (!cwi_classes_unknown(run, own))
        return cwi_classes_map(run, own, &test->map, err);
    char *both = NULL;
    const cw_status status = cwi_classes_refuse(run, own, &both, err);
    cwi_free(both);
    return status;
}

cw_status cwi_test_open(const cw_network *network, cwi_test *test, cw_error *err)
{
    *test = (cwi_test){0};
    CWI_TRY(cwi_feed_open(&network->setup, CW_SPLIT_TEST, 0, 1, NULL, &test->feed, err));
    test->labels = cwi_alloc(network->max_batch, sizeof *test->labels);
    cw_status status = test->labels ? map_labels(network, test, err) : cwi_fail_memory(err, 0);
    if (status == CW_OK)
        status = cwi_feed_seek(&test->feed, 0, 0, err);
    if (status != CW_OK)
        cwi_test_close(test);
    return status;
}

void cwi_test_close(cwi_test *test)
{
    cwi_feed_close(&test->feed);
    cwi_free(test->map);
    cwi_free(test->labels);
    *test = (cwi_test){0};
}

cw_status cwi_test_next(cwi_test *test, cw_batch *batch, cw_error *err)
{
    CWI_TRY(cwi_feed_next(&test->feed, batch, err));
    for (size_t i = 0; i < batch->n; i++)
        test->labels[i] = test->map ? test->map[batch->labels[i]] : batch->labels[i];
    batch->labels = test->labels;
    return CW_OK;
}
