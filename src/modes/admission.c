/* admission.c - what a client may announce when it joins a training. */
#include "modes/mode.h"

/* Samples of a split that this machine has of the run's data set; 0: none, or of another kind. */
static uint64_t own_samples(const cwi_setup *setup, cw_split split)
{
    cw_dataset *ds;
    if (cwi_dataset_open_local(setup, split, &ds, NULL) != CW_OK)
        return 0;
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    const bool alike = cw_shape_equal(&info->sample, &setup->sample) && info->classes == setup->config.classes;
    const uint64_t count = alike ? info->count : 0;
    cw_dataset_close(&ds);
    return count;
}

static uint64_t most_samples(const cwi_setup *setup, cw_split split)
{
    enum { MOST = 10000000 };
    const cw_config *config = &setup->config;
    const int limit = split == CW_SPLIT_TRAIN ? config->train_limit : config->test_limit;
    if (config->max_samples)
        return (uint64_t)config->max_samples;
    if (limit)
        return (uint64_t)limit;
    const uint64_t own = own_samples(setup, split);
    return own ? own : MOST;
}

static cw_status check_announced(cwi_admission *a, const cwi_setup *setup, cw_split split, uint64_t samples,
                                 cw_error *err)
{
    if (!a->most[split])
        a->most[split] = most_samples(setup, split);
    if (samples <= a->most[split])
        return CW_OK;
    return cwi_fail(err, CW_ERR_MISMATCH,
                    "it announced %llu %s samples, this run takes at most %llu of one client: --max-samples N at the "
                    "server allows more",
                    (unsigned long long)samples, split == CW_SPLIT_TRAIN ? "training" : "test",
                    (unsigned long long)a->most[split]);
}

cw_status cwi_admission_check(cwi_admission *a, const cwi_setup *setup, const cw_msg *ready, cw_error *err)
{
    if (ready->samples == 0)
        return cwi_fail(err, CW_ERR_MISMATCH, "it has no training samples");
    CWI_TRY(check_announced(a, setup, CW_SPLIT_TRAIN, ready->samples, err));
    return check_announced(a, setup, CW_SPLIT_TEST, ready->test_samples, err);
}
