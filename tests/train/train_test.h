/* train_test.h - short runs on real images for the training tests. */
#ifndef TRAIN_TEST_H
#define TRAIN_TEST_H

#include <signal.h>

#include "cutwire/train.h"

#include "config/config.h"

typedef cw_status (*train_fn)(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err);

/* Exits with 77 (skipped) when the data set is not on this machine. Else small_config trains on a copy of its first
 * 2000 and 400 samples, which is read in no time. */
void require_data(void);
/* The same with so many of each, at most 65535. */
void require_samples(size_t train, size_t test);

/* A run of seconds: 500 training and 200 test images, 2 epochs, one engine thread. */
cw_config small_config(int clients, const char *uplink, const char *downlink);

/* As many steps, of a third of the samples. */
enum { TINY_TRAIN = 170, TINY_TEST = 70 };
cw_config tiny_config(int clients, const char *uplink, const char *downlink);

/* A new folder under the build tree for the run's files; the caller's config gets it as `out`. */
void use_folder(cw_config *config, const char *name);

/* A run's clients on threads of their own, over TCP; until the run is over, which must be well for each. */
typedef struct tcp_clients tcp_clients;
tcp_clients *start_tcp_clients(const cw_config *config, const char *endpoint);
void join_tcp_clients(tcp_clients *clients);

/* A server beside them, on loopback. */
cw_status train_over_tcp(const cw_config *config, cw_result *result, cw_error *err);

/* The two runs' model.safetensors hold the same bytes. */
void assert_same_model(const cw_config *a, const cw_config *b);
/* They hold the same bytes but for batch norm's running statistics, which a server averages. */
void assert_same_parameters(const cw_config *a, const cw_config *b);
/* Of a file in a folder, which is there. */
size_t count_lines(const char *folder, const char *file);

/* Stops after so many epochs, and keeps what is said: `event` of hooks whose ctx is a stopper. */
typedef struct stopper {
    volatile sig_atomic_t stop;
    int epochs;
    char log[2000];
} stopper;
void stop_after(void *ctx, const cw_event *e);

/* The run in `folder`, to go on there. */
void resume_from(cw_config *config, const char *folder);

/* Losses and accuracies of the last epoch agree to the bit. */
void assert_same_report(const cw_result *a, const cw_result *b);

#endif
