"""`--only WORDS`: which of a study's runs, or cases, are meant."""
from __future__ import annotations

from typing import Callable, Sequence, TypeVar

from .errors import USAGE, StudyError

Item = TypeVar("Item")
Keys = dict[str, str]


def holds(word: str, keys: Keys, text: str) -> bool:
    """KEY=VALUE holds where that key has this value, or is a codec of this name; another word where `text` contains it;
    with ! before it a word holds where it would not."""
    if word.startswith("!"):
        return not holds(word[1:], keys, text)
    key, equals, value = word.partition("=")
    if equals and key in keys:
        return keys[key] == value or (":" not in value and keys[key].startswith(value + ":"))
    return word in text


def choose(items: Sequence[Item], words: str, described: Callable[[Item], tuple[Keys, str]]) -> list[Item]:
    """Those for which every word holds, each described by its keys and its text. An error where there are none."""
    known = [described(item) for item in items]
    fit = {word: {i for i, (keys, text) in enumerate(known) if holds(word, keys, text)} for word in words.split()}
    chosen = [item for i, item in enumerate(items) if all(i in fitting for fitting in fit.values())]
    if items and not chosen:
        raise StudyError("study: --only: " + why_none(fit, [keys for keys, _ in known]), USAGE)
    return chosen


def why_none(fit: dict[str, set[int]], known: list[Keys]) -> str:
    for word, fitting in fit.items():
        if fitting:
            continue
        key = word.lstrip("!").partition("=")[0]
        values = list(dict.fromkeys(keys[key] for keys in known if key in keys))
        if values and "=" in word:
            return f"nothing in the study fits '{word}': {key} is {' or '.join(values)}"
        return (f"nothing in the study fits '{word}': a word is KEY=VALUE, with a key like {', '.join(known[0])}, "
                "or a part of what `list` prints")
    return "nothing in the study fits " + " and ".join(f"'{word}'" for word in fit) + " at once: see `list`"
