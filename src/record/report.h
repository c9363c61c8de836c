/* report.h - a run's directory, its metrics, and the events its caller sees. Internal. */
#ifndef CWI_REPORT_H
#define CWI_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "config/setup.h"
#include "cutwire/record.h"

typedef struct cwi_report {
    const cw_hooks *hooks;
    cw_result result;
    FILE *metrics; /* metrics.jsonl; NULL when the run has no directory */
    double began;  /* clock when training began, earlier by what a resumed run had taken before */
    int epochs;
    bool has_checkpoint; /* the one in the run's directory is this run's own, and good */
} cwi_report;

/* The place where a run goes on, and what it has summed up on the way there. */
typedef struct cwi_progress {
    int epoch;
    uint32_t step; /* 0: between epochs, and the sums of the epoch are 0 */
    bool trained;  /* the epoch has no step left, and the clients have the average of their statistics */
    double loss;   /* of the epoch's training so far: sums over samples */
    uint64_t correct, samples;
    double train_seconds;
    double seconds;      /* of the run */
    cw_traffic up, down; /* likewise */
    struct cwi_own_statistics
        *own; /* the caller's: clients' statistics that differ (own_statistics.h); NULL: of none */
} cwi_progress;

/* Ready for events; touches no file. */
void cwi_report_open(const cwi_setup *setup, const cw_hooks *hooks, cwi_report *report);
/* That the run's directory can be made, and that no earlier run in it would be lost: asked before any data are read.
 * CW_ERR_IO, CW_ERR_INVALID: it holds a run, and config neither goes on with that nor replaces it. */
cw_status cwi_run_folder_check(const cw_config *config, cw_error *err);
/* Makes the run's directory with config.json, recipe, classes and metrics.jsonl, unless config.out is "". Comes after
 * cwi_report_restore: a run that cannot go on leaves its files as they were, and one that can keeps its metrics. */
cw_status cwi_report_open_files(cwi_report *report, const cwi_setup *setup, const char *mode, cw_error *err);
/* Names of classes that have become known since. */
cw_status cwi_report_write_classes(const cwi_report *report, const cwi_setup *setup, cw_error *err);
/* Writes summary.json when there are files. */
void cwi_report_close(cwi_report *report);

/* An epoch's report as a JSON object, and a run's state from one: the next epoch report counts on from there. */
json_t *cwi_report_traffic_json(const cw_traffic *t);
void cwi_report_restore_traffic(const json_t *object, cw_traffic *t);
json_t *cwi_report_epoch_json(const cw_epoch_report *epoch);
void cwi_report_restore(cwi_report *report, const json_t *last, int epochs_done, double best_accuracy);

/* Calls the caller's hook. */
void cwi_report_emit(const cwi_report *report, const cw_event *event);
/* Starts the clock that epoch reports count from: the run has taken so many seconds before. */
void cwi_report_begin(cwi_report *report, double seconds);
/* Adds an epoch to metrics and result, and tells the caller. Metrics that cannot be written are logged: training goes
 * on. */
void cwi_report_epoch(cwi_report *report, cw_epoch_report *epoch);
/* `server`: NULL where there is none. */
void cwi_report_step(const cwi_report *report, cw_event_kind kind, int epoch, size_t step, size_t steps, double loss,
                     const cw_server_status *server);
enum { CWI_FINGERPRINT = 10 }; /* characters of a public key that name it in logs */
/* What a session tells of a client, or of a peer without a place (client -1). `key` is whole; its fingerprint is told.
 */
void cwi_hooks_notice(const cw_hooks *hooks, const cw_event *event, int client, const char *address, const char *key);
void cwi_report_log(const cwi_report *report, const char *fmt, ...) CWI_PRINTF(2, 3);
/* What somebody should look at, with a word for programs (docs/guide/server.md). */
void cwi_report_warn(const cwi_report *report, const char *name, const char *fmt, ...) CWI_PRINTF(3, 4);
/* What the user should know of the data (cw_dataset_info.note). */
void cwi_report_data(const cwi_report *report, const cwi_feed *feed);
/* Says what it costs where this machine only emulates the run's precision. */
void cwi_report_emulation(const cwi_report *report, const cwi_setup *setup);
bool cwi_report_stop_asked(const cwi_report *report);

/* model.safetensors in the run's directory: the weights and buffers of the halves, one after the other.
 * CW_ERR_DIVERGED, also without a directory: one of them is not finite, and nothing is written. */
cw_status cwi_report_save_model(const cwi_report *report, cw_half *const *halves, size_t count, cw_error *err);

#endif
