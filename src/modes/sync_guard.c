/* sync_guard.c - mode sync's server where its guard is active: what each client adds is kept apart until all have come,
 * compared, and averaged without those who are left out. */
#include <stdio.h>
#include <string.h>

#include "modes/sync_server.h"

cw_status cwi_sync_guard_open(cwi_sync_server *s, cw_error *err)
{
    cwi_guard *g = &s->guard;
    const size_t floats = cw_half_weight_count(s->server->half), buffers = cw_half_buffer_count(s->server->half);
    CWI_TRY(cwi_guard_open(g, &s->setup->config, err));
    if (!g->active)
        return CW_OK;
    g->flat = cwi_alloc(floats, sizeof(float));
    g->begun = cwi_alloc(buffers, sizeof(float));
    if (!g->flat || !g->begun)
        return cwi_fail_memory(err, floats * sizeof(float));
    CWI_TRY(cwi_ballot_open(&g->gradients, s->count, floats, err));
    CWI_TRY(cwi_ballot_open(&g->buffers, s->count, buffers, err));
    return cwi_sync_guard_size(s, err);
}

cw_status cwi_sync_guard_size(cwi_sync_server *s, cw_error *err)
{
    cwi_guard *g = &s->guard;
    const cw_half *mirror = s->server->mirror;
    if (!g->active)
        return CW_OK;
    cwi_ballot_close(&g->client_gradients);
    cwi_ballot_close(&g->client_buffers);
    CWI_TRY(cwi_ballot_open(&g->client_gradients, s->count, cwi_half_learned_count(mirror), err));
    return cwi_ballot_open(&g->client_buffers, s->count, cw_half_buffer_count(mirror), err);
}

/* ---- the server's half ---- */

cw_status cwi_sync_guard_begin_step(cwi_sync_server *s, cw_error *err)
{
    cwi_guard_begin(&s->guard);
    return cw_half_get(s->server->half, CW_HALF_BUFFER, s->guard.begun, err);
}

/* Every client's batches begin from where the step began: else each would see what the one before it did. */
cw_status cwi_sync_guard_begin_batch(cwi_sync_server *s, size_t client, cw_error *err)
{
    const cwi_ballot *b = &s->guard.buffers;
    return cw_half_put(s->server->half, CW_HALF_BUFFER, b->is_given[client] ? b->given[client] : s->guard.begun, err);
}

cw_status cwi_sync_guard_take_batch(cwi_sync_server *s, size_t client, size_t n, cw_error *err)
{
    cwi_guard *g = &s->guard;
    const size_t batch = s->clients[client].batch;
    CWI_TRY(cw_half_get(s->server->half, CW_HALF_GRADIENT, g->flat, err));
    CWI_TRY(cwi_ballot_give(&g->buffers, client, s->now, 1, false, (double)batch, err));
    return cwi_ballot_give(&g->gradients, client, g->flat, cwi_batch_weight(n, batch), true, (double)batch, err);
}

/* What of a client that was lost in mid-step is here already does not count. */
static void forget_lost(const cwi_sync_server *s, cwi_ballot *b)
{
    for (size_t i = 0; i < s->count; i++)
        b->is_given[i] = b->is_given[i] && cwi_session_is_active(s->session, i);
}

static void note_norms(cwi_sync_server *s, cwi_ballot *b, cwi_trait trait)
{
    forget_lost(s, b);
    if (s->guard.screen == CWI_SCREEN_OFF)
        return;
    for (size_t i = 0; i < s->count; i++)
        if (b->is_given[i])
            cwi_guard_note(&s->guard, trait, i, cwi_ballot_norm(b, i));
    cwi_guard_compare(&s->guard, trait);
}

static void compare_statistics(cwi_sync_server *s, const cwi_ballot *b, cwi_trait trait)
{
    if (s->guard.screen == CWI_SCREEN_OFF)
        return;
    cwi_guard_note_distances(&s->guard, trait, b);
    cwi_guard_compare(&s->guard, trait);
}

cw_status cwi_sync_guard_finish_batches(cwi_sync_server *s, cw_error *err)
{
    cwi_guard *g = &s->guard;
    cw_half *half = s->server->half;
    cwi_guard_compare(g, CWI_TRAIT_LOSS);
    note_norms(s, &g->gradients, CWI_TRAIT_GRADIENT);
    forget_lost(s, &g->buffers);
    compare_statistics(s, &g->buffers, CWI_TRAIT_SERVER_STATISTICS);
    if (!cwi_guard_average(g, &g->gradients, true, g->flat))
        memset(g->flat, 0, g->gradients.floats * sizeof(float));
    CWI_TRY(cw_half_put(half, CW_HALF_GRADIENT, g->flat, err));
    (void)cwi_guard_average(g, &g->buffers, false, g->begun);
    return cw_half_put(half, CW_HALF_BUFFER, g->begun, err);
}

/* ---- the clients' half ---- */

/* Once in an epoch for each client; steps are counted all. */
static void tell_far(cwi_sync_server *s)
{
    cwi_guard *g = &s->guard;
    for (size_t i = 0; i < s->count; i++) {
        cw_client_status *status = &s->server->watch.clients[i];
        char sentence[200];
        status->flagged += g->far[i];
        if (!g->far[i] || g->was_far[i])
            continue;
        g->was_far[i] = true;
        snprintf(sentence, sizeof sentence, "client %zu is far from the others: its %s, by %.0f spreads%s", i + 1,
                 cwi_trait_name(g->why[i]), g->score[i],
                 g->screen == CWI_SCREEN_DROP ? ": what it sends is left out meanwhile" : "");
        const cw_event event = {.text = sentence, .name = "client_far", .level = CW_LOG_WARN};
        cwi_hooks_notice(s->server->report.hooks, &event, (int)i, status->origin.address, status->origin.key);
    }
}

void cwi_sync_guard_finish_grads(cwi_sync_server *s)
{
    cwi_guard *g = &s->guard;
    note_norms(s, &g->client_gradients, CWI_TRAIT_CLIENT_GRADIENT);
    if (!cwi_guard_average(g, &g->client_gradients, true, s->average))
        memset(s->average, 0, g->client_gradients.floats * sizeof(float));
    tell_far(s);
}

/* Without any that counts, the averaged statistics stay what they were. */
void cwi_sync_guard_finish_statistics(cwi_sync_server *s)
{
    cwi_guard *g = &s->guard;
    cwi_ballot *b = &g->client_buffers;
    forget_lost(s, b);
    compare_statistics(s, b, CWI_TRAIT_STATISTICS);
    if (!cwi_guard_average(g, b, false, s->average))
        (void)cw_half_get(s->server->mirror, CW_HALF_BUFFER, s->average, NULL);
    tell_far(s);
    memset(g->was_far, 0, s->count * sizeof *g->was_far);
    cwi_ballot_clear(b);
}
