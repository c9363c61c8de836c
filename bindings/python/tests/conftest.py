"""The package under test is build/python, unless PYTHONPATH names another."""
import importlib.util
import pathlib
import sys

if importlib.util.find_spec("cutwire") is None:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "build" / "python"))
