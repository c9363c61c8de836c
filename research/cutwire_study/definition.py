"""A study's file: its words, its grid, and the runs that follow from it.

    title: one line                     question: what it is to answer       paper: the paper's name of it
    common: {key: value}                what all runs have: any key of `cutwire train`, and `preset`
    quick: {key: value}                 what `--quick` changes, so that it takes minutes
    runs:                               a list of grids, in order of worth
      - mode: unsplit                   or split, the default
        seed: [1, 2]                    lists are multiplied out, the first key slowest
      - cut: [shallow, deep]
        codec:                          a spec: the uplink's, gradients as they are; `defaults`; or a mapping of
          - ms:r=0.99,b=2               uplink, downlink, update (what is left out is `none`)
          - {uplink: ec:err=0.25, downlink: "ec:step=7,round=stochastic,scope=sample"}
    prove: yes                          results that stand for others are also made, once, at the first seed
    views: [table, {curves: {}}]        what `show` makes: table, traffic, curves, points, lines; their `panels` is a key
                                        of runs, or several: {lines: {x: clients, panels: model dirichlet}}
    notes: what the reader should know
    measure: NAME                       in place of runs: a program that measures (research/cutwire_study/measure_NAME.py)
"""
from __future__ import annotations

import dataclasses
import difflib
import itertools
import pathlib

from . import yaml_lines
from .errors import USAGE, StudyError
from .program import Program, plain_number, precision_of_auto

STUDIES = pathlib.Path(__file__).resolve().parents[1] / "studies"
WORDS = ["title", "question", "paper", "common", "quick", "runs", "prove", "views", "notes", "measure"]
VIEWS = ["table", "traffic", "curves", "points", "lines"]
CODEC_KEYS = ["uplink", "downlink", "update"]
SPLIT_ONLY = {"cut", *CODEC_KEYS, "eval-uplink", "mask-gradient", "dirichlet", "clients", "checkpoint-steps",
              "mode"}
# Columns of their own in the CSV. The batch, and all other keys that differ from the command's defaults, are the recipe.
NAMED = ["data", "model", "cut", *CODEC_KEYS, "clients", "precision", "epochs", "seed"]


@dataclasses.dataclass(frozen=True, order=True)
class Run:
    """One training run: what it is, as far as its result depends on it. An unsplit one has "-" for cut and codecs."""
    data: str
    model: str
    cut: str
    uplink: str
    downlink: str
    update: str
    clients: int
    precision: str
    epochs: int
    seed: int
    recipe: str

    @property
    def unsplit(self) -> bool:
        return self.cut == "-"

    @property
    def specs(self) -> tuple[str, ...]:
        return () if self.unsplit else (self.uplink, self.downlink, self.update)

    def settings(self) -> dict[str, str]:
        """The keys of the recipe with their values."""
        return dict(pair.split("=", 1) for pair in self.recipe.split())

    def label(self) -> str:
        """For people: what tells runs apart at a glance."""
        extra = "".join(f", {k} {v}" for k, v in self.settings().items() if k in ("activation", "dirichlet"))
        clients = f", {self.clients} clients" if self.clients > 1 else ""
        where = "unsplit" if self.unsplit else f"{self.cut}, {' | '.join(shortened(self.specs))}"
        return f"{self.data} {self.model}{extra}, {where}{clients}, seed {self.seed}, {self.epochs} epoch{'s' * (self.epochs != 1)}"


def shortened(specs: tuple[str, ...]) -> list[str]:
    """Codecs without trailing `none`s: the downlink and the client's gradients as they are."""
    words = list(specs)
    while len(words) > 1 and words[-1] == "none":
        words.pop()
    return words


@dataclasses.dataclass
class Study:
    name: str
    path: pathlib.Path
    title: str
    question: str
    paper: str
    notes: str
    runs: list[Run]
    prove: bool
    views: list[tuple[str, dict[str, str]]]
    measure: str
    quick: bool

    @property
    def full_name(self) -> str:
        return self.name + ("-quick" if self.quick else "")


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the command line says of a study's runs."""
    seeds: tuple[int, ...] = ()
    precision: str = ""
    quick: bool = False


def find(name: str) -> pathlib.Path:
    """The file of a study by its name, or the file that `name` is."""
    path = pathlib.Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    path = STUDIES / f"{name}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in STUDIES.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}; or name a .yaml file"
        raise StudyError(f"study: no study '{name}': {hint}", USAGE)
    return path


def load(name: str, program: Program, choices: Choices) -> Study:
    path = find(name)
    root = yaml_lines.read(path)
    words = root.mapping("a study")
    _check_words(words, WORDS, "a study")
    for word in ("title", "runs") if "measure" not in words else ("title",):
        if word not in words:
            raise root.fail("the study", f"has no `{word}`", f"add `{word}:`")
    grid = Grid(program, choices, words)

    def text(word: str) -> str:
        return " ".join(words[word].text(word).split()) if word in words else ""

    return Study(path.stem, path, text("title"), text("question"), text("paper"), text("notes"), grid.runs(),
                 text("prove") in ("yes", "true"), _views(words), text("measure"), choices.quick)


def _check_words(words: dict[str, yaml_lines.Node], known: list[str], what: str) -> None:
    for word, node in words.items():
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            raise node.fail(word, f"{what} has no such key",
                            f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}")


def _views(words: dict[str, yaml_lines.Node]) -> list[tuple[str, dict[str, str]]]:
    found = []
    for node in words["views"].items() if "views" in words else []:
        pairs = node.value.items() if isinstance(node.value, dict) else [(node.text("views"), None)]
        for kind, options in pairs:
            if kind not in VIEWS:
                raise node.fail(kind, "no such view", f"choose of {', '.join(VIEWS)}")
            options = options.mapping(kind) if options else {}
            found.append((kind, {key: value.text(key) for key, value in options.items()}))
    return found or [("table", {})]


class Grid:
    """The runs of a file's `runs`, with `common`, `quick` and the command line's choices."""

    def __init__(self, program: Program, choices: Choices, words: dict[str, yaml_lines.Node]):
        self.program, self.choices, self.words = program, choices, words

    def runs(self) -> list[Run]:
        found: dict[Run, None] = {}
        for item in self.words["runs"].items() if "runs" in self.words else []:
            for run in self._multiply(item):
                found[run] = None
        return list(found)

    def _part(self, word: str) -> dict[str, yaml_lines.Node]:
        return self.words[word].mapping(word) if word in self.words else {}

    def _multiply(self, item: yaml_lines.Node) -> list[Run]:
        own = item.mapping("an element of runs")
        axes = self._part("common") | own
        if self.choices.quick:
            axes |= self._part("quick")
        if self.choices.seeds and "seed" in axes:
            seed = axes["seed"]
            axes["seed"] = yaml_lines.Node([yaml_lines.Node(str(s), seed.file, seed.line) for s in self.choices.seeds],
                                           seed.file, seed.line)
        known = ["preset", "mode", "codec", *self.program.defaults]
        _check_words(axes, known, "`cutwire train`")
        order = list(own) + [key for key in axes if key not in own]
        made = itertools.product(*[axes[key].items() for key in order])
        return [self._run(item, dict(zip(order, chosen))) for chosen in made]

    def _run(self, item: yaml_lines.Node, chosen: dict[str, yaml_lines.Node]) -> Run:
        keys = dict(self.program.defaults)
        if "preset" in chosen:
            keys |= self._preset(chosen["preset"])
        mode = chosen["mode"].text("mode") if "mode" in chosen else "split"
        if mode not in ("split", "unsplit"):
            raise chosen["mode"].fail("mode", f"'{mode}' is no mode of a run", "choose split or unsplit")
        if mode == "split" and "codec" in chosen:
            keys |= self._codec(chosen["codec"])
        for key, node in chosen.items():
            if key in keys and key != "mode":  # in a study `mode` says split or unsplit, not how clients take turns
                keys[key] = self._value(key, node)
        self._resolve_precision(keys)
        return self._finish(item, mode, keys)

    def _preset(self, node: yaml_lines.Node) -> dict[str, str]:
        presets = self.program.presets
        name = node.text("preset")
        if name not in presets:
            raise node.fail("preset", f"no preset '{name}'", f"known are {', '.join(presets)}")
        return presets[name]

    def _codec(self, node: yaml_lines.Node) -> dict[str, str]:
        if isinstance(node.value, dict):
            _check_words(node.value, [*CODEC_KEYS, "eval-uplink"], "a codec")
            given = {key: value.text(key) for key, value in node.value.items()}
            return {key: "none" for key in CODEC_KEYS} | given
        spec = node.text("codec")
        if spec == "defaults":
            return {key: self.program.defaults[key] for key in CODEC_KEYS}
        return {"uplink": spec, "downlink": "none", "update": "none"}

    def _value(self, key: str, node: yaml_lines.Node) -> str:
        """Names and specs are checked by the command when the run begins; numbers are checked here, with their line."""
        value = node.text(key)
        if key in self.program.flags:
            if value.lower() not in ("0", "1", "yes", "no", "true", "false"):
                raise node.fail(key, f"'{value}' is neither yes nor no", "write yes or no")
            return "1" if value.lower() in ("1", "yes", "true") else "0"
        default = self.program.defaults[key]
        if key in ("epochs", "seed", "clients", "batch"):
            if not value.isdigit():
                raise node.fail(key, f"'{value}' is not a whole number", f"write a number such as {default}")
        elif plain_number(default) != "" and _is_number(default) and key != "cut" and not _is_number(value):
            raise node.fail(key, f"'{value}' is not a number", f"write a number such as {default}")
        return plain_number(value) if key != "seed" else value

    def _resolve_precision(self, keys: dict[str, str]) -> None:
        """Which the engine's `auto` is here is decided before the run, since it tells runs apart."""
        keys["precision"] = self.choices.precision or keys["precision"]
        if keys["precision"] == "auto":
            keys["precision"] = precision_of_auto()

    def _finish(self, item: yaml_lines.Node, mode: str, keys: dict[str, str]) -> Run:
        if mode == "unsplit":
            keys |= {key: "-" for key in ("cut", *CODEC_KEYS)} | {"clients": "1"}
        recipe = sorted(f"{key}={value}" for key, value in keys.items()
                        if key not in NAMED and (value != self.program.defaults[key] or key == "batch")
                        and not (mode == "unsplit" and key in SPLIT_ONLY))
        for pair in recipe:
            if " " in pair:
                raise item.fail(pair, "a space within a value", "leave it out")
        return Run(**{key: keys[key] for key in NAMED} | {"recipe": " ".join(recipe)} |
                   {key: int(keys[key]) for key in ("clients", "epochs", "seed")})


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return False
