/* modes.c - the list of modes, and what they share: batches cut into micro-batches, and their sums. */
#include <stdio.h>
#include <string.h>

#include "modes/mode.h"

/* ---- the list ---- */

static const cwi_mode *const modes[] = {&cwi_mode_sync, &cwi_mode_whole};

size_t cwi_mode_count(void)
{
    return CWI_COUNT(modes);
}

const cwi_mode *cwi_mode_at(size_t i)
{
    return i < CWI_COUNT(modes) ? modes[i] : NULL;
}

cw_status cwi_mode_find(const char *name, const cwi_mode **mode, cw_error *err)
{
    const char *names[CWI_COUNT(modes)];
    const cwi_mode *split[CWI_COUNT(modes)];
    size_t count = 0, i;
    for (i = 0; i < CWI_COUNT(modes); i++) {
        if (!modes[i]->work)
            continue;
        names[count] = modes[i]->name;
        split[count++] = modes[i];
    }
    *mode = NULL;
    CWI_TRY(cwi_name_find("mode", name, names, count, &i, err));
    *mode = split[i];
    return CW_OK;
}

/* ---- micro-batches ---- */

size_t cwi_micro_batch(size_t n, size_t i, size_t parts, size_t *first)
{
    *first = n / parts * i + CWI_MIN(i, n % parts);
    return n / parts + (i < n % parts);
}

cw_status cwi_micro_sums_open(cwi_micro_sums *sums, size_t clients, const cw_half *half, cw_error *err)
{
    *sums = (cwi_micro_sums){.clients = clients, .floats = cw_half_weight_count(half)};
    sums->sum = cwi_calloc(clients, sizeof *sums->sum);
    sums->begun = cwi_calloc(clients, sizeof *sums->begun);
    sums->flat = cwi_alloc(sums->floats, sizeof(float));
    return sums->sum && sums->begun && sums->flat ? CW_OK : cwi_fail_memory(err, sums->floats * sizeof(float));
}

void cwi_micro_sums_close(cwi_micro_sums *sums)
{
    for (size_t i = 0; sums->sum && i < sums->clients; i++)
        cwi_free(sums->sum[i]);
    cwi_free(sums->sum);
    cwi_free(sums->begun);
    cwi_free(sums->flat);
    memset(sums, 0, sizeof *sums);
}

void cwi_micro_sums_clear(cwi_micro_sums *sums)
{
    memset(sums->begun, 0, sums->clients * sizeof *sums->begun);
}

cw_status cwi_micro_sums_add(cwi_micro_sums *sums, size_t client, cw_half *half, float weight, cw_error *err)
{
    if (!sums->sum[client] && !(sums->sum[client] = cwi_alloc(sums->floats, sizeof(float))))
        return cwi_fail_memory(err, sums->floats * sizeof(float));
    CWI_TRY(cw_half_get(half, CW_HALF_GRADIENT, sums->flat, err));
    cwi_average_add(sums->sum[client], sums->flat, sums->floats, weight, !sums->begun[client]);
    sums->begun[client] = true;
    return CW_OK;
}

cw_status cwi_micro_sums_finish(cwi_micro_sums *sums, const float *weights, float scale, cw_half *half, cw_error *err)
{
    bool first = true;
    for (size_t i = 0; i < sums->clients; i++) {
        if (!sums->begun[i])
            continue;
        cwi_average_add(sums->flat, sums->sum[i], sums->floats, weights[i], first);
        first = false;
    }
    for (size_t i = 0; i < sums->floats; i++)
        sums->flat[i] *= scale;
    return first ? CW_OK : cw_half_put(half, CW_HALF_GRADIENT, sums->flat, err);
}
