"""Codecs: tensors to payloads and back, by libcutwire-codec."""
from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy

from . import _lib, _tensors
from ._lib import Error, ffi

_KEPT = 64 << 20  # a thread's buffer that is larger is given back after the call
_DTYPES = {_lib.F32: "f32", _lib.BF16: "bf16"}
_SEEDS, _THREADS = 2**64 - 1, 2**15 - 1
_SMALL = 4096  # bytes of a payload that decodes without being looked at before
_C = _lib.load("cutwire-codec")
_VOID, _BYTES = ffi.typeof("void *"), ffi.typeof("uint8_t *")
_NONE = ffi.cast(_BYTES, 0)
_serials = itertools.count(1)


def _not_here(*arguments: Any) -> None:
    """In the place of _fast's functions, where that was not built or Python is older than 3.11."""


try:
    # After _C: it finds that library loaded.
    from ._fast import decode as _fast_decode, encode as _fast_encode
except ImportError:
    _fast_decode = _fast_encode = _not_here


class Traits(NamedTuple):
    """What a codec promises."""

    lossless: bool  #: fp32 comes back to the bit
    keeps_zero: bool  #: of a tensor without negative elements, what is 0 comes back as 0
    takes_support: bool  #: makes use of `support`
    unbiased: bool  #: what decodes is on average over seeds the input


class Family(NamedTuple):
    """A codec by its name, and the keys of its spec."""

    name: str
    summary: str
    keys: str


@dataclasses.dataclass(frozen=True)
class PayloadInfo:
    """What a payload says of itself (docs/formats/payload.md). Sizes in bytes."""

    codec: str  #: canonical spec of the codec that made it
    dtype: str  #: of what was encoded: "f32" or "bf16"
    shape: Tuple[int, ...]
    elements: int
    header_bytes: int
    payload_bytes: int
    version: int  #: of the payload's format
    checksum: int  #: CRC-32C, as stored
    profile: int = 0  #: hash of the profile that decoding takes, or 0


class _Room:
    """Memory that grows, aligned as the kernels like it."""

    def __init__(self) -> None:
        self.array = numpy.empty(0, numpy.uint8)

    def address(self, size: int) -> int:
        if self.array.size < size + 64:
            self.array = numpy.empty(size + 64, numpy.uint8)
        base = self.array.__array_interface__["data"][0]
        return base + -base % 64


class _Call:
    """What a call needs and the next one of the same thread takes over: structs, room for a payload and for scratch."""

    def __init__(self) -> None:
        self.err = ffi.new("cw_error *")
        self.tensor = ffi.new("cw_tensor *")
        self.back = ffi.new("cw_tensor *")
        self.encode = ffi.new("cw_encode_args *")
        self.decode = ffi.new("cw_decode_args *")
        self.info = ffi.new("cw_payload_info *")
        self.size = ffi.new("size_t *")
        self.payload = _Room()
        self.work = _Room()  # of encoding
        self.scratch = _Room()  # of decoding
        self.prepared: Any = None  # (codec, threads, dtype, shape) that `encode`, `tensor` and the rooms are set for
        self.room: Any = None
        self.capacity = 0

    def prepare(self, codec: Any, threads: int, view: _tensors.View) -> None:
        """For encoding such a tensor, which the one before often was."""
        key = (codec, threads, view.dtype, view.shape)
        if key == self.prepared:
            self.tensor.data = ffi.cast(_VOID, view.address)
            return
        self.prepared = None
        tensor, args = self.set_tensor(self.tensor, view), self.encode
        args.threads = threads
        self.set_work(args, self.work, _C.cw_codec_work_size(codec, tensor) * max(threads, 1))
        self.capacity = _C.cw_codec_bound(codec, tensor)
        self.room = ffi.cast(_BYTES, self.payload.address(self.capacity))
        self.prepared = key

    def trim(self) -> None:
        if self.payload.array.size > _KEPT:
            self.payload, self.prepared = _Room(), None

    @staticmethod
    def set_tensor(tensor: Any, view: _tensors.View) -> Any:
        if len(view.shape) > _lib.MAX_DIMS:
            raise Error(f"a tensor of {len(view.shape)} dimensions, at most {_lib.MAX_DIMS} are taken")
        tensor.dtype = view.dtype
        tensor.data = ffi.cast(_VOID, view.address)
        tensor.shape.ndim = len(view.shape)
        tensor.shape.dim[0:len(view.shape)] = view.shape
        return tensor

    def set_work(self, args: Any, room: _Room, size: int) -> None:
        """More than _KEPT is left to the library, which gives it back itself."""
        kept = 0 < size <= _KEPT
        args.work = ffi.cast(_VOID, room.address(size) if kept else 0)
        args.work_size = size if kept else 0

    def set_scratch(self, src: Any) -> None:
        """From the payload; one that is short is not worth the look, and gets what is there."""
        if len(src) > _SMALL:
            size = _C.cw_decode_work_size(self.inspect(src))
        else:
            size = max(self.scratch.array.size - 64, 0)
        self.set_work(self.decode, self.scratch, size)

    def inspect(self, src: Any) -> Any:
        status = _C.cw_payload_inspect(src, len(src), self.info, self.err)
        if status:
            raise _lib.failure(status, self.err)
        return self.info


class _Calls(threading.local):
    """A thread's free calls. One is taken out while it is used: a signal handler may want another meanwhile."""

    def __init__(self) -> None:
        self.free: List[_Call] = []

    def take(self) -> _Call:
        return self.free.pop() if self.free else _Call()

    def put_back(self, call: _Call) -> None:
        call.trim()
        self.free.append(call)


_calls = _Calls()


def _bytes_of(blob: Any) -> Any:
    """A payload's bytes, where they are; for `with`. An exception's traceback that kept them would form a cycle with
    them, and memoryviews in cycles crash CPython before 3.12."""
    try:
        return ffi.from_buffer("uint8_t[]", blob)
    except (TypeError, BufferError, ValueError) as e:
        raise TypeError(f"a payload is contiguous bytes (bytes, bytearray, memoryview, a numpy array), not "
                        f"{type(blob).__name__}") from e


def _check_int(name: str, value: Any, most: int) -> int:
    if value.__class__ is int and 0 <= value <= most:
        return int(value)
    number = value.__index__() if hasattr(value, "__index__") else -1
    if not 0 <= number <= most:
        raise ValueError(f"{name}: {value!r} is no whole number from 0 to {most}")
    return int(number)


def _address(view: Optional[_tensors.View]) -> Any:
    return ffi.cast(_BYTES, view.address) if view else _NONE


def codecs() -> List[Family]:
    """All codecs there are, with the keys of their specs."""
    families = (_C.cw_codec_family_at(i) for i in range(_C.cw_codec_family_count()))
    return [Family(_lib.text(f.name), _lib.text(f.summary), _lib.text(f.keys)) for f in families]


def cpu_variant() -> str:
    """The kernels that run here: "scalar", "avx2", "avx512" or "neon"."""
    return _lib.text(_C.cw_cpu_variant())


def library_version() -> str:
    """The version of the C library that was loaded."""
    return _lib.text(_C.cw_version())


class Codec:
    """A codec, named by a spec such as "ec:err=0.15" (docs/reference/codecs.md lists all).

    Immutable: any number of threads may use one at once. Codecs with the same canonical spec are equal; they can be
    hashed, copied and pickled. It follows numcodecs' protocol, and is registered there as "cutwire" where numcodecs is
    installed.

    Raises Error (CW_ERR_SPEC), which lists what is allowed; TypeError when the spec is no str.
    """

    codec_id = "cutwire"

    def __init__(self, spec: str) -> None:
        if not isinstance(spec, str):
            raise TypeError(f"a codec's spec is a str as 'ec:err=0.15', not {type(spec).__name__}")
        if "\0" in spec:
            raise Error("a codec's spec holds a zero byte", "CW_ERR_SPEC", 3)
        out, err = ffi.new("cw_codec **"), ffi.new("cw_error *")
        status = _C.cw_codec_create(spec.encode(), out, err)
        if status:
            raise _lib.failure(status, err)
        self._codec = ffi.gc(out[0], functools.partial(_destroy, _C.cw_codec_destroy))
        # For _fast: an address may come again, a number does not.
        self._address, self._serial = int(ffi.cast("uintptr_t", out[0])), next(_serials)

    @property
    def spec(self) -> str:
        """The canonical spec, with every key written out."""
        return _lib.text(_C.cw_codec_spec(self._codec))

    @property
    def traits(self) -> Traits:
        t = _C.cw_codec_get_traits(self._codec)
        return Traits(t.lossless, t.keeps_zero, t.takes_support, t.unbiased)

    def encode(self, x: Any, *, seed: int = 0, threads: int = 1, support: Any = None, evaluate: bool = False,
               profile: Optional[Profile] = None, out: Optional[Any] = None) -> Any:
        """The payload of a tensor, as bytes; with `out` as a memoryview of the bytes that were filled there.

        x         numpy or torch, of at most 8 dimensions, any strides, fp32, fp16 or bf16; dimension 0 is the sample.
                  fp16 is widened to fp32. Contiguous fp32 and bf16 are not copied
        seed      of stochastic codecs, 0 to 2^64 - 1: same seed, same bytes
        threads   that work on it; the bytes never depend on them
        support   uint8 or bool, as many elements as x: where it is 0 the element is 0, and who decodes knows that. `ec`
                  does not code such elements, other codecs make no use of it
        evaluate  the deterministic form of codecs that sample while training (`rt`)
        profile   what was learned of tensors like this one: `ec` takes it where the payload gets shorter, which then
                  decodes with it alone
        out       a writable contiguous buffer; bound(x) bytes are always enough

        Raises TypeError for what is no float tensor, and Error: CW_ERR_NONFINITE (offset: the first such element),
        CW_ERR_TOO_SMALL (out), CW_ERR_INVALID (a layout that the tensor cannot have, too many dimensions, or a profile
        beside round=stochastic), CW_ERR_MISMATCH (a profile of tensors of another shape).
        """
        if support is None and profile is None:
            array = _tensors.as_array(x)
            found = _fast_encode(self._address, self._serial, array, out, seed, threads, evaluate)
            if found is not None:
                return found
        view = _tensors.of(x)
        flags = None if support is None else _tensors.flags(support, view.count, "support")
        call = _calls.take()
        try:
            call.prepare(self._codec, _check_int("threads", threads, _THREADS), view)
            args = call.encode
            args.seed = _check_int("seed", seed, _SEEDS)
            args.evaluate = bool(evaluate)
            args.support = _address(flags)
            args.profile = _c_profile(profile)
            return self._encode_into(call, out) if out is not None else self._encode(call)
        finally:
            _calls.put_back(call)

    def _encode(self, call: _Call) -> bytes:
        room = call.room
        status = _C.cw_encode(self._codec, call.tensor, call.encode, room, call.capacity, call.size, call.err)
        if status:
            raise _lib.failure(status, call.err)
        return bytes(ffi.buffer(room, call.size[0]))

    def _encode_into(self, call: _Call, out: Any) -> memoryview:
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as room:
            status = _C.cw_encode(self._codec, call.tensor, call.encode, room, len(room), call.size, call.err)
        if status:
            raise _lib.failure(status, call.err)
        return memoryview(out).cast("B")[:call.size[0]]

    def bound(self, x: Any) -> int:
        """The most bytes that the payload of such a tensor takes."""
        view = _tensors.of(x)
        call = _calls.take()
        try:
            call.prepare(self._codec, 1, view)
            return int(call.capacity)
        finally:
            _calls.put_back(call)

    def decode(self, buf: Any, out: Optional[Any] = None) -> Any:
        """numcodecs' way to decode: `out` may have another shape, as long as it has as many bytes. See decode()."""
        if out is None:
            return decode(buf)
        info = inspect(buf)
        room = out if _tensors.is_torch(out) else numpy.asarray(out).view()
        if not _tensors.is_torch(room):
            room = room.reshape(-1).view(numpy.float32)
        decode(buf, out=room.reshape(info.shape))
        return out

    def get_config(self) -> Dict[str, str]:
        """{"id": "cutwire", "spec": ...}: what from_config takes."""
        return {"id": self.codec_id, "spec": self.spec}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Codec:
        """The codec of a configuration that get_config gave."""
        unknown = set(config) - {"id", "spec"}
        if unknown or "spec" not in config or config.get("id", cls.codec_id) != cls.codec_id:
            raise ValueError(f"a configuration is {{'id': '{cls.codec_id}', 'spec': SPEC}}, not {dict(config)!r}")
        return cls(config["spec"])

    def __repr__(self) -> str:
        return f"Codec({self.spec!r})"

    def __eq__(self, other: object) -> bool:
        return self.spec == other.spec if isinstance(other, Codec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.spec)

    def __reduce__(self) -> Any:
        return type(self), (self.spec,)


def _destroy(destroy: Any, codec: Any) -> None:
    destroy(ffi.new("cw_codec **", codec))


class Profile:
    """What `ec` has learned of earlier tensors of one cut, so that a single sample costs about what one of a batch does.

        profile = Profile.train(codec, [earlier])       # a few hundred samples like those to come
        blob = codec.encode(x, profile=profile)
        y = cutwire.decode(blob, profile=profile)       # elsewhere: Profile(profile.data), sent once

    Immutable: any number of threads may use one at once.

    Raises TypeError for what is no bytes, Error: CW_ERR_TRUNCATED, CW_ERR_MAGIC, CW_ERR_VERSION, CW_ERR_CHECKSUM,
    CW_ERR_CORRUPT, CW_ERR_NO_MEMORY.
    """

    def __init__(self, data: Any) -> None:
        out, err = ffi.new("cw_profile **"), ffi.new("cw_error *")
        with _bytes_of(data) as src:
            status = _C.cw_profile_create(src, len(src), out, err)
        if status:
            raise _lib.failure(status, err)
        self._keep(out[0])

    def _keep(self, profile: Any) -> None:
        self._profile = ffi.gc(profile, functools.partial(_destroy_profile, _C.cw_profile_destroy))

    @classmethod
    def train(cls, codec: Codec, tensors: Sequence[Any]) -> Profile:
        """Learns one for an `ec` codec with err or step and round=nearest.

        tensors  numpy or torch floats of 2 to 5 dimensions, of one shape but for dimension 0

        Raises TypeError for what is no float tensor, Error: CW_ERR_INVALID (another codec, or tensors that do not go
        together), CW_ERR_NONFINITE, CW_ERR_NO_MEMORY.
        """
        views = [_tensors.of(x) for x in tensors]
        structs = [_Call.set_tensor(ffi.new("cw_tensor *"), view) for view in views]
        out, err = ffi.new("cw_profile **"), ffi.new("cw_error *")
        status = _C.cw_profile_train(codec._codec, ffi.new("cw_tensor *[]", structs), len(structs), out, err)
        if status:
            raise _lib.failure(status, err)
        profile = cls.__new__(cls)
        profile._keep(out[0])
        return profile

    @property
    def data(self) -> bytes:
        """Its bytes, to keep or to send."""
        size = ffi.new("size_t *")
        bytes_ = _C.cw_profile_bytes(self._profile, size)
        return bytes(ffi.buffer(bytes_, size[0]))

    @property
    def hash(self) -> int:
        """By which payloads name it; never 0."""
        return int(_C.cw_profile_hash(self._profile))

    @property
    def outputs(self) -> int:
        """How many outputs its transform of channels has; 0: it has none. See docs/reference/codecs.md, "Profiles"."""
        return int(_C.cw_profile_outputs(self._profile))

    def __repr__(self) -> str:
        return f"Profile({self.hash:016x})"

    def __eq__(self, other: object) -> bool:
        return self.data == other.data if isinstance(other, Profile) else NotImplemented

    def __hash__(self) -> int:
        return self.hash

    def __reduce__(self) -> Any:
        return type(self), (self.data,)


def _destroy_profile(destroy: Any, profile: Any) -> None:
    destroy(ffi.new("cw_profile **", profile))


def _c_profile(profile: Optional[Profile]) -> Any:
    if profile is None:
        return ffi.NULL
    if not isinstance(profile, Profile):
        raise TypeError(f"profile: a cutwire.Profile, not {type(profile).__name__}")
    return profile._profile


def inspect(blob: Any) -> PayloadInfo:
    """What a payload says of itself: checked for consistency, but for the checksum and the body.

    Raises TypeError for what is no bytes, and Error with code and offset: CW_ERR_TRUNCATED, CW_ERR_MAGIC,
    CW_ERR_VERSION, CW_ERR_CORRUPT, CW_ERR_UNSUPPORTED.
    """
    call = _calls.take()
    try:
        with _bytes_of(blob) as src:
            i = call.inspect(src)
        return PayloadInfo(_lib.text(i.codec), _DTYPES.get(i.dtype, str(i.dtype)), _shape(i), i.elements,
                           i.header_bytes, i.payload_bytes, i.version, i.checksum, i.profile)
    finally:
        _calls.put_back(call)


def _shape(info: Any) -> Tuple[int, ...]:
    return tuple(info.shape.dim[0:info.shape.ndim])


def _empty(shape: Tuple[int, ...], dtype: int) -> numpy.ndarray:
    try:
        return numpy.empty(shape, numpy.float32)
    except (MemoryError, ValueError) as e:
        sizes = "x".join(map(str, shape))
        raise Error(f"no memory for a tensor of {sizes}", "CW_ERR_NO_MEMORY", _lib.ERR_NO_MEMORY) from e


def decode(blob: Any, out: Optional[Any] = None, *, threads: int = 1, support: Any = None, sent: Any = None,
           profile: Optional[Profile] = None) -> Any:
    """The tensor that a payload holds, as fp32 of numpy; or `out`, filled.

    blob     contiguous bytes. Nothing is trusted: whatever they are, there comes an exception or a tensor
    out      numpy or torch, of the payload's shape, contiguous, fp32 (or bf16, if that was encoded)
    threads  that work on it
    support  the one that the payload was encoded with, if it was
    sent     uint8 or bool, as many elements: filled with 0 where an element decodes to 0 (with `ec` where its code is 0),
             else with 1
    profile  the one that the payload names (PayloadInfo.profile), if it names one

    Raises TypeError, and Error with code and offset: those of inspect(), CW_ERR_CHECKSUM, CW_ERR_MISMATCH (shape, dtype,
    no support where it takes one, no profile or another one than it names), CW_ERR_NO_MEMORY.
    """
    if out is not None and support is None and sent is None and profile is None:
        if _fast_decode(blob, _tensors.as_array(out, write=True), threads) is not None:
            return out
    return _decode(blob, out, threads, support, sent, profile, _empty)


def _decode(blob: Any, out: Any, threads: int, support: Any, sent: Any, profile: Optional[Profile], make: Any) -> Any:
    """The same; `make` gives a tensor of a shape and dtype where there is no `out`."""
    threads = _check_int("threads", threads, _THREADS)
    call = _calls.take()
    try:
        with _bytes_of(blob) as src:
            call.decode.profile = _c_profile(profile)
            return _decode_with(call, src, out, threads, support, sent, make)
    finally:
        _calls.put_back(call)


def _decode_with(call: _Call, src: Any, out: Any, threads: int, support: Any, sent: Any, make: Any) -> Any:
    if out is None:
        info = call.inspect(src)
        out = make(_shape(info), info.dtype)
    view, args = _tensors.of_out(out), call.decode
    flags = None if support is None else _tensors.flags(support, view.count, "support")
    marks = None if sent is None else _tensors.flags(sent, view.count, "sent", write=True)
    args.threads, args.support, args.sent = threads, _address(flags), _address(marks)
    call.set_scratch(src)
    status = _C.cw_decode(src, len(src), call.set_tensor(call.back, view), args, call.err)
    if status:
        raise _lib.failure(status, call.err)
    return out
