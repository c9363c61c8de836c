/* evaluate.c - the curve of accuracy against bytes a sample, at every cut and with every codec, without a network
 * between.
 *
 * The network is kept as segments between the cuts that are asked for. One pass over all segments gives the activations
 * of every cut and the whole network's answers; then each cut's activations go through each codec, and what comes back
 * through the segments after it. A codec works on `batch` samples at a time, on several threads; the engine takes as
 * many at once as is fast. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec_impl.h"
#include "infer/network.h"

enum { ENGINE_BATCH = 64, CUTS_MAX = 64, SPECS_MAX = 64 };

/* What is summed up for one cut and codec. */
typedef struct tally {
    uint64_t bytes;
    size_t correct, agreed;
    double squares, changed; /* of the activations, and of what the codec changed */
    double encode, decode;   /* processor seconds */
} tally;

typedef struct evaluator {
    const cw_evaluate_options *options;
    cw_network *network;
    cwi_test test;
    size_t batch; /* samples that are coded together */
    unsigned threads;
    cw_cut cuts[CUTS_MAX]; /* from the input on */
    size_t cut_count;
    cw_codec *codecs[SPECS_MAX];
    char specs[SPECS_MAX][192]; /* as they were given */
    size_t codec_count;
    cw_half *segments[CUTS_MAX + 1]; /* i: up to cut i; the last one: from the last cut to the end */
    cw_profile *profiles[CUTS_MAX];  /* that the run keeps for them; NULL: none */
    float *z[CUTS_MAX];              /* activations of each cut, of one engine batch */
    float *coded, *ping, *pong;      /* what a codec gives back; what flows between segments */
    float *logits;
    int32_t *whole; /* the whole network's answers */
    tally *tallies; /* [cut][codec] */
    size_t samples, correct;
    size_t done, total; /* of the progress */
} evaluator;

/* ---- what is asked for ---- */

static cw_status add_cut(evaluator *e, const cw_cut *cut, cw_error *err)
{
    if (e->cut_count == CUTS_MAX)
        return cwi_fail(err, CW_ERR_INVALID, "more than %d cuts", CUTS_MAX);
    size_t at = e->cut_count;
    for (size_t i = 0; i < e->cut_count; i++)
        if (e->cuts[i].layer == cut->layer)
            return CW_OK;
    for (; at > 0 && e->cuts[at - 1].layer > cut->layer; at--)
        e->cuts[at] = e->cuts[at - 1];
    e->cuts[at] = *cut;
    e->cut_count++;
    return CW_OK;
}

static cw_status add_all_cuts(evaluator *e, cw_error *err)
{
    const cw_model *model = e->network->setup.model;
    for (size_t i = 0; i < cw_model_cut_count(model); i++) {
        const cw_cut cut = cw_model_cut_at(model, i);
        CWI_TRY(add_cut(e, &cut, err));
    }
    return CW_OK;
}

static cw_status find_cuts(evaluator *e, const char *list, cw_error *err)
{
    char name[64];
    cw_cut cut;
    if (!list)
        return add_cut(e, &e->network->setup.cut, err);
    if (strcmp(list, "all") == 0)
        return add_all_cuts(e, err);
    for (const char *p = list;; p++) {
        const size_t length = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)CWI_MIN(length, sizeof name - 1), p);
        CWI_TRY(cw_model_cut(e->network->setup.model, name, &cut, err));
        CWI_TRY(add_cut(e, &cut, err));
        p += length;
        if (!*p)
            return CW_OK;
    }
}

/* Whether the part of a list before its next comma goes on with the spec before it: "b=2" does, "ec:err=0.2" not. */
static bool goes_on(const char *part)
{
    const size_t length = strcspn(part, ","), equals = strcspn(part, "=");
    return equals < length && strcspn(part, ":") > equals;
}

static size_t spec_length(const char *list)
{
    size_t length = strcspn(list, ",");
    while (list[length] && goes_on(list + length + 1))
        length += 1 + strcspn(list + length + 1, ",");
    return length;
}

static cw_status add_codec(evaluator *e, const char *spec, cw_error *err)
{
    if (e->codec_count == SPECS_MAX)
        return cwi_fail(err, CW_ERR_INVALID, "more than %d codecs", SPECS_MAX);
    snprintf(e->specs[e->codec_count], sizeof e->specs[0], "%s", spec);
    const cw_status status = cw_codec_create(spec, &e->codecs[e->codec_count], err);
    e->codec_count += status == CW_OK;
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "uplink");
}

static cw_status find_codecs(evaluator *e, const char *list, cw_error *err)
{
    char spec[192];
    for (const char *p = list ? list : e->network->setup.config.uplink;; p++) {
        const size_t length = spec_length(p);
        if (length >= sizeof spec)
            return cwi_fail(err, CW_ERR_SPEC, "uplink: a spec of %zu characters", length);
        snprintf(spec, sizeof spec, "%.*s", (int)length, p);
        CWI_TRY(add_codec(e, spec, err));
        p += length;
        if (!*p)
            return CW_OK;
    }
}

/* ---- life ---- */

static size_t count_of(const cw_shape *shape)
{
    size_t count = 0;
    (void)cw_shape_count(shape, &count);
    return count;
}

static cw_status open_segments(evaluator *e, cw_error *err)
{
    size_t from = 0;
    for (size_t i = 0; i <= e->cut_count; i++) {
        const size_t to = i < e->cut_count ? e->cuts[i].layer : cw_model_layer_count(e->network->setup.model);
        CWI_TRY(cwi_network_layers(e->network, from, to, &e->segments[i], err));
        from = to;
    }
    return CW_OK;
}

static cw_status allocate(evaluator *e, cw_error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < e->cut_count; i++) {
        const size_t floats = ENGINE_BATCH * count_of(&e->cuts[i].smashed);
        most = CWI_MAX(most, floats);
        if (!(e->z[i] = cwi_alloc(floats, sizeof(float))))
            return cwi_fail_memory(err, floats * sizeof(float));
    }
    e->coded = cwi_alloc(most, sizeof(float));
    e->ping = cwi_alloc(most, sizeof(float));
    e->pong = cwi_alloc(most, sizeof(float));
    e->logits = cwi_alloc(ENGINE_BATCH * (size_t)e->network->info.classes, sizeof(float));
    e->whole = cwi_alloc(ENGINE_BATCH, sizeof *e->whole);
    e->tallies = cwi_calloc(e->cut_count * e->codec_count, sizeof *e->tallies);
    return e->coded && e->ping && e->pong && e->logits && e->whole && e->tallies
               ? CW_OK
               : cwi_fail_memory(err, most * sizeof(float));
}

static cw_status open_evaluator(evaluator *e, const char *run, cw_error *err)
{
    const cw_evaluate_options *o = e->options;
    const cw_network_options options = {.max_batch = ENGINE_BATCH, .threads = o->threads};
    CWI_TRY(cw_network_open(run, &options, &e->network, err));
    if (e->network->side != CWI_SIDE_WHOLE)
        return cwi_fail(err, CW_ERR_INVALID, "%s is one side of a network: name its run's folder", run);
    CWI_TRY(cwi_network_set_data(e->network, o->data, o->data_dir, o->limit, err));
    CWI_TRY(find_cuts(e, o->cuts, err));
    CWI_TRY(find_codecs(e, o->uplinks, err));
    CWI_TRY(cwi_test_open(e->network, &e->test, err));
    if (!e->test.feed.samples)
        return cwi_fail(err, CW_ERR_INVALID, "the test split of %s has no samples", e->network->info.data);
    for (size_t i = 0; i < e->cut_count; i++)
        CWI_TRY(cwi_network_profile_of(run, e->cuts[i].number, &e->profiles[i], err));
    e->threads = (unsigned)cwi_engine_threads(&e->network->setup.config);
    e->batch = o->batch ? CWI_MIN(o->batch, (size_t)ENGINE_BATCH) : 1;
    e->total = e->test.feed.batches * (1 + e->cut_count * e->codec_count);
    CWI_TRY(open_segments(e, err));
    return allocate(e, err);
}

static void close_evaluator(evaluator *e)
{
    for (size_t i = 0; i <= e->cut_count; i++)
        cw_half_destroy(&e->segments[i]);
    for (size_t i = 0; i < e->cut_count; i++) {
        cwi_free(e->z[i]);
        cw_profile_destroy(&e->profiles[i]);
    }
    for (size_t i = 0; i < e->codec_count; i++)
        cw_codec_destroy(&e->codecs[i]);
    float *const floats[] = {e->coded, e->ping, e->pong, e->logits};
    for (size_t i = 0; i < CWI_COUNT(floats); i++)
        cwi_free(floats[i]);
    cwi_free(e->whole);
    cwi_free(e->tallies);
    cwi_test_close(&e->test);
    cw_network_close(&e->network);
}

/* ---- codecs ---- */

/* The samples of one engine batch, a piece after the other, through one codec. */
typedef struct coding {
    const evaluator *e;
    const cw_cut *cut;
    const cw_codec *codec;
    const cw_profile *profile;
    const float *z;
    float *out;
    size_t n, each; /* samples; floats of one */
    struct piece {
        size_t bytes;
        double encode, decode;
        cw_status status;
        cw_error err;
    } pieces[ENGINE_BATCH];
} coding;

static cw_tensor tensor_of(const coding *c, const float *data, size_t n)
{
    cw_shape shape = {.ndim = c->cut->smashed.ndim + 1, .dim = {(int64_t)n}};
    memcpy(shape.dim + 1, c->cut->smashed.dim, sizeof(int64_t) * (size_t)c->cut->smashed.ndim);
    return cw_tensor_view(CW_F32, &shape, (void *)(uintptr_t)data); /* what is encoded is not written */
}

static cw_status code_piece(const coding *c, size_t first, size_t n, struct piece *p)
{
    const cw_tensor in = tensor_of(c, c->z + first * c->each, n);
    cw_tensor out = tensor_of(c, c->out + first * c->each, n);
    cw_encode_args args = {.evaluate = true, .profile = c->profile};
    const cw_decode_args back = {.profile = c->profile};
    const size_t bound = cw_codec_bound(c->codec, &in);
    uint8_t *buffer = cwi_alloc(bound, 1);
    if (!buffer)
        return cwi_fail_memory(&p->err, bound);
    const double began = cwi_thread_seconds();
    cw_status status = cw_encode(c->codec, &in, &args, buffer, bound, &p->bytes, &p->err);
    if (status != CW_OK && args.profile) { /* a codec that takes none */
        args.profile = NULL;
        status = cw_encode(c->codec, &in, &args, buffer, bound, &p->bytes, &p->err);
    }
    const double between = cwi_thread_seconds();
    if (status == CW_OK)
        status = cw_decode(buffer, p->bytes, &out, &back, &p->err);
    p->encode = between - began;
    p->decode = cwi_thread_seconds() - between;
    cwi_free(buffer);
    return status;
}

static void code_task(void *ctx, unsigned worker, size_t index)
{
    coding *c = ctx;
    (void)worker;
    const size_t first = index * c->e->batch;
    c->pieces[index].status = code_piece(c, first, CWI_MIN(c->e->batch, c->n - first), &c->pieces[index]);
}

static cw_status add_pieces(const coding *c, size_t count, tally *t, cw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct piece *p = &c->pieces[i];
        if (p->status != CW_OK)
            return cwi_fail(err, p->status, "cut %d, %s: %s", c->cut->number, cw_codec_spec(c->codec), p->err.message);
        t->bytes += p->bytes;
        t->encode += p->encode;
        t->decode += p->decode;
    }
    for (size_t i = 0; i < c->n * c->each; i++) {
        const double x = (double)c->z[i], d = x - (double)c->out[i];
        t->squares += x * x;
        t->changed += d * d;
    }
    return CW_OK;
}

static cw_status code_batch(evaluator *e, size_t cut, const cw_codec *codec, size_t n, tally *t, cw_error *err)
{
    coding *c = cwi_calloc(1, sizeof *c);
    if (!c)
        return cwi_fail_memory(err, sizeof *c);
    *c = (coding){.e = e,
                  .cut = &e->cuts[cut],
                  .codec = codec,
                  .profile = e->profiles[cut],
                  .z = e->z[cut],
                  .out = e->coded,
                  .n = n};
    c->each = count_of(&c->cut->smashed);
    const size_t count = (n + e->batch - 1) / e->batch;
    cwi_parallel(e->threads, count, code_task, c);
    const cw_status status = add_pieces(c, count, t, err);
    cwi_free(c);
    return status;
}

/* ---- forwards ---- */

static int32_t arg_max(const float *logits, size_t classes)
{
    size_t best = 0;
    for (size_t i = 1; i < classes; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

static int32_t answer(const evaluator *e, size_t sample)
{
    const size_t classes = (size_t)e->network->info.classes;
    return arg_max(e->logits + sample * classes, classes);
}

/* Sample i of the engine batch under way: what comes of it, without a cut or with this cut and codec. */
static cw_status tell(const evaluator *e, size_t i, int label, int answer, const cw_cut *cut, const char *codec,
                      cw_error *err)
{
    const cw_evaluate_answer a = {e->samples + i, label, answer, cut ? cut->number : 0, codec};
    return e->options->answered ? e->options->answered(e->options->ctx, &a, err) : CW_OK;
}

/* From the input: the activations of every cut, and the whole network's answers. */
static cw_status run_whole(evaluator *e, const cw_batch *batch, cw_error *err)
{
    const cw_half_call call = {.mode = CW_EVAL, .n = batch->n};
    const float *x = batch->x;
    for (size_t i = 0; i <= e->cut_count; i++) {
        float *y = i < e->cut_count ? e->z[i] : e->logits;
        CWI_TRY(cw_half_forward(e->segments[i], &call, x, y, err));
        x = y;
    }
    for (size_t i = 0; i < batch->n; i++) {
        e->whole[i] = answer(e, i);
        e->correct += e->whole[i] == batch->labels[i];
        CWI_TRY(tell(e, i, batch->labels[i], e->whole[i], NULL, "", err));
    }
    return CW_OK;
}

static cw_status run_tail(evaluator *e, size_t cut, size_t n, cw_error *err)
{
    const cw_half_call call = {.mode = CW_EVAL, .n = n};
    const float *x = e->coded;
    for (size_t i = cut + 1; i <= e->cut_count; i++) {
        float *y = i == e->cut_count ? e->logits : x == e->ping ? e->pong : e->ping;
        CWI_TRY(cw_half_forward(e->segments[i], &call, x, y, err));
        x = y;
    }
    return CW_OK;
}

static cw_status run_point(evaluator *e, size_t cut, size_t codec, const cw_batch *batch, cw_error *err)
{
    tally *t = &e->tallies[cut * e->codec_count + codec];
    const bool lossless = cw_codec_get_traits(e->codecs[codec]).lossless;
    CWI_TRY(code_batch(e, cut, e->codecs[codec], batch->n, t, err));
    if (!lossless)
        CWI_TRY(run_tail(e, cut, batch->n, err));
    for (size_t i = 0; i < batch->n; i++) {
        const int32_t got = lossless ? e->whole[i] : answer(e, i);
        t->correct += got == batch->labels[i];
        t->agreed += got == e->whole[i];
        CWI_TRY(tell(e, i, batch->labels[i], got, &e->cuts[cut], e->specs[codec], err));
    }
    return CW_OK;
}

static cw_status go_on(evaluator *e, cw_error *err)
{
    e->done++;
    if (e->options->progress)
        e->options->progress(e->options->ctx, e->done, e->total);
    return e->options->stop && *e->options->stop ? cwi_fail(err, CW_ERR_CANCELLED, "stopped") : CW_OK;
}

static cw_status run_batches(evaluator *e, cw_error *err)
{
    cw_batch batch;
    cw_status status;
    while ((status = cwi_test_next(&e->test, &batch, err)) == CW_OK) {
        CWI_TRY(run_whole(e, &batch, err));
        CWI_TRY(go_on(e, err));
        for (size_t i = 0; i < e->cut_count * e->codec_count; i++) {
            CWI_TRY(run_point(e, i / e->codec_count, i % e->codec_count, &batch, err));
            CWI_TRY(go_on(e, err));
        }
        e->samples += batch.n;
    }
    return status == CW_END ? CW_OK : status;
}

/* ---- results ---- */

static void fill_point(const evaluator *e, size_t i, cw_evaluate_point *p)
{
    const tally *t = &e->tallies[i];
    const cw_cut *cut = &e->cuts[i / e->codec_count];
    const double n = (double)e->samples;
    *p = (cw_evaluate_point){.cut = cut->number,
                             .smashed = cut->smashed,
                             .accuracy = (double)t->correct / n,
                             .agreement = (double)t->agreed / n,
                             .error = t->squares > 0 ? sqrt(t->changed / t->squares) : 0,
                             .raw_bytes = 4.0 * (double)count_of(&cut->smashed),
                             .payload_bytes = (double)t->bytes / n,
                             .encode_seconds = t->encode / n,
                             .decode_seconds = t->decode / n};
    snprintf(p->alias, sizeof p->alias, "%s", cut->alias ? cut->alias : "");
    snprintf(p->codec, sizeof p->codec, "%s", e->specs[i % e->codec_count]);
}

static cw_status fill_result(const evaluator *e, cw_evaluation *out, cw_error *err)
{
    const size_t count = e->cut_count * e->codec_count;
    out->points = cwi_calloc(count, sizeof *out->points);
    if (!out->points)
        return cwi_fail_memory(err, count * sizeof *out->points);
    for (size_t i = 0; i < count; i++)
        fill_point(e, i, &out->points[i]);
    out->count = count;
    out->samples = e->samples;
    out->batch = e->batch;
    out->accuracy = (double)e->correct / (double)e->samples;
    return CW_OK;
}

cw_status cw_evaluate(const char *run, const cw_evaluate_options *options, cw_evaluation *out, cw_error *err)
{
    if (!run || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_evaluate: a NULL argument");
    *out = (cw_evaluation){0};
    const double began = cwi_seconds();
    evaluator *e = cwi_calloc(1, sizeof *e);
    if (!e)
        return cwi_fail_memory(err, sizeof *e);
    e->options = options;
    cw_status status = open_evaluator(e, run, err);
    if (status == CW_OK)
        status = run_batches(e, err);
    if (status == CW_OK)
        status = fill_result(e, out, err);
    out->seconds = cwi_seconds() - began;
    close_evaluator(e);
    cwi_free(e);
    return status;
}

void cw_evaluation_free(cw_evaluation *evaluation)
{
    if (!evaluation)
        return;
    cwi_free(evaluation->points);
    *evaluation = (cw_evaluation){0};
}
