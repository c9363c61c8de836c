#!/usr/bin/python3
"""The paper's figures, made again: repro.py CUTWIRE."""
import csv
import glob
import math
import os
import shutil

from cli_run import CUTWIRE, Folder, last_object, run, skip_without_fashion
import subprocess

TINY = ["--train-limit", "512", "--test-limit", "64", "--epochs", "1", "--samples", "16", "--threads", "1", "--quiet"]


def figure1():
    r = last_object(run("repro", "figure1", "--json"))
    assert (r["raw_bytes"], r["coded_bytes"]) == (64, 20)
    assert round(r["top4"]["l2_error"], 3) == 4.064
    assert round(r["floor"]["l2_error"], 3) == 1.183
    assert round(r["nearest"]["l2_error"], 4) == 1.0247
    # The codes as the paper prints them.
    assert r["floor"]["codes"] == [[3, 1, 1, 0], [2, 0, 3, 2], [3, 0, 1, 2], [0, 3, 2, 1]]
    text = run("repro", "figure1")
    assert "2.2 0.8 1.2 0.4      11 01 01 00      2.2 0.7 0.7 0.0" in text, text
    for number in ("4.0645", "4.06", "1.1832", "1.0247", "1.02", "64 bytes of fp32 -> 20 bytes"):
        assert number in text, text


def check_rows(path, cuts):
    with open(path) as f:
        rows = list(csv.DictReader(f))
    at = {(r["cut"], r["mode"], r["codec"], r["size"]): r for r in rows}
    # 11 sizes for ms, sp and rt, 6 whole ones for qu, the 5 others for the paper's r.
    assert len(rows) == len(at) == 2 * len(cuts) * (3 * 11 + 6 + 5), len(rows)
    for row in rows:
        size, bits, error = (float(row[k]) for k in ("size", "bits_per_element", "relative_error"))
        # Payloads have the size they are compared at: headers weigh little, even on maps as small as here.
        assert abs(bits - size) < 0.1, row
        assert math.isclose(bits, 8 * int(row["payload_bytes"]) / int(row["elements"]), rel_tol=1e-5)
        assert 0 < error < 1, row
        if row["relative_bound"] and row["codec"] != "sp":
            assert error <= float(row["relative_bound"]), row
    for cut in cuts:
        for mode in ("train", "eval"):
            for size in range(2, 8):
                error = {c: float(at[cut, mode, c, f"{size:.2f}"]["relative_error"]) for c in ("ms", "qu", "sp", "rt")}
                # As the paper's Figure 2 has them: ms and qu meet at 2 bits, rt is always above sp.
                assert error["sp"] < error["rt"] and error["ms"] < 1.05 * error["qu"], error
                assert error["ms"] < error["sp"] or size == 2, error
            assert float(at[cut, mode, "ms", "7.00"]["relative_error"]) < 0.05
            paper = at[cut, mode, "ms-paper", "2.32"]
            assert paper["spec"] == "ms:r=0.99,b=2" and 0 < float(paper["alpha"]) < 1


def figure2():
    result = last_object(run("repro", "figure2", *TINY, "--cut", "2,deep", "--out", "f2", "--save-maps", "--json"))
    check_rows("f2/figure2.csv", ["2", "5"])
    assert [(m["cut"], m["mode"]) for m in result["maps"]] == [(2, "train"), (2, "eval"), (5, "train"), (5, "eval")]
    # A saved map is what was measured.
    again = last_object(run("codec", "roundtrip", "--codec", "qu:b=3", "--in", "f2/cut5-eval.npy", "--json"))
    row = next(r for r in result["maps"][3]["rows"] if r["spec"] == "qu:b=3")
    assert (again["shape"], again["l2_error"]) == ([16, 64, 7, 7], row["l2_error"]), (again, row)
    assert result["plotted"] == bool(shutil.which("gnuplot"))
    for mode in ("train", "eval"):
        assert os.path.exists(f"f2/figure2-{mode}.gp")
        for kind in ("png", "svg") if result["plotted"] else ():
            assert os.path.getsize(f"f2/figure2-{mode}.{kind}") > 5000
    if not result["plotted"]:
        print("SKIP: pictures: gnuplot is not installed")
    # The trained network again, at every cut, and where there is no gnuplot.
    text = subprocess.run([CUTWIRE, "repro", "figure2", "--run", "f2/run", "--cut", "all", "--samples", "16", "--out",
                           "all"], capture_output=True, text=True, timeout=120, env={"PATH": "/absent"})
    assert text.returncode == 0 and "install gnuplot-nox" in text.stderr, text
    assert text.stdout.count("| bits |") == 12
    check_rows("all/figure2.csv", list("123456"))


def theorem1():
    """Unbiased on the uplink: the mean gradient stays off. On the downlink: it converges as the root of the seeds."""
    result = last_object(run("repro", "theorem1", "--run", "f2/run", "--samples", "16", "--seeds", "60", "--threads", "1",
                             "--out", "t1", "--quiet", "--json"))
    rows = {(r["direction"], r["codec"]): r for r in result["rows"]}
    assert len(rows) == 8, rows.keys()
    for (direction, codec), row in rows.items():
        if "stochastic" not in codec:
            assert row["seeds"] == 1 and row["client"]["biased"] and row["client"]["spread"] == 0, row
            continue
        assert row["seeds"] == 64 and len(row["client"]["error_at_powers_of_2"]) == 7, row  # in eights
        for half in ("client", "server") if direction == "uplink" else ("client",):
            g = row[half]
            chance = g["spread"] / math.sqrt(64)
            if direction == "uplink":
                assert g["biased"] and g["error_of_mean"] > 3 * chance and g["bias"] > 0.05, (codec, half, g)
            else:
                assert not g["biased"] and 0.6 < g["error_of_mean"] / chance < 1.6, (codec, half, g)
                assert 4 < g["error_at_powers_of_2"][0] / g["error_of_mean"] < 16, (codec, half, g)
        assert ("server" in row) == (direction == "uplink"), row
    with open("t1/theorem1.csv") as f:
        table = list(csv.DictReader(f))
    assert len(table) == 3 * 2 * 7 + 3 * 2, len(table)
    for kind in ("png", "svg") if result["plotted"] else ():
        assert os.path.getsize(f"t1/theorem1.{kind}") > 5000
    one = run("repro", "theorem1", "--run", "f2/run", "--samples", "8", "--seeds", "16", "--codec", "fp16", "--cut", "deep",
              "--save-maps", "--out", "one", "--quiet")
    assert one.count("| `fp16` |") == 3, one
    saved = [last_object(run("codec", "roundtrip", "--codec", "ec", "--in", glob.glob(f"one/cut*-{kind}.npy")[0], "--json"))
             for kind in ("train", "gradient")]
    assert saved[0]["shape"] == saved[1]["shape"] and saved[0]["shape"][0] == 8, saved
    assert saved[0]["payload_bytes"] != saved[1]["payload_bytes"], saved
    assert "from 16 to" in run("repro", "theorem1", "--seeds", "8", code=2)
    assert "valid cuts are" in run("repro", "theorem1", "--run", "f2/run", "--cut", "99", code=2)


def errors():
    assert "did you mean 'figure3'" in run("repro", "figur3", code=2)
    assert "valid cuts are" in run("repro", "figure2", "--run", "f2/run", "--cut", "99", code=2)
    assert "absent" in run("repro", "figure2", "--run", "absent", code=1)
    assert "--model is that of the run" in run("repro", "figure2", "--run", "f2/run", "--model", "cnn", code=2)
    assert "--samples" in run("repro", "figure2", "--samples", "0", code=2)


with Folder():
    figure1()
    skip_without_fashion()
    figure2()
    theorem1()
    errors()
print("the figures are as they should be")
