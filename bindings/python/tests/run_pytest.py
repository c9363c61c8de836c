#!/usr/bin/python3
"""ctest's way to pytest: run_pytest.py MODULES FILES...: skips visibly (77) where a module in MODULES,MODULES is not."""
import importlib.util
import os
import sys

modules, files = sys.argv[1].split(","), sys.argv[2:]
missing = [name for name in modules + ["pytest"] if importlib.util.find_spec(name) is None]
if missing:
    print(f"SKIP: /usr/bin/python3 has no {', '.join(missing)} (Debian: python3-NAME)")
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-W", "error", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *files])
