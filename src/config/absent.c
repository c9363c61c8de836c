/* absent.c - a build without cutwire's engine and data sets: a client brings a half and feeds of its own. */
#include "config/engine.h"

static cw_status no_engine(cw_error *err)
{
    return cwi_fail(err, CW_ERR_UNSUPPORTED,
                    "this build has no engine: give a half of your own (cw_client_options, half.h)");
}

static cw_status no_data(cw_error *err)
{
    return cwi_fail(err, CW_ERR_UNSUPPORTED,
                    "this build reads no data sets: give feeds of your own (cw_client_options, feed.h)");
}

/* Precision, init, optimizer and schedule are for engines and servers to know. */
cw_status cwi_engine_settle(cwi_setup *setup, cw_error *err)
{
    (void)setup, (void)err;
    return CW_OK;
}

/* With a half of the caller's own the cut is where that ends. */
cw_status cwi_engine_open_model(cwi_setup *setup, const cw_half *first, cw_error *err)
{
    (void)setup;
    return first ? CW_OK : no_engine(err);
}

void cwi_engine_close_model(cwi_setup *setup)
{
    (void)setup;
}

const char *cwi_engine_note(const cwi_setup *setup)
{
    (void)setup;
    return NULL;
}

cw_status cwi_half_open(const cwi_setup *setup, size_t first, size_t last, size_t max_batch, cw_half **half,
                        cw_error *err)
{
    (void)setup, (void)first, (void)last, (void)max_batch;
    *half = NULL;
    return no_engine(err);
}

cw_status cwi_local_data_describe(cwi_setup *setup, cw_error *err)
{
    (void)setup;
    return no_data(err);
}

cw_status cwi_local_data_feed(const cwi_setup *setup, cw_split split, size_t client, size_t clients, cwi_feed *feed,
                              cw_error *err)
{
    (void)setup, (void)split, (void)client, (void)clients, (void)feed;
    return no_data(err);
}
