/* whole.c - mode whole: the whole network in one process: the baseline that every split run is held against. */
#include <string.h>

#include "modes/mode.h"
#include "record/checkpoint.h"

typedef struct unsplit {
    cwi_setup setup;
    cwi_report report;
    cw_half *net;
    cwi_feed *train, *test; /* one a shard */
    size_t shards;
    size_t tickets;       /* micro-batches that a batch is cut into at most */
    cw_batch *batches;    /* of the step under way, one a shard */
    cwi_micro_sums micro; /* with several tickets */
    float *weights;       /* of the shards' sums in it */
    size_t steps;         /* of one epoch */
    cw_epoch_report epoch;
} unsplit;

typedef struct totals {
    double loss; /* sum over samples */
    uint64_t correct, samples;
} totals;

static void add_loss(totals *sum, const cw_loss *loss, size_t n)
{
    sum->loss += loss->mean * (double)n;
    sum->correct += loss->correct;
    sum->samples += n;
}

/* Samples that shard `i` contributes to a step. */
static size_t batch_samples(const unsplit *u, size_t i, size_t step)
{
    size_t batch = (size_t)u->setup.config.batch, done = step * batch;
    return u->train[i].samples > done ? CWI_MIN(batch, u->train[i].samples - done) : 0;
}

static uint64_t position_of(const unsplit *u, size_t i, int epoch, size_t step, size_t ticket)
{
    return cwi_part_position(i, (uint64_t)epoch, u->train[i].batches, step, ticket, u->tickets);
}

/* Sums over the micro-batches of a shard first, then over shards, as a server does over its clients. */
static cw_status add_gradient(unsplit *u, size_t i, size_t n, size_t total, cw_error *err)
{
    const size_t batch = u->batches[i].n;
    if (u->tickets == 1)
        return cwi_half_sum_add(u->net, cwi_batch_weight(n, total), err);
    u->weights[i] = cwi_batch_weight(batch, total);
    return cwi_micro_sums_add(&u->micro, i, u->net, cwi_batch_weight(n, batch), err);
}

static cw_status train_batch(unsplit *u, size_t i, const cw_half_call *call, size_t total, totals *sum, cw_error *err)
{
    const cw_batch *batch = &u->batches[i];
    cw_loss loss;
    CWI_TRY(cw_half_forward(u->net, call, batch->x, NULL, err));
    CWI_TRY(cw_half_loss(u->net, call, &(cw_targets){.labels = batch->labels + call->first}, &loss, err));
    CWI_TRY(cw_half_backward(u->net, call, NULL, NULL, err));
    add_loss(sum, &loss, call->n);
    return add_gradient(u, i, call->n, total, err);
}

/* The first micro-batch of every shard, then the second of every one, and so on: the order of modes/barrier.h. */
static cw_status train_batches(unsplit *u, int epoch, size_t step, size_t total, totals *sum, cw_error *err)
{
    for (size_t ticket = 0; ticket < u->tickets; ticket++) {
        for (size_t i = 0; i < u->shards; i++) {
            const size_t parts = cwi_micro_count(u->batches[i].n, u->tickets);
            if (ticket >= parts)
                continue;
            cw_half_call call = {.mode = CW_TRAIN, .position = position_of(u, i, epoch, step, ticket)};
            call.n = cwi_micro_batch(u->batches[i].n, ticket, parts, &call.first);
            CWI_TRY(train_batch(u, i, &call, total, sum, err));
        }
    }
    return CW_OK;
}

static cw_status train_step(unsplit *u, int epoch, size_t step, totals *sum, cw_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < u->shards; i++) {
        const size_t n = batch_samples(u, i, step);
        u->batches[i].n = 0;
        if (n)
            CWI_TRY(cwi_feed_next(&u->train[i], &u->batches[i], err));
        total += n;
    }
    CWI_TRY(cwi_half_sum_clear(u->net, err));
    if (u->tickets > 1)
        cwi_micro_sums_clear(&u->micro);
    CWI_TRY(train_batches(u, epoch, step, total, sum, err));
    CWI_TRY(u->tickets == 1 ? cwi_half_sum_replace(u->net, 1.0f, err)
                            : cwi_micro_sums_finish(&u->micro, u->weights, 1.0f, u->net, err));
    const float lr =
        cw_schedule_lr(&u->setup.schedule, epoch + (double)step / (double)u->steps, u->setup.config.epochs);
    u->epoch.lr = lr;
    return cw_half_step(u->net, lr, err);
}

static cw_status save_within_epoch(unsplit *u, int epoch, uint32_t step, const totals *sum, double began, cw_error *err)
{
    cw_half *const halves[] = {u->net};
    const cwi_progress at = {.epoch = epoch,
                             .step = step,
                             .loss = sum->loss,
                             .correct = sum->correct,
                             .samples = sum->samples,
                             .train_seconds = cwi_seconds() - began,
                             .seconds = cwi_seconds() - u->report.began};
    return cwi_checkpoint_save(&u->report, &u->setup.config, halves, 1, &at, err);
}

/* The whole of it, or the rest from the step where the run goes on. */
static cw_status train_epoch(unsplit *u, int epoch, const cwi_progress *from, cw_error *err)
{
    totals sum = {from->loss, from->correct, from->samples};
    double began = cwi_seconds() - from->train_seconds;
    const uint32_t first = CWI_MIN(from->step, (uint32_t)u->steps); /* its steps may have become fewer and larger */
    for (size_t i = 0; i < u->shards; i++) {
        CWI_TRY(cwi_feed_seek(&u->train[i], (uint64_t)epoch, first, err));
    }
    uint32_t goal = cwi_checkpoint_next_step(&u->setup.config, first, (uint32_t)u->steps);
    for (size_t step = first; step < u->steps; step++) {
        if (step == goal) {
            CWI_TRY(save_within_epoch(u, epoch, goal, &sum, began, err));
            goal = cwi_checkpoint_next_step(&u->setup.config, goal, (uint32_t)u->steps);
        }
        if (cwi_report_stop_asked(&u->report))
            return CW_ERR_CANCELLED;
        cw_status status = train_step(u, epoch, step, &sum, err);
        if (status != CW_OK)
            return cwi_fail_prefix(err, status, "epoch %d, step %zu", epoch + 1, step + 1);
        cwi_report_step(&u->report, CW_EVENT_STEP, epoch, step + 1, u->steps, sum.loss / (double)sum.samples, NULL);
    }
    u->epoch.train_seconds = cwi_seconds() - began;
    u->epoch.train_loss = sum.loss / (double)sum.samples;
    u->epoch.train_accuracy = (double)sum.correct / (double)sum.samples;
    u->epoch.train_samples = sum.samples;
    return CW_OK;
}

static cw_status evaluate(unsplit *u, int epoch, cw_error *err)
{
    totals sum = {0};
    const bool due = cwi_eval_due(&u->setup.config, epoch);
    for (size_t i = 0; i < u->shards; i++) {
        if (!due)
            continue;
        CWI_TRY(cwi_feed_seek(&u->test[i], 0, 0, err));
        cw_batch batch;
        cw_status status;
        while ((status = cwi_feed_next(&u->test[i], &batch, err)) == CW_OK) {
            cw_loss loss;
            const cw_half_call call = {.mode = CW_EVAL, .n = batch.n};
            CWI_TRY(cw_half_forward(u->net, &call, batch.x, NULL, err));
            CWI_TRY(cw_half_loss(u->net, &call, &(cw_targets){.labels = batch.labels}, &loss, err));
            add_loss(&sum, &loss, batch.n);
        }
        if (status != CW_END)
            return status;
    }
    u->epoch.test_samples = sum.samples;
    u->epoch.test_loss = sum.samples ? sum.loss / (double)sum.samples : 0;
    u->epoch.test_accuracy = sum.samples ? (double)sum.correct / (double)sum.samples : 0;
    return CW_OK;
}

/* Here labels are the data's own: the run's names, where it has some, must be theirs. */
static cw_status take_classes(cwi_setup *setup, const cwi_feed *train, const cwi_feed *test, cw_error *err)
{
    const cwi_classes *own = &train->classes;
    CWI_TRY(cwi_feeds_check_classes(setup, train, test, NULL, err));
    if (!own->count || cwi_classes_equal(&setup->classes, own))
        return CW_OK;
    if (setup->classes.count)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "data set %s numbers its classes otherwise than this run (" CWI_CLASSES_FILE
                        "): go on with the "
                        "run's own data, or by train --split",
                        train->name);
    return cwi_classes_copy((const char *const *)own->names, own->count, &setup->classes, err);
}

static cw_status open_all(unsplit *u, const cw_config *config, const cw_hooks *hooks, cw_error *err)
{
    CWI_TRY(cwi_run_folder_check(config, err));
    CWI_TRY(cwi_setup_open(config, &u->setup, err));
    cwi_report_open(&u->setup, hooks, &u->report);
    u->shards = (size_t)config->clients;
    u->tickets = (size_t)config->in_flight;
    u->train = cwi_calloc(u->shards, sizeof *u->train);
    u->test = cwi_calloc(u->shards, sizeof *u->test);
    u->batches = cwi_calloc(u->shards, sizeof *u->batches);
    u->weights = cwi_calloc(u->shards, sizeof *u->weights);
    if (!u->train || !u->test || !u->batches || !u->weights)
        return cwi_fail_memory(err, u->shards * sizeof *u->train);
    for (size_t i = 0; i < u->shards; i++) {
        CWI_TRY(cwi_feed_open(&u->setup, CW_SPLIT_TRAIN, i, u->shards, NULL, &u->train[i], err));
        CWI_TRY(cwi_feed_open(&u->setup, CW_SPLIT_TEST, i, u->shards, NULL, &u->test[i], err));
        CWI_TRY(take_classes(&u->setup, &u->train[i], &u->test[i], err));
        u->steps = CWI_MAX(u->steps, u->train[i].batches);
    }
    cwi_report_data(&u->report, &u->train[0]);
    cwi_report_data(&u->report, &u->test[0]);
    CWI_TRY(cwi_half_open(&u->setup, 0, cw_model_layer_count(u->setup.model), (size_t)config->batch, &u->net, err));
    return u->tickets > 1 ? cwi_micro_sums_open(&u->micro, u->shards, u->net, err) : CW_OK;
}

static cw_status run(unsplit *u, cw_error *err)
{
    cw_half *const halves[] = {u->net};
    cwi_progress at = {0};
    CWI_TRY(cwi_checkpoint_begin(&u->setup.config, halves, 1, &u->report, &at, err));
    CWI_TRY(cwi_report_open_files(&u->report, &u->setup, "unsplit", err));
    cwi_report_begin(&u->report, at.seconds);
    for (int epoch = at.epoch; epoch < u->setup.config.epochs; epoch++) {
        u->epoch.epoch = epoch;
        u->epoch.clients = (int)u->shards;
        CWI_TRY(train_epoch(u, epoch, &at, err));
        CWI_TRY(evaluate(u, epoch, err));
        cwi_report_epoch(&u->report, &u->epoch);
        at = (cwi_progress){.epoch = epoch + 1};
        CWI_TRY(cwi_checkpoint_save(&u->report, &u->setup.config, halves, 1, &at, err));
    }
    return CW_OK;
}

static void close_all(unsplit *u)
{
    cw_half_destroy(&u->net);
    for (size_t i = 0; u->train && u->test && i < u->shards; i++) {
        cwi_feed_close(&u->train[i]);
        cwi_feed_close(&u->test[i]);
    }
    cwi_free(u->train);
    cwi_free(u->test);
    cwi_free(u->batches);
    cwi_free(u->weights);
    cwi_micro_sums_close(&u->micro);
    cwi_setup_close(&u->setup);
}

static cw_status train_alone(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err)
{
    unsplit u;
    memset(&u, 0, sizeof u);
    memset(result, 0, sizeof *result);
    cw_status status = open_all(&u, config, hooks, err);
    if (status == CW_OK)
        status = run(&u, err);
    u.report.result.stopped = status == CW_ERR_CANCELLED;
    if (status == CW_ERR_CANCELLED)
        status = CW_OK;
    if (status == CW_OK)
        status = cwi_report_save_model(&u.report, &u.net, 1, err);
    cwi_report_close(&u.report);
    *result = u.report.result;
    close_all(&u);
    return status;
}

const cwi_mode cwi_mode_whole = {
    .name = "whole",
    .summary = "one process has the whole network and all the data",
    .alone = train_alone,
};
