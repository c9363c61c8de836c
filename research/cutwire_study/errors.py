"""What goes wrong, as a sentence."""
from __future__ import annotations

FAILURE, USAGE = 1, 2


class StudyError(Exception):
    """`what: why: what to do`, and the exit code: FAILURE, or USAGE where the user's words are at fault."""

    def __init__(self, sentence: str, code: int = FAILURE):
        super().__init__(sentence)
        self.code = code


def need(module: str, package: str, purpose: str):
    """The imported module, or an error that names the Debian package that has it."""
    import importlib
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StudyError(f"study: {purpose}: Python's {module} is missing: apt-get install {package}") from error
