/* sync_state.c - the clients' half as a whole, in mode sync at the server: batch-norm statistics averaged, STATE sent,
 * and one client's half kept where there is none here. */
#include <string.h>

#include "modes/sync_server.h"

/* ---- between training and evaluation ---- */

cw_status cwi_sync_take_train_done(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    const size_t floats = cw_half_buffer_count(s->server->mirror);
    if (msg->phase != CW_PHASE_TRAIN || msg->blob_size != floats * sizeof(float))
        return cwi_fail(err, CW_ERR_PROTOCOL, "%zu bytes of batch-norm statistics, %zu were due", msg->blob_size,
                        floats * sizeof(float));
    memcpy(s->flat, msg->blob ? msg->blob : (const uint8_t *)"", msg->blob_size);
    const cw_status status = cwi_half_check_buffers(s->server->mirror, s->flat, CWI_STATISTICS_MAX, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "its batch-norm statistics");
    if (s->step < s->goal) /* the run stops within the phase */
        CWI_TRY(cwi_own_statistics_keep(&s->server->own, client, s->flat, err));
    const uint64_t samples = s->clients[client].samples;
    if (s->guard.active)
        CWI_TRY(cwi_ballot_give(&s->guard.client_buffers, client, s->flat, 1, false, (double)samples, err));
    else
        cwi_average_add(s->average, s->flat, floats, cwi_batch_weight(samples, s->expected), s->actual == 0);
    s->actual += samples;
    s->totals.up.weights += msg->blob_size;
    return CW_OK;
}

/* Whether it is to get STATE, where that goes to all that do not have it, or only to one. */
static bool wants_state(const cwi_sync_server *s, size_t client, size_t only)
{
    const bool has_it = cwi_half_is_remote(s->server->mirror) && s->clients[client].synced;
    return cwi_session_is_active(s->session, client) && !has_it && (only == SIZE_MAX || client == only);
}

/* The mirror as it is, to those who want it and have no statistics of their own, or to one who has. */
static cw_status send_mirror(cwi_sync_server *s, size_t only, bool own, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cwi_half_save(s->server->mirror, &bytes, &size, err));
    cw_msg msg = cwi_sync_message(s, 0, CW_MSG_STATE);
    msg.blob = bytes;
    msg.blob_size = size;
    cwi_outbox_place(&s->session->box, &msg);
    for (size_t i = 0; i < s->count; i++) {
        if (!wants_state(s, i, only) || own != (s->server->own.of[i] != NULL))
            continue;
        msg.client = (uint32_t)i;
        s->clients[i].synced = true;
        s->totals.down.weights += size;
        cwi_session_send(s->session, i, &msg);
    }
    cw_bytes_free(bytes);
    return CW_OK;
}

/* The mirror with the statistics that this client had when the run was stopped. From here on they are its own to keep.
 */
static cw_status send_with_own(cwi_sync_server *s, size_t client, cw_error *err)
{
    cwi_own_statistics *own = &s->server->own;
    cw_half *mirror = s->server->mirror;
    CWI_TRY(cw_half_get(mirror, CW_HALF_BUFFER, s->flat, err));
    CWI_TRY(cw_half_put(mirror, CW_HALF_BUFFER, own->of[client], err));
    CWI_TRY(send_mirror(s, client, true, err));
    cwi_own_statistics_forget(own, client);
    return cw_half_put(mirror, CW_HALF_BUFFER, s->flat, err);
}

/* To those of the active clients that do not have it, or only to one. */
static cw_status send_state(cwi_sync_server *s, size_t only, cw_error *err)
{
    bool others = false;
    for (size_t i = 0; i < s->count; i++)
        others |= wants_state(s, i, only) && !s->server->own.of[i];
    if (others)
        CWI_TRY(send_mirror(s, only, false, err));
    for (size_t i = 0; i < s->count; i++)
        if (wants_state(s, i, only) && s->server->own.of[i])
            CWI_TRY(send_with_own(s, i, err));
    return CW_OK;
}

cw_status cwi_sync_send_state(cwi_sync_server *s, cw_error *err)
{
    return send_state(s, SIZE_MAX, err);
}

cw_status cwi_sync_send_state_to(cwi_sync_server *s, size_t client, cw_error *err)
{
    return send_state(s, client, err);
}

/* ---- the clients' half, where there is none here ---- */

void cwi_sync_ask_for_state(cwi_sync_server *s, bool averaged, cw_status (*then)(cwi_sync_server *s, cw_error *err))
{
    s->then = then;
    s->averaged = averaged;
    s->giver = 0;
    while (!cwi_session_is_active(s->session, s->giver))
        s->giver++;
    cw_msg msg = cwi_sync_message(s, s->giver, CW_MSG_GIVE_STATE);
    msg.blob = (const uint8_t *)s->average;
    msg.blob_size = averaged ? cw_half_buffer_count(s->server->mirror) * sizeof(float) : 0;
    cwi_sync_open_round(s, STAGE_CLIENT_STATE, OWING_NOTHING);
    cwi_barrier_owe(&s->barrier, s->giver, 1);
    s->totals.down.weights += msg.blob_size;
    cwi_session_send(s->session, s->giver, &msg);
}

/* In a checkpoint each name gets a prefix. */
static cw_status check_names(const cw_tensor_set *set, cw_error *err)
{
    for (size_t i = 0; i < set->count; i++)
        if (strlen(set->items[i].name) + strlen(CWI_CLIENT_PREFIX) >= sizeof set->items[i].name)
            return cwi_fail(err, CW_ERR_PROTOCOL, "its tensor '%.40s...' has too long a name", set->items[i].name);
    return CW_OK;
}

cw_status cwi_sync_take_client_state(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    cw_tensor_set set;
    CWI_TRY(cw_safetensors_decode(msg->blob, msg->blob_size, &set, err));
    cw_status status = check_names(&set, err);
    if (status == CW_OK && !set.count)
        status = cwi_fail(err, CW_ERR_PROTOCOL, "its half has no tensors");
    if (status == CW_OK)
        status = cwi_half_import(s->server->mirror, &set, err);
    cw_tensor_set_free(&set);
    if (status != CW_OK)
        return status;
    for (size_t i = 0; i < s->count; i++)
        s->clients[i].synced = i == client;
    s->totals.up.weights += msg->blob_size;
    s->actual = 1;
    return CW_OK;
}

/* Whoever was to give it may have been lost meanwhile. */
cw_status cwi_sync_finish_client_state(cwi_sync_server *s, cw_error *err)
{
    if (s->actual)
        return s->then(s, err);
    cwi_sync_ask_for_state(s, s->averaged, s->then);
    return CW_OK;
}
