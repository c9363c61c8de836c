#!/usr/bin/python3
"""What scripts rely on in every command: contract.py CUTWIRE."""
import gzip
import os
import re

from cli_run import FASHION, Folder, last_object, run, skip_without_fashion

SUBCOMMANDS = {"codec": ["encode", "decode", "roundtrip", "inspect"],
               "repro": ["figure1", "figure2", "figure3", "table1", "theorem1", "lemma2", "theorem4"],
               "bench": ["codec", "engine"], "data": ["list", "fetch", "verify"]}


def commands():
    names = re.findall(r"^  (\w+) +\S", run("--help"), re.M)
    assert {"train", "server", "client", "codec", "repro"} <= set(names), names
    return names


def leaves():
    for name in commands():
        for sub in SUBCOMMANDS.get(name, [None]):
            yield [name, sub] if sub else [name]


def helps():
    for name in commands():
        assert "examples:" in run(name, "--help"), name
    for leaf in leaves():
        text = run(*leaf, "--help")
        assert text.startswith("usage: cutwire " + " ".join(leaf)), text
        assert "examples:\n  cutwire " in text, text
        assert run(*leaf, "-h") == text


def names_in_help():
    """Where an option takes a name, its help gives the names or the command that lists them."""
    text = run("train", "--help")
    for option, said in (("data", "cutwire data list"), ("model", "cutwire models"),
                         ("activation", "relu, leaky_relu, gelu, silu, tanh"), ("optimizer", "sgd, adam or adamw"),
                         ("precision", "fp32, bf16, or auto"), ("init", "kaiming, or dirac")):
        assert re.search(rf"^  --{option} .*{said}", text, re.M), (option, text)
    for name in ("relu", "leaky_relu", "gelu", "silu", "tanh"):
        assert f", {name}: " in run("models", "cnn", "--activation", name)


def unknown_things():
    assert "did you mean 'train'" in run("trian", code=2)
    assert "--help" in run("zzzzzzzz", code=2)
    for leaf in leaves():
        options = re.findall(r"^  --([a-z-]+)", run(*leaf, "--help"), re.M)
        # A letter too many in any option is noticed, and the option meant is named.
        for option in options[:3]:
            text = run(*leaf, f"--{option}q", code=2)
            assert f"did you mean --{option}?" in text, text
    assert "did you mean 'figure1'?" in run("repro", "figure9", code=2)
    assert "figure1, figure2, figure3, table1, theorem1, lemma2, theorem4" in run("repro", "zzzzzzzz", code=2)
    assert "did you mean 'decode'" in run("codec", "decod", code=2)


def clients_own():
    """A client is offered what it heeds, and nothing else."""
    options = set(re.findall(r"^  --([a-z-]+)", run("client", "--help"), re.M))
    assert options == {"connect", "model", "key", "server-key", "quiet", "threads", "loader-threads", "timeout",
                       "join-timeout", "allow-plaintext", "own-data", "data-dir", "help"}, options
    for name in ("out", "resume", "recipe", "weights", "checkpoint-every"):
        assert f"no option --{name}" in run("client", f"--{name}", "1", code=2)


def bad_values():
    assert "--epochs" in run("train", "--epochs", "many", code=2)
    assert "needs a value" in run("train", "--epochs", code=2)
    assert "takes no value" in run("train", "--json=yes", code=2)
    assert "one argument too many" in run("train", "here", code=2)
    assert "exclude each other" in run("train", "--local", "--processes", code=2)
    assert "no key \"q\"" in run("train", "--split", "--uplink", "ms:q=1", "--out", "o", code=2)
    assert "known are" in run("train", "--model", "cmm", "--out", "o", code=2)
    assert "valid cuts are" in run("train", "--cut", "77", "--out", "o", code=2)
    assert "/absent" in run("train", "--data", "fashion-mnist:/absent", "--out", "o", code=1)
    for sample in ("64;touch o", "64x", "x64", "3x32x32x", "3x32x32x1", "3x-32x32", " 3", "", "9" * 30):
        for command in (["bench", "engine", "--model", "cnn"], ["models", "cnn"]):
            assert "give a shape" in run(*command, "--sample", sample, code=2)
    assert "not be encrypted" in run("server", "--listen", "tcp://0.0.0.0:*", "--out", "o", code=1)
    assert not os.path.exists("o"), "a run that never began left a folder behind"


def write_npy(path, images):
    """Real pixels as a float tensor of .npy format 1.0."""
    with gzip.open(f"{FASHION}/t10k-images-idx3-ubyte.gz") as f:
        pixels = f.read(16 + 784 * images)[16:]
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 1, 28, 28), }" % images
    header += " " * (-(len(header) + 11) % 64) + "\n"
    import array
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        f.write(array.array("f", (p / 255 for p in pixels)).tobytes())


def codecs():
    write_npy("x.npy", 200)
    for spec, ratio in (("none", 0.99), ("fp16", 1.9), ("ms:r=0.99,b=2", 13), ("sp:r=0.95", 9), ("qu:b=3", 10),
                        ("rt:r=0.95", 9)):
        r = last_object(run("codec", "roundtrip", "--codec", spec, "--in", "x.npy", "--json"))
        assert r["elements"] == 200 * 784 and r["ratio"] > ratio, r
        assert abs(r["bits_per_element"] - 8 * r["payload_bytes"] / r["elements"]) < 1e-9
        assert 0 <= r["rel_error"] < 1 and (r["l2_error"] == 0) == (spec == "none"), r
        e = last_object(run("codec", "encode", "--codec", spec, "--in", "x.npy", "--out", "x.cw", "--json"))
        assert e["payload_bytes"] == os.path.getsize("x.cw") == r["payload_bytes"]
        d = last_object(run("codec", "decode", "--in", "x.cw", "--out", "y.npy", "--json"))
        assert d["shape"] == [200, 1, 28, 28] and os.path.getsize("y.npy") == os.path.getsize("x.npy")
        assert last_object(run("codec", "inspect", "x.cw", "--json"))["codec"] == d["codec"]


def damage():
    """Whatever is wrong with a payload, one sentence says so."""
    run("codec", "encode", "--codec", "ms:r=0.99,b=2", "--in", "x.npy", "--out", "x.cw")
    data = open("x.cw", "rb").read()
    for size in (0, 3, 17, len(data) // 2, len(data) - 1):
        open("cut.cw", "wb").write(data[:size])
        text = run("codec", "decode", "--in", "cut.cw", "--out", "z.npy", code=1)
        assert "cut.cw" in text and ("end" in text or "bytes" in text), text
    for at in (0, 4, 9, 20, 40, 60, len(data) // 3, len(data) - 1):
        for bit in (0, 7):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            open("flipped.cw", "wb").write(flipped)
            assert "flipped.cw" in run("codec", "inspect", "flipped.cw", code=1)
    open("long.cw", "wb").write(data + b"\0")
    assert "long.cw" in run("codec", "inspect", "long.cw", code=1)
    assert "absent.cw" in run("codec", "inspect", "absent.cw", code=1)
    assert not os.path.exists("z.npy")


skip_without_fashion()
with Folder():
    helps()
    names_in_help()
    unknown_things()
    clients_own()
    bad_values()
    codecs()
    damage()
print("every command keeps the contract")
