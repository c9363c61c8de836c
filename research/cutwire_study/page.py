"""A page of HTML that needs nothing else: what `show` prints, with the picture in it, and the command of every run."""
from __future__ import annotations

import base64
import html
import re
import shlex

from .outcomes import outcome_of
from .making import settings_of
from .plan import Plan

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:13px}
th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}code{background:#f3f3f3;padding:0 .2em;font-size:12px}
img{max-width:100%}details{margin:1rem 0}pre{overflow-x:auto;font-size:12px;background:#f7f7f7;padding:.6rem}"""


def inline(text: str) -> str:
    """Code between backquotes; everything else as it is."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def table_of(lines: list[str]) -> str:
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    right = [rule.endswith(":") for rule in cells[1]]

    def row(words: list[str], tag: str) -> str:
        return "<tr>" + "".join(f'<{tag}{" class=n" if number else ""}>{inline(word)}</{tag}>'
                                for word, number in zip(words, right)) + "</tr>"

    return "<table>" + row(cells[0], "th") + "".join(row(words, "td") for words in cells[2:]) + "</table>"


def from_markdown(text: str) -> str:
    """Headings, tables and paragraphs: what tables.show writes."""
    out = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if block.startswith("# "):
            out.append(f"<h1>{inline(block[2:])}</h1>")
        elif block.startswith("|"):
            out.append(table_of(lines))
        else:
            out.append(f"<p>{inline(' '.join(lines))}</p>")
    return "\n".join(out)


def commands(plan: Plan) -> str:
    program, made = plan.options.program, [run for run in plan.study.runs if outcome_of(run, plan)]
    lines = [f"cutwire train {shlex.join(settings_of(run, program))} --threads 1" for run in made]
    return "<details><summary>The command of every run</summary><pre>" + html.escape("\n".join(lines)) + "</pre></details>"


def provenance(plan: Plan) -> str:
    found = sorted({(row["commit"], row["machine"]) for run in plan.study.runs if (row := plan.rows.get(run))})
    lines = "".join(f"<li>commit {html.escape(commit)}, {html.escape(machine)}</li>" for commit, machine in found)
    return f"<p>Made by:</p><ul>{lines}</ul>" if found else ""


def plain(title: str, text: str, picture: bytes | None, more: str = "") -> str:
    image = f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></p>' \
        if picture else ""
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f"<style>{STYLE}</style></head><body>\n{from_markdown(text)}\n{image}\n{more}\n</body></html>\n")


def page(plan: Plan, text: str, picture: bytes | None) -> str:
    return plain(plan.study.title, text, picture, provenance(plan) + "\n" + commands(plan))
