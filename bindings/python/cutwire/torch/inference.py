"""A trained network used across its cut: the head at a device, the tail at a server.

    service = cwt.serve(tail, shape=(64, 56, 56), listen="tcp://0.0.0.0:5556", head=head)     at the server

    remote = cwt.Remote(head, connect="tcp://192.0.2.7:5556", up="ec:err=0.15")               at a device
    remote(images)                                                                            the network's output
    remote.submit(images)                                                                     a Future of it

Either side may be one of C: `cutwire serve` answers a Remote, `cutwire infer` asks a serve().
"""
from __future__ import annotations

import atexit
import collections
import concurrent.futures
import os
import select
import threading
import time
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch

from .. import _infer, _lib, _net
from .._codec import Profile
from . import _half
from .network import Path, _Events

ffi = _net.ffi

_SQUEEZED = ", also of a single one, which a squeeze() without a dimension takes away"
_TICK = 0.1  # seconds between looks at the clock
Weights = Union[None, int, torch.nn.Module]
_STAND_IN = {torch.bool: torch.uint8, torch.int8: torch.int32, torch.int16: torch.int32}  # where C has no such dtype


def fingerprint(module: torch.nn.Module) -> int:
    """The number by which both ends know trained weights: of the names, shapes, dtypes and values in module's state dict.
    Floats count as fp32, complex numbers as two, bool as uint8, int8 and int16 as int32, counters of batches
    (num_batches_tracked) not at all, a tensor with two names by the first: so one of cutwire's own networks has the same
    number in PyTorch and in C, where the names are the same. TypeError for other dtypes, as of quantized tensors."""
    seen = set()
    staged: List[Tuple[bytes, torch.Tensor]] = []
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        t = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
        dtype = torch.float32 if t.is_floating_point() else _STAND_IN.get(t.dtype, t.dtype)
        if dtype not in _half._DTYPES:
            raise TypeError(f"{name}: weights of {t.dtype} have no fingerprint: give its number yourself")
        staged.append((name.encode(), t.to("cpu", dtype).contiguous()))
    items = ffi.new("cw_named_tensor[]", [{"name": n, "tensor": _half.c_tensor(t)} for n, t in staged])
    return int(_net.lib().cw_weights_print(items, len(staged)))


def _print_of(weights: Weights) -> int:
    """0: not known"""
    return fingerprint(weights) if isinstance(weights, torch.nn.Module) else int(weights or 0)


class Guesses(NamedTuple):
    """The likeliest classes, the first the likeliest."""

    labels: torch.Tensor  #: int64 [n, top]
    probabilities: torch.Tensor  #: fp32 [n, top], of a softmax over all outputs


# ---- the server ----


class _Tail:
    """A module as C calls it: forward only."""

    def __init__(self, module: torch.nn.Module, shape: Sequence[int]) -> None:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"tail: a torch.nn.Module is wanted, not {type(module).__name__}")
        if isinstance(shape, int) or isinstance(shape, str):
            raise TypeError(f"shape: the sizes of one sample at the cut are wanted, as (64, 56, 56) or ({shape},), not {shape!r}")
        self.module, self.shape = module.eval(), tuple(int(d) for d in shape)
        floats = [t for t in module.state_dict().values() if isinstance(t, torch.Tensor) and t.is_floating_point()]
        self.device = floats[0].device if floats else torch.device("cpu")
        dtypes = {t.dtype for t in floats}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
        self.failure: Optional[BaseException] = None
        self.out = tuple(self.run(torch.zeros((1, *self.shape))).shape[1:])
        self._box, self._handle, err = ffi.new("cw_half **"), ffi.new_handle(self), ffi.new("cw_error *")
        callbacks = ffi.new("cw_half_callbacks *", {
            "in": _net.shape_of(self.shape), "out": _net.shape_of(self.out or (1,)), "forward": _half._forward,
            "loss": _half._loss, "backward": _half._backward, "step": _half._step})
        _net.check(_net.lib().cw_half_create(callbacks, self._handle, self._box, err), err)
        self.c = self._box[0]

    def run(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = self.module(z.to(self.device, self.dtype))
        if not isinstance(y, torch.Tensor) or not y.is_floating_point() or y.dim() < 1 or len(y) != len(z):
            gave = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, torch.Tensor) else type(y).__name__
            raise TypeError(f"the tail gave {gave} for {len(z)} sample{'s' if len(z) > 1 else ''} of {self.shape}: one tensor "
                            f"of floats is wanted, with the samples in dimension 0{_SQUEEZED if len(z) == 1 else ''}")
        return y

    def forward(self, c: Any, x: Any, y: Any) -> None:
        n, count = c.n, 1
        for d in self.shape:
            count *= d
        result = self.run(_half._floats(x, n * count).reshape((n, *self.shape)).clone())
        if tuple(result.shape[1:]) != self.out:
            raise TypeError(f"the tail gave {tuple(result.shape)}, {(n, *self.out)} is due")
        _half._floats(y, result.numel()).copy_(result.reshape(-1))

    def close(self) -> None:
        _net.lib().cw_half_destroy(self._box)


class Service:
    """A server of inference, from serve(): it answers in a thread of its own until close()."""

    def __init__(self, tail: _Tail, transport: _net.Transport, options: Dict[str, Any], texts: Dict[str, Optional[str]],
                 classes: Optional[Sequence[str]], log: Optional[Callable[[str], Any]]) -> None:
        self._tail, self._transport, self._log = tail, transport, log
        self._events = _Events(log, tail)  # type: ignore[arg-type]
        self._endpoint = transport.endpoint
        self._answerer = _infer.Answerer(tail.c, transport, {**options, "hooks": self._events.hooks}, texts, classes)
        self._stopping, self._failure = False, None  # type: Tuple[bool, Optional[BaseException]]
        self._stats, self._process = self._answerer.stats(), os.getpid()
        self._thread = threading.Thread(target=self._run, name="cutwire-serve", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def endpoint(self) -> str:
        """Where clients connect, with the real port."""
        return self._endpoint

    @property
    def stats(self) -> Dict[str, Any]:
        """Totals: requests, samples, batches, refused, clients, clients_now, bytes_sent, bytes_received; and p50, p95,
        p99, slowest, the seconds from a request's arrival to its answer, and their sum, seconds. At most 0.3 s old; after
        close() those of the end."""
        return dict(self._stats)

    def _run(self) -> None:
        try:
            self._loop()
            self._answerer.finish("the server was stopped")
        except BaseException as e:
            self._failure = e
        self._stats = self._answerer.stats()

    def _loop(self) -> None:
        wait, counted = 0.0, 0.0
        while not self._stopping:
            self._answerer.take_frames(wait)
            wait = self._answerer.tick()
            self._tell_failure()
            if time.monotonic() - counted > _TICK:
                self._stats, counted = self._answerer.stats(), time.monotonic()

    def _tell_failure(self) -> None:
        """Of the tail: the requests at fault were refused with its words."""
        failure, self._tail.failure = self._tail.failure, None
        if failure is not None and not isinstance(failure, Exception):
            raise failure
        if failure is not None and self._log is not None:
            self._log(f"the tail failed: {type(failure).__name__}: {failure}")

    def wait(self, seconds: Optional[float] = None) -> None:
        """Until close() by another thread, Ctrl-C, or so many seconds have passed. Raises what has ended the service:
        cutwire.Error (CW_ERR_NO_MEMORY), or what `log` raises."""
        end = None if seconds is None else time.monotonic() + seconds
        while self._thread.is_alive() and (end is None or time.monotonic() < end):
            self._thread.join(_TICK if end is None else max(0.0, min(_TICK, end - time.monotonic())))
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Tells the clients, and closes the endpoint. It may be called twice."""
        if os.getpid() != self._process:  # a forked child: threads and sockets are its parent's
            return
        self._stopping = True
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._answerer.close()
        self._transport.close()
        self._tail.close()
        atexit.unregister(self.close)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def serve(tail: torch.nn.Module, shape: Sequence[int], listen: str = "tcp://127.0.0.1:*", *, head: Weights = None,
          model: str = "own", cut: int = 0, up: Optional[str] = None, classes: Optional[Sequence[str]] = None,
          profile: Optional[Profile] = None, max_batch: int = 64, max_wait: float = 0.0, max_clients: int = 64,
          credit: int = 8, max_queue: int = 0,
          timeout: float = 60, secret_key: Optional[Path] = None,
          client_keys: Union[None, Path, Sequence[Path]] = None, allow_plaintext: bool = False,
          log: Optional[Callable[[str], Any]] = None) -> Service:
    """Answers any number of clients that come and go, by the layers after the cut. Returns at once.

    tail           takes one tensor [n, *shape] and gives one of floats with n samples. It is put into eval()
    shape          of one sample at the cut
    listen         endpoint; "*" for a free port
    head           the layers before the cut, or their fingerprint(): clients with other weights are refused. None: any.
                   The tail's own fingerprint is always told to clients
    model, cut     its name and the number of its cut, for people and for clients that ask for them
    up             the codec that is proposed to clients; None: "ec:err=0.1"
    classes        names of the outputs, as many as the tail has
    profile        of maps at the cut (cutwire.Profile.train), sent to each client once: single samples then take less
    max_batch      samples that are answered together, of one client or several
    max_wait       seconds that a request may wait for others to be answered together with
    max_clients    at once; a further one is refused
    credit         requests that a client may have on their way
    max_queue      samples that may wait in all, further requests are refused at once; 0: 16 x max_batch
    timeout        seconds without a word from a client until its place is free
    secret_key     file with this server's key; client_keys: files, or keys, of the clients let in
    log            called with sentences for people, in the service's thread

    Outputs reach clients as [n, the product of the other dimensions]. What the tail raises, and outputs that are not
    finite, are told to the client whose request it was.

    Raises what tail raises for zeros; TypeError; cutwire.Error: CW_ERR_INVALID (endpoint, limits), CW_ERR_IO (address in
    use), CW_ERR_SPEC (up), CW_ERR_MISMATCH (classes).
    """
    half = _Tail(tail, shape)
    outputs = 1
    for d in half.out:
        outputs *= d
    try:
        if classes is not None and len(classes) != outputs:
            raise _lib.Error(f"{len(classes)} names of classes for {outputs} outputs", "CW_ERR_MISMATCH",
                             _lib.ERR_MISMATCH)
        transport = _net.Transport(listen, True, secret_key=secret_key, client_keys=client_keys,
                                   allow_plaintext=allow_plaintext)
    except BaseException:
        half.close()
        raise
    options = {"cut": cut, "head_print": _print_of(head), "tail_print": _print_of(tail), "max_batch": max_batch,
               "max_wait": max_wait, "max_clients": max_clients, "credit": credit, "max_queue": max_queue,
               "timeout": timeout, "profile": ffi.NULL if profile is None else profile._profile}
    try:
        return Service(half, transport, options, {"model": model, "uplink": up}, classes, log)
    except BaseException:
        transport.close()
        half.close()
        raise


# ---- the client ----


class Remote:
    """A network whose layers after the cut are at a server.

    head          gives one tensor of floats, the samples in dimension 0. It is put into eval(). A tuple's items are its
                  arguments, a dict's its keyword arguments. None: what is asked with are activations
    connect       the server's endpoint
    up            codec of the activations; None: the one that the server proposes
    top           answers are the so many likeliest classes, Guesses; 0: the network's output
    model, cut    refuse a server that has another one; None, 0: any
    weights       the head's fingerprint(), where head is None or its tensors have other names than the server's; None:
                  computed
    tail          the layers after the cut, or their fingerprint(): refuse a server with others. None: any
    deadline      seconds until a request without an answer has failed
    join_timeout  seconds to wait for the server to let this client in
    secret_key    file with this client's key; server_key: file with the server's public one, or that

    The server may go away and come back: requests without an answer are asked again, by themselves, until their
    deadline. An answer is given once.

    Any thread may ask, several at once. A thread of this object's own talks to the server; close() ends it.

    Raises cutwire.Error: CW_ERR_TIMEOUT (nobody there), CW_ERR_MISMATCH (other weights, model, cut or shape: with both
    names), CW_ERR_PROTOCOL (no server of this kind), CW_ERR_SPEC (up), what the server says in refusing.
    """

    def __init__(self, head: Optional[torch.nn.Module], connect: str, up: Optional[str] = None, *, top: int = 0,
                 model: Optional[str] = None, cut: int = 0, weights: Optional[int] = None, tail: Weights = None,
                 deadline: float = 30, join_timeout: float = 10, secret_key: Optional[Path] = None,
                 server_key: Optional[Path] = None, allow_plaintext: bool = False) -> None:
        if head is not None and not isinstance(head, torch.nn.Module):
            raise TypeError(f"head: a torch.nn.Module is wanted, not {type(head).__name__}")
        self._head = head.eval() if head is not None else None
        parameters = [] if head is None else list(head.parameters())
        self._device = parameters[0].device if parameters else torch.device("cpu")
        options = {"top": top, "cut": cut, "head_print": _print_of(head if weights is None else weights),
                   "tail_print": _print_of(tail), "deadline": deadline, "join_timeout": join_timeout}
        net = _net.NetOptions(secret_key=secret_key, server_key=server_key, allow_plaintext=allow_plaintext)
        self._remote = _infer.Remote(connect, options, net, up, model)
        self._room = threading.Semaphore(self._remote.credit)
        self._todo: Deque[Tuple[torch.Tensor, "concurrent.futures.Future[Any]"]] = collections.deque()
        self._open: Dict[int, "concurrent.futures.Future[Any]"] = {}
        self._lock, self._closing, self._ended = threading.Lock(), False, False
        self._process = os.getpid()
        self._failure: Optional[BaseException] = None
        self._stats = self._remote.stats()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="cutwire-remote", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # ---- what it is ----

    @property
    def model(self) -> str:
        """The network's name, as the server tells it; likewise cut, up, outputs, class_names."""
        return self._remote.model

    @property
    def cut(self) -> int:
        return self._remote.cut

    @property
    def up(self) -> str:
        """The codec in use."""
        return self._remote.uplink

    @property
    def outputs(self) -> int:
        """Floats of one sample's output."""
        return self._remote.outputs

    @property
    def class_names(self) -> Optional[List[str]]:
        """As many as outputs, or None."""
        return self._remote.class_names

    @property
    def max_samples(self) -> int:
        """Of one request."""
        return self._remote.max_samples

    @property
    def credit(self) -> int:
        """Requests that may be on their way."""
        return self._remote.credit

    @property
    def stats(self) -> Dict[str, int]:
        """Totals up to the last answer: requests, samples, answers, payload_bytes (of requests, each once), repeated
        (sent again to a server that came back), connections, bytes_sent, bytes_received."""
        return dict(self._stats)

    # ---- asking ----

    def _activations(self, inputs: Any) -> torch.Tensor:
        with torch.no_grad():
            z = inputs if self._head is None else _half.call(self._head, _half.moved(inputs, self._device))
        if not isinstance(z, torch.Tensor) or not z.is_floating_point() or z.dim() < 1:
            raise TypeError(f"{type(z).__name__} at the cut: one tensor of floats is to cross it, with the samples in "
                            "dimension 0")
        if tuple(z.shape[1:]) != self._remote.smashed or not len(z):
            raise _lib.Error(f"the head gives {tuple(z.shape[1:])} a sample, the server takes {self._remote.smashed}"
                             if len(z) else "no samples", "CW_ERR_MISMATCH", _lib.ERR_MISMATCH)
        return z.detach().to("cpu", torch.float32).contiguous()

    def _send(self, z: torch.Tensor) -> "concurrent.futures.Future[Any]":
        future: "concurrent.futures.Future[Any]" = concurrent.futures.Future()
        while not self._room.acquire(timeout=_TICK):
            self._check_open()
            self._check_thread()
        with self._lock:
            self._check_open()
            self._todo.append((z, future))
            os.write(self._wake_write, b"!")
        return future

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise ValueError("this Remote is closed")

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a future's callback runs in the thread that takes the answers, and cannot wait for one: let "
                               "another thread ask")

    def submit(self, inputs: Any) -> "concurrent.futures.Future[Any]":
        """Runs the head on up to max_samples samples, here and now, and sends what comes out. Waits while `credit`
        requests are on their way. The future's result is what a call gives; its exception cutwire.Error: CW_ERR_TIMEOUT
        (no answer by the deadline), CW_ERR_NONFINITE (NaN or infinity in what the head or the network gave),
        CW_ERR_CLOSED (the server is full), or what the server says.

        Raises what head raises; cutwire.Error CW_ERR_MISMATCH (another shape), CW_ERR_INVALID (too many samples)."""
        z = self._activations(inputs)
        if len(z) > self.max_samples:
            raise _lib.Error(f"{len(z)} samples: this server takes {self.max_samples} in a request: call the Remote, "
                             "which asks as often as it takes")
        return self._send(z)

    def __call__(self, inputs: Any) -> Any:
        """The network's output for any number of samples: fp32 [n, outputs], or Guesses where `top` is not 0. Raises as
        submit, and what its future would."""
        self._check_thread()
        z = self._activations(inputs)
        futures = [self._send(part) for part in z.split(self.max_samples)]
        parts = [f.result() for f in futures]
        if not isinstance(parts[0], Guesses):
            return torch.cat(parts)
        return Guesses(torch.cat([p.labels for p in parts]), torch.cat([p.probabilities for p in parts]))

    # ---- the thread that talks to the server ----

    def _run(self) -> None:
        try:
            while not self._closing:
                self._submit_new()
                self._take_answers()
                self._sleep()
            raise _lib.Error("the Remote was closed before the answer came", "CW_ERR_CANCELLED", _net.ERR_CANCELLED)
        except BaseException as e:
            self._end(e)

    def _submit_new(self) -> None:
        while self._todo:
            z, future = self._todo.popleft()
            if not future.set_running_or_notify_cancel():
                self._room.release()
                continue
            try:
                self._open[self._remote.submit(z.data_ptr(), len(z))] = future
            except _lib.Error as e:
                self._finish(future, None, e)

    def _take_answers(self) -> None:
        ticket = self._remote.poll() if self._open else 0
        while ticket:
            future = self._open.pop(ticket)
            try:
                self._finish(future, self._result(self._remote.wait(ticket)), None)
            except _lib.Error as e:
                self._finish(future, None, e)
            ticket = self._remote.poll()

    def _result(self, a: Any) -> Any:
        if not a.top:
            return _half._floats(a.outputs, a.n * self.outputs).reshape(a.n, self.outputs).clone()
        pairs = torch.frombuffer(bytearray(ffi.buffer(a.guesses, 8 * a.n * a.top)), dtype=torch.int32)
        pairs = pairs.reshape(a.n, a.top, 2)
        return Guesses(pairs[..., 0].long(), pairs[..., 1].contiguous().view(torch.float32))

    def _finish(self, future: "concurrent.futures.Future[Any]", result: Any, failure: Optional[BaseException]) -> None:
        self._stats = self._remote.stats()
        self._room.release()
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)

    def _sleep(self) -> None:
        """Until there is something to do: for ever where nothing is on its way."""
        with self._lock:
            if self._todo or self._closing:
                return
        fd = self._remote.poll_fd() if self._open else -1
        poll = select.poll()
        for watched in [self._wake_read] + ([fd] if fd >= 0 else []):
            poll.register(watched, select.POLLIN)
        if self._wake_read in (ready for ready, _ in poll.poll(1000 * _TICK if self._open else None)):
            os.read(self._wake_read, 4096)

    def _end(self, failure: BaseException) -> None:
        with self._lock:
            if not self._closing:
                self._failure = failure
            self._ended = True
            os.close(self._wake_read)
            os.close(self._wake_write)
            todo, self._todo = list(self._todo), collections.deque()
        for future in list(self._open.values()) + [f for _, f in todo if f.set_running_or_notify_cancel()]:
            future.set_exception(failure)
        self._open.clear()
        self._remote.close()
        atexit.unregister(self.close)

    def close(self) -> None:
        """Takes leave of the server. What has no answer yet fails with CW_ERR_CANCELLED. It may be called twice."""
        if os.getpid() != self._process:  # a forked child: threads and sockets are its parent's
            return
        with self._lock:
            self._closing = True
            if not self._ended:
                os.write(self._wake_write, b"!")
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
