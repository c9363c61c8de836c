/* loader.c - batches of a shard, in an order and with augmentations that depend on (seed, epoch, sample) alone.
 *
 * Batch b of an epoch is made in slot b % slots, by whichever worker is free; the caller takes batches in order. A slot
 * is empty, being filled, or ready; the batch last handed out stays in its slot until the next call. Without workers
 * there is one slot and the caller fills it.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "data/dataset.h"

enum { MAX_THREADS = 64, MAX_CROP_PAD = 1024 };

enum slot_state { EMPTY, FILLING, READY };

typedef struct slot {
    enum slot_state state;
    size_t n;
    float *x;
    int32_t *labels;
    cw_status status;
    cw_error err;
} slot;

struct cw_loader {
    const cw_dataset *ds;
    cw_loader_options options;
    size_t sample_size; /* floats */
    size_t count;       /* samples in the shard */
    uint32_t *shard;    /* as given */
    uint32_t *order;    /* this epoch's; written only while no worker is busy */
    uint64_t epoch;
    size_t batches;

    slot *slots;
    size_t slot_count;
    void **workers; /* the format's per-thread state; one, for the caller, without threads */
    size_t worker_count;

    pthread_t *threads;
    size_t thread_count; /* started */
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    bool stop;
    size_t fill; /* the next batch to make */
    size_t take; /* the next batch to hand out */
    size_t busy; /* workers making one */
    bool held;   /* batch take - 1 is with the caller */
};

/* ---- making a batch ---- */

/* Every other epoch, from a random one of the first two on: each image is seen as often one way as the other (Jordan,
 * arXiv:2404.00498: alternating flips take fewer epochs than random ones). */
static bool flips(const cw_loader *l, size_t sample)
{
    cwi_rng r = cwi_rng_make(l->options.seed, CWI_STREAM_FLIP, 0, sample);
    return (cwi_rng_u64(&r) + l->epoch) & 1;
}

static void make_batch(const cw_loader *l, size_t batch, void *worker, slot *s)
{
    size_t first = batch * l->options.batch;
    s->n = CWI_MIN(l->options.batch, l->count - first);
    s->status = CW_OK;
    for (size_t i = 0; i < s->n && s->status == CW_OK; i++) {
        size_t sample = l->order[first + i];
        cwi_augment augment = {.flip = l->options.flip && flips(l, sample),
                               .crop_pad = l->options.crop_pad,
                               .resized_crop = l->options.resized_crop,
                               .rng = cwi_rng_make(l->options.seed, CWI_STREAM_AUGMENT, l->epoch, sample)};
        s->labels[i] = l->ds->labels[sample];
        s->status = l->ds->ops->sample(l->ds, sample, &augment, worker, s->x + i * l->sample_size, &s->err);
    }
}

typedef struct thread_start {
    cw_loader *loader;
    void *worker;
} thread_start;

/* A batch can be made when there is one left and its slot is free. */
static bool can_fill(const cw_loader *l)
{
    return l->fill < l->batches && l->slots[l->fill % l->slot_count].state == EMPTY;
}

static void *worker_main(void *arg)
{
    thread_start start = *(thread_start *)arg;
    cwi_free(arg);
    cw_loader *l = start.loader;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stop && !can_fill(l))
            pthread_cond_wait(&l->work, &l->lock);
        if (l->stop)
            break;
        size_t batch = l->fill++;
        slot *s = &l->slots[batch % l->slot_count];
        s->state = FILLING;
        l->busy++;
        pthread_mutex_unlock(&l->lock);
        make_batch(l, batch, start.worker, s);
        pthread_mutex_lock(&l->lock);
        s->state = READY;
        l->busy--;
        pthread_cond_broadcast(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- the caller's side ---- */

/* Workers are idle, or there are none: sets the order of an epoch and where to begin. */
static void begin_epoch(cw_loader *l, uint64_t epoch, size_t first_batch)
{
    l->epoch = epoch;
    memcpy(l->order, l->shard, l->count * sizeof *l->order);
    if (l->options.shuffle) {
        cwi_rng r = cwi_rng_make(l->options.seed, CWI_STREAM_SHUFFLE, epoch, 0);
        cwi_rng_shuffle(&r, l->order, l->count);
    }
    for (size_t i = 0; i < l->slot_count; i++)
        l->slots[i].state = EMPTY;
    l->fill = l->take = first_batch;
    l->held = false;
}

cw_status cw_loader_seek(cw_loader *l, uint64_t epoch, size_t first_batch)
{
    if (first_batch > l->batches)
        return CW_ERR_INVALID;
    pthread_mutex_lock(&l->lock);
    l->fill = l->batches; /* nothing new is begun */
    while (l->busy > 0)
        pthread_cond_wait(&l->ready, &l->lock);
    begin_epoch(l, epoch, first_batch);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return CW_OK;
}

size_t cw_loader_batches(const cw_loader *l)
{
    return l->batches;
}

/* The slot of the next batch, filled. */
static slot *wait_for_next(cw_loader *l)
{
    slot *s = &l->slots[l->take % l->slot_count];
    if (l->thread_count == 0) {
        make_batch(l, l->take, l->workers[0], s);
        return s;
    }
    pthread_mutex_lock(&l->lock);
    if (l->held) {
        l->slots[(l->take - 1) % l->slot_count].state = EMPTY;
        pthread_cond_signal(&l->work);
    }
    while (s->state != READY)
        pthread_cond_wait(&l->ready, &l->lock);
    pthread_mutex_unlock(&l->lock);
    return s;
}

cw_status cw_loader_next(cw_loader *l, cw_batch *out, cw_error *err)
{
    memset(out, 0, sizeof *out);
    if (l->take >= l->batches)
        return CW_END;
    slot *s = wait_for_next(l);
    size_t first = l->take * l->options.batch;
    l->take++;
    l->held = true;
    if (s->status != CW_OK) {
        if (err)
            *err = s->err;
        return s->status;
    }
    *out = (cw_batch){.n = s->n, .x = s->x, .labels = s->labels, .index = l->order + first};
    return CW_OK;
}

/* ---- life ---- */

static cw_status check_options(const cw_dataset *ds, const uint32_t *index, size_t count, const cw_loader_options *o,
                               cw_error *err)
{
    if (o->batch == 0 || o->threads < 0 || o->threads > MAX_THREADS || o->crop_pad < 0 || o->crop_pad > MAX_CROP_PAD)
        return cwi_fail(err, CW_ERR_INVALID, "loader: batch %zu, %d threads or crop padding %d is out of range",
                        o->batch, o->threads, o->crop_pad);
    unsigned asked = (o->flip ? CWI_CAN_FLIP : 0) | (o->crop_pad > 0 ? CWI_CAN_CROP_PAD : 0) |
                     (o->resized_crop ? CWI_CAN_RESIZED_CROP : 0);
    unsigned beyond = asked & ~ds->ops->augments;
    if (beyond)
        return cwi_fail(err, CW_ERR_INVALID, "loader: %s cannot be augmented by %s", ds->info.name,
                        beyond & CWI_CAN_FLIP       ? "flips: its samples are no images"
                        : beyond & CWI_CAN_CROP_PAD ? "padded crops: they are for images of a fixed size"
                                                    : "resized crops: they are for folders of photos");
    if (index && count == 0)
        return cwi_fail(err, CW_ERR_INVALID, "loader: the shard is empty");
    for (size_t i = 0; index && i < count; i++)
        if (index[i] >= ds->info.count)
            return cwi_fail_at(err, CW_ERR_INVALID, i, "loader: sample %u of the shard is not in 0..%zu", index[i],
                               ds->info.count - 1);
    return CW_OK;
}

static cw_status allocate(cw_loader *l, const uint32_t *index, cw_error *err)
{
    size_t n = CWI_MIN(l->options.batch, l->count), floats;
    l->shard = cwi_alloc(l->count, sizeof *l->shard);
    l->order = cwi_alloc(l->count, sizeof *l->order);
    l->slots = cwi_calloc(l->slot_count, sizeof *l->slots);
    l->workers = cwi_calloc(CWI_MAX((size_t)l->options.threads, 1), sizeof *l->workers);
    if (!l->shard || !l->order || !l->slots || !l->workers || !cwi_mul_size(n, l->sample_size, &floats))
        return cwi_fail_memory(err, l->count * sizeof *l->shard);
    for (size_t i = 0; i < l->slot_count; i++) {
        slot *s = &l->slots[i];
        s->x = cwi_alloc(floats, sizeof *s->x);
        s->labels = cwi_alloc(n, sizeof *s->labels);
        if (!s->x || !s->labels)
            return cwi_fail_memory(err, floats * sizeof *s->x);
    }
    for (size_t i = 0; i < l->count; i++)
        l->shard[i] = index ? index[i] : (uint32_t)i;
    return CW_OK;
}

/* Signals are for the threads of the program, not for ours. */
static cw_status start_thread(cw_loader *l, void *worker, cw_error *err)
{
    thread_start *start = cwi_alloc(1, sizeof *start);
    if (!start)
        return cwi_fail_memory(err, sizeof *start);
    *start = (thread_start){l, worker};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&l->threads[l->thread_count], NULL, worker_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        cwi_free(start);
        return cwi_fail(err, CW_ERR_BACKEND, "loader: cannot start a thread: %s", strerror(error));
    }
    l->thread_count++;
    return CW_OK;
}

static cw_status start_workers(cw_loader *l, cw_error *err)
{
    size_t threads = (size_t)l->options.threads;
    l->threads = cwi_calloc(CWI_MAX(threads, 1), sizeof *l->threads);
    if (!l->threads)
        return cwi_fail_memory(err, sizeof *l->threads);
    for (; l->ds->ops->worker_create && l->worker_count < CWI_MAX(threads, 1); l->worker_count++)
        CWI_TRY(l->ds->ops->worker_create(l->ds, &l->workers[l->worker_count], err));
    for (size_t i = 0; i < threads; i++)
        CWI_TRY(start_thread(l, l->workers[i], err));
    return CW_OK;
}

cw_status cw_loader_create(const cw_dataset *ds, const uint32_t *index, size_t count, const cw_loader_options *options,
                           cw_loader **out, cw_error *err)
{
    *out = NULL;
    CWI_TRY(check_options(ds, index, count, options, err));
    cw_loader *l = cwi_calloc(1, sizeof *l);
    if (!l)
        return cwi_fail_memory(err, sizeof *l);
    l->ds = ds;
    l->options = *options;
    l->count = index ? count : ds->info.count;
    l->batches = (l->count - 1) / options->batch + 1;
    /* With workers: one slot with the caller, and for each worker one being filled and one ahead. */
    l->slot_count = options->threads > 0 ? 2 * (size_t)options->threads + 1 : 1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    cw_status status = cw_shape_count(&ds->info.sample, &l->sample_size);
    if (status == CW_OK)
        status = allocate(l, index, err);
    if (status == CW_OK) {
        begin_epoch(l, 0, 0);
        status = start_workers(l, err);
    }
    if (status != CW_OK)
        cw_loader_destroy(&l);
    *out = l;
    return status;
}

static void stop_threads(cw_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < l->thread_count; i++)
        pthread_join(l->threads[i], NULL);
}

void cw_loader_destroy(cw_loader **loader)
{
    if (!loader || !*loader)
        return;
    cw_loader *l = *loader;
    stop_threads(l);
    for (size_t i = 0; i < l->worker_count; i++)
        l->ds->ops->worker_destroy(l->workers[i]);
    for (size_t i = 0; l->slots && i < l->slot_count; i++) {
        cwi_free(l->slots[i].x);
        cwi_free(l->slots[i].labels);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->ready);
    cwi_free(l->shard);
    cwi_free(l->order);
    cwi_free(l->slots);
    cwi_free(l->workers);
    cwi_free(l->threads);
    cwi_free(l);
    *loader = NULL;
}
