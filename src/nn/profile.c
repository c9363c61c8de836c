/* profile.c - where a part's time and memory go. */
#include <string.h>

#include "nn/part.h"

void cw_part_profile_start(cw_part *part)
{
    memset(part->seconds, 0, sizeof part->seconds);
    part->profiling = true;
}

cw_profile cw_part_profile_stop(cw_part *part)
{
    const double *s = part->seconds;
    part->profiling = false;
    for (size_t t = 0; t < part->ticket_count; t++)
        for (size_t i = 0; i < part->tickets[t].net_count; i++)
            part->tickets[t].nets[i]->program.seconds = NULL;
    return (cw_profile){.conv = s[CWI_WORK_CONV],
                        .matmul = s[CWI_WORK_MATMUL],
                        .norm = s[CWI_WORK_NORM],
                        .pool = s[CWI_WORK_POOL],
                        .elementwise = s[CWI_WORK_ELEMENTWISE],
                        .reorder = s[CWI_WORK_REORDER],
                        .other = s[CWI_WORK_OTHER]};
}

/* Steps that read or write the caller's memory have no place to do so here. */
static bool is_bare(const cwi_borders *b, const cwi_program *p, const cwi_step *s)
{
    if (s->work != CWI_WORK_CONV && s->work != CWI_WORK_MATMUL)
        return false;
    for (int a = 0; a < s->arg_count; a++) {
        void *const *slot = p->buffers[s->buffers[a]].slot;
        if (slot && !*slot && (slot == &b->x || slot == &b->y || slot == &b->dx || slot == &b->dy))
            return false;
    }
    return true;
}

static cw_status run_bare(cwi_ticket *t, double *seconds, cw_error *err)
{
    cwi_program *p = &t->nets[0]->program;
    double *const profile = p->seconds; /* counts the network's own steps alone */
    double start = cwi_seconds();
    cw_status status = CW_OK;
    p->seconds = NULL;
    for (size_t i = 0; i < p->step_count && status == CW_OK; i++) {
        if (is_bare(&t->borders, p, &p->steps[i]))
            status = cwi_program_run(p, i, i + 1, t->arena, err);
    }
    p->seconds = profile;
    *seconds = cwi_seconds() - start;
    return status;
}

cw_status cw_part_bare_seconds(cw_part *part, double *seconds, cw_error *err)
{
    if (!part || !seconds)
        return cwi_fail(err, CW_ERR_INVALID, "cw_part_bare_seconds: NULL argument");
    cwi_ticket_close(part->ticket);
    int before = cwi_threads_enter(part->threads);
    cw_status s = run_bare(part->ticket, seconds, err);
    cwi_threads_leave(before);
    return s;
}

size_t cw_part_memory(const cw_part *part)
{
    size_t bytes = 0;
    for (size_t t = 0; t < part->ticket_count; t++)
        bytes += part->tickets[t].arena_bytes;
    for (size_t i = 0; i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        bytes += p->stored * sizeof(float) * (1 + (p->grad != NULL));
        bytes += p->sum ? p->stored * sizeof(float) : 0;
        for (const cwi_copy *c = p->copies; c; c = c->next)
            bytes += c->data != p->value ? cwi_md_bytes(&c->md) : 0;
    }
    return bytes;
}
