"""What cffi is told of the C library is what its headers have: every struct, member by member, asked of a compiler."""
import importlib
import importlib.util
import pathlib
import shutil
import subprocess

import pytest

from cutwire import _lib

HEADERS = pathlib.Path(__file__).resolve().parents[3] / "include"
MODULES = ("cutwire._net", "cutwire._infer")  # that add declarations of their own


def asserts(name, kind):
    """C lines that fail to compile unless the headers' struct `name` is laid out as cffi has it."""
    yield f'_Static_assert(sizeof({name}) == {_lib.ffi.sizeof(kind)}, "sizeof {name}");'
    for member, field in kind.fields:
        yield (f'_Static_assert(offsetof({name}, {member}) == {field.offset} && '
               f'sizeof((({name} *)0)->{member}) == {_lib.ffi.sizeof(field.type)}, "{name}.{member}");')


def structs():
    for module in filter(importlib.util.find_spec, MODULES):
        importlib.import_module(module)
    for name in _lib.ffi.list_types()[0]:
        kind = _lib.ffi.typeof(name)
        if kind.kind == "struct" and kind.fields:  # else opaque
            yield name, kind


def compile_c(tmp_path, lines):
    source = tmp_path / "declarations.c"
    source.write_text("\n".join(["#include <stddef.h>", '#include "cutwire/cutwire.h"', *lines, ""]))
    return subprocess.run(["cc", "-std=c11", "-fsyntax-only", f"-I{HEADERS}", source], capture_output=True, text=True)


@pytest.mark.skipif(not HEADERS.is_dir() or not shutil.which("cc"), reason="no headers here, or no C compiler")
def test_structs_are_those_of_the_headers(tmp_path):
    found = dict(structs())
    assert {"cw_tensor", "cw_encode_args", "cw_decode_args", "cw_payload_info"} <= set(found)
    made = compile_c(tmp_path, [line for name, kind in found.items() for line in asserts(name, kind)])
    assert made.returncode == 0, made.stderr
    wrong = compile_c(tmp_path, ['_Static_assert(sizeof(cw_tensor) == 1, "");'])
    assert wrong.returncode != 0  # so this test can fail
