"""The C libraries behind the package: where they lie, what they declare, and their errors as exceptions.

Two of them: `libcutwire-codec` needs libc and libm alone, and is all that codecs want; `libcutwire` has training and the
network on top, and is loaded by who asks for it. cffi works in ABI mode: nothing is compiled, so that one build serves
every Python 3. It releases the GIL while a C function runs.

Declarations are texts by topic. This module has those of the codec. Others add theirs:

    from cutwire import _lib
    _lib.ffi.cdef(TEXT)                  # once, when the module is imported
    lib = _lib.load("cutwire")           # or "cutwire-codec"
"""
from __future__ import annotations

import functools
import os
import pathlib
import re
from typing import Any, List, Optional

import cffi

#: cutwire/status.h, tensor.h and codec.h, as far as they are used here. Enumerations are ints.
CODEC = """
typedef int cw_status;
typedef int cw_dtype;
typedef struct { cw_status status; uint64_t offset; char message[1024]; } cw_error;
const char *cw_status_name(cw_status status);
const char *cw_status_message(cw_status status);
const char *cw_version(void);

typedef struct { int32_t ndim; int64_t dim[8]; } cw_shape;
typedef struct { cw_dtype dtype; cw_shape shape; void *data; _Bool owned; } cw_tensor;

typedef struct cw_codec cw_codec;
cw_status cw_codec_create(const char *spec, cw_codec **out, cw_error *err);
void cw_codec_destroy(cw_codec **codec);
const char *cw_codec_spec(const cw_codec *codec);
typedef struct { _Bool lossless, keeps_zero, takes_support, unbiased; } cw_codec_traits;
cw_codec_traits cw_codec_get_traits(const cw_codec *codec);
typedef struct { const char *name, *summary, *keys; } cw_codec_family;
size_t cw_codec_family_count(void);
const cw_codec_family *cw_codec_family_at(size_t i);

typedef struct cw_profile cw_profile;
cw_status cw_profile_create(const void *bytes, size_t size, cw_profile **out, cw_error *err);
cw_status cw_profile_train(const cw_codec *codec, const cw_tensor *const *tensors, size_t count, cw_profile **out,
                           cw_error *err);
void cw_profile_destroy(cw_profile **profile);
const void *cw_profile_bytes(const cw_profile *profile, size_t *size);
uint64_t cw_profile_hash(const cw_profile *profile);
size_t cw_profile_outputs(const cw_profile *profile);
typedef struct {
    uint64_t seed;
    _Bool evaluate;
    int threads;
    void *work;
    size_t work_size;
    const uint8_t *support;
    const cw_profile *profile;
} cw_encode_args;
typedef struct {
    int threads;
    void *work;
    size_t work_size;
    uint8_t *sent;
    const uint8_t *support;
    const cw_profile *profile;
} cw_decode_args;
size_t cw_codec_bound(const cw_codec *codec, const cw_tensor *in);
size_t cw_codec_work_size(const cw_codec *codec, const cw_tensor *in);
cw_status cw_encode(const cw_codec *codec, const cw_tensor *in, const cw_encode_args *args, void *dst, size_t capacity,
                    size_t *size, cw_error *err);
typedef struct {
    char codec[192];
    cw_dtype dtype;
    cw_shape shape;
    size_t elements, header_bytes, payload_bytes;
    uint16_t version;
    uint32_t checksum;
    uint64_t profile;
} cw_payload_info;
cw_status cw_payload_inspect(const void *src, size_t size, cw_payload_info *info, cw_error *err);
size_t cw_decode_work_size(const cw_payload_info *info);
cw_status cw_decode(const void *src, size_t size, cw_tensor *out, const cw_decode_args *args, cw_error *err);
const char *cw_cpu_variant(void);
"""

NO_OFFSET = 2**64 - 1
OK, ERR_INVALID, ERR_NO_MEMORY, ERR_NONFINITE, ERR_MISMATCH = 0, 1, 2, 4, 14  # cw_status
F32, BF16 = 1, 2  # cw_dtype
MAX_DIMS = 8

ffi = cffi.FFI()
ffi.cdef(CODEC)


class Error(Exception):
    """What the C library refuses.

    str(error) is a sentence that says what, where and what to do.

    code    the status's name in C, as "CW_ERR_TRUNCATED" (cutwire/status.h has all)
    status  its number
    offset  the byte of a payload, or the element of a tensor, at fault; None where that has no meaning
    """

    def __init__(self, message: str, code: str = "CW_ERR_INVALID", status: int = ERR_INVALID,
                 offset: Optional[int] = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.offset = offset

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.code, self.status, self.offset)


def places(name: str) -> List[pathlib.Path]:
    """Where lib{name}.so is looked for, in this order: $CUTWIRE_LIBRARY_DIR alone if it is set, else beside this file."""
    chosen = os.environ.get("CUTWIRE_LIBRARY_DIR")
    folder = pathlib.Path(chosen) if chosen else pathlib.Path(__file__).resolve().parent / "_libs"
    return [folder / f"lib{name}.so"]


@functools.lru_cache(maxsize=None)
def load(name: str) -> Any:
    """The library lib{name}.so, opened once: "cutwire-codec" or "cutwire". ImportError where it is not."""
    path = next((p for p in places(name) if p.exists()), None)
    try:
        # Where the package came without its libraries, an installed one is as good.
        return ffi.dlopen(str(path) if path else f"lib{name}.so.0")
    except OSError as e:
        tried = ", ".join(map(str, places(name)))
        raise ImportError(f"cutwire: lib{name} cannot be loaded ({e}); looked at {tried}: run `make python` in the "
                          "checkout and take build/python, or set CUTWIRE_LIBRARY_DIR to the folder that has it") from e


def text(chars: Any) -> str:
    """A C string; the library's texts are UTF-8, what a hostile payload holds need not be."""
    found: str = ffi.string(chars).decode("utf-8", "replace")
    return found


def status_name(status: int) -> str:
    return text(load("cutwire-codec").cw_status_name(status))


_ARGUMENTS = ("checkpoint-every", "epochs", "eval-every", "identity", "join-timeout", "out", "overwrite", "reconnect",
              "resume", "seed", "threads", "timeout")  # of a Server or a Client; other settings go by config=


def _in_python(sentence: str) -> str:
    """What it calls by the command's options, by this package's arguments."""
    return re.sub(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)",
                  lambda m: f"{m[1].replace('-', '_')}=" if m[1] in _ARGUMENTS else f"config={{'{m[1]}': ...}}", sentence)


def failure(status: int, err: Any, prefix: str = "") -> Error:
    """The exception of a call that returned `status` and filled the cw_error *err (may be NULL)."""
    lib = load("cutwire-codec")
    sentence = _in_python(text(err.message)) if err else ""
    offset = None if not err or err.offset == NO_OFFSET else int(err.offset)
    return Error(prefix + (sentence or text(lib.cw_status_message(status))), status_name(status), status, offset)
