/* config.c - the table of configuration keys: defaults, ranges, help; to and from text and JSON. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/setup.h"

typedef enum value_type { T_STRING, T_INT, T_U64, T_DOUBLE, T_BOOL } value_type;

typedef struct option {
    cw_config_option public;
    value_type type;
    size_t offset;
    size_t size;     /* of a string's array */
    double min, max; /* of a number */
} option;

#define FIELD(field) offsetof(cw_config, field), sizeof(((cw_config *)0)->field)

/* clang-format off */
static const option options[] = {
    {{"data", "NAME[:DIR]", "data set (cutwire data list)", "fashion-mnist", true, false}, T_STRING, FIELD(data), 0, 0},
    {{"model", "NAME", "network to train (cutwire models lists them)", "cnn", true, false}, T_STRING, FIELD(model), 0, 0},
    {{"activation", "NAME", "non-linearity of the model: relu, leaky_relu, gelu, silu, tanh", "relu", true, false}, T_STRING, FIELD(activation), 0, 0},
    {{"init", "NAME", "how convolutions begin: kaiming, or dirac (identities; short schedules get further)", "kaiming", true, false}, T_STRING, FIELD(init), 0, 0},
    {{"precision", "NAME", "of the engine: fp32, bf16, or auto (bf16 where the server's CPU multiplies it, else fp32); a run keeps what auto came to", "fp32", true, false}, T_STRING, FIELD(precision), 0, 0},
    {{"cut", "N", "where the network is cut: a number, or shallow, medium, deep", "2", true, false}, T_STRING, FIELD(cut), 0, 0},
    {{"bottleneck", "C[:K[/S]]", "narrow the cut: a convolution KxK of stride S to C channels before it and one back after it, trained with the network; @CUT behind it: at another cut", "", true, false}, T_STRING, FIELD(bottleneck), 0, 0},
    {{"freeze", NULL, "train the bottleneck alone, on top of --weights", "0", true, false}, T_BOOL, FIELD(freeze), 0, 1},
    {{"uplink", "SPEC", "codec of the activations (clients to server)", "ec:err=0.15", true, false}, T_STRING, FIELD(uplink), 0, 0},
    {{"eval-uplink", "SPEC", "codec of the activations in evaluations, finer than --uplink perhaps; \"\": as --uplink", "", true, false}, T_STRING, FIELD(eval_uplink), 0, 0},
    {{"downlink", "SPEC", "codec of the gradients (server to clients)", "ec:step=4.5,round=stochastic,scope=sample", true, false}, T_STRING, FIELD(downlink), 0, 0},
    {{"mode", "NAME", "how server and clients take turns: sync (all take each step together)", "sync", true, false}, T_STRING, FIELD(mode), 0, 0},
    {{"in-flight", "N", "cut each client's batch into N micro-batches that are on their way at once; batch norm then sees micro-batches", "1", true, false}, T_INT, FIELD(in_flight), 1, 64},
    {{"mask-gradient", "0|1|auto", "send no gradient for what came in as 0; auto: behind a ReLU, where that is of little use, if the downlink is coded", "auto", true, false}, T_STRING, FIELD(mask_gradient), 0, 0},
    {{"update", "SPEC", "codec of the client half's gradients (to the server, and averaged back)", "ec:step=0.75,round=stochastic", true, false}, T_STRING, FIELD(update), 0, 0},
    {{"clients", "N", "number of clients", "1", true, false}, T_INT, FIELD(clients), 1, 4096},
    {{"epochs", "N", "passes over the training data", "3", true, false}, T_INT, FIELD(epochs), 1, 100000},
    {{"batch", "N", "samples of each client in a step", "64", true, false}, T_INT, FIELD(batch), 1, 65536},
    {{"optimizer", "NAME", "sgd, adam or adamw (these two want a rate of about 0.001)", "sgd", true, false}, T_STRING, FIELD(optimizer), 0, 0},
    {{"lr", "X", "learning rate (peak, for schedules that vary it)", "0.1", true, false}, T_DOUBLE, FIELD(lr), 0, 1000},
    {{"schedule", "SPEC", "learning rate over time: constant, cosine, multistep, onecycle", "onecycle", true, false}, T_STRING, FIELD(schedule), 0, 0},
    {{"momentum", "X", "SGD momentum, or Adam's first beta", "0.9", true, false}, T_DOUBLE, FIELD(momentum), 0, 0.99999},
    {{"weight-decay", "X", "L2 penalty", "0.0005", true, false}, T_DOUBLE, FIELD(weight_decay), 0, 10},
    {{"bias-lr", "X", "learning rate of batch norm's biases, times the others'; 64 helps some short schedules; clients whose gradients are coded take 1 at most", "1", true, false}, T_DOUBLE, FIELD(bias_lr), 0.01, 1000},
    {{"label-smoothing", "X", "share of the target spread evenly over all labels", "0", true, false}, T_DOUBLE, FIELD(label_smoothing), 0, 0.99},
    {{"nesterov", NULL, "Nesterov momentum", "0", true, false}, T_BOOL, FIELD(nesterov), 0, 1},
    {{"flip", NULL, "augment: horizontal flips, each image in every other epoch", "0", true, false}, T_BOOL, FIELD(flip), 0, 1},
    {{"crop-pad", "N", "augment: random crops after padding by N pixels", "0", true, false}, T_INT, FIELD(crop_pad), 0, 64},
    {{"resized-crop", NULL, "augment: random parts of photos, resized", "0", true, false}, T_BOOL, FIELD(resized_crop), 0, 1},
    {{"dirichlet", "ALPHA", "label-skewed shards, smaller is more skewed; 0: even shards", "0", true, false}, T_DOUBLE, FIELD(dirichlet), 0, 1e6},
    {{"sample", "CxHxW", "shape of one input, for a server that has no data set", "", true, false}, T_STRING, FIELD(sample), 0, 0},
    {{"classes", "N", "number of labels, likewise", "0", true, false}, T_INT, FIELD(classes), 0, 100000},
    {{"input", "KIND", "what a sample's numbers are, likewise: image, tokens:V, table:N/C1/...", "", true, false}, T_STRING, FIELD(input), 0, 0},
    {{"train-limit", "N", "use at most N training samples in all; 0: all", "0", true, false}, T_INT, FIELD(train_limit), 0, 1e9},
    {{"test-limit", "N", "use at most N test samples in all; 0: all", "0", true, false}, T_INT, FIELD(test_limit), 0, 1e9},
    {{"max-samples", "N", "server: refuse a client that announces more training or test samples; 0: as many as the server's own data set has, or 10 million", "0", false, false}, T_INT, FIELD(max_samples), 0, 1e9},
    {{"clip-norm", "X", "server: each client's gradients are scaled down to this norm in each half; 0: never", "0", true, false}, T_DOUBLE, FIELD(clip_norm), 0, 1e9},
    {{"screen", "NAME", "server: clients whose losses, gradients or statistics are far from the others': off, warn (log them), drop (leave out what they send)", "off", false, false}, T_STRING, FIELD(screen), 0, 0},
    {{"average", "NAME", "server: how the clients' gradients and statistics become one: mean, trimmed (without the extremes) or median", "mean", false, false}, T_STRING, FIELD(average), 0, 0},
    {{"seed", "N", "of weights, shuffling, shards, codecs", "1", true, false}, T_U64, FIELD(seed), 0, 0},
    {{"threads", "N", "threads of the engine; 0: one per processor, shared among --processes", "0", false, true}, T_INT, FIELD(threads), 0, 1024},
    {{"loader-threads", "N", "threads that prepare batches ahead; 0: none", "1", false, true}, T_INT, FIELD(loader_threads), 0, 64},
    {{"timeout", "SECONDS", "give up on a peer that owes an answer for so long", "120", false, true}, T_DOUBLE, FIELD(timeout), 0.1, 1e6},
    {{"join-timeout", "SECONDS", "how long to wait for clients, or for the server; 0: without end", "60", false, true}, T_DOUBLE, FIELD(join_timeout), 0, 1e6},
    {{"grace", "SECONDS", "server: how long the place of a client is held, and the others wait, when its connection breaks", "60", false, false}, T_DOUBLE, FIELD(grace), 0, 1e6},
    {{"step-deadline", "SECONDS", "server: a step goes on without clients that are so late, where --quorum have done it; 0: all wait for all", "0", false, false}, T_DOUBLE, FIELD(step_deadline), 0, 1e6},
    {{"quorum", "N", "server: clients that a step wants at least, however late they are", "1", false, false}, T_INT, FIELD(quorum), 1, 4096},
    {{"reconnect", "SECONDS", "client: how long to wait for a server that is out of reach or begins anew; 0: not at all", "600", false, true}, T_DOUBLE, FIELD(reconnect), 0, 1e6},
    {{"identity", "FILE", "client: keeps in this file who it is, so that it takes its place back when it is started again", "", false, true}, T_STRING, FIELD(identity), 0, 0},
    {{"allow-plaintext", NULL, "let unencrypted traffic leave this machine", "0", false, true}, T_BOOL, FIELD(allow_plaintext), 0, 1},
    {{"own-data", NULL, "client: train on the whole local data set, not on a shard of it", "0", false, true}, T_BOOL, FIELD(own_data), 0, 1},
    {{"data-dir", "DIR", "where the data set lies on this machine", "", false, true}, T_STRING, FIELD(data_dir), 0, 0},
    {{"recipe", "FILE", "vocabulary or column statistics to use (a run's recipe.txt), in place of learning them", "", false, false}, T_STRING, FIELD(recipe), 0, 0},
    {{"weights", "FILE", "begin with this safetensors file: a run's model.safetensors (and recipe.txt beside it), or one with its names and shapes", "", false, false}, T_STRING, FIELD(weights), 0, 0},
    {{"checkpoint-every", "N", "save a checkpoint after every N epochs; 0: never then", "1", false, false}, T_INT, FIELD(checkpoint_every), 0, 1e6},
    {{"checkpoint-steps", "N", "save one after every N steps of an epoch, too, where epochs are long; 0: never", "0", false, false}, T_INT, FIELD(checkpoint_steps), 0, 1e9},
    {{"eval-every", "N", "evaluate on the test data after every N epochs, and after the last; 0: after the last alone", "1", false, false}, T_INT, FIELD(eval_every), 0, 1e6},
    {{"resume", "DIR", "go on with the run in this folder, from its last checkpoint, or where that is damaged from the one before it (checkpoint.previous.safetensors); where there is none yet, from its beginning", "", false, false}, T_STRING, FIELD(resume), 0, 0},
    {{"out", "DIR", "folder for the run's files; one that holds a run is refused without --resume or --overwrite", "", false, false}, T_STRING, FIELD(out), 0, 0},
    {{"overwrite", NULL, "replace the run that --out holds", "0", false, false}, T_BOOL, FIELD(overwrite), 0, 1},
};
/* clang-format on */

size_t cw_config_option_count(void)
{
    return CWI_COUNT(options);
}

const cw_config_option *cw_config_option_at(size_t i)
{
    return i < CWI_COUNT(options) ? &options[i].public : NULL;
}

static void *field_of(cw_config *config, const option *o)
{
    return (char *)config + o->offset;
}

static const void *const_field_of(const cw_config *config, const option *o)
{
    return (const char *)config + o->offset;
}

static cw_status bad_value(const option *o, const char *value, cw_error *err)
{
    if (o->type == T_BOOL)
        return cwi_fail(err, CW_ERR_SPEC, "%s: '%.60s' is neither 0 nor 1", o->public.key, value);
    if (o->type == T_U64)
        return cwi_fail(err, CW_ERR_SPEC, "%s: '%.60s' is not a whole number from 0 to 18446744073709551615",
                        o->public.key, value);
    return cwi_fail(err, CW_ERR_SPEC, "%s: '%.60s' is not a %snumber from %.10g to %.10g", o->public.key, value,
                    o->type == T_INT ? "whole " : "", o->min, o->max);
}

static cw_status set_string(cw_config *config, const option *o, const char *value, cw_error *err)
{
    if (strlen(value) >= o->size)
        return cwi_fail(err, CW_ERR_SPEC, "%s: longer than %zu characters", o->public.key, o->size - 1);
    snprintf(field_of(config, o), o->size, "%s", value);
    return CW_OK;
}

static cw_status set_number(cw_config *config, const option *o, const char *value, cw_error *err)
{
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    bool whole = number == floor(number);
    if (errno || end == value || *end || !isfinite(number) || number < o->min || number > o->max ||
        (o->type != T_DOUBLE && !whole))
        return bad_value(o, value, err);
    if (o->type == T_DOUBLE)
        *(double *)field_of(config, o) = number;
    else if (o->type == T_INT)
        *(int *)field_of(config, o) = (int)number;
    else
        *(bool *)field_of(config, o) = number != 0;
    return CW_OK;
}

static cw_status set_u64(cw_config *config, const option *o, const char *value, cw_error *err)
{
    char *end;
    errno = 0;
    const bool hexadecimal = value[0] == '0' && (value[1] == 'x' || value[1] == 'X'); /* 010 is ten */
    unsigned long long number = strtoull(value, &end, hexadecimal ? 16 : 10);
    if (errno || *end || !isdigit((unsigned char)value[0]))
        return bad_value(o, value, err);
    *(uint64_t *)field_of(config, o) = number;
    return CW_OK;
}

static cw_status set_option(cw_config *config, const option *o, const char *value, cw_error *err)
{
    if (!value && o->type == T_BOOL)
        value = "1";
    if (!value)
        return cwi_fail(err, CW_ERR_SPEC, "%s needs a value (%s)", o->public.key, o->public.metavar);
    if (o->type == T_STRING)
        return set_string(config, o, value, err);
    if (o->type == T_U64)
        return set_u64(config, o, value, err);
    return set_number(config, o, value, err);
}

void cwi_config_init(cw_config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < CWI_COUNT(options); i++)
        (void)set_option(config, &options[i], options[i].public.value, NULL);
}

/* ---- a configuration's life ---- */

cw_status cw_config_create(cw_config **out, cw_error *err)
{
    if (!out)
        return cwi_fail(err, CW_ERR_INVALID, "nowhere to put the configuration");
    *out = cwi_alloc(1, sizeof **out);
    if (!*out)
        return cwi_fail_memory(err, sizeof **out);
    cwi_config_init(*out);
    return CW_OK;
}

cw_status cw_config_copy(const cw_config *config, cw_config **out, cw_error *err)
{
    CWI_TRY(cw_config_create(out, err));
    **out = *config;
    return CW_OK;
}

void cw_config_destroy(cw_config **config)
{
    if (!config)
        return;
    cwi_free(*config);
    *config = NULL;
}

void cw_config_reset(cw_config *config)
{
    cwi_config_init(config);
}

/* ---- one key ---- */

static const option *find_option(const char *key)
{
    for (size_t i = 0; i < CWI_COUNT(options); i++)
        if (strcmp(options[i].public.key, key) == 0)
            return &options[i];
    return NULL;
}

static cw_status unknown_key(const char *key, cw_error *err)
{
    cwi_list list = {""};
    for (size_t i = 0; i < CWI_COUNT(options); i++)
        cwi_list_add(&list, options[i].public.key);
    return cwi_fail(err, CW_ERR_SPEC, "unknown key '%.40s'; known: %s", key, list.text);
}

cw_status cw_config_set(cw_config *config, const char *key, const char *value, cw_error *err)
{
    const option *known = find_option(key);
    return known ? set_option(config, known, value, err) : unknown_key(key, err);
}

const char *cw_config_string(const cw_config *config, const char *key)
{
    const option *known = find_option(key);
    return known && known->type == T_STRING ? const_field_of(config, known) : NULL;
}

uint64_t cw_config_integer(const cw_config *config, const char *key)
{
    const option *known = find_option(key);
    if (!known)
        return 0;
    const void *field = const_field_of(config, known);
    switch (known->type) {
    case T_INT:
        return (uint64_t) * (const int *)field; /* none is below 0 */
    case T_U64:
        return *(const uint64_t *)field;
    case T_BOOL:
        return *(const bool *)field;
    default:
        return 0;
    }
}

double cw_config_real(const cw_config *config, const char *key)
{
    const option *known = find_option(key);
    return known && known->type == T_DOUBLE ? *(const double *)const_field_of(config, known) : 0.0;
}

cw_status cw_config_get(const cw_config *config, const char *key, char *text, size_t size, cw_error *err)
{
    const option *known = find_option(key);
    int length;
    if (!known)
        return unknown_key(key, err);
    if (known->type == T_STRING)
        length = snprintf(text, size, "%s", cw_config_string(config, key));
    else if (known->type == T_DOUBLE)
        length = snprintf(text, size, "%.17g", cw_config_real(config, key));
    else
        length = snprintf(text, size, "%llu", (unsigned long long)cw_config_integer(config, key));
    if ((size_t)length < size)
        return CW_OK;
    if (size > 0)
        *text = '\0';
    return cwi_fail(err, CW_ERR_TOO_SMALL, "%s: %d characters, there is room for %zu", key, length,
                    size ? size - 1 : 0);
}

/* ---- JSON ---- */

/* jansson refuses what is no UTF-8, as a path may be. */
static json_t *string_to_json(const char *s)
{
    static const char unknown[] = "\xef\xbf\xbd"; /* U+FFFD */
    char text[3 * sizeof((cw_config *)0)->input];
    size_t used = 0;
    for (size_t left = strlen(s), step; left > 0; s += step, left -= step) {
        const size_t good = cwi_utf8_length((const uint8_t *)s, left);
        step = good ? good : 1;
        memcpy(text + used, good ? s : unknown, good ? good : 3);
        used += good ? good : 3;
    }
    return json_stringn(text, used);
}

/* What is permitted once is not asked of a run that goes on, nor of one that begins from another's configuration. */
static bool is_kept(const option *o)
{
    return o->offset != offsetof(cw_config, overwrite);
}

static json_t *option_to_json(const cw_config *config, const option *o)
{
    const void *field = const_field_of(config, o);
    switch (o->type) {
    case T_STRING:
        return string_to_json(field);
    case T_INT:
        return json_integer(*(const int *)field);
    case T_U64: {
        char text[24]; /* a JSON number would lose bits above 2^53 in many readers */
        snprintf(text, sizeof text, "%llu", (unsigned long long)*(const uint64_t *)field);
        return json_string(text);
    }
    case T_DOUBLE:
        return json_real(*(const double *)field);
    case T_BOOL:
        return json_boolean(*(const bool *)field);
    }
    return NULL;
}

cw_status cw_config_to_json(const cw_config *config, bool shared_only, char **json, cw_error *err)
{
    *json = NULL;
    json_t *object = json_object();
    bool ok = object != NULL;
    for (size_t i = 0; i < CWI_COUNT(options) && ok; i++)
        if ((options[i].public.shared || !shared_only) && is_kept(&options[i]))
            ok = json_object_set_new(object, options[i].public.key, option_to_json(config, &options[i])) == 0;
    char *text = ok ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    *json = text ? cwi_strdup(text) : NULL;
    free(text);
    return *json ? CW_OK : cwi_fail_memory(err, 0);
}

static cw_status set_from_json(cw_config *config, const char *key, const json_t *value, cw_error *err)
{
    char text[64];
    if (json_is_string(value))
        return cw_config_set(config, key, json_string_value(value), err);
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(text, sizeof text, "%d", json_is_true(value));
    else
        return cwi_fail(err, CW_ERR_SPEC, "%s: neither a string nor a number nor true or false", key);
    return cw_config_set(config, key, text, err);
}

/* A server decides what is trained, not where a client's files lie nor how it works. */
static cw_status check_shared(const char *key, const json_t *value, cw_error *err)
{
    const option *known = find_option(key);
    if (known && !known->public.shared)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server sets %s, which is for each client to decide", key);
    if (strcmp(key, "data") == 0 && json_is_string(value) && strchr(json_string_value(value), ':'))
        return cwi_fail(err, CW_ERR_PROTOCOL,
                        "the server names a folder of this machine with its data set (%s): the folder is for each "
                        "client to decide",
                        json_string_value(value));
    return CW_OK;
}

static cw_status from_json(cw_config *config, const char *json, size_t size, bool shared_only, cw_error *err)
{
    json_error_t where;
    json_t *object = json_loadb(json, size, JSON_REJECT_DUPLICATES, &where);
    if (!object)
        return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)where.position, "configuration is not JSON: %s", where.text);
    cw_status status = CW_OK;
    if (!json_is_object(object))
        status = cwi_fail(err, CW_ERR_SPEC, "configuration is not a JSON object");
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (status == CW_OK && shared_only)
            status = check_shared(key, value, err);
        if (status == CW_OK)
            status = set_from_json(config, key, value, err);
    }
    json_decref(object);
    return status;
}

cw_status cw_config_from_json(cw_config *config, const char *json, size_t size, cw_error *err)
{
    return from_json(config, json, size, false, err);
}

cw_status cwi_config_from_shared_json(cw_config *config, const char *json, size_t size, cw_error *err)
{
    return from_json(config, json, size, true, err);
}
