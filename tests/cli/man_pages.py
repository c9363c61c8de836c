#!/usr/bin/python3
"""The manual pages: man_pages.py CUTWIRE. They say what --help says, and man reads them without a warning."""
import os
import re
import shutil
import subprocess

from cli_run import SUBCOMMANDS, Folder, commands, run


def plain(page):
    """A page's text, without roff, in one line."""
    with open(page) as f:
        lines = [re.sub(r"^\.(TP|BR?|RI|SS|SH|PP|nf|fi|br|TH|I)\b ?", "", line) for line in f]
    text = re.sub(r"\\f[RIB]|\\&", "", " ".join(lines))
    for roff, char in (("\\-", "-"), ("\\(ga", "`"), ("\\(aq", "'"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\e", "\\")):
        text = text.replace(roff, char)
    return " ".join(text.split())


def says_what_help_says(name):
    text = plain(f"man/cutwire-{name}.1")
    for leaf in ([name, sub] for sub in SUBCOMMANDS[name]) if name in SUBCOMMANDS else [[name]]:
        for line in run(*leaf, "--help").splitlines():
            option = re.match(r"  --(\S+(?: \S+)?) {2,}(.*)|  --(\S+ \S+) (.*)", line)
            if option and not line.startswith("  --help"):
                words = " ".join((option.group(1) or option.group(3)).split() + (option.group(2) or option.group(4)).split())
                assert "--" + words in text, (leaf, words)
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES", "SEE ALSO", "CUTWIRE_DATA"):
        assert section in text, (name, section)
    assert f"cutwire {name}" in text


def read_without_warning(tool, *args):
    if not shutil.which(tool):
        print(f"SKIP: {tool} is not installed: nothing has read the pages by it")
        return
    for page in sorted(os.listdir("man")):
        done = subprocess.run([tool, *args, "man/" + page], capture_output=True, text=True, timeout=60,
                              env=os.environ | {"MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0 and done.stderr == "", (tool, page, done.stderr, done.stdout[:2000])
        assert tool != "mandoc" or done.stdout == "", (page, done.stdout)


with Folder():
    os.mkdir("man")
    run("man", "man")
    names = commands()
    assert sorted(os.listdir("man")) == sorted(["cutwire.1"] + [f"cutwire-{name}.1" for name in names])
    for command in names:
        says_what_help_says(command)
    whole = plain("man/cutwire.1")
    for word in [f"cutwire-{name}" for name in names] + ["config.json", "checkpoint.safetensors", "CUTWIRE_CPU", "HOME"]:
        assert word in whole, word
    assert "absent" in run("man", "absent", code=1)
    read_without_warning("mandoc", "-T", "lint", "-W", "warning")
    read_without_warning("groff", "-ww", "-man", "-Tutf8", "-z")
    read_without_warning("man", "-l")
print("the manual pages are as the options are")
