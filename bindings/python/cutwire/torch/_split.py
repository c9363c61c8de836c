"""A model in two: before and after a layer named as in model.named_modules(), by torch.fx."""
from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import operator
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import torch
from torch import fx, nn

_LISTED = 60  # names in a sentence


class _Cannot(Exception):
    """`path` cannot be traced: `why`."""

    def __init__(self, path: str, why: Exception) -> None:
        super().__init__(path)
        self.path, self.why = path, why


def _code_ahead(caller: Any) -> List[dis.Instruction]:
    """What the caller is about to do, from the instruction on that is running."""
    return [i for i in dis.get_instructions(caller.f_code) if i.offset >= caller.f_lasti]


class _Traced:
    """What a forward does with a value that torch.fx has to know by the caller's code, which PyTorch 1.13 looks for in the
    wrong place of Python 3.11's."""

    def __iter__(self) -> Iterator[Any]:
        """`n, c, h, w = x.shape`"""
        step = _code_ahead(inspect.currentframe().f_back)[0]  # type: ignore[union-attr]
        if step.opname == "UNPACK_SEQUENCE":
            return iter([self[i] for i in range(step.argval)])  # type: ignore[index]
        return iter(self.tracer.iter(self))  # type: ignore[attr-defined]

    def __bool__(self) -> bool:
        """What is asserted of it, as in `assert w % 8 == 0` or `assert not w % 8`, is so."""
        ahead = _code_ahead(inspect.currentframe().f_back)  # type: ignore[union-attr]
        jump, behind = [step.opname for step in ahead if step.opname != "TO_BOOL"][:2]
        if "POP_JUMP" in jump and behind == "LOAD_ASSERTION_ERROR":
            return "IF_TRUE" in jump
        return bool(self.tracer.to_bool(self))  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        return _Attribute(self, name)  # type: ignore[arg-type]


class _Proxy(_Traced, fx.Proxy):
    """A value of the forward."""


class _Attribute(_Traced, fx.proxy.Attribute):
    """An attribute of one."""


class _Tracer(fx.Tracer):
    """Looks into the modules of `opened` (None: into all but PyTorch's own layers and those in `closed`). Every node knows
    which modules it came from."""

    def __init__(self, opened: Optional[Set[str]], closed: Set[str]) -> None:
        super().__init__()
        self.opened, self.closed = opened, closed
        self.inside: List[str] = []
        self.constants: Dict[str, torch.Tensor] = {}  #: that the forward makes, by the names that torch.fx gave them

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, path: str) -> bool:
        if path in self.closed:
            return True
        if self.opened is not None:
            return path not in self.opened
        return bool(super().is_leaf_module(m, path)) and not isinstance(m, nn.TransformerEncoder)

    def create_args_for_root(self, forward: Any, *args: Any, **kwargs: Any) -> Any:
        """Inputs that have a default are fixed at it: a forward asks `mask is None`, which no proxy can answer."""
        function, inputs = super().create_args_for_root(_of_needed(forward), *args, **kwargs)
        for i, proxy in enumerate(inputs):
            if isinstance(proxy, fx.Proxy) and proxy.node.args:
                inputs[i] = proxy.node.args[0]
                self.graph.erase_node(proxy.node)
        return function, inputs

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.inside.append(self.path_of_module(m))
        try:
            if isinstance(m, nn.TransformerEncoder) and not self.is_leaf_module(m, self.inside[-1]):
                return _run_encoder(m, *args, **kwargs)
            return super().call_module(m, forward, args, kwargs)
        except _Cannot:
            raise
        except Exception as e:  # whatever a model's code raises when it meets a proxy
            raise _Cannot(self.inside[-1], e) from e
        finally:
            self.inside.pop()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["inside"] = tuple(self.inside)
        return node


def _of_needed(forward: Any) -> Any:
    """A forward that has keyword-only inputs, *args or **kwargs, as a function of what it needs: PyTorch 1.13 cannot
    patch its code in Python 3.11. *args and **kwargs stay empty."""
    inputs = inspect.signature(forward).parameters.values()
    if all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in inputs):
        return forward
    needed = [p for p in inputs if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) < 2:
        raise TypeError("it takes *args or **kwargs, and names no input")
    given = (f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name for p in needed)
    return eval(f"lambda {', '.join(p.name for p in needed)}: forward({', '.join(given)})", {"forward": forward})


def _run_encoder(encoder: nn.TransformerEncoder, src: Any, mask: Any = None, src_key_padding_mask: Any = None,
                 **other: Any) -> Any:
    """A TransformerEncoder's layers one after the other: what its forward comes to, but for a shortcut of inference that
    torch.fx cannot follow."""
    for layer in encoder.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, **other)
    return src if encoder.norm is None else encoder.norm(src)


def _trace_once(model: nn.Module, opened: Optional[Set[str]], closed: Set[str]) -> Tuple[_Tracer, fx.Graph]:
    tracer, root = _Tracer(opened, closed), _encoder_as_child(model)
    try:
        with _attributes_kept(root):
            before, graph = set(root.__dict__), tracer.trace(root)
            tracer.constants = {k: v for k, v in root.__dict__.items() if k not in before and isinstance(v, torch.Tensor)}
        return tracer, graph
    except _Cannot:
        raise
    except Exception as e:  # the same, in the model's own forward
        raise _Cannot("", e) from e


@contextlib.contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """What a forward sets while it is traced, and torch.fx for its constants, is taken away again."""
    kept = [(m, dict(m.__dict__)) for m in model.modules()]
    try:
        yield
    finally:
        for m, attributes in kept:
            m.__dict__.clear()
            m.__dict__.update(attributes)


def _encoder_as_child(model: nn.Module) -> nn.Module:
    """A model's own forward is always looked into: a TransformerEncoder's must not be."""
    return _Encoder(model) if isinstance(model, nn.TransformerEncoder) else model


class _Encoder(nn.Module):
    """A TransformerEncoder by a forward that torch.fx can follow, with its names."""

    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers, self.norm = encoder.layers, encoder.norm

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None) -> Any:
        return _run_encoder(self, src, mask, src_key_padding_mask)  # type: ignore[arg-type]


def _trace(model: nn.Module, opened: Optional[Set[str]]) -> Tuple[_Tracer, fx.Graph]:
    """Modules that cannot be traced are closed one by one, until the rest can."""
    closed: Set[str] = set()
    while True:
        try:
            tracer, graph = _trace_once(model, opened, closed)
            _ask_sizes_early(graph)
            return tracer, graph
        except _Cannot as e:
            if e.path == "" or e.path in closed or (opened is not None and e.path in opened):
                what = f"its module {e.path}" if e.path else "its forward"
                raise ValueError(f"torch.fx cannot follow {type(model).__name__}: {what}: {e.why}; split it by hand into "
                                 "two modules, and put a Cut between them") from e
            closed.add(e.path)


# ---- where it can be cut ----


class _Place(NamedTuple):
    """Behind the last node of a module."""

    index: int  #: that node's, in the graph
    crossing: List[fx.Node]  #: what it and nodes before it give to nodes behind it
    counts: List[fx.Node]  #: numbers of samples that they give, too: the tail knows its own
    sizes: List[fx.Node]  #: and other sizes, as the height and width of the input, which are fixed by an example


def _place_at(nodes: List[fx.Node], index: int) -> _Place:
    """Parameters are no matter: each half has those it uses."""
    position = {node: i for i, node in enumerate(nodes)}
    given = [n for n in nodes[:index + 1] if n.op != "get_attr" and any(position[user] > index for user in n.users)]
    counts = [n for n in given if _is_count(n)]
    sizes = [n for n in given if _is_size(n) and n not in counts]
    return _Place(index, [n for n in given if n not in counts and n not in sizes], counts, sizes)


def _is_count(node: fx.Node) -> bool:
    """`x.size(0)` or `x.shape[0]`: the first dimension is the samples'."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,) and not node.kwargs
    of = node.args[0] if node.target is operator.getitem and node.args[1] == 0 else None
    return isinstance(of, fx.Node) and (of.op, of.target, of.args[1:]) == ("call_function", getattr, ("shape",))


def _is_size(node: Any) -> bool:
    """What follows from shapes alone: `x.shape[-2:]`, `x.size(2) // 2`."""
    if not isinstance(node, fx.Node):
        return True
    if node.op == "call_method":
        return node.target == "size"
    if node.op != "call_function" or node.kwargs:
        return False
    if node.target is getattr:
        return node.args[1] == "shape"
    return getattr(node.target, "__module__", None) in ("_operator", "math") and \
        any(isinstance(arg, fx.Node) for arg in node.args) and all(_is_size(arg) for arg in node.args)


def _ask_sizes_early(graph: fx.Graph) -> None:
    """Sizes are asked for right behind the tensor whose they are, so that where a forward asks late the tensor need not
    cross. Those of parameters stay where they are: each half has its own."""
    nodes = list(graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    inputs = [node for node in nodes if node.op == "placeholder"]
    behind: Dict[fx.Node, fx.Node] = {node: inputs[-1] for node in inputs}  #: of each size the tensor that it moves to
    last: Dict[fx.Node, fx.Node] = {}  #: what has moved there
    for node in [n for n in nodes if n.all_input_nodes and _is_size(n)]:
        tensor = max((behind.get(n, n) for n in node.all_input_nodes), key=position.__getitem__)
        if tensor.op == "get_attr":
            continue
        if last.get(tensor, tensor).next is not node:
            last.get(tensor, tensor).append(node)
        behind[node], last[tensor] = tensor, node


def _with_sizes(z: Any, fixed: Tuple[Any, ...], *sizes: Any) -> Any:
    """z, if the sizes that are fixed in the tail are those of this input."""
    if isinstance(z, fx.Proxy):  # torch.load traces a half once more
        return z.tracer.create_proxy("call_function", _with_sizes, (z, fixed, *sizes), {})
    now = _plain(sizes)
    if now != fixed:
        raise ValueError(f"cutwire.torch.split: sizes of the input that the tail knows from its example are {fixed}, of "
                         f"this input {now}: split once more with an example of that size")
    return z


def _plain(value: Any) -> Any:
    """torch.Size as a tuple, which torch.fx takes."""
    return tuple(map(_plain, value)) if isinstance(value, (tuple, list)) else value


def _with_counts(z: Any, *counts: int) -> Any:
    """z, if the numbers of samples that the tail takes from it are those that the forward meant."""
    if isinstance(z, fx.Proxy):  # torch.load traces a half once more
        return z.tracer.create_proxy("call_function", _with_counts, (z, *counts), {})
    if any(count != z.shape[0] for count in counts):
        raise ValueError(f"cutwire.torch.split: the first dimension at the cut is {z.shape[0]}, where the forward goes on "
                         f"with {', '.join(map(str, counts))}: it is not the samples'; split it by hand into two modules")
    return z


def _is_pick(node: fx.Node, of: Set[fx.Node]) -> bool:
    return node.target is operator.getitem and node.args[0] in of and isinstance(node.args[1], int)


def _end_of(nodes: List[fx.Node], i: int) -> int:
    """Where the module ends whose last node is nodes[i]. What the forward picks right away of a tuple that it gives, as of
    an LSTM's output and state, belongs to it. So does what is picked of that, if one tensor crosses there."""
    end, picked = i, {nodes[i]}
    while end + 1 < len(nodes) and _is_pick(nodes[end + 1], {nodes[i]}):
        end += 1
        picked.add(nodes[end])
    for j in range(end + 1 if end > i else len(nodes), len(nodes)):
        if not _is_pick(nodes[j], picked):
            break
        picked.add(nodes[j])
        end = j if len(_place_at(nodes, j).crossing) == 1 else end
    return end


def _places(graph: fx.Graph) -> Dict[str, _Place]:
    """Of every module that the graph came through, in order."""
    nodes, last = list(graph.nodes), {}
    for i, node in enumerate(nodes):
        for path in node.meta.get("inside", ()):
            last[path] = i
    ends = {path: _end_of(nodes, i) for path, i in last.items()}
    by_end = sorted(ends.items(), key=lambda item: (item[1], item[0]))
    return {path: _place_at(nodes, i) for path, i in by_end}


def _is_cut(nodes: List[fx.Node], place: _Place, example: Any) -> bool:
    """One tensor crosses, layers come behind it, and it is none of the inputs."""
    if place.sizes and example is None:
        return False
    behind = any(n.op in ("call_module", "call_function", "call_method") for n in nodes[place.index + 1:])
    return behind and len(place.crossing) == 1 and place.crossing[0].op != "placeholder"


def cut_points(model: nn.Module, example: Any = None) -> List[str]:
    """The names that split() takes as `after`, with the same `example`, in the order of the forward. Names of what
    torch.fx cannot look into are missing. ValueError where it cannot follow the model's own forward."""
    _, graph = _trace(model, None)
    nodes = list(graph.nodes)
    return [path for path, place in _places(graph).items() if path and _is_cut(nodes, place, example)]


def _listed(model: nn.Module, example: Any) -> str:
    names = cut_points(model, example)
    more = f", and {len(names) - _LISTED} more (cutwire.torch.cut_points)" if len(names) > _LISTED else ""
    return f"it can be cut after {', '.join(names[:_LISTED]) or 'none of its modules'}{more}"


def _ancestors(name: str) -> Set[str]:
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


def _place_of(model: nn.Module, graph: fx.Graph, after: str, example: Any) -> _Place:
    place = _places(graph).get(after)
    if place is None:
        raise ValueError(f"after={after!r}: the forward never comes through it; {_listed(model, example)}")
    crossing = [str(node) for node in place.crossing]
    if len(crossing) > 1:
        raise ValueError(f"after={after!r}: more than one tensor crosses there ({', '.join(crossing)}), as inside a skip "
                         f"connection; {_listed(model, example)}")
    if place.sizes and example is None:
        raise ValueError(f"after={after!r}: sizes of the input cross there, as its height and width: give example=, an "
                         "input of the model, and they are fixed; or cut elsewhere: " + _listed(model, example))
    if not _is_cut(list(graph.nodes), place, example):
        raise ValueError(f"after={after!r}: nothing is left on one of the sides; {_listed(model, example)}")
    return place


# ---- the halves ----


_DROPOUTS = {nn.functional.dropout: nn.Dropout, nn.functional.dropout2d: nn.Dropout2d,
             nn.functional.dropout3d: nn.Dropout3d, nn.functional.alpha_dropout: nn.AlphaDropout}


def _dropouts(graph: fx.Graph) -> List[fx.Node]:
    return [n for n in graph.nodes if n.op == "call_function" and n.target in _DROPOUTS]


def _drops(node: fx.Node) -> Any:
    """The mode of that call. alpha_dropout alone drops nothing unless it is told to."""
    return _argument(node, 2, "training", node.target is not nn.functional.alpha_dropout)


def _keep_dropout(tracer: _Tracer, graph: fx.Graph, follows: List[bool]) -> nn.Module:
    """A traced call of functional.dropout has the mode of the moment in it: where it follows that, it becomes a module,
    which follows train() and eval(). Returns the root for the graph's names."""
    root = tracer.root
    extra: Dict[str, nn.Module] = {}
    for node in [n for n, follow in zip(_dropouts(graph), follows) if follow]:
        name = f"_dropout_{len(extra)}"
        extra[name] = _DROPOUTS[node.target](_argument(node, 1, "p", 0.5))
        with graph.inserting_before(node):
            fresh = graph.call_module(name, (node.args[0] if node.args else node.kwargs["input"],))
        fresh.meta = dict(node.meta)
        node.replace_all_uses_with(fresh)
        graph.erase_node(node)
    return _WithExtra(root, extra, tracer.constants) if extra or tracer.constants else root


def _argument(node: fx.Node, index: int, name: str, default: Any) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


class _WithExtra(nn.Module):
    """A model under its own names, and modules and constants that came in addition."""

    def __init__(self, model: nn.Module, extra: Dict[str, nn.Module], constants: Dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._modules = {**model._modules, **extra}
        self._parameters, self._buffers = model._parameters, model._buffers
        self.__dict__.update({k: v for k, v in model.__dict__.items() if k not in self.__dict__})
        self.__dict__.update(constants)


@contextlib.contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Training or evaluation, module by module, is as before."""
    modes = {path: m.training for path, m in model.named_modules()}
    try:
        yield
    finally:
        for path, m in model.named_modules():
            m.training = modes[path]


def _sizes_of(model: nn.Module, root: nn.Module, graph: fx.Graph, place: _Place, example: Any) -> Tuple[Any, ...]:
    """Those that cross, for this input."""
    asked = fx.Graph()
    known: Dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes)[:place.index + 1]:
        known[node] = asked.node_copy(node, lambda n: known[n])
    asked.output(tuple(known[n] for n in place.sizes))
    module = fx.GraphModule(root, asked, "Sizes")
    module.graph.eliminate_dead_code()
    module.recompile()
    inputs = example if isinstance(example, tuple) else (example,)
    with _modes_kept(model), torch.no_grad():
        model.eval()
        return tuple(_plain(module(*inputs)))


def _sides(graph: fx.Graph, place: _Place, sizes: Tuple[Any, ...]) -> Tuple[fx.Graph, fx.Graph]:
    nodes, at = list(graph.nodes), place.crossing[0]
    first, second = fx.Graph(), fx.Graph()
    known: Dict[fx.Node, fx.Node] = {}
    for node in nodes[:place.index + 1]:
        known[node] = first.node_copy(node, lambda n: known[n])
    z = known[at]
    if place.counts:
        z = first.call_function(_with_counts, (z, *(known[n] for n in place.counts)))
    if place.sizes:
        z = first.call_function(_with_sizes, (z, sizes, *(known[n] for n in place.sizes)))
    first.output(z)
    z = second.placeholder("z")
    known = {at: z} | {n: second.call_method("size", (z, 0)) for n in place.counts} | dict(zip(place.sizes, sizes))
    for i, node in enumerate(nodes):
        if node.op == "get_attr" or i > place.index:
            known[node] = second.node_copy(node, lambda n: known[n])
    return first, second


class _Constant(nn.Module):
    """A tensor that is not in the model's state dict: neither is it in the half's."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def forward(self) -> Any:
        return self.value


def _keep_constants(model: nn.Module, root: nn.Module, graph: fx.Graph) -> nn.Module:
    """torch.fx would make saved buffers of all tensors that the forward takes."""
    saved, extra = model.state_dict(keep_vars=True), {}
    for node in [n for n in graph.nodes if n.op == "get_attr" and n.target not in saved]:
        value = functools.reduce(getattr, node.target.split("."), root)
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
            name = f"_constant_{len(extra)}"
            extra[name] = _Constant(value)
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_module(name))
            graph.erase_node(node)
    return _WithExtra(root, extra, {}) if extra else root


def _half(model: nn.Module, root: nn.Module, graph: fx.Graph, name: str) -> fx.GraphModule:
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users:  # the other half's parameter
            graph.erase_node(node)
    root = _keep_constants(model, root, graph)
    graph.lint()
    half = fx.GraphModule(root, graph, name)
    known = set(model.modules())
    for module in half.modules():
        if module not in known:
            module.training = model.training
    return half


def _code(graph: fx.Graph) -> List[Tuple[str, str, str, str]]:
    return [(n.op, str(n.target), str(n.args), str(n.kwargs)) for n in graph.nodes]


def _trace_both(model: nn.Module, opened: Set[str]) -> Tuple[nn.Module, fx.Graph]:
    """In training and in evaluation; they have to come to the same."""
    found = []
    with _modes_kept(model):
        for training in (False, True):
            model.train(training)
            found.append(_trace(model, opened))
    modes = zip(*([_drops(node) for node in _dropouts(graph)] for _, graph in found))
    follows = [(evaluation, training) == (False, True) for evaluation, training in modes]
    roots = [_keep_dropout(tracer, graph, follows) for tracer, graph in found]
    by_hand = "which torch.fx cannot follow; split it by hand into two modules, and put a Cut between them"
    if _code(found[0][1]) != _code(found[1][1]):
        raise ValueError(f"the forward of {type(model).__name__} does one thing in training and another in evaluation, "
                         + by_hand)
    first, second = (tracer.constants for tracer, _ in found)
    if not all(torch.equal(first[name], second[name]) for name in first):
        raise ValueError(f"the forward of {type(model).__name__} makes a tensor that is another one in each call, as of "
                         "random numbers, " + by_hand)
    return roots[1], found[1][1]


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _refuse_hooks(model: nn.Module, opened: Set[str]) -> None:
    """A module that is cut open is called no more: only what is in it."""
    for path in sorted(opened | {""}):
        module = model.get_submodule(path)
        if any(getattr(module, kind, None) for kind in _HOOKS):
            raise ValueError(f"{path or 'the model'} ({type(module).__name__}) is cut open and has hooks, which would not be "
                             "called any more: take them away (handle.remove()), and put them on the halves")


def split(model: nn.Module, after: str, example: Any = None) -> Tuple[nn.Module, nn.Module]:
    """(head, tail): the model up to the module named `after`, and all that comes behind it.

        head, tail = cwt.split(torchvision.models.resnet18(), after="layer1")

    `after` is a dotted name, as model.named_modules() gives them; cut_points(model) lists the ones that work. A module
    that is called several times counts by its last call. The head takes those inputs of the model that have no default,
    the tail one tensor; tail of head is the model, in training and in evaluation. Both share parameters and buffers with
    it, under its names: what they learn the model has learned, and model.state_dict() stays whole.

    Raises ValueError with the list of valid names where `after` is none, where more than one tensor would cross (inside a
    skip connection), where a module around `after` has hooks, which would be lost, and where torch.fx cannot follow the
    model: bring your own two modules then. The forwards of the modules around `after` are traced once: what they decide by
    the values of tensors they would decide for ever, and what they assert of them is taken as true. The number of samples may cross, too (`n = x.size(0)` before the cut and
    `view(n, -1)` behind it): the tail takes it from its own input, and the head raises ValueError where that would not do.
    Other sizes of the input may cross with `example`, an input of the model, or a tuple of several: as its height and
    width, which a network for segmentation asks for at its end. They are fixed in the tail, and the head raises ValueError
    for an input that has others.
    """
    if not isinstance(after, str):
        raise TypeError(f"after: a module's dotted name is wanted, not {type(after).__name__}")
    if after not in dict(model.named_modules()) or not after:
        raise ValueError(f"after={after!r}: {type(model).__name__} has no module of that name; {_listed(model, example)}")
    _refuse_hooks(model, _ancestors(after))
    root, graph = _trace_both(model, _ancestors(after))
    place = _place_of(model, graph, after, example)
    sizes = _sizes_of(model, root, graph, place, example) if place.sizes else ()
    first, second = _sides(graph, place, sizes)
    return _half(model, root, first, "Head"), _half(model, root, second, "Tail")
