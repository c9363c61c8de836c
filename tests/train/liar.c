/* liar.c - see liar.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/payload.h"
#include "cutwire/codec.h"
#include "cutwire/wire.h"
#include "liar.h"

#include "test.h"

const char *const lie_names[LIES] = {
    "nobody lies",     "without the fifth client", "random labels",   "activations x 1e4",
    "gradients x 100", "false statistics",         "NaN activations", "infinite gradients",
};

static lying_transport *self(cw_transport *t)
{
    return (lying_transport *)(void *)t;
}

/* No encoder takes what is not finite: each number of a payload of the codec "none" becomes that. */
static void fill_payload(uint8_t *payload, size_t size, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        memcpy(payload + size - (count - i) * sizeof value, &value, sizeof value);
    cwi_payload_seal(payload, size);
}

/* The payload of a tensor, each element times `factor`. */
static uint8_t *scale_payload(const cw_msg *msg, float factor, size_t *size)
{
    cw_error err;
    cw_payload_info info;
    cw_codec *codec;
    size_t count;
    assert_ok_err(cw_payload_inspect(msg->blob, msg->blob_size, &info, &err), err);
    assert_ok(cw_shape_count(&info.shape, &count));
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    cw_tensor x = cw_tensor_view(CW_F32, &info.shape, values);
    assert_ok_err(cw_decode(msg->blob, msg->blob_size, &x, NULL, &err), err);
    for (size_t i = 0; i < count; i++)
        values[i] *= isfinite(factor) ? factor : 1;
    assert_ok_err(cw_codec_create("none", &codec, &err), err);
    const size_t bound = cw_codec_bound(codec, &x);
    uint8_t *payload = malloc(bound);
    assert_non_null(payload);
    assert_ok_err(cw_encode(codec, &x, NULL, payload, bound, size, &err), err);
    if (!isfinite(factor))
        fill_payload(payload, *size, count, factor);
    cw_codec_destroy(&codec);
    free(values);
    return payload;
}

/* ---- what is sent ---- */

static cw_status send_changed(lying_transport *t, cw_msg msg, cw_error *err)
{
    int32_t labels[4096];
    size_t size;
    if (msg.label_width) {
        assert_true(msg.samples <= sizeof labels / sizeof labels[0]);
        assert_ok_err(cw_msg_labels(&msg, 10, labels, err), *err);
        for (uint64_t i = 0; t->lie == RANDOM_LABELS && i < msg.samples; i++)
            labels[i] = (int32_t)((t->random = t->random * 1664525u + 1013904223u) >> 16) % 10;
        msg.labels = labels;
    }
    const size_t room = cw_msg_head_size(&msg) + msg.blob_size;
    uint8_t *frame = malloc(room);
    assert_non_null(frame);
    assert_ok_err(cw_msg_encode(&msg, frame, room, &size, err), *err);
    const cw_status status = cw_transport_send(t->real, 0, frame, size, err);
    free(frame);
    return status;
}

static cw_status send_scaled(lying_transport *t, cw_msg msg, float factor, cw_error *err)
{
    uint8_t *payload = scale_payload(&msg, factor, &msg.blob_size);
    msg.blob = payload;
    const cw_status status = send_changed(t, msg, err);
    free(payload);
    return status;
}

static cw_status send_false_statistics(lying_transport *t, cw_msg msg, cw_error *err)
{
    float *false_ones = malloc(msg.blob_size + 1);
    assert_non_null(false_ones);
    for (size_t i = 0; i < msg.blob_size / sizeof(float); i++)
        false_ones[i] = 1000;
    msg.blob = (const uint8_t *)false_ones;
    const cw_status status = send_changed(t, msg, err);
    free(false_ones);
    return status;
}

static cw_status send_leave(lying_transport *t, const cw_msg *msg, cw_error *err)
{
    return send_changed(t, (cw_msg){.type = CW_MSG_LEAVE, .client = msg->client, .session = msg->session}, err);
}

static cw_status lying_send(cw_transport *base, cw_peer peer, const void *bytes, size_t size, cw_error *err)
{
    lying_transport *t = self(base);
    cw_msg msg;
    cw_error own;
    err = err ? err : &own;
    assert_ok_err(cw_msg_decode(bytes, size, &msg, err), *err);
    const bool batch = msg.type == CW_MSG_ACTIVATION && msg.phase == CW_PHASE_TRAIN;
    const bool gradient = msg.type == CW_MSG_CLIENT_GRAD;
    if (batch && t->lie == GONE)
        return send_leave(t, &msg, err);
    if (batch && t->lie == RANDOM_LABELS)
        return send_changed(t, msg, err);
    if (batch && (t->lie == HUGE_ACTIVATIONS || t->lie == NAN_ACTIVATIONS))
        return send_scaled(t, msg, t->lie == HUGE_ACTIVATIONS ? 1e4f : (float)NAN, err);
    if (gradient && (t->lie == HUGE_GRADIENTS || t->lie == INFINITE_GRADIENTS))
        return send_scaled(t, msg, t->lie == HUGE_GRADIENTS ? 100 : (float)INFINITY, err);
    if (msg.type == CW_MSG_PHASE_DONE && msg.phase == CW_PHASE_TRAIN && t->lie == FALSE_STATISTICS)
        return send_false_statistics(t, msg, err);
    return cw_transport_send(t->real, peer, bytes, size, err);
}

/* ---- everything else is the real one's ---- */

static cw_status lying_recv(cw_transport *base, int timeout_ms, cw_frame *out, cw_error *err)
{
    return cw_transport_recv(self(base)->real, timeout_ms, out, err);
}

static void lying_drop(cw_transport *base, cw_peer peer)
{
    cw_transport_drop(self(base)->real, peer);
}

static bool lying_link(cw_transport *base, cw_peer peer, cwi_link_state *out)
{
    return cwi_transport_link(self(base)->real, peer, out);
}

static int lying_poll_fd(cw_transport *base)
{
    return cw_transport_poll_fd(self(base)->real);
}

lying_transport lying_transport_around(cw_transport *real, lie told)
{
    static const cwi_transport_ops ops = {
        .send = lying_send, .recv = lying_recv, .drop = lying_drop, .link = lying_link, .poll_fd = lying_poll_fd};
    lying_transport t = {.base = *real, .real = real, .lie = told, .random = 7};
    t.base.ops = &ops;
    return t;
}
