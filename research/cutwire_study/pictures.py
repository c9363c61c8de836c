"""Pictures by matplotlib: accuracy over epochs and bytes (curves), against bytes (points), over a setting (lines)."""
from __future__ import annotations

import io

from .errors import need
from .outcomes import Group, groups_of, mean, training_of
from .plan import Plan
from .tables import codec_text, value_of

COLOURS = ["#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#386cb0", "#999999", "#17becf"]
MARKS = "osD^vP*Xh<"
PNG_DPI = 110
GREY = "#666666"


def plotter():
    need("matplotlib", "python3-matplotlib", "no picture")
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def png(pyplot, figure, title: str) -> bytes:
    figure.suptitle(title, fontsize=13, y=1.02)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PNG_DPI, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()


def measured(title: str, module, rows: list[dict[str, str]]) -> bytes:
    """The picture of a study that measures without training."""
    pyplot = plotter()
    return png(pyplot, module.draw(pyplot, rows), title)


def draw(plan: Plan) -> bytes | None:
    """The study's picture as PNG; None where there is nothing to draw yet."""
    pyplot = plotter()
    groups = groups_of(plan)
    kinds = [(kind, options) for kind, options in plan.study.views if kind in DRAW]
    if not any(not group.run.unsplit for group in groups) or not kinds:
        return None
    kind, options = kinds[0]
    return png(pyplot, DRAW[kind](pyplot, groups, options), plan.study.title + (" (--quick)" if plan.study.quick else ""))


# ---- what panels and lines are ----

def distinct(values) -> list:
    return list(dict.fromkeys(values))


def panels_of(groups: list[Group], keys: tuple[str, ...]) -> list[tuple[str, list[Group], list[Group]]]:
    """(title, split groups, unsplit groups) for each value of a key, or of several together."""
    def of_network(group: Group) -> tuple:
        return group.run.data, group.run.model, group.run.settings().get("activation"), training_of(group.run)

    found = []
    for values in distinct(values_of(group, keys) for group in groups if not group.run.unsplit):
        split = [g for g in groups if not g.run.unsplit and values_of(g, keys) == values]
        plain = [g for g in groups if g.run.unsplit and of_network(g) in map(of_network, split)]
        title = ", ".join(value if key in ("model", "data") else f"{key} {value}" for key, value in zip(keys, values))
        found.append((title, split, plain))
    return found


def panels_apart(groups: list[Group], keys: tuple[str, ...]) -> list[tuple[str, list[Group], list[Group]]]:
    """The same for each length of training, of which the title tells where there are several."""
    lengths = distinct(training_of(group.run) for group in groups if not group.run.unsplit)
    found = []
    for length in lengths:
        panels = panels_of([group for group in groups if training_of(group.run) == length], keys)
        words = f", {length[0]} epoch{'s' * (length[0] != '1')}" + (f" of {length[1]}" if length[1] != "-" else "") if len(lengths) > 1 else ""
        found += [(title + words, split, plain) for title, split, plain in panels]
    return found


def keys_of(options: dict[str, str], usual: str) -> tuple[str, ...]:
    return tuple(options.get("panels", usual).split())


def values_of(group: Group, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value_of(group.run, key) for key in keys)


def style_of(groups: list[Group], skip: tuple[str, ...] = ()) -> dict[str, dict]:
    """A colour and a mark for each codec of the study, the same in all panels."""
    names = distinct(name_of(group, skip) for group in groups if not group.run.unsplit)
    def look(i):
        hollow = {"markerfacecolor": "none"} if i // len(MARKS) % 2 else {}  # where there are more than marks
        return {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[i % len(MARKS)], **hollow}

    return {name: look(i) for i, name in enumerate(names)}


def name_of(group: Group, skip: tuple[str, ...] = ()) -> str:
    extra = [f"{key} {value}" for key, value in group.run.settings().items()
             if key in ("activation", "dirichlet") and key not in skip]
    clients = [f"{group.run.clients} clients"] if group.run.clients > 1 and "clients" not in skip else []
    return ", ".join([codec_text(group.run).replace("`", ""), *extra, *clients])


def unsplit_band(axes, plain: list[Group]) -> None:
    for group in plain:
        axes.axhline(mean(group.accuracies), color=GREY, linestyle="--", linewidth=1, label="unsplit")
        axes.axhspan(min(group.accuracies), max(group.accuracies), color=GREY, alpha=0.15, linewidth=0)


def finish(axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e4e4e4")


def legend(figure, axes_list) -> None:
    """One for all panels, below them."""
    found = {}
    for axes in axes_list:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.02), fontsize=8,
                  ncol=2 if len(found) > 6 else 1, frameon=False)
    figure.tight_layout(rect=(0, 0.02, 1, 0.97))


# ---- curves: the paper's Figure 3 ----

def curves(pyplot, groups: list[Group], options: dict[str, str]):
    """Test accuracy over epochs above, over bytes at the socket (log) below; one panel for each cut."""
    panels, styles = panels_apart(groups, keys_of(options, "cut")), style_of(groups)
    figure, axes = pyplot.subplots(2, len(panels), figsize=(4.4 * len(panels) + 1, 7.4), squeeze=False)
    for column, (title, split, plain) in enumerate(panels):
        for group in [g for g in plain + split if g.outcomes[0].curve]:
            curve = mean_curve(group, "curve")
            look = {"color": GREY, "linestyle": "--"} if group.run.unsplit else styles[name_of(group)] | {"markersize": 3}
            axes[0][column].plot(range(1, len(curve) + 1), curve, label=name_of(group), linewidth=1.2, **look)
            if not group.run.unsplit:
                axes[1][column].plot(mean_curve(group, "curve_up"), curve, linewidth=1.2, **look)
        unsplit_band(axes[1][column], plain)
        axes[1][column].set_xscale("log")
        finish(axes[0][column], title, "epochs", "test accuracy, %")
        finish(axes[1][column], "", "bytes up until then", "test accuracy, %")
    legend(figure, axes.flat)
    return figure


def mean_curve(group: Group, field: str) -> list[float]:
    lists = [getattr(outcome, field) for outcome in group.outcomes]
    return [mean(list(values)) for values in zip(*lists)]


# ---- points: accuracy against bytes ----

def points(pyplot, groups: list[Group], options: dict[str, str]):
    """Each run's final accuracy against all its bytes (log), up above and both directions below."""
    keys = keys_of(options, "cut")
    panels, styles = panels_apart(groups, keys), style_of(groups, keys)
    figure, axes = pyplot.subplots(2, len(panels), figsize=(4.4 * len(panels) + 1, 7.4), squeeze=False)
    for column, (title, split, plain) in enumerate(panels):
        for row, what in enumerate(("up", "up + down")):
            place = axes[row][column]
            unsplit_band(place, plain)
            for group in split:
                sizes = [o.up + (o.down if row else 0) for o in group.outcomes]
                place.plot(sizes, group.accuracies, linestyle="none", label=name_of(group, keys), markersize=6,
                           **styles[name_of(group, keys)])
            set_scale(place)
            finish(place, title if row == 0 else "", f"bytes {what}, whole run", "test accuracy, %")
    legend(figure, axes.flat)
    return figure


def set_scale(place) -> None:
    """Logarithmic, but where all is so near that a decade would be empty."""
    sizes = [size for line in place.get_lines() for size in line.get_xdata() if size > 1]
    if sizes and max(sizes) > 3 * min(sizes):
        place.set_xscale("log")
        return
    place.set_xlim(0, 1.1 * max(sizes, default=1))


# ---- lines: the loss of accuracy over a setting ----

def lines(pyplot, groups: list[Group], options: dict[str, str]):
    """Accuracy against unsplit, in points, over the values of a setting: mean, with bars from least to greatest."""
    x, keys = options.get("x", "cut"), keys_of(options, "model")
    panels, styles = panels_of(groups, keys), style_of(groups, (x, *keys))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.2 * len(panels) + 1, 4.4), squeeze=False)
    for column, (title, split, _) in enumerate(panels):
        place = axes[0][column]
        values = distinct(value_of(group.run, x) for group in split)
        for name in distinct(name_of(group, (x, *keys)) for group in split):
            found = [g for g in split if name_of(g, (x, *keys)) == name and g.differences]
            middle = [mean(g.differences) for g in found]
            bars = [[m - min(g.differences) for m, g in zip(middle, found)],
                    [max(g.differences) - m for m, g in zip(middle, found)]]
            place.errorbar([values.index(value_of(g.run, x)) for g in found], middle, yerr=bars, label=name,
                           capsize=2, linewidth=1.2, markersize=5, **styles[name])
        place.axhline(0, color=GREY, linestyle="--", linewidth=1)
        place.set_xticks(range(len(values)), values, rotation=30 if len(values) > 5 else 0)
        finish(place, title, x, "points against unsplit")
    legend(figure, axes.flat)
    return figure


DRAW = {"curves": curves, "points": points, "lines": lines}
