/* cutwire/net.h - frames between one server and its clients: over TCP (ZeroMQ ROUTER/DEALER) or inside a process.
 *
 * A frame is a byte string; what is in it is wire.h's business. A server's transport talks to many peers, each
 * named by a cw_peer that it learns from the first frame received; a client's has one peer, whose name is ignored.
 *
 * Endpoints: "tcp://127.0.0.1:5555", "tcp://127.0.0.1:*" (a free port; cw_transport_endpoint tells which),
 * "inproc://name" (same process; nothing is copied twice, no thread is started).
 * TCP is encrypted and authenticated (CURVE) when keys are given: only clients whose public keys the server lists get
 * in. Plaintext TCP on anything but loopback needs options.allow_plaintext.
 *
 * Order: frames between two ends arrive in order, at most once. A TCP connection that breaks loses none as long as both
 * ends live and receive now and then: the client reconnects by itself, stays the same cw_peer, and what had not arrived
 * is sent again. To a server that has begun anew a client is a stranger, and what it sent before is lost. A TCP server
 * that has sent a client nothing yet may also lose frames of several chunks from it, when such clients have begun more
 * than two of max_frame together: it should answer a short first frame, as cw_serve does.
 *
 * Thread-safety: one transport belongs to one thread at a time.
 */
#ifndef CUTWIRE_NET_H
#define CUTWIRE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cutwire/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cw_transport cw_transport;

typedef uint64_t cw_peer; /* unique in a transport's life; 0 is never a peer */

/* A CURVE key, public or secret: 40 characters of Z85 (ZeroMQ's RFC 32). */
typedef struct cw_key {
    char text[41];
} cw_key;

/* The keys are used while opening only. inproc ignores them. */
typedef struct cw_net_options {
    bool allow_plaintext; /* bind or connect in the clear beyond loopback */
    uint32_t max_frame;   /* larger incoming frames drop the sender for good, larger outgoing ones fail; 0: 1 GiB */
    int heartbeat_ms;    /* TCP: a peer silent (not even heartbeats) three times that long is gone; 0: 2000; -1: none */
    int send_timeout_ms; /* clients: for a whole frame to find room in the queue; 0: 30000; -1: for ever */
    const cw_key *secret_key;  /* of this end; NULL: no encryption */
    const cw_key *server_key;  /* clients: the server's public key */
    const cw_key *client_keys; /* servers: the public keys of all clients let in */
    size_t client_key_count;
    size_t connections; /* TCP, servers: at most about so many at once, further ones are closed; 0: as many as the limit
                           of open files leaves room for */
    int io_threads;     /* TCP, servers: threads that move bytes, 1 to 64; 0: 1. What ZeroMQ spends on heartbeats grows
                           with the square of a thread's connections: one for each 1024 is a good choice */
} cw_net_options;

/* CW_ERR_INVALID (endpoint), CW_ERR_IO (address in use, unknown host, ...; err has the system's reason and what to do),
 * CW_ERR_NO_MEMORY. */
cw_status cw_net_listen(const char *endpoint, const cw_net_options *options, cw_transport **out, cw_error *err);
/* TCP connects in the background and reconnects by itself: success does not mean that the server is there, and what is
 * sent before waits for it. inproc: CW_ERR_NOT_FOUND when no server listens there yet. */
cw_status cw_net_connect(const char *endpoint, const cw_net_options *options, cw_transport **out, cw_error *err);
/* Waits at most linger_ms for sent frames: over TCP for the other end to have read them, but for a client that does not
 * connect again within 2.5 s; else for them to leave. NULL and pointer to NULL allowed. */
void cw_transport_close(cw_transport **t, int linger_ms);
/* The bound or connected endpoint, with the real port. Lives as long as t. */
const char *cw_transport_endpoint(const cw_transport *t);

/* Sends a copy of the bytes: into a queue. A client waits while about two frames of max_frame are in it. A server never
 * waits: a client that does not read, so that more than about two frames of max_frame wait for it, is dropped.
 * CW_ERR_TIMEOUT (nobody takes them; a server has dropped the client), CW_ERR_CLOSED (peer closed or dropped; one whose
 * connection broke gets the frame when it is back),
 * CW_ERR_INVALID, CW_ERR_NO_MEMORY, CW_ERR_IO. What a server cannot hand over at once goes on its way while it
 * receives, sends or closes. */
cw_status cw_transport_send(cw_transport *t, cw_peer peer, const void *bytes, size_t size, cw_error *err);

/* A received frame, owned by the caller until cw_frame_release. `bytes` is 16-byte aligned. */
typedef struct cw_frame {
    cw_peer peer;
    const uint8_t *bytes;
    size_t size;
    void *owner; /* private */
} cw_frame;

/* Waits up to timeout_ms (0: does not wait, -1: for ever). CW_ERR_TIMEOUT when nothing came; CW_ERR_CANCELLED when a
 * signal interrupted the wait. Clients only: CW_ERR_CLOSED when no frame will ever come again (the server sent one over
 * max_frame, refuses our key, or is none of ours; inproc: it has closed, or dropped this client; what it sent before is
 * received first). */
cw_status cw_transport_recv(cw_transport *t, int timeout_ms, cw_frame *out, cw_error *err);
void cw_frame_release(cw_frame *frame);

/* A descriptor for poll(2), POLLIN: it becomes readable when frames may have come. Receive with a time-out of 0 until
 * CW_ERR_TIMEOUT before each wait, also after sending: over TCP it tells of what is new alone. It is the transport's;
 * neither read from it nor close it. -1: there is none. */
int cw_transport_poll_fd(cw_transport *t);

/* Forgets a peer: frames to it are refused, frames from it are discarded. What was sent to it before still arrives. */
void cw_transport_drop(cw_transport *t, cw_peer peer);

/* Of a TCP server with keys: from now on it lets in those clients alone; connections that there are stay. The keys are
 * copied. The one function that another thread may call, too. CW_ERR_INVALID: no such server, no keys, or one that is
 * none; CW_ERR_NO_MEMORY. Then the old list stays. */
cw_status cw_transport_set_client_keys(cw_transport *t, const cw_key *keys, size_t count, cw_error *err);

/* Totals since creation. `bytes` counts all that is handed to the socket for data frames: the frames plus the
 * transport's own framing (over TCP 8 bytes and a ZMTP header of 2 or 9 for each 32 KiB or part of it, with keys 33
 * more; inproc none), without handshakes, heartbeats and TCP/IP headers. */
typedef struct cw_net_stats {
    uint64_t frames_sent, frames_received;
    uint64_t bytes_sent, bytes_received;
    uint64_t extra_sent, extra_received; /* TCP, beside them: bytes of acknowledgements, of frames that were sent again,
                                            and of what came twice or without what was before it */
    uint64_t resumed;                    /* connections that broke and were taken up again */
} cw_net_stats;
cw_net_stats cw_transport_stats(const cw_transport *t);

/* ---- keys ---- */

/* Makes a pair of keys: the secret one goes into the file `path`, which only its owner may read, the public one into
 * `path`.pub and, if not NULL, *public_key. Existing files are not replaced. CW_ERR_IO, CW_ERR_BACKEND. */
cw_status cw_net_keygen(const char *path, cw_key *public_key, cw_error *err);

/* Reads a file of keys: one begins each line, and whatever follows it there is for people to read, as are empty lines
 * and lines that begin with "# ". At least one; *keys is the caller's until cw_net_free_keys.
 * CW_ERR_IO, CW_ERR_CORRUPT (err->offset: the line, from 1), CW_ERR_NO_MEMORY. */
cw_status cw_net_read_keys(const char *path, cw_key **keys, size_t *count, cw_error *err);
/* The same where only keys of one kind make sense. CW_ERR_MISMATCH: the file says of one that it is of the other, as
 * those of cw_net_keygen do in the line before it; a key without such a line may be either. */
typedef enum cw_key_kind { CW_KEY_ANY, CW_KEY_SECRET, CW_KEY_PUBLIC } cw_key_kind;
cw_status cw_net_read_keys_of(const char *path, cw_key_kind kind, cw_key **keys, size_t *count, cw_error *err);
/* NULL allowed. Wipes them. */
void cw_net_free_keys(cw_key *keys, size_t count);

#ifdef __cplusplus
}
#endif
#endif
