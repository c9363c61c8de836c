/* scene.h - one honest run beside hostile peers, which are played by hand over the in-process transport. */
#ifndef SCENE_H
#define SCENE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cutwire/wire.h"
#include "train_test.h"

/* A server and honest clients on threads of their own. */
typedef struct scene {
    cw_config config;
    cw_transport *server_end;
    char endpoint[64];
    pthread_t server, honest[4];
    int honest_count;
    const char *own_data[4]; /* folder of an honest client's own data; NULL: it takes its shard of the run's */
    cw_status server_status, honest_status[4];
    cw_error server_err, honest_err[4];
    cw_result result;
    char log[4000];      /* a line a sentence; those of warnings end in "!" and their name */
    const char *stop_at; /* words of the log at which the server is stopped; NULL: none */
    volatile sig_atomic_t stop;
    atomic_int over, joined; /* whether the server has ended; clients that have joined so far */
} scene;

/* A run of one epoch on a server that listens at inproc://NAME. It has yet to be started; its configuration may still
 * be changed. */
scene *make_scene(const char *name, int clients, double timeout);
/* Anywhere: "tcp://127.0.0.1:*". options: NULL, or the server's. */
scene *make_scene_at(const char *endpoint, const cw_net_options *options, int clients, double timeout);
void start_scene(scene *s);
scene *open_scene(const char *name, int clients, double timeout); /* both */
void add_honest(scene *s);
/* Waits for the end of the run. */
void join_scene(scene *s);
void close_scene(scene *s);
void assert_logged(const scene *s, const char *words);

/* A peer played by hand. */
typedef struct actor {
    cw_transport *t;
    cw_msg welcome;
    cw_frame last;
    cw_msg msg; /* of `last` */
} actor;

void actor_open(actor *a, const scene *s);
void actor_open_with(actor *a, const scene *s, const cw_net_options *options);
void actor_close(actor *a);
/* Opens, says HELLO and hears WELCOME; says READY; both. */
void actor_hello(actor *a, const scene *s);
void actor_ready(actor *a, uint64_t samples, uint64_t test_samples);
void actor_join(actor *a, const scene *s);
void actor_greet(actor *a); /* HELLO and WELCOME of an open one */

void actor_send(actor *a, cw_msg msg);
cw_status actor_try_send(actor *a, cw_msg msg);
/* A message whose blob is the tensor by the codec "none". */
void actor_send_tensor(actor *a, cw_msg msg, cw_tensor x);
/* Waits for a message of this type, skipping others. */
void actor_await(actor *a, cw_msg_type type);
/* The same, but false when none comes for some seconds. */
bool actor_hears(actor *a, cw_msg_type type);
/* The text of the last message holds these words. */
void assert_told(const actor *a, const char *words);

void nap(int milliseconds);

#endif
