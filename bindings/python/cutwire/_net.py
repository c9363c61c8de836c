"""Training over a network, as C declares it, and thin wrappers: configuration, transport, keys.

The state machines are those of libcutwire (cutwire/train.h). What plugs in here are halves (half.h) and feeds (feed.h).
"""
from __future__ import annotations

import contextlib
import functools
import os
import threading
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Union

from . import _lib

#: cutwire/net.h, config.h, record.h, half.h, feed.h and train.h, as far as they are used here.
NETWORK = """
typedef struct cw_config cw_config;
cw_status cw_config_create(cw_config **out, cw_error *err);
void cw_config_destroy(cw_config **config);
cw_status cw_config_set(cw_config *config, const char *key, const char *value, cw_error *err);

typedef struct cw_transport cw_transport;
typedef struct { char text[41]; } cw_key;
typedef struct {
    _Bool allow_plaintext;
    uint32_t max_frame;
    int heartbeat_ms, send_timeout_ms;
    const cw_key *secret_key, *server_key, *client_keys;
    size_t client_key_count;
    size_t connections;
    int io_threads;
} cw_net_options;
cw_status cw_net_listen(const char *endpoint, const cw_net_options *options, cw_transport **out, cw_error *err);
cw_status cw_net_connect(const char *endpoint, const cw_net_options *options, cw_transport **out, cw_error *err);
void cw_transport_close(cw_transport **t, int linger_ms);
const char *cw_transport_endpoint(const cw_transport *t);
typedef struct { uint64_t peer; const uint8_t *bytes; size_t size; void *owner; } cw_frame;
cw_status cw_transport_recv(cw_transport *t, int timeout_ms, cw_frame *out, cw_error *err);
typedef struct {
    uint64_t frames_sent, frames_received, bytes_sent, bytes_received, extra_sent, extra_received, resumed;
} cw_net_stats;
cw_net_stats cw_transport_stats(const cw_transport *t);
cw_status cw_net_keygen(const char *path, cw_key *public_key, cw_error *err);
cw_status cw_net_read_keys_of(const char *path, int kind, cw_key **keys, size_t *count, cw_error *err);
void cw_net_free_keys(cw_key *keys, size_t count);

typedef struct { uint64_t socket, payload, raw, eval_payload, eval_raw, weights; } cw_traffic;
typedef struct {
    int epoch;
    double train_loss, train_accuracy, test_loss, test_accuracy, lr, seconds, train_seconds;
    uint64_t train_samples, test_samples;
    int clients, precision;
    cw_traffic up, down;
} cw_epoch_report;
typedef struct {
    int kind;
    const char *text;
    int epoch, epochs;
    size_t step, steps;
    double loss;
    const cw_epoch_report *report;
    int level;
    const char *name;
    const void *origin, *server, *answerer;
} cw_event;
typedef struct { void *ctx; void (*event)(void *ctx, const cw_event *event); volatile int *stop; _Bool times, debug; } cw_hooks;

typedef struct { int mode; size_t ticket, first, n; uint64_t position; cw_shape shape; } cw_half_call;
typedef struct { const int32_t *labels; const cw_tensor *tensor; cw_dtype tensor_as; } cw_targets;
typedef struct { double mean; size_t correct; } cw_loss;
typedef struct { int kind; const char *name; cw_tensor tensor; } cw_half_tensor;
typedef struct { char name[128]; cw_tensor tensor; } cw_named_tensor;
typedef struct {
    cw_shape in, out;
    size_t tickets;
    _Bool behind_relu;
    const cw_half_tensor *tensors;
    size_t tensor_count;
    cw_status (*forward)(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err);
    cw_status (*loss)(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err);
    cw_status (*backward)(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err);
    cw_status (*step)(void *ctx, float lr, cw_error *err);
    void (*release)(void *ctx, size_t ticket);
    cw_status (*fetch)(void *ctx, int kind, cw_error *err);
    cw_status (*store)(void *ctx, int kind, cw_error *err);
    void (*destroy)(void *ctx);
    cw_status (*output)(void *ctx, const cw_half_call *call, cw_tensor *y, cw_error *err);
    _Bool any_targets;
    float (*rate)(void *ctx, float lr);
    cw_status (*list_state)(void *ctx, const cw_half_tensor **tensors, size_t *count, cw_error *err);
    cw_status (*take_state)(void *ctx, const cw_named_tensor *items, size_t count, cw_error *err);
} cw_half_callbacks;
typedef struct cw_half cw_half;
cw_status cw_half_create(const cw_half_callbacks *callbacks, void *ctx, cw_half **out, cw_error *err);
void cw_half_destroy(cw_half **half);

typedef struct {
    int split;
    size_t batch;
    uint64_t seed;
    size_t client, clients;
    cw_shape sample;
    int classes;
    _Bool own_batches, any_targets;
    size_t in_flight;
} cw_feed_plan;
typedef struct {
    size_t n;
    const float *x;
    const int32_t *labels;
    const uint32_t *index;
    cw_tensor targets;
    cw_dtype targets_as;
} cw_batch;
typedef struct {
    void *ctx;
    cw_status (*open)(void *ctx, const cw_feed_plan *plan, size_t *samples, cw_error *err);
    cw_status (*seek)(void *ctx, uint64_t epoch, size_t first_batch, cw_error *err);
    cw_status (*next)(void *ctx, cw_batch *batch, cw_error *err);
    void (*close)(void *ctx);
    size_t batch;
} cw_feed;

typedef struct cw_server cw_server;
typedef struct cw_client cw_client;
typedef struct { const cw_hooks *hooks; cw_half *half, *client_half; const char *how; _Bool own_clients; } cw_server_options;
cw_status cw_server_create(const cw_config *config, cw_transport *transport, const cw_server_options *options,
                           cw_server **out, cw_error *err);
void cw_server_destroy(cw_server **server);
cw_status cw_server_handle(cw_server *server, cw_frame *frame, cw_error *err);
cw_status cw_server_tick(cw_server *server, double *next, cw_error *err);
size_t cw_server_clients(const cw_server *server);
_Bool cw_server_done(const cw_server *server);
cw_status cw_server_finish(cw_server *server, cw_status outcome, const char *words, void *result, cw_error *err);
typedef struct {
    const cw_hooks *hooks;
    const char *expect_model;
    cw_half *half;
    const cw_feed *train, *test;
} cw_client_options;
cw_status cw_client_create(const cw_config *config, cw_transport *transport, const cw_client_options *options,
                           cw_client **out, cw_error *err);
void cw_client_destroy(cw_client **client);
cw_status cw_client_start(cw_client *client, cw_error *err);
cw_status cw_client_handle(cw_client *client, cw_frame *frame, cw_error *err);
cw_status cw_client_tick(cw_client *client, double *next, cw_error *err);
void cw_client_leave(cw_client *client);
_Bool cw_client_done(const cw_client *client);
"""

ERR_PROTOCOL, ERR_TIMEOUT, ERR_CANCELLED, ERR_BACKEND = 15, 16, 18, 20  # cw_status
F16, U8, I32, I64 = 3, 4, 5, 6  # cw_dtype
TRAIN, EVAL = 0, 1  # cw_mode, and cw_split
WEIGHT, GRADIENT, BUFFER, STATE, FIXED = range(5)  # cw_half_kind
LOG, STEP, EVALUATED, EPOCH, STATUS = range(5)  # cw_event_kind
SECRET, PUBLIC = 1, 2  # cw_key_kind

ffi = _lib.ffi
ffi.cdef(NETWORK)

Setting = Union[str, int, float, bool, os.PathLike]


def lib() -> Any:
    return _lib.load("cutwire")


def check(status: int, err: Any, prefix: str = "") -> None:
    """Raises cutwire.Error for a call that failed."""
    if status != _lib.OK:
        raise _lib.failure(status, err, prefix)


def fill(err: Any, message: str) -> None:
    """The sentence of a cw_error, cut to its size at a letter's end."""
    if err:
        room = ffi.sizeof(err.message) - 1
        err.message = message.encode()[:room].decode("utf-8", "ignore").encode()


def shape_of(sizes: Sequence[int]) -> Any:
    if len(sizes) > _lib.MAX_DIMS:
        raise ValueError(f"a tensor of {len(sizes)} dimensions: at most {_lib.MAX_DIMS} can be sent")
    return {"ndim": len(sizes), "dim": list(sizes)}


def sizes_of(shape: Any) -> List[int]:
    return [int(shape.dim[i]) for i in range(shape.ndim)]


def _destroy_config(destroy: Any, config: Any) -> None:
    destroy(ffi.new("cw_config **", config))


class Config:
    """A cw_config, set by the keys of the option table (docs/reference/configuration.md)."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        box, err = ffi.new("cw_config **"), ffi.new("cw_error *")
        check(lib().cw_config_create(box, err), err)
        self.c = ffi.gc(box[0], functools.partial(_destroy_config, lib().cw_config_destroy))
        for key, value in settings.items():
            self.set(key, value)

    def set(self, key: str, value: Setting) -> None:
        err = ffi.new("cw_error *")
        text = str(int(value)) if isinstance(value, bool) else os.fspath(value) if isinstance(
            value, os.PathLike) else str(value)
        check(lib().cw_config_set(self.c, key.replace("_", "-").encode(), text.encode(), err), err)


class Keys:
    """Keys in C's memory, of files that `cutwire keygen` made or of their 40 characters."""

    def __init__(self, kind: int, sources: Union[None, str, os.PathLike, Sequence[Union[str, os.PathLike]]]) -> None:
        listed = [] if sources is None else [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        texts = [text for source in listed for text in self._read(kind, os.fspath(source))]
        self.count = len(texts)
        self.c = ffi.new("cw_key[]", max(1, self.count))
        for i, text in enumerate(texts):
            self.c[i].text = text

    @staticmethod
    def _read(kind: int, source: str) -> List[bytes]:
        if len(source) == 40 and not os.path.exists(source):
            return [source.encode("ascii")]
        keys, count, err = ffi.new("cw_key **"), ffi.new("size_t *"), ffi.new("cw_error *")
        check(lib().cw_net_read_keys_of(os.fsencode(source), kind, keys, count, err), err)
        try:
            return [ffi.string(keys[0][i].text) for i in range(count[0])]
        finally:
            lib().cw_net_free_keys(keys[0], count[0])

    @property
    def first(self) -> Any:
        return self.c if self.count else ffi.NULL


class NetOptions:
    """A cw_net_options, `c`, with its keys."""

    def __init__(self, *, secret_key: Any = None, server_key: Any = None, client_keys: Any = None,
                 allow_plaintext: bool = False) -> None:
        secret, server, clients = Keys(SECRET, secret_key), Keys(PUBLIC, server_key), Keys(PUBLIC, client_keys)
        self._keys = (secret, server, clients)
        self.c = ffi.new("cw_net_options *", {
            "allow_plaintext": allow_plaintext, "secret_key": secret.first, "server_key": server.first,
            "client_keys": clients.first, "client_key_count": clients.count})


class Transport:
    """One end of the network; closed by close()."""

    def __init__(self, endpoint: str, listen: bool, **options: Any) -> None:
        """options: of NetOptions"""
        self._box, err = ffi.new("cw_transport **"), ffi.new("cw_error *")
        opened = lib().cw_net_listen if listen else lib().cw_net_connect
        net = NetOptions(**options)
        check(opened(endpoint.encode(), net.c, self._box, err), err)
        self._frame, self._err = ffi.new("cw_frame *"), err
        self._lock, self._used, self._asked = threading.Lock(), False, False

    @property
    def c(self) -> Any:
        if not self._box[0]:
            raise ValueError("the connection is closed: make a new Server or Client")
        return self._box[0]

    @property
    def endpoint(self) -> str:
        return _lib.text(lib().cw_transport_endpoint(self.c))

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """A run has it, and closes it in the end. Until then close() only asks for that: receive() raises."""
        with self._lock:
            if self.c and self._used:
                raise ValueError("fit() is running")
            self._used = True
        try:
            yield
        finally:
            with self._lock:
                self._used = False
            self.close()

    def receive(self, seconds: float) -> Any:
        """A cw_frame * for who handles it, or None when nothing came in time."""
        if self._asked:
            raise _lib.Error("closed before training was over", "CW_ERR_CANCELLED", ERR_CANCELLED)
        status = lib().cw_transport_recv(self.c, int(seconds * 1000), self._frame, self._err)
        if status in (ERR_TIMEOUT, ERR_CANCELLED):  # the second: a signal, which Python handles now
            return None
        check(status, self._err)
        return self._frame

    def close(self, seconds: float = 1.0) -> None:
        """What was sent may take so long to leave."""
        with self._lock:
            self._asked = self._used
            if self._box[0] and not self._used:
                lib().cw_transport_close(self._box, int(seconds * 1000))


def traffic_of(t: Any) -> Dict[str, int]:
    return {"socket_bytes": t.socket, "payload_bytes": t.payload, "raw_bytes": t.raw,
            "eval_payload_bytes": t.eval_payload, "eval_raw_bytes": t.eval_raw, "weights_bytes": t.weights}


def report_of(r: Any) -> Dict[str, Any]:
    """The fields of metrics.jsonl (docs/reference/files.md)."""
    tested = r.test_samples > 0
    return {"epoch": r.epoch + 1, "train_loss": r.train_loss, "train_accuracy": r.train_accuracy,
            "test_loss": r.test_loss if tested else None, "test_accuracy": r.test_accuracy if tested else None,
            "lr": r.lr, "seconds": r.seconds, "train_seconds": r.train_seconds, "train_samples": r.train_samples,
            "test_samples": r.test_samples, "clients": r.clients, "precision": ("fp32", "bf16", "auto")[r.precision],
            "uplink": traffic_of(r.up), "downlink": traffic_of(r.down)}


def keygen(path: Union[str, os.PathLike]) -> str:
    """Makes a pair of keys, as `cutwire keygen`: the secret one in the file `path`, the public one in path.pub. Returns
    the public one. Raises cutwire.Error: CW_ERR_IO, where a file is there already."""
    key, err = ffi.new("cw_key *"), ffi.new("cw_error *")
    check(lib().cw_net_keygen(os.fsencode(os.fspath(path)), key, err), err)
    return _lib.text(key.text)

