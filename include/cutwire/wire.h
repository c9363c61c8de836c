/* cutwire/wire.h - the messages of the protocol, to bytes and back (docs/formats/protocol.md has the byte diagrams).
 *
 * No I/O happens here. A message is a fixed header, fields of its type, labels (training steps) and one blob: a codec
 * payload, weights, a configuration or a text. Decoding checks every field, and gives views into the frame's bytes.
 *
 * A conversation, with versions agreed in HELLO/WELCOME:
 *
 *     client                          server
 *     HELLO {versions, token}      ->
 *                                  <- WELCOME {version, client, clients, config blob}
 *     READY {samples, classes blob} ->                                  its model is built, its shard is open
 *     or JOIN {the same, and what its half and its batches are}         where the server does not know the client half
 *                                  <- STATE {blob: safetensors}         weights and buffers of the client half
 *                                  <- BEGIN {phase, epoch, step, steps} phase train or eval
 *     ACTIVATION {step, ticket, labels, blob: payload} ->
 *                                  <- GRADIENT {step, ticket, loss, correct, blob: payload}  (train)
 *     CLIENT_GRAD {step, samples, blob: payload}    ->                                  (train)
 *                                  <- UPDATE {step, lr, blob: payload}  averaged gradient: every client applies it
 *                                  <- RESULT {step, loss, correct}      (eval: answers ACTIVATION)
 *     PHASE_DONE {phase, epoch, blob: fp32 buffers} ->                  batch-norm statistics after a training epoch
 *                                  <- GIVE_STATE {blob: fp32 buffers}   such a server: to one of its clients
 *     CLIENT_STATE {epoch, blob: safetensors} ->                        what the others get as STATE
 *     LEAVE {reason}               ->
 *                                  <- END {text}
 *
 * Of a server that answers requests (infer.h), after READY:
 *
 *     REQUEST {request, samples, top, blob: payload} ->                 several may be on their way
 *                                  <- ANSWER {request, samples, top, blob}, in any order
 *                                  <- REFUSAL {request, status, text}   in place of an ANSWER; the client stays
 *
 *     either side: ERROR {status, text}, PING, PONG
 *
 * Every message has exactly one encoding: what decodes gives the same bytes when encoded again. In a frame the blob
 * starts at a multiple of 16 bytes, so that fp32 values of a received frame (net.h aligns it) are used where they lie.
 *
 * Thread-safety: pure functions.
 */
#ifndef CUTWIRE_WIRE_H
#define CUTWIRE_WIRE_H

#include "cutwire/tensor.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CW_WIRE_VERSION_MIN = 2, CW_WIRE_VERSION_MAX = 2 };

typedef enum cw_msg_type {
    CW_MSG_HELLO = 1,
    CW_MSG_WELCOME = 2,
    CW_MSG_READY = 3,
    CW_MSG_STATE = 4,
    CW_MSG_BEGIN = 5,
    CW_MSG_ACTIVATION = 6,
    CW_MSG_GRADIENT = 7,
    CW_MSG_CLIENT_GRAD = 8,
    CW_MSG_UPDATE = 9,
    CW_MSG_RESULT = 10,
    CW_MSG_PHASE_DONE = 11,
    CW_MSG_END = 12,
    CW_MSG_LEAVE = 13,
    CW_MSG_ERROR = 14,
    CW_MSG_PING = 15,
    CW_MSG_PONG = 16,
    CW_MSG_JOIN = 17, /* these three where WELCOME requires "client-state" */
    CW_MSG_GIVE_STATE = 18,
    CW_MSG_CLIENT_STATE = 19,
    CW_MSG_REQUEST = 20, /* these three of a server that answers requests */
    CW_MSG_ANSWER = 21,
    CW_MSG_REFUSAL = 22,
    CW_MSG_TIMES = 23, /* where WELCOME asks for "times" */
} cw_msg_type;

/* label_width of targets that are a tensor. */
enum { CW_TARGETS_TENSOR = 255 };

typedef enum cw_phase { CW_PHASE_TRAIN = 1, CW_PHASE_EVAL = 2 } cw_phase;

/* One message of any type; which members count is in the comments. The rest are zero after decoding and ignored when
 * encoding. */
typedef struct cw_msg {
    cw_msg_type type;
    uint32_t client;      /* all: index of the client, UINT32_MAX before WELCOME */
    uint64_t session;     /* all but HELLO: the server's run, random, so that frames of an earlier run are recognized */
    uint16_t version_min; /* HELLO */
    uint16_t version_max; /* HELLO; WELCOME: the version chosen */
    uint64_t token;       /* HELLO: identifies the client over reconnects, 0: new */
    uint64_t fingerprint; /* WELCOME, READY, JOIN: of the client's half (half.h); both must agree. WELCOME before JOIN:
                             0 while the server knows of none */
    uint32_t clients;     /* WELCOME */
    uint64_t samples; /* READY, JOIN: training samples of the shard; ACTIVATION, CLIENT_GRAD, REQUEST, ANSWER: of the
                         batch */
    uint64_t test_samples; /* READY, JOIN: test samples this client evaluates */
    uint64_t weights;      /* JOIN: floats that its half learns, and of its buffers */
    uint64_t buffers;
    uint32_t batch;        /* JOIN: samples of its training batches, but for the last of an epoch */
    cw_phase phase;        /* BEGIN, ACTIVATION, PHASE_DONE */
    uint32_t epoch;        /* BEGIN, ACTIVATION .. PHASE_DONE, GIVE_STATE, CLIENT_STATE */
    uint32_t step;         /* ACTIVATION .. RESULT: batch number in the epoch; BEGIN: the first one to send */
    uint32_t ticket;       /* ACTIVATION, GRADIENT: which micro-batch of the batch, from 0 */
    uint32_t steps;        /* BEGIN, training: the step before which this phase ends: the batches that the longest shard
                              has, or fewer, where the server saves a checkpoint before it goes on */
    double loss;           /* GRADIENT, RESULT: sum over the batch's samples */
    uint64_t correct;      /* GRADIENT, RESULT */
    double lr;             /* UPDATE */
    double seconds;        /* TIMES: that the client has worked for, since the last one */
    uint32_t request;      /* REQUEST .. REFUSAL: a number that the client chose */
    uint32_t top;          /* REQUEST, ANSWER: how many of the most likely classes; 0: the output as it is */
    cw_status status;      /* ERROR, REFUSAL, LEAVE (CW_OK: finished) */
    const int32_t *labels; /* ACTIVATION: `samples` of them, or NULL where it has none; in a decoded message NULL: use
                              cw_msg_labels */
    cw_tensor targets;     /* ACTIVATION: in place of labels (which are then NULL) a tensor whose first dimension is
                              `samples`, of any dtype; dtype 0: none. Decoded: a view into the frame */
    cw_dtype targets_as;   /* what its elements stand for: its own dtype, or whole numbers of a wider one */
    const uint8_t *blob;   /* WELCOME READY JOIN STATE ACTIVATION GRADIENT CLIENT_GRAD UPDATE PHASE_DONE GIVE_STATE
                              CLIENT_STATE REQUEST ANSWER; text of END LEAVE ERROR REFUSAL */
    size_t blob_size;
    const uint8_t *label_bytes; /* decoded ACTIVATION: labels as they came */
    unsigned label_width;       /* 1, 2 or 4 bytes each: the smallest that holds them; 0: there are none;
                                   CW_TARGETS_TENSOR: a tensor is there in their place */
} cw_msg;

/* "ACTIVATION"; "?" for an unknown type. */
const char *cw_msg_name(cw_msg_type type);

/* Bytes of everything before the blob, a multiple of 16 (for ACTIVATION it depends on `samples` and `labels`). The blob
 * ends the frame. 0 for an unknown type. */
size_t cw_msg_head_size(const cw_msg *msg);

/* Writes the whole frame (head_size + blob_size bytes) into dst. msg->blob may already lie at dst + head_size, where a
 * codec has put it: it is then not copied. Control characters in a text become '?'; a decoder refuses them.
 * CW_ERR_TOO_SMALL, CW_ERR_INVALID (a member out of range: NaN, phase 0, a negative label, targets of another number of
 * samples, a text over 4096 bytes, ...). */
cw_status cw_msg_encode(const cw_msg *msg, void *dst, size_t capacity, size_t *size, cw_error *err);

/* Views into src, which must outlive *msg. CW_ERR_TRUNCATED, CW_ERR_MAGIC, CW_ERR_VERSION (out of range of the frame
 * format), CW_ERR_CHECKSUM, CW_ERR_CORRUPT; err->offset is the byte at fault. */
cw_status cw_msg_decode(const void *src, size_t size, cw_msg *msg, cw_error *err);

/* Widens the labels of a decoded ACTIVATION into out[samples], checking each against `classes`. CW_ERR_PROTOCOL: one
 * is at or above it, or a tensor came in place of labels. */
cw_status cw_msg_labels(const cw_msg *msg, int classes, int32_t *out, cw_error *err);

#ifdef __cplusplus
}
#endif
#endif
