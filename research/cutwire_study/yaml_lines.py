"""YAML whose values know their line, so that an error can name it."""
from __future__ import annotations

import pathlib
from typing import Any

from .errors import USAGE, StudyError, need


class Node:
    """A value of a YAML file: str, list of Node, or dict of str to Node; scalars stay as they are written."""

    def __init__(self, value: Any, file: str, line: int):
        self.value, self.file, self.line = value, file, line

    def fail(self, what: str, why: str, what_to_do: str) -> StudyError:
        return StudyError(f"study: {self.file}:{self.line}: {what}: {why}: {what_to_do}", USAGE)

    def mapping(self, what: str) -> dict[str, "Node"]:
        if not isinstance(self.value, dict):
            raise self.fail(what, "not a mapping", "write `key: value` lines below it")
        return self.value

    def items(self) -> list["Node"]:
        """The elements of a list; a single value is a list of one."""
        return self.value if isinstance(self.value, list) else [self]

    def text(self, what: str) -> str:
        if not isinstance(self.value, str):
            raise self.fail(what, "neither a word nor a number", "give one value")
        return self.value


def _convert(yaml, tree, file: str) -> Node:
    line = tree.start_mark.line + 1
    if isinstance(tree, yaml.ScalarNode):
        return Node(tree.value, file, line)
    if isinstance(tree, yaml.SequenceNode):
        return Node([_convert(yaml, child, file) for child in tree.value], file, line)
    found: dict[str, Node] = {}
    for key, value in tree.value:
        name, at = str(key.value), key.start_mark.line + 1
        if name in found:
            raise Node(None, file, at).fail(name, "is there twice", "keep one of the two")
        found[name] = _convert(yaml, value, file)
        found[name].line = at
    return Node(found, file, line)


def read(path: pathlib.Path) -> Node:
    yaml = need("yaml", "python3-yaml", "cannot read a study's file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"study: cannot read {path}: {error}") from error
    try:
        tree = yaml.compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(f"study: {path}:{line}: not YAML: {why}: see the files in research/studies for examples",
                         USAGE) from error
    if tree is None:
        raise StudyError(f"study: {path}:1: empty: a study has at least `title` and `runs`", USAGE)
    return _convert(yaml, tree, str(path))
