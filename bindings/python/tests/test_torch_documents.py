"""The Python in README.md and in the guide runs as it stands there."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("path, section", [
    ("README.md", "## If you use PyTorch"), ("docs/guide/own-pytorch-model.md", "# Your own PyTorch model")])
def test_code_runs(path, section, capsys):
    text = (ROOT / path).read_text()
    text = text[text.index(f"{section}\n") + len(section):]
    if section.startswith("## "):
        text = text.split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    names = {}
    for block in blocks:
        exec(compile(block, path, "exec"), names)
    assert blocks and "uplink_bytes" in capsys.readouterr().out
