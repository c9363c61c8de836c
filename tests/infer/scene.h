/* scene.h - what the tests of inference have in common: a small network of callbacks on both sides of a cut, and a
 * server that answers for its part behind it. What goes wrong here fails the test. */
#ifndef CWI_TEST_SCENE_H
#define CWI_TEST_SCENE_H

#include <pthread.h>
#include <signal.h>

#include "cutwire/infer.h"

/* z[i] = relu(w[i] + x[i % IN]), y[k] = sum over i of z[i] * (1 + (i + k) % OUT). The part behind the cut fails where a
 * z is above 1e30, as an engine does that looks at its values. */
enum { IN = 6, CUT = 8, OUT = 3 };

typedef struct own_head {
    float weight[CUT], gradient[CUT];
} own_head;

typedef struct scene {
    cw_answerer_options options;
    cw_transport *transport;
    cw_half *tail;
    cw_answerer *answerer;
    volatile sig_atomic_t stop;
    pthread_t thread;
    cw_status status;
    cw_answerer_stats stats;
    char log[8000]; /* a line for each event; to be read while the scene is paused */
} scene;

/* Weights first, first + 0.25, ... */
cw_half *make_head(own_head *h, float first);
cw_half *make_tail(void);

/* n samples of normal values. */
void make_input(uint64_t seed, size_t n, float *x);

/* What the network says of a sample. */
void expect(const own_head *h, const float *x, float *y);

/* A server at an endpoint, one at a time with hooks of its own; its classes are cat, dog and owl, its model toy unless
 * the options name one. */
scene *open_scene(const char *endpoint, const cw_answerer_options *options);
void close_scene(scene *s);

/* Between the two nobody answers, and what the server noted may be read. */
void pause_scene(scene *s);
void resume_scene(scene *s);

/* A client of it; codec none unless the options name one. */
cw_remote *connect_to(const scene *s, cw_half *head, cw_remote_options options);

/* Asks for n samples and holds the outputs to the network's. */
void ask(cw_remote *r, const own_head *h, uint64_t seed, size_t n);

void nap(int milliseconds);
void assert_words(const char *text, const char *words);

#endif
