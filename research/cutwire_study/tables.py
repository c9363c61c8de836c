"""Tables in Markdown: runs to do, groups of seeds, traffic to an accuracy."""
from __future__ import annotations

import math
import textwrap

from .definition import Run, shortened
from .outcomes import Group, Outcome, groups_of, mean, outcome_of, proofs_of, shown_of, training_of
from .plan import Plan

ABOUT_BYTES = ("Bytes are all that went through the socket in the whole run, tests after each epoch, labels, weights and "
               "framing included; ratios are of the tensors in fp32 to them.")
Table = list[list[str]]  # the first row names the columns; a name that ends with ">" is of numbers


def megabytes(size: float) -> str:
    if math.isnan(size):
        return "-"
    return f"{size / 1e6:,.1f}" if size < 1e8 else f"{size / 1e6:,.0f}".replace(",", " ")


def markdown(table: Table) -> str:
    head = [name.rstrip(">") for name in table[0]]
    rule = ["---:" if name.endswith(">") else "---" for name in table[0]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *table[1:]]) + "\n"


def document(parts: list[str]) -> str:
    """Parts one below the other; paragraphs in lines of at most 100 columns, headings and tables as they are."""
    blocks = [block for part in parts if part for block in part.rstrip("\n").split("\n\n")]
    return "\n\n".join(block if block.startswith(("#", "|")) else
                       textwrap.fill(block, 100, break_long_words=False, break_on_hyphens=False) for block in blocks) + "\n"


# ---- what tells the rows of a table apart ----

def varying(groups: list[Group]) -> list[str]:
    """Columns and keys of the recipe in which groups differ, codecs and cut aside; but for what data and model, which
    are columns then, decide alone."""
    found = [name for name in ("data", "model") if len({getattr(group.run, name) for group in groups}) > 1]
    keys = sorted({key for group in groups for key in group.run.settings()})
    for name in ("clients", "precision", "epochs", *keys):
        values: dict[tuple[str, str, bool], set[str]] = {}
        for run in (group.run for group in groups):
            values.setdefault((run.data, run.model, run.unsplit), set()).add(value_of(run, name))
        if any(len(of_one) > 1 for of_one in values.values()):
            found.append(name)
    return found


UNSAID = {"activation": "relu", "dirichlet": "0"}  # what runs have that do not say it


def value_of(run: Run, name: str) -> str:
    return str(getattr(run, name)) if hasattr(run, name) else run.settings().get(name, UNSAID.get(name, "-"))


def codec_text(run: Run) -> str:
    return "unsplit" if run.unsplit else ", ".join(f"`{spec}`" for spec in shortened(run.specs))


def accuracy_text(accuracies: list[float]) -> str:
    """The mean, and each seed's."""
    each = ", ".join(f"{a:.2f}" for a in accuracies)
    return f"{mean(accuracies):.2f}" + (f" ({each})" if len(accuracies) > 1 else " (one seed)")


def difference_text(differences: list[float]) -> str:
    """The mean, and from the least to the greatest."""
    if not differences:
        return "-"
    spread = f" ({min(differences):+.2f} .. {max(differences):+.2f})" if len(differences) > 1 else ""
    return f"{mean(differences):+.2f}{spread}"


def ratio_text(raw: float, sent: float) -> str:
    return f"{raw / sent:.1f}" if sent and not math.isnan(raw / sent) else "-"


# ---- the tables ----

def group_table(groups: list[Group]) -> Table:
    columns = varying(groups)
    out = [[*columns, "cut", "codecs: up, down, client's gradients", "test accuracy, %>", "against unsplit, points>",
            "training loss>", "up, MB>", "down, MB>", "ratio up>", "both>", "remark"]]
    for group in groups:
        up, down = group.mean("up"), group.mean("down")
        sizes = ["", "", "", ""] if group.run.unsplit else [
            megabytes(up), megabytes(down), ratio_text(group.mean("up_fp32"), up),
            ratio_text(group.mean("up_fp32") + group.mean("down_fp32"), up + down)]
        out.append([*[value_of(group.run, name) for name in columns], group.run.cut if not group.run.unsplit else "",
                    codec_text(group.run), accuracy_text(group.accuracies),
                    "" if group.run.unsplit else difference_text(group.differences), f"{group.mean('train_loss'):.4f}",
                    *sizes, remark(group)])
    return out


def remark(group: Group) -> str:
    known = {outcome.known_from for outcome in group.outcomes} - {""}
    words = [f"equal to {'unsplit' if why == 'unsplit' else 'the same with ' + why} to the bit: not run twice"
             for why in sorted(known)]
    if any(outcome.stale for outcome in group.outcomes):
        words.append("of an older codec")
    return "; ".join(words)


def is_like(one: Run, other: Run) -> bool:
    return (one.data, one.model, training_of(one)) == (other.data, other.model, training_of(other))


def target_of(groups: list[Group], run: Run, share: float) -> float | None:
    """The accuracy that `share` of the unsplit run's final one is, mean over its seeds."""
    for group in groups:
        if group.run.unsplit and is_like(group.run, run):
            return share * mean(group.accuracies)
    return None


def bytes_until(outcome: Outcome, target: float, both: bool) -> float | None:
    """Bytes when the accuracy is first reached, None for never."""
    for accuracy, up, down in zip(outcome.curve, outcome.curve_up, outcome.curve_down):
        if accuracy >= target:
            return up + (down if both else 0)
    return None


def traffic_table(groups: list[Group], shown: list[Group], share: float) -> Table:
    """Bytes to reach an accuracy against those of `none` at the same cut: the paper's Table 1."""
    columns = varying(shown)
    out = [[*columns, "cut", "codecs: up, down, client's gradients", "accuracy to reach, %>", "seeds that reach it>",
            "saved up, times>", "saved both, times>"]]
    for group in shown:
        target = target_of(groups, group.run, share)
        if group.run.unsplit or target is None:
            continue
        plain = next((g for g in groups if g.run.cut == group.run.cut and g.run.specs == ("none",) * 3 and
                      is_like(g.run, group.run)), None)
        reached = sum(bytes_until(outcome, target, False) is not None for outcome in group.outcomes)
        out.append([*[value_of(group.run, name) for name in columns], group.run.cut, codec_text(group.run),
                    f"{target:.2f}", f"{reached} of {len(group.outcomes)}",
                    saved(group, plain, target, False), saved(group, plain, target, True)])
    return out


def saved(group: Group, plain: Group | None, target: float, both: bool) -> str:
    ours = [bytes_until(outcome, target, both) for outcome in group.outcomes]
    theirs = [bytes_until(outcome, target, both) for outcome in plain.outcomes] if plain else []
    if not any(theirs):
        return "-"
    if not all(ours):
        return "never" if not any(ours) else "not always"
    return f"{mean([t for t in theirs if t]) / mean([o for o in ours if o]):.2f}"


def show(plan: Plan) -> str:
    """Everything that `show` prints: the question, tables, proofs, what is missing."""
    study, groups, shown = plan.study, groups_of(plan), shown_of(plan)
    parts = [f"# {study.title}" + (" (--quick: fewer and shorter runs, the numbers mean little)" if study.quick else "")]
    if study.paper:
        parts.append(f"In the paper: {study.paper}.")
    parts += [text for text in (study.question,) if text]
    for kind, options in study.views:
        if kind == "traffic" and shown:
            share = float(options.get("share", "0.985"))
            parts.append(f"Bytes to reach {100 * share:g}% of the unsplit run's accuracy, times fewer than without codecs:")
            parts.append(markdown(traffic_table(groups, shown, share)))
    if shown:
        parts += [markdown(group_table(shown)), ABOUT_BYTES]
    parts += [proof_text(proof) for proof in proofs_of(plan)]
    parts += [text for text in (precisions(shown), study.notes, missing_text(plan)) if text]
    return document(parts)


def precisions(groups: list[Group]) -> str:
    found = sorted({group.run.precision for group in groups})
    return f"Precision of the engine: {', '.join(found)}; a split run is compared with an unsplit one of the same." \
        if found else ""


def proof_text(proof) -> str:
    what = "unsplit training" if proof.why == "unsplit" else f"the same with {proof.why}"
    return f"Made in full all the same: {proof.run.label()}: equal to {what} {'to the bit' if proof.holds else 'NOT SO'}."


def missing_text(plan: Plan) -> str:
    count = sum(outcome_of(run, plan) is None for run in plan.study.runs)
    return f"{count} of {len(plan.study.runs)} results are not yet measured: `cutwire study {plan.study.name} list`." \
        if count else ""


def measured_text(study, table: str, missing: int) -> str:
    """What `show` prints of a study that measures without training."""
    parts = [f"# {study.title}" + (" (--quick: fewer cases)" if study.quick else ""),
             f"In the paper: {study.paper}." if study.paper else "", study.question, table, study.notes,
             f"{missing} cases are not yet measured: `cutwire study {study.name} list`." if missing else ""]
    return document(parts)
