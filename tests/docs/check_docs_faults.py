#!/usr/bin/python3
"""scripts/check_docs finds each kind of fault that it promises to find, and finds none in the documents as they are."""
import importlib.machinery
import importlib.util
import pathlib
import shutil
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# (file, what is replaced in it or None to append, by what, a part of the sentence that must be said)
FAULTS = [
    ("README.md", "(docs/guide/install.md)", "(docs/guide/instal.md)", "leads nowhere"),
    ("README.md", "(docs/README.md#reference)", "(docs/README.md#referenc)", "has no heading #referenc"),
    ("README.md", "\n*The same training", "\nThe same training", "has no caption"),
    ("README.md", "![A network cut", "![](docs/pictures/cut.svg) ![A network cut", "has no alternative text"),
    ("README.md", "--dirichlet ", "--dirichlett ", "has the option --dirichlett"),
    ("README.md", None, "\nAs commit 9c45fe7 has it.\n", "the commit hash 9c45fe7"),
    ("README.md", None, "\nAs the goal has it.\n", "nobody outside knows"),
    ("README.md", None, "\n" + "word " * 25 + "\n", "125 columns"),
    ("README.md", None, "\n" + "One two three four five six seven eight nine,\n" * 5, "a sentence of 45 words"),
    ("docs/ARCHITECTURE.md", "builder.c", "bilder.c", "no file is called bilder.c"),
    ("docs/reference/configuration.md", "`bias-lr`", "`biaslr`", "does not name the key `bias-lr`"),
    ("include/cutwire/codec.h", "docs/formats/payload.md", "src/codec/payloads.c docs/PAYLOAD.md", "there is no document docs/PAYLOAD.md"),
    ("include/cutwire/codec.h", '"Memory"', '"Memories"', "has no section 'Memories'"),
    ("include/cutwire/codec.h", "docs/PAYLOAD.md", "docs/PAYLOAD.md", "there is no src/codec/payloads.c"),
    ("docs/pictures/cut.svg", "81.8%", "91.8%", "results/evidence.csv gives: run scripts/draw_cut"),
]


def checker(root):
    loader = importlib.machinery.SourceFileLoader("check_docs", str(root / "scripts" / "check_docs"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_docs", loader))
    loader.exec_module(module)
    return module


def faults_of(module):
    return [f"{path}: {fault}" for path, _, fault in module.check_all()]


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in checker(ROOT).tracked():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        module = checker(root)
        found = faults_of(module)
        assert not found, found
        for path, old, new, said in FAULTS:
            text = (root / path).read_text()
            assert old is None or old in text, (path, old)
            (root / path).write_text(text + new if old is None else text.replace(old, new, 1))
        found = faults_of(module)
        for path, _, _, said in FAULTS:
            assert any(said in fault for fault in found), (path, said, found)
    print(f"check_docs: {len(FAULTS)} kinds of fault found, none where there is none")


if __name__ == "__main__":
    main()
