/* optimizer.c - a part's optimizer: its state, saved and restored; the rules themselves are in sgd.c and adam.c. */
#include <string.h>

#include "nn/optimizer.h"

struct cw_optimizer {
    cw_part *part;
    cw_optimizer_options options;
    const cwi_update_rule *rule;
    size_t slot_count;
    float **slots; /* [parameter][slot_count]; NULL for buffers */
    uint64_t steps;
};

static const struct {
    const char *name;
    const cwi_update_rule *rule;
} kinds[] = {
    [CW_SGD] = {"sgd", &cwi_sgd_rule}, [CW_ADAM] = {"adam", &cwi_adam_rule}, [CW_ADAMW] = {"adamw", &cwi_adam_rule}};

cw_status cw_optimizer_parse(const char *name, cw_optimizer_kind *out, cw_error *err)
{
    const char *names[CWI_COUNT(kinds)];
    size_t found;
    for (size_t i = 0; i < CWI_COUNT(kinds); i++)
        names[i] = kinds[i].name;
    CWI_TRY(cwi_name_find("optimizer", out ? name : NULL, names, CWI_COUNT(kinds), &found, err));
    *out = (cw_optimizer_kind)found;
    return CW_OK;
}

static cw_status check_options(const cw_optimizer_options *o, cw_error *err)
{
    if ((size_t)o->kind >= CWI_COUNT(kinds))
        return cwi_fail(err, CW_ERR_INVALID, "cw_optimizer_create: kind %d is unknown", (int)o->kind);
    if (!(o->momentum >= 0 && o->momentum < 1) || !(o->weight_decay >= 0))
        return cwi_fail(err, CW_ERR_INVALID,
                        "cw_optimizer_create: momentum %g is not in [0,1) or weight decay %g negative",
                        (double)o->momentum, (double)o->weight_decay);
    if (o->nesterov && (o->kind != CW_SGD || o->momentum <= 0))
        return cwi_fail(err, CW_ERR_INVALID, "cw_optimizer_create: Nesterov is for sgd with a momentum above 0");
    if (!(o->beta2 >= 0 && o->beta2 < 1) || !(o->epsilon >= 0))
        return cwi_fail(err, CW_ERR_INVALID, "cw_optimizer_create: beta2 %g is not in [0,1) or epsilon %g negative",
                        (double)o->beta2, (double)o->epsilon);
    if (o->bias_lr != 0 && !(o->bias_lr >= 0.01f && o->bias_lr <= 1000))
        return cwi_fail(err, CW_ERR_INVALID, "cw_optimizer_create: bias_lr %g is not in [0.01,1000]",
                        (double)o->bias_lr);
    return CW_OK;
}

static bool make_slots(cw_optimizer *o)
{
    const cwi_params *set = &o->part->params;
    o->slots = cwi_calloc(CWI_MAX(set->count * o->slot_count, (size_t)1), sizeof *o->slots);
    for (size_t i = 0; o->slots && i < set->count * o->slot_count; i++) {
        const cwi_param *p = &set->items[i / o->slot_count];
        if (p->trainable && !(o->slots[i] = cwi_calloc(p->stored, sizeof(float))))
            return false;
    }
    return o->slots != NULL;
}

cw_status cw_optimizer_create(cw_part *part, const cw_optimizer_options *options, cw_optimizer **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!part || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_optimizer_create: NULL argument");
    if (part->options.inference)
        return cwi_fail(err, CW_ERR_INVALID, "cw_optimizer_create: this part was created for inference");
    CWI_TRY(check_options(options, err));
    cw_optimizer *o = cwi_calloc(1, sizeof *o);
    if (!o)
        return cwi_fail_memory(err, sizeof *o);
    o->part = part;
    o->options = *options;
    if (o->options.beta2 <= 0)
        o->options.beta2 = 0.999f;
    if (o->options.epsilon <= 0)
        o->options.epsilon = 1e-8f;
    if (o->options.bias_lr <= 0)
        o->options.bias_lr = 1;
    o->rule = kinds[options->kind].rule;
    o->slot_count = options->kind == CW_SGD ? options->momentum > 0 : 2;
    if (!make_slots(o)) {
        cw_optimizer_destroy(&o);
        return cwi_fail(err, CW_ERR_NO_MEMORY, "out of memory for the optimizer of %zu parameters",
                        part->params.trainable_size);
    }
    *out = o;
    return CW_OK;
}

void cw_optimizer_destroy(cw_optimizer **optimizer)
{
    if (!optimizer || !*optimizer)
        return;
    cw_optimizer *o = *optimizer;
    *optimizer = NULL;
    for (size_t i = 0; o->slots && i < o->part->params.count * o->slot_count; i++)
        cwi_free(o->slots[i]);
    cwi_free(o->slots);
    cwi_free(o);
}

static cwi_update update_of(const cw_optimizer *o, const cwi_param *p, float lr)
{
    const float times = p->role == CWI_BIAS && p->layer->kind == CWI_BATCHNORM ? o->options.bias_lr : 1.0f;
    return (cwi_update){
        .options = &o->options, .lr = lr * times, .decay = o->options.weight_decay / times, .step = o->steps};
}

cw_status cw_optimizer_step(cw_optimizer *o, float lr)
{
    if (!o || !(lr >= 0))
        return CW_ERR_INVALID;
    o->steps++;
    int before = cwi_threads_enter(o->part->threads);
    for (size_t i = 0; i < o->part->params.count; i++) {
        cwi_param *p = &o->part->params.items[i];
        if (!p->trainable || p->layer->frozen)
            continue;
        const cwi_update update = update_of(o, p, lr);
        o->rule->apply(&update, p->value, p->grad, o->slots + i * o->slot_count, p->stored);
        p->version++;
    }
    cwi_threads_leave(before);
    return CW_OK;
}

/* ---- state ---- */

size_t cw_optimizer_slots(const cw_optimizer *o)
{
    return o->slot_count;
}

const char *cw_optimizer_slot_name(const cw_optimizer *o, size_t slot)
{
    return o->rule->slot_names[slot];
}

uint64_t cw_optimizer_steps(const cw_optimizer *o)
{
    return o->steps;
}

void cw_optimizer_set_steps(cw_optimizer *o, uint64_t steps)
{
    o->steps = steps;
}

void cw_optimizer_export(const cw_optimizer *o, size_t slot, float *flat)
{
    const cwi_params *set = &o->part->params;
    int before = cwi_threads_enter(o->part->threads);
    for (size_t i = 0; i < set->count; i++) {
        if (!set->items[i].trainable)
            continue;
        cwi_param_export(set, &set->items[i], o->slots[i * o->slot_count + slot], flat);
        flat += set->items[i].count;
    }
    cwi_threads_leave(before);
}

void cw_optimizer_import(cw_optimizer *o, size_t slot, const float *flat)
{
    const cwi_params *set = &o->part->params;
    int before = cwi_threads_enter(o->part->threads);
    for (size_t i = 0; i < set->count; i++) {
        if (!set->items[i].trainable)
            continue;
        cwi_param_import(set, &set->items[i], flat, o->slots[i * o->slot_count + slot]);
        flat += set->items[i].count;
    }
    cwi_threads_leave(before);
}
