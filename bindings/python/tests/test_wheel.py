"""The package as a wheel that brings its libraries: built and installed without network into a fresh environment."""
import os
import pathlib
import shutil
import subprocess
import sys

import cutwire

PROGRAM = """
import importlib.metadata, numpy, pathlib, cutwire
assert pathlib.Path(cutwire.__file__).is_relative_to({prefix!r}), cutwire.__file__
x = numpy.random.rand(4, 8, 8, 8).astype("f4")
assert numpy.linalg.norm(cutwire.decode(cutwire.Codec("ec:err=0.1").encode(x)) - x) < 0.11 * numpy.linalg.norm(x)
import os
from cutwire import _codec, _lib
assert os.environ.get("CUTWIRE_FAST") != "1" or _codec._fast_encode is not _codec._not_here
_lib.load("cutwire")
assert importlib.metadata.version("cutwire") == cutwire.__version__
names = [e.value for e in importlib.metadata.entry_points(group="numcodecs.codecs") if e.name == "cutwire"]
assert names[:1] == ["cutwire:Codec"], names
print("works")
"""


def run(*command, cwd):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CUTWIRE_LIBRARY_DIR", "LD_LIBRARY_PATH")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300,
                          env={**env, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel(tmp_path):
    package = pathlib.Path(cutwire.__file__).parents[1]
    shutil.copytree(package, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    run("/usr/bin/python3", "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", "wheels", "./source",
        cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    assert wheel.name.startswith(f"cutwire-{cutwire.__version__}-py3-none-linux_"), wheel.name
    shutil.rmtree(tmp_path / "source")
    run("/usr/bin/python3", "-m", "venv", "--system-site-packages", "--without-pip", "fresh", cwd=tmp_path)
    python = str(tmp_path / "fresh" / "bin" / "python")
    run(python, "-m", "pip", "install", "--no-deps", str(wheel), cwd=tmp_path)
    assert "works" in run(python, "-W", "error", "-c", PROGRAM.format(prefix=str(tmp_path / "fresh")), cwd=tmp_path)


def test_without_its_libraries(tmp_path):
    """The sentence that tells what to do."""
    shutil.copytree(pathlib.Path(cutwire.__file__).parent, tmp_path / "cutwire", ignore=shutil.ignore_patterns("_libs"))
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "LD_LIBRARY_PATH": ""}
    done = subprocess.run([sys.executable, "-c", "import cutwire"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0 or "run `make python`" in done.stderr, done.stderr
    env["CUTWIRE_LIBRARY_DIR"] = str(pathlib.Path(cutwire.__file__).parent / "_libs")
    subprocess.run([sys.executable, "-c", "import cutwire; cutwire.Codec('ec')"], check=True, env=env, cwd=tmp_path)
