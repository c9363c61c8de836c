"""Inference across a cut, as C declares it (cutwire/infer.h)."""
from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import _lib, _net

#: cutwire/infer.h, as far as it is used here.
INFER = """
typedef struct cw_network cw_network;
typedef struct cw_answerer cw_answerer;
typedef struct cw_remote cw_remote;
uint64_t cw_weights_print(const cw_named_tensor *items, size_t count);

typedef struct {
    cw_network *network;
    cw_half *tail;
    const char *model;
    int cut;
    const char *const *class_names;
    uint64_t head_print, tail_print;
    const char *uplink;
    const cw_profile *profile;
    size_t max_batch;
    double max_wait;
    size_t max_clients, credit, max_queue;
    double timeout;
    const cw_hooks *hooks;
} cw_answerer_options;
typedef struct {
    uint64_t requests, samples, batches, refused, clients;
    size_t clients_now;
    double p50, p95, p99, slowest;
    cw_net_stats net;
    double seconds;
} cw_answerer_stats;
cw_status cw_answerer_create(const cw_answerer_options *options, cw_transport *transport, cw_answerer **out,
                             cw_error *err);
void cw_answerer_destroy(cw_answerer **answerer);
cw_status cw_answerer_handle(cw_answerer *answerer, cw_frame *frame, cw_error *err);
cw_status cw_answerer_tick(cw_answerer *answerer, double *next, cw_error *err);
_Bool cw_answerer_is_full(const cw_answerer *answerer);
void cw_answerer_finish(cw_answerer *answerer, const char *words);
cw_answerer_stats cw_answerer_get_stats(const cw_answerer *answerer);

typedef struct {
    cw_half *head;
    const char *uplink;
    size_t top;
    const char *model;
    int cut;
    uint64_t head_print, tail_print;
    double deadline, join_timeout;
    const cw_net_options *net;
    volatile int *stop;
} cw_remote_options;
typedef struct {
    const char *model;
    int cut;
    cw_shape smashed;
    size_t outputs;
    const char *const *class_names;
    const char *uplink;
    size_t credit, max_samples;
} cw_remote_info;
typedef struct { int32_t label; float probability; } cw_guess;
typedef struct { size_t n, top; const cw_guess *guesses; const float *outputs; double seconds; } cw_answer;
typedef struct {
    uint64_t requests, samples, answers, payload_bytes, repeated, connections, bytes_sent, bytes_received;
} cw_remote_stats;
cw_status cw_remote_open(const char *endpoint, const cw_remote_options *options, cw_remote **out, cw_error *err);
void cw_remote_close(cw_remote **remote);
const cw_remote_info *cw_remote_get_info(const cw_remote *remote);
cw_remote_stats cw_remote_get_stats(const cw_remote *remote);
cw_status cw_remote_submit(cw_remote *remote, const float *x, size_t n, uint64_t *ticket, cw_error *err);
cw_status cw_remote_wait(cw_remote *remote, uint64_t ticket, cw_answer *answer, cw_error *err);
cw_status cw_remote_poll(cw_remote *remote, uint64_t *ticket, cw_error *err);
int cw_remote_poll_fd(const cw_remote *remote);
"""

ffi = _net.ffi
ffi.cdef(INFER)


def fields_of(struct: Any) -> Dict[str, Any]:
    """Of a struct of numbers."""
    return {name: getattr(struct, name) for name, _ in ffi.typeof(struct).fields}


def c_strings(texts: Sequence[str]) -> Tuple[Any, List[Any]]:
    """A char ** and what keeps it."""
    kept = [ffi.new("char[]", text.encode()) for text in texts]
    return ffi.new("char *[]", kept), kept


class Remote:
    """A cw_remote of activations. One thread at a time."""

    def __init__(self, endpoint: str, options: Dict[str, Any], net: _net.NetOptions, uplink: Optional[str],
                 model: Optional[str]) -> None:
        self._box, self._err = ffi.new("cw_remote **"), ffi.new("cw_error *")
        self._ticket, self._answer = ffi.new("uint64_t *"), ffi.new("cw_answer *")
        self._net = net
        texts = {"uplink": uplink, "model": model}
        self._texts = {k: ffi.new("char[]", v.encode()) for k, v in texts.items() if v is not None}
        self._options = ffi.new("cw_remote_options *", {**options, **self._texts, "net": net.c})
        _net.check(_net.lib().cw_remote_open(endpoint.encode(), self._options, self._box, self._err), self._err)
        info = _net.lib().cw_remote_get_info(self._box[0])
        self.model, self.cut = _lib.text(info.model), int(info.cut)
        self.smashed = tuple(_net.sizes_of(info.smashed))
        self.outputs, self.uplink = int(info.outputs), _lib.text(info.uplink)
        self.credit, self.max_samples = int(info.credit), int(info.max_samples)
        self.class_names = [_lib.text(info.class_names[i]) for i in range(self.outputs)] if info.class_names else None

    def submit(self, address: int, samples: int) -> int:
        """fp32 of samples x smashed at address, not needed afterwards. Waits while the credit is used up."""
        pointer = ffi.cast("float *", address)
        _net.check(_net.lib().cw_remote_submit(self._box[0], pointer, samples, self._ticket, self._err), self._err)
        return int(self._ticket[0])

    def poll(self) -> int:
        """The ticket of a request that has ended, or 0."""
        _net.check(_net.lib().cw_remote_poll(self._box[0], self._ticket, self._err), self._err)
        return int(self._ticket[0])

    def poll_fd(self) -> int:
        return int(_net.lib().cw_remote_poll_fd(self._box[0]))

    def wait(self, ticket: int) -> Any:
        """A cw_answer, valid until the next call."""
        _net.check(_net.lib().cw_remote_wait(self._box[0], ticket, self._answer, self._err), self._err)
        return self._answer

    def stats(self) -> Dict[str, int]:
        return {k: int(v) for k, v in fields_of(_net.lib().cw_remote_get_stats(self._box[0])).items()}

    def close(self) -> None:
        _net.lib().cw_remote_close(self._box)


class Answerer:
    """A cw_answerer of a tail. One thread at a time."""

    def __init__(self, tail: Any, transport: _net.Transport, options: Dict[str, Any], texts: Dict[str, Optional[str]],
                 classes: Optional[Sequence[str]]) -> None:
        self._box, self._err, self._next = ffi.new("cw_answerer **"), ffi.new("cw_error *"), ffi.new("double *")
        self._transport = transport
        self._kept: List[Any] = [{k: ffi.new("char[]", v.encode()) for k, v in texts.items() if v is not None}]
        names = ffi.NULL
        if classes is not None:
            names, kept = c_strings(classes)
            self._kept += [names, kept]
        self._options = ffi.new("cw_answerer_options *", {**options, **self._kept[0], "tail": tail,
                                                          "class_names": names})
        _net.check(_net.lib().cw_answerer_create(self._options, transport.c, self._box, self._err), self._err)

    def take_frames(self, seconds: float) -> None:
        """All that are there, or as many as make a batch full; the first may take so long to come."""
        lib = _net.lib()
        frame = self._transport.receive(math.ceil(seconds * 1000) / 1000)
        while frame:
            _net.check(lib.cw_answerer_handle(self._box[0], frame, self._err), self._err)
            frame = None if lib.cw_answerer_is_full(self._box[0]) else self._transport.receive(0)

    def tick(self) -> float:
        """Answers what is due; seconds until the next call."""
        _net.check(_net.lib().cw_answerer_tick(self._box[0], self._next, self._err), self._err)
        return float(self._next[0])

    def stats(self) -> Dict[str, Any]:
        all_ = fields_of(_net.lib().cw_answerer_get_stats(self._box[0]))
        net = all_.pop("net")
        return {**all_, "bytes_sent": net.bytes_sent, "bytes_received": net.bytes_received}

    def finish(self, words: str) -> None:
        _net.lib().cw_answerer_finish(self._box[0], words.encode())

    def close(self) -> None:
        _net.lib().cw_answerer_destroy(self._box)
