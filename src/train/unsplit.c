/* unsplit.c - the whole network in one process: the baseline that every split run is held against. */
#include <string.h>

#include "train/checkpoint.h"

typedef struct unsplit {
    cwi_setup setup;
    cwi_report report;
    cwi_half net;
    cwi_feed *feeds; /* one a shard */
    size_t shards;
    size_t steps; /* of one epoch */
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
    return u->feeds[i].train_count > done ? CWI_MIN(batch, u->feeds[i].train_count - done) : 0;
}

static uint64_t position_of(const unsplit *u, size_t i, int epoch, size_t step)
{
    return cwi_part_position(i, (uint64_t)epoch, cw_loader_batches(u->feeds[i].train_loader), step);
}

static cw_status train_batch(unsplit *u, size_t i, uint64_t position, float weight, totals *sum, cw_error *err)
{
    cw_batch batch;
    cw_loss loss;
    cw_part_set_position(u->net.part, position);
    CWI_TRY(cw_loader_next(u->feeds[i].train_loader, &batch, err));
    CWI_TRY(cw_part_forward(u->net.part, CW_TRAIN, batch.x, batch.n, NULL, err));
    CWI_TRY(cw_part_loss(u->net.part, batch.labels, batch.n, &loss, err));
    CWI_TRY(cw_part_backward(u->net.part, NULL, NULL, err));
    add_loss(sum, &loss, batch.n);
    return cw_part_grad_sum_add(u->net.part, weight);
}

static cw_status train_step(unsplit *u, int epoch, size_t step, totals *sum, cw_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < u->shards; i++)
        total += batch_samples(u, i, step);
    CWI_TRY(cw_part_grad_sum_clear(u->net.part));
    for (size_t i = 0; i < u->shards; i++) {
        size_t n = batch_samples(u, i, step);
        if (n)
            CWI_TRY(train_batch(u, i, position_of(u, i, epoch, step), cwi_batch_weight(n, total), sum, err));
    }
    CWI_TRY(cw_part_grad_sum_replace(u->net.part, 1.0f));
    float lr = cw_schedule_lr(&u->setup.schedule, epoch + (double)step / (double)u->steps, u->setup.config.epochs);
    u->epoch.lr = lr;
    return cw_optimizer_step(u->net.optimizer, lr);
}

static cw_status save_within_epoch(unsplit *u, int epoch, uint32_t step, const totals *sum, double began, cw_error *err)
{
    cwi_half *const halves[] = {&u->net};
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
        cw_loader *loader = u->feeds[i].train_loader; /* of a small shard it may be at its end already */
        CWI_TRY(cw_loader_seek(loader, (uint64_t)epoch, CWI_MIN(first, cw_loader_batches(loader))));
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
        cwi_report_step(&u->report, CW_EVENT_STEP, epoch, step + 1, u->steps, sum.loss / (double)sum.samples);
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
        if (!due || !u->feeds[i].test_loader)
            continue;
        CWI_TRY(cw_loader_seek(u->feeds[i].test_loader, 0, 0));
        cw_batch batch;
        cw_status status;
        while ((status = cw_loader_next(u->feeds[i].test_loader, &batch, err)) == CW_OK) {
            cw_loss loss;
            CWI_TRY(cw_part_forward(u->net.part, CW_EVAL, batch.x, batch.n, NULL, err));
            CWI_TRY(cw_part_loss(u->net.part, batch.labels, batch.n, &loss, err));
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
static cw_status take_classes(cwi_setup *setup, const cwi_feed *feed, cw_error *err)
{
    const cwi_classes *own = &feed->classes;
    CWI_TRY(cwi_feed_check_classes(setup, feed, NULL, err));
    if (!own->count || cwi_classes_equal(&setup->classes, own))
        return CW_OK;
    if (setup->classes.count)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "data set %s numbers its classes otherwise than this run (" CWI_CLASSES_FILE
                        "): go on with the "
                        "run's own data, or by train --split",
                        cw_dataset_get_info(feed->train)->name);
    return cwi_classes_copy((const char *const *)own->names, own->count, &setup->classes, err);
}

static cw_status open_all(unsplit *u, const cw_config *config, const cw_hooks *hooks, cw_error *err)
{
    CWI_TRY(cwi_setup_open(config, &u->setup, err));
    cwi_report_open(&u->setup, hooks, &u->report);
    u->shards = (size_t)config->clients;
    u->feeds = cwi_calloc(u->shards, sizeof *u->feeds);
    if (!u->feeds)
        return cwi_fail_memory(err, u->shards * sizeof *u->feeds);
    for (size_t i = 0; i < u->shards; i++) {
        CWI_TRY(cwi_feed_open(&u->setup, i, u->shards, &u->feeds[i], err));
        CWI_TRY(take_classes(&u->setup, &u->feeds[i], err));
        u->steps = CWI_MAX(u->steps, cw_loader_batches(u->feeds[i].train_loader));
    }
    return cwi_half_open(&u->setup, 0, cw_model_layer_count(u->setup.model), (size_t)config->batch, &u->net, err);
}

static cw_status run(unsplit *u, cw_error *err)
{
    cwi_half *const halves[] = {&u->net};
    cwi_progress at;
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
    cwi_half_close(&u->net);
    for (size_t i = 0; u->feeds && i < u->shards; i++)
        cwi_feed_close(&u->feeds[i]);
    cwi_free(u->feeds);
    cwi_setup_close(&u->setup);
}

cw_status cw_train_unsplit(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err)
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
        status = cwi_report_save_model(&u.report, (const cw_part *const[]){u.net.part}, 1, err);
    cwi_report_close(&u.report);
    *result = u.report.result;
    close_all(&u);
    return status;
}
