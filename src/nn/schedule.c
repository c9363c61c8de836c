/* schedule.c - learning rates: parsing their spec strings, and their values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/nn.h"

typedef struct cwi_schedule_key {
    const char *name;
    double low, high;
} cwi_schedule_key;

typedef struct cwi_schedule_family {
    const char *name;
    const char *keys; /* for messages */
    cwi_schedule_key key[3];
} cwi_schedule_family;

static const cwi_schedule_family families[] = {
    [CW_SCHED_CONSTANT] = {"constant", "none", {{0}}},
    [CW_SCHED_COSINE] = {"cosine", "final", {{"final", 0, 1e6}}},
    [CW_SCHED_MULTISTEP] = {"multistep", "at, gamma", {{"at", 0, 1e9}, {"gamma", 0, 1}}},
    [CW_SCHED_ONECYCLE] = {"onecycle", "warmup, final", {{"warmup", 0, 1}, {"final", 0, 1e6}}},
};

/* A number from `text` up to `end`, which must hold nothing else. */
static bool parse_number(const char *text, const char *end, double low, double high, double *out)
{
    char *stop;
    if (text == end)
        return false;
    *out = strtod(text, &stop);
    return stop == end && *out >= low && *out <= high;
}

static cw_status parse_milestones(const char *spec, const char *text, const char *end, cw_schedule *s, cw_error *err)
{
    while (text <= end) {
        const char *stop = memchr(text, '/', (size_t)(end - text));
        stop = stop ? stop : end;
        double at;
        if (s->milestone_count == (int)CWI_COUNT(s->milestones))
            return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)(text - spec), "schedule '%.60s': at most %d milestones",
                               spec, (int)CWI_COUNT(s->milestones));
        if (!parse_number(text, stop, 0, 1e9, &at) ||
            (s->milestone_count && at <= s->milestones[s->milestone_count - 1]))
            return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)(text - spec),
                               "schedule '%.60s': milestone '%.*s': give increasing epochs, e.g. at=60/120/160", spec,
                               (int)CWI_MIN(stop - text, 20), text);
        s->milestones[s->milestone_count++] = at;
        text = stop + 1;
    }
    return CW_OK;
}

static void store(cw_schedule *s, const char *key, double value)
{
    if (strcmp(key, "final") == 0)
        s->final_lr = value;
    else if (strcmp(key, "gamma") == 0)
        s->gamma = value;
    else
        s->warmup = value > 0 ? value : -1; /* 0 in the struct stands for the default */
}

static cw_status parse_pair(const char *spec, const char *text, const char *end, const cwi_schedule_family *f,
                            cw_schedule *s, cw_error *err)
{
    const char *equals = memchr(text, '=', (size_t)(end - text));
    size_t length = equals ? (size_t)(equals - text) : (size_t)(end - text);
    for (size_t k = 0; k < CWI_COUNT(f->key) && f->key[k].name; k++) {
        const cwi_schedule_key *key = &f->key[k];
        if (strlen(key->name) != length || memcmp(key->name, text, length) != 0)
            continue;
        if (equals && strcmp(key->name, "at") == 0)
            return parse_milestones(spec, equals + 1, end, s, err);
        double value;
        if (!equals || !parse_number(equals + 1, end, key->low, key->high, &value))
            return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)(text - spec),
                               "schedule '%.60s': %s: give a number from %g to %g", spec, key->name, key->low,
                               key->high);
        store(s, key->name, value);
        return CW_OK;
    }
    return cwi_fail_at(err, CW_ERR_SPEC, (uint64_t)(text - spec), "schedule '%.60s': unknown key '%.*s': %s has %s",
                       spec, (int)CWI_MIN(length, 20), text, f->name, f->keys);
}

cw_status cw_schedule_parse(const char *spec, cw_schedule *out, cw_error *err)
{
    if (!spec || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_schedule_parse: NULL argument");
    cw_schedule s = {.gamma = 0.1};
    size_t length = strcspn(spec, ":");
    const cwi_schedule_family *f = NULL;
    for (size_t i = 0; i < CWI_COUNT(families); i++) {
        if (strlen(families[i].name) == length && memcmp(families[i].name, spec, length) == 0) {
            f = &families[i];
            s.kind = (int)i;
        }
    }
    if (!f)
        return cwi_fail_at(err, CW_ERR_SPEC, 0,
                           "schedule '%.60s': unknown: known are constant, cosine[:final=0], "
                           "multistep:at=60/120/160,gamma=0.2, onecycle[:warmup=0.3,final=0]",
                           spec);
    const char *text = spec + length;
    while (*text) {
        text++; /* ':' or ',' */
        const char *end = text + strcspn(text, ",");
        CWI_TRY(parse_pair(spec, text, end, f, &s, err));
        text = end;
    }
    if (s.kind == CW_SCHED_MULTISTEP && s.milestone_count == 0)
        return cwi_fail_at(err, CW_ERR_SPEC, length, "schedule '%.60s': give the epochs, e.g. at=60/120/160", spec);
    *out = s;
    return CW_OK;
}

static double onecycle(const cw_schedule *s, double progress)
{
    double warmup = s->warmup < 0 ? 0 : s->warmup > 0 ? s->warmup : 0.3;
    if (progress < warmup)
        return s->base_lr * progress / warmup;
    double down = warmup < 1 ? (progress - warmup) / (1 - warmup) : 1;
    return s->base_lr + (s->final_lr - s->base_lr) * down;
}

float cw_schedule_lr(const cw_schedule *s, double epoch, double epochs)
{
    double progress = epochs > 0 ? CWI_MIN(CWI_MAX(epoch / epochs, 0.0), 1.0) : 0.0;
    double lr = s->base_lr;
    switch (s->kind) {
    case CW_SCHED_COSINE:
        lr = s->final_lr + (s->base_lr - s->final_lr) * (1 + cos(3.14159265358979323846 * progress)) / 2;
        break;
    case CW_SCHED_MULTISTEP:
        for (int i = 0; i < s->milestone_count && epoch >= s->milestones[i]; i++)
            lr *= s->gamma;
        break;
    case CW_SCHED_ONECYCLE:
        lr = onecycle(s, progress);
        break;
    default:
        break;
    }
    return (float)lr;
}
