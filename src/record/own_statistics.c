/* own_statistics.c - see own_statistics.h. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "record/own_statistics.h"

enum { NAME_SIZE = 40 };

static void name_of(char name[NAME_SIZE], size_t client)
{
    snprintf(name, NAME_SIZE, "statistics.%zu", client + 1);
}

cw_status cwi_own_statistics_open(cwi_own_statistics *s, size_t clients, size_t floats, cw_error *err)
{
    *s = (cwi_own_statistics){.clients = clients, .floats = floats};
    s->of = cwi_calloc(clients, sizeof *s->of);
    return s->of ? CW_OK : cwi_fail_memory(err, clients * sizeof *s->of);
}

void cwi_own_statistics_close(cwi_own_statistics *s)
{
    if (s->of)
        cwi_own_statistics_clear(s);
    cwi_free(s->of);
    *s = (cwi_own_statistics){0};
}

cw_status cwi_own_statistics_keep(cwi_own_statistics *s, size_t client, const float *flat, cw_error *err)
{
    if (!s->floats)
        return CW_OK;
    if (!s->of[client] && !(s->of[client] = cwi_alloc(s->floats, sizeof *flat)))
        return cwi_fail_memory(err, s->floats * sizeof *flat);
    memcpy(s->of[client], flat, s->floats * sizeof *flat);
    return CW_OK;
}

void cwi_own_statistics_forget(cwi_own_statistics *s, size_t client)
{
    cwi_free(s->of[client]);
    s->of[client] = NULL;
}

void cwi_own_statistics_clear(cwi_own_statistics *s)
{
    for (size_t i = 0; i < s->clients; i++)
        cwi_own_statistics_forget(s, i);
}

/* ---- in a checkpoint ---- */

cw_status cwi_own_statistics_export(const cwi_own_statistics *s, cwi_state *state, cw_error *err)
{
    const cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)s->floats});
    for (size_t i = 0; i < s->clients; i++) {
        char name[NAME_SIZE];
        void *data;
        if (!s->of[i])
            continue;
        name_of(name, i);
        CWI_TRY(cwi_state_add(state, name, CW_F32, &shape, &data, err));
        memcpy(data, s->of[i], s->floats * sizeof(float));
    }
    return CW_OK;
}

cw_status cwi_own_statistics_import(cwi_own_statistics *s, const cw_tensor_set *set, cw_error *err)
{
    const cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)s->floats});
    for (size_t i = 0; i < s->clients && s->floats; i++) {
        char name[NAME_SIZE];
        name_of(name, i);
        const cw_tensor *t = cw_tensor_set_find(set, name);
        if (!t)
            continue;
        if (t->dtype != CW_F32 || !cw_shape_equal(&t->shape, &shape))
            return cwi_fail(err, CW_ERR_MISMATCH, "%s is not %zu floats", name, s->floats);
        CWI_TRY(cwi_own_statistics_keep(s, i, t->data, err));
    }
    return CW_OK;
}
