"""Studies: grids of training runs that are made once, kept as CSV, and shown as a table, a picture and a page.

    errors.py        what goes wrong, as a sentence
    yaml_lines.py    YAML whose values know their line
    definition.py    a study's file: its grid, and the runs that follow from it
    program.py       what the command `cutwire` says of itself: keys, presets, codec versions
    rows.py          finished runs in a CSV; which results stand for others; which are stale
    only.py          which runs `--only WORDS` means
    plan.py          what is still to do
    estimate.py      how long that will take
    making.py        makes the missing runs, one process each; stops, goes on, keeps to a budget
    outcomes.py      what a run came to, whether made or known from its equal; groups of seeds
    tables.py        Markdown tables
    pictures.py      pictures (matplotlib)
    page.py          a page of HTML that needs nothing else
    measured.py      studies that measure without training: cases in a CSV of their own columns
    measure_*.py     what such a study measures
"""
