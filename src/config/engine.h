/* engine.h - what a setup asks of cutwire's own engine and of the data sets of this machine. Internal.
 *
 * A build for devices has neither (CUTWIRE_CLIENT_ONLY): there absent.c says so where one is needed, and has nothing to
 * add where a client brings its own.
 */
#ifndef CWI_ENGINE_H
#define CWI_ENGINE_H

#include "config/setup.h"

/* Precision decided, names of init and optimizer checked, the schedule parsed. CW_ERR_SPEC, CW_ERR_UNSUPPORTED. */
cw_status cwi_engine_settle(cwi_setup *setup, cw_error *err);
/* The model and the cut of the configuration, and its half before the cut where `first`, the caller's, is NULL. */
cw_status cwi_engine_open_model(cwi_setup *setup, const cw_half *first, cw_error *err);
void cwi_engine_close_model(cwi_setup *setup);
/* What the user should know of this machine and the run's precision: static storage, or NULL. */
const char *cwi_engine_note(const cwi_setup *setup);

/* What the configuration leaves open (sample, classes, input, recipe), from the data set's test split. */
cw_status cwi_local_data_describe(cwi_setup *setup, cw_error *err);
/* Fills what a feed has of our data set; what it has taken on failure cwi_feed_close frees. */
cw_status cwi_local_data_feed(const cwi_setup *setup, cw_split split, size_t client, size_t clients, cwi_feed *feed,
                              cw_error *err);

#endif
