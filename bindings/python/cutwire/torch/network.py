"""One model trained across a network: Server has the layers after the cut and the loss, Client those before it and data.

    server = cwt.Server(tail, optimizer, loss_fn, listen="tcp://127.0.0.1:*", clients=2, epochs=2)
    history = server.fit()

    client = cwt.Client(head, optimizer, connect=endpoint)          # elsewhere
    client.fit(train_loader, test_loader)

The conversation is that of `cutwire server` and `cutwire client`, driven by the same C code; a module only computes.
"""
from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import torch

from .. import _lib, _net
from ._cut import DOWN, UP
from ._feed import Feed
from ._half import Half, Head, Tail

ffi = _net.ffi

UPDATE = "ec:step=0.75,round=stochastic"
#: what ReduceLROnPlateau may wait for
MEASURED = ("test_loss", "test_accuracy", "train_loss", "train_accuracy")
Path = Union[str, os.PathLike]
_TICK = 0.2  # seconds


class _Events:
    """What a run tells, as calls of `log` and a list of epochs."""

    def __init__(self, log: Optional[Callable[[str], Any]], half: Half, metric: str = "test_loss") -> None:
        self.log, self.half, self.metric = log, half, metric
        self.history: List[Dict[str, Any]] = []
        self.failure: Optional[BaseException] = None
        self._handle = ffi.new_handle(self)
        self.hooks = ffi.new("cw_hooks *", {"ctx": self._handle, "event": _event})

    def take(self, event: Any) -> None:
        if event.kind == _net.LOG and self.log is not None:
            self.log(_lib.text(event.text))
        elif event.kind == _net.EPOCH:
            self.take_epoch(_net.report_of(event.report))

    def take_epoch(self, report: Dict[str, Any]) -> None:
        if not getattr(self.half, "counted", True):
            report["train_accuracy"] = report["test_accuracy"] = None
        self.half.reach_epoch(report["epoch"], report.get(self.metric))
        self.history.append(report)


@ffi.callback("void(void *, const cw_event *)")
def _event(ctx: Any, event: Any) -> None:
    events = ffi.from_handle(ctx)
    try:
        events.take(event)
    except BaseException as e:
        events.failure = e


def _raise_first(*owners: Any) -> None:
    """The exception of a function of the user's, where one has failed, with its own traceback."""
    for owner in owners:
        if owner is not None and owner.failure is not None:
            failure, owner.failure = owner.failure, None
            raise failure


def _refuse_weights_of_loss(tail: torch.nn.Module, loss_fn: Any) -> None:
    """Of several clients' batches only the last one's gradient would count for them, and no checkpoint would have them."""
    if not isinstance(loss_fn, torch.nn.Module) or not isinstance(tail, torch.nn.Module):
        return
    trained = {id(p) for p in tail.parameters()}
    for name, p in loss_fn.named_parameters():
        if p.requires_grad and id(p) not in trained:
            raise ValueError(f"the loss has weights that the tail has not: {name}: keep the loss as a submodule of the tail, "
                             "so that they are trained and saved with it")


class Server:
    """The layers after the cut, the loss, and the run: it listens from here on, and trains in fit().

    tail            takes one tensor, what the clients' heads give, and gives loss_fn's input
    optimizer       any of torch that needs no closure, of tail's parameters. None: the tail learns nothing
    loss_fn         loss_fn(output, target): the mean over the batch's samples, a tensor of one number. target: int64 of
                    shape [n] where the loader gives whole numbers from 0 on of shape [n]; else what the loader gives, a
                    tensor or tuples, lists and dicts of them, float64 as float32, narrower whole numbers than int32 as
                    int32 (bool: uint8); None where it gives None
    listen          endpoint; "*" for a free port
    clients         how many; training begins when all have joined
    epochs          passes over the clients' data
    up, down        codecs of activations and gradients; eval_up: of activations in evaluations, None: up
    update          codec of the heads' gradients, to the server and averaged back
    mask_gradient   send no gradient where an activation came in as 0: right only for heads that end in a ReLU, which
                    clients check
    scheduler       of torch, for this optimizer; scheduler_every: "epoch" or "step". ReduceLROnPlateau gets
                    scheduler_metric of each epoch that has it: "test_loss", "test_accuracy", "train_loss" or
                    "train_accuracy". Clients follow it by follow_lr
    metric          metric(output, target): how many of the batch's samples are right; None: argmax of [n, classes]
                    against labels, and no accuracy for all else
    classes         labels at or above it are refused; None: any
    in_flight       cut each batch into so many micro-batches, so that link, server and client work at once. Batch norm
                    sees micro-batches then, and losses are means over them
    seed            of stochastic codecs
    out, resume     folder for the run's files, and of a run to go on with (its checkpoints: checkpoint_every epochs).
                    overwrite: replace the run in out
    eval_every      epochs between evaluations; the last epoch has one
    timeout         seconds that a client may owe an answer; join_timeout: to wait for clients, at the beginning or when
                    all are lost
    secret_key      file with this server's key; client_keys: files, or keys, of the clients let in
    threads         of codecs; None: torch.get_num_threads()
    config          more keys of the option table (docs/reference/configuration.md). With a "model" of cutwire's own the
                    clients may be `cutwire client`: tail is then that network after its "cut", by torchvision's names
    log             called with sentences for people

    The server needs no copy of the head. The first client's weights go to the others; after each epoch one client gives
    its weights, buffers and optimizer's state, for checkpoints and for clients that join later.
    """

    def __init__(self, tail: torch.nn.Module, optimizer: Optional[torch.optim.Optimizer],
                 loss_fn: Callable[..., torch.Tensor],
                 listen: str = "tcp://127.0.0.1:*", clients: int = 1, epochs: int = 1, up: str = UP, down: str = DOWN,
                 update: str = UPDATE, *, eval_up: Optional[str] = None, mask_gradient: Union[None, bool] = None,
                 scheduler: Any = None, scheduler_every: str = "epoch", scheduler_metric: str = "test_loss",
                 metric: Optional[Callable[..., Any]] = None, classes: Optional[int] = None, in_flight: int = 1,
                 seed: int = 1, out: Optional[Path] = None, resume: Optional[Path] = None, overwrite: bool = False,
                 checkpoint_every: int = 1, eval_every: int = 1, timeout: float = 120, join_timeout: float = 60,
                 secret_key: Optional[Path] = None, client_keys: Union[None, Path, Sequence[Path]] = None,
                 allow_plaintext: bool = False, threads: Optional[int] = None,
                 config: Optional[Mapping[str, _net.Setting]] = None,
                 log: Optional[Callable[[str], Any]] = None) -> None:
        if scheduler_metric not in MEASURED:
            raise ValueError(f"scheduler_metric: {scheduler_metric!r} is none of {', '.join(MEASURED)}")
        _refuse_weights_of_loss(tail, loss_fn)
        self._half = Tail(tail, optimizer, scheduler, scheduler_every, loss_fn, metric, follow_lr=False)
        given = {key.replace("_", "-"): value for key, value in (config or {}).items()}
        self._own = given.get("model", "own") == "own"
        settings: Dict[str, _net.Setting] = {
            "clients": clients, "epochs": epochs, "uplink": str(up), "downlink": str(down), "update": str(update),
            "eval-uplink": "" if eval_up is None else str(eval_up), "seed": seed, "checkpoint-every": checkpoint_every,
            "eval-every": eval_every, "in-flight": in_flight, "timeout": timeout, "join-timeout": join_timeout,
            "overwrite": overwrite, "threads": threads or torch.get_num_threads()}
        if self._own:
            settings.update({"model": "own", "data": "own", "sample": "1", "classes": classes or 100000,
                             "mask-gradient": "0"})
        if mask_gradient is not None:
            settings["mask-gradient"] = str(int(mask_gradient))
        if out is not None or resume is not None:
            settings["out"] = os.fspath(resume if out is None else out)  # type: ignore[arg-type]
        if resume is not None:
            settings["resume"] = os.fspath(resume)
        settings.update(given)
        self._config = _net.Config(settings)
        self._events = _Events(log, self._half, scheduler_metric)
        self._transport = _net.Transport(listen, True, secret_key=secret_key, client_keys=client_keys,
                                         allow_plaintext=allow_plaintext)
        self._endpoint = self._transport.endpoint

    @property
    def endpoint(self) -> str:
        """Where clients connect, with the real port."""
        return self._endpoint

    def fit(self) -> List[Dict[str, Any]]:
        """Trains to the end, and returns one dict for each epoch, with the fields of metrics.jsonl; accuracies are None
        where there is none. tail has the trained weights.

        Raises what tail, loss_fn, metric or optimizer raise, when no client is left that they work for; cutwire.Error:
        CW_ERR_TIMEOUT (too few clients came, or all were lost and none came back), CW_ERR_DIVERGED, CW_ERR_MISMATCH,
        CW_ERR_IO, CW_ERR_SPEC. It can be called once.
        """
        with self._transport.used():
            try:
                self._fit(self._half.open(last=True, any_targets=self._own))
                return self._events.history
            finally:
                self._half.close()

    def _fit(self, half: Any) -> None:
        how = ffi.new("char[]", b"split over TCP")
        options = ffi.new("cw_server_options *", {"hooks": self._events.hooks, "half": half, "how": how})
        box, err = ffi.new("cw_server **"), ffi.new("cw_error *")
        status = _net.lib().cw_server_create(self._config.c, self._transport.c, options, box, err)
        if status != _lib.OK:
            _raise_first(self._half)
            _net.check(status, err)
        try:
            self._run(box[0])
        finally:
            _net.lib().cw_server_destroy(box)

    def _run(self, server: Any) -> None:
        err = ffi.new("cw_error *")
        lib = _net.lib()
        try:
            self._loop(server)
        except BaseException as e:
            status = e.status if isinstance(e, _lib.Error) else (
                _net.ERR_CANCELLED if isinstance(e, KeyboardInterrupt) else _net.ERR_BACKEND)
            words = "the server was stopped" if status == _net.ERR_CANCELLED else f"{type(e).__name__}: {e}"
            lib.cw_server_finish(server, status, words.encode()[:900], ffi.NULL, err)
            raise
        _net.check(lib.cw_server_finish(server, _lib.OK, b"training is finished", ffi.NULL, err), err)

    def _loop(self, server: Any) -> None:
        lib, err, ticked = _net.lib(), ffi.new("cw_error *"), time.monotonic()
        while not lib.cw_server_done(server):
            frame = self._transport.receive(_TICK)
            if frame:
                self._check(lib.cw_server_handle(server, frame, err), err, server)
            if time.monotonic() - ticked >= _TICK:  # also while there is always a frame
                self._check(lib.cw_server_tick(server, ffi.NULL, err), err, server)
                ticked = time.monotonic()

    def _check(self, status: int, err: Any, server: Any) -> None:
        """A failure for one client's batch costs that client its place; the run ends when nobody is left."""
        if status != _lib.OK or not _net.lib().cw_server_clients(server):
            _raise_first(self._half)
        _raise_first(self._events)
        if self._half.failure is not None and not isinstance(self._half.failure, Exception):
            _raise_first(self._half)  # KeyboardInterrupt within a callback
        _net.check(status, err)

    def close(self) -> None:
        """Closes the endpoint; fit() does so, too. A fit() that runs in another thread raises CW_ERR_CANCELLED, and its
        clients end as after Ctrl-C."""
        self._transport.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Client:
    """The layers before the cut.

    head          its output is one tensor of floats, the samples in dimension 0, fp32 while it crosses. It takes what the
                  loader gives: a tuple's items as arguments, a dict's as keyword arguments
    optimizer     any of torch that needs no closure, of head's parameters; all clients the same. None: the head learns
                  nothing, as one without weights or a frozen one
    connect       the server's endpoint
    scheduler     of torch, for this optimizer; scheduler_every: "epoch" or "step"
    follow_lr     take the learning rate that the server says for each step, as `cutwire client` does
    behind_relu   the head ends in a ReLU, and what follows that is 0 where it was 0: needed where the server masks
                  gradients
    timeout       seconds of silence after which the server is taken for dead; join_timeout: before it has answered
    reconnect     seconds to wait for a server that is out of reach or begins anew; 0: not at all
    identity      file that keeps who this client is, so that it gets its place back when it is started again
    secret_key    file with this client's key; server_key: file with the server's public one, or that
    threads       of codecs; None: torch.get_num_threads()
    log           called with sentences for people
    """

    def __init__(self, head: torch.nn.Module, optimizer: Optional[torch.optim.Optimizer], connect: str, *, scheduler: Any = None,
                 scheduler_every: str = "epoch", follow_lr: bool = False, behind_relu: bool = False,
                 timeout: float = 120, join_timeout: float = 60, reconnect: float = 0,
                 identity: Optional[Path] = None, secret_key: Optional[Path] = None,
                 server_key: Optional[Path] = None, allow_plaintext: bool = False, threads: Optional[int] = None,
                 log: Optional[Callable[[str], Any]] = None) -> None:
        self._half = Head(head, optimizer, scheduler, scheduler_every, follow_lr)
        self._behind_relu = behind_relu
        self._config = _net.Config({"timeout": timeout, "join-timeout": join_timeout, "reconnect": reconnect,
                                    "identity": os.fspath(identity) if identity else "",
                                    "threads": threads or torch.get_num_threads()})
        self._events = _Events(log, self._half)
        self._transport = _net.Transport(connect, False, secret_key=secret_key, server_key=server_key,
                                         allow_plaintext=allow_plaintext)

    def fit(self, train_loader: Any, test_loader: Any = None) -> None:
        """Takes part until the server says that training is over. head has the trained weights.

        train_loader, test_loader: read once for each epoch, (inputs, targets) each; all batches but an epoch's last have
        the same size. A server of C decides that size.

        Raises what head, optimizer and loaders raise; cutwire.Error: CW_ERR_TIMEOUT (the server is silent),
        CW_ERR_CLOSED, CW_ERR_MISMATCH, CW_ERR_PROTOCOL, CW_ERR_DIVERGED, or what the server says in refusing this client
        or in ending the run. It can be called once.
        """
        train, test = Feed(train_loader, self._half, True), None
        if test_loader is not None:
            test = Feed(test_loader, self._half, False)
        with self._transport.used():
            try:
                self._fit(self._half.open(last=False, behind_relu=self._behind_relu), train, test)
            finally:
                self._half.close()

    def _fit(self, half: Any, train: Feed, test: Optional[Feed]) -> None:
        options = ffi.new("cw_client_options *", {
            "hooks": self._events.hooks, "half": half, "train": train.c, "test": test.c if test else ffi.NULL})
        box, err = ffi.new("cw_client **"), ffi.new("cw_error *")
        lib = _net.lib()
        _net.check(lib.cw_client_create(self._config.c, self._transport.c, options, box, err), err)
        try:
            self._loop(box[0], (self._half, train, test, self._events))
        except BaseException as e:
            closed = isinstance(e, _lib.Error) and e.status == _net.ERR_CANCELLED
            if (closed or not isinstance(e, _lib.Error)) and not lib.cw_client_done(box[0]):
                lib.cw_client_leave(box[0])
            raise
        finally:
            lib.cw_client_destroy(box)

    def _loop(self, client: Any, owners: Sequence[Any]) -> None:
        lib, err = _net.lib(), ffi.new("cw_error *")

        def check(status: int) -> None:
            _raise_first(*owners)
            _net.check(status, err)

        check(lib.cw_client_start(client, err))
        while not lib.cw_client_done(client):
            frame = self._transport.receive(0.5)
            if frame:
                check(lib.cw_client_handle(client, frame, err))
            check(lib.cw_client_tick(client, ffi.NULL, err))

    def close(self) -> None:
        """Closes the connection; fit() does so, too. A fit() that runs in another thread leaves the run, and raises
        CW_ERR_CANCELLED."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
