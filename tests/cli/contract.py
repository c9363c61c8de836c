#!/usr/bin/python3
"""What scripts rely on in every command: contract.py CUTWIRE."""
import gzip
import json
import os
import re
import shutil
import subprocess

from cli_run import FASHION, Folder, commands, last_object, leaves, run, skip_without_fashion

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
    assert "the codecs are none," in run("bench", "codec", "--codec", "zzz", code=2)
    assert "did you mean 'decode'" in run("codec", "decod", code=2)
    assert "did you mean 'verify'" in run("data", "verfy", code=2)
    assert "did you mean 'loader'" in run("bench", "loadr", code=2)
    assert "'': no such command" in run("", code=2)
    assert "one argument too many" in run("--version", "--json", code=2)


def helps_by_name():
    assert run("help") == run("--help") == run("-h")
    assert run("help", "codec", "encode") == run("codec", "encode", "--help")
    assert run("help", "data") == run("data", "--help")
    assert run("--version") == run("-V") and re.fullmatch(r"cutwire \d+\.\d+\.\d+\n", run("-V"))


def clients_own():
    """A client is offered what it heeds, and nothing else."""
    options = set(re.findall(r"^  --([a-z-]+)", run("client", "--help"), re.M))
    assert options == {"connect", "model", "key", "server-key", "quiet", "threads", "loader-threads", "timeout",
                       "join-timeout", "reconnect", "identity", "allow-plaintext", "own-data", "data-dir", "help", "config",
                       "log-format", "log-level", "heartbeat", "max-frame", "send-timeout"}, options
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
    assert "from 1 to 65536" in run("repro", "figure2", "--samples", "2147483647", "--out", "o", code=2)
    assert not os.path.exists("o"), "a run that never began left a folder behind"


def arguments():
    """How options and values may be written."""
    encode = ["codec", "encode", "--codec", "fp16", "--out", "y.cw"]
    run(*encode, "--in=x.npy")
    run(*encode, "--in", "absent.npy", "--in", "x.npy")  # the last counts
    run("codec", "inspect", "--", "y.cw")
    os.rename("y.cw", "--json")
    run("codec", "inspect", "--", "--json")
    assert "needs a value" in run("codec", "encode", "--in", "--out", "y.cw", code=2)
    assert "needs a value" in run("codec", "encode", "--in", "--help", code=2)
    assert "takes no value" in run("train", "--help=yes", code=2)
    for short in ("--epoch", "--in=x", "-json", "-x"):  # no abbreviations, no single dashes
        assert "no option " + short.split("=")[0] in run("train", short, "1", code=2)
    assert "no option -json" in run("keygen", "-json", code=2) and not os.path.exists("-json")
    for name in ("out", "resume", "weights", "recipe", "data-dir"):
        assert "is empty" in run("train", f"--{name}=", code=2)
    assert "is empty" in run("codec", "inspect", "", code=2)
    assert "is empty" in run("report", "", code=2)


def numbers():
    for seed in ("-1", "1.5", "1e3", "", " 1", "0x", "99999999999999999999"):
        assert "whole number from 0 to 18446744073709551615" in run("train", "--seed", seed, code=2)
    for threads in ("-1", "1025", "99999999999", "one", "1.5", "nan"):
        assert "whole number from 0 to 1024" in run("train", "--threads", threads, code=2)
    for threads in ("-1", "2147483648", "1e99", " 1", "+1", "inf", "1 "):
        assert "whole number from 0 to 2147483647" in run("codec", "encode", "--threads", threads, code=2)
    for seconds in ("-1", "inf", "nan", "1e999", "0,5"):
        assert "not a number" in run("bench", "loader", "--seconds", seconds, code=2)
    assert "'-1' is not a number from 0 to 1000" in run("train", "--lr", "-1", code=2)
    run("codec", "roundtrip", "--codec", "fp16", "--in", "x.npy", "--threads", "0")


def in_another_locale():
    """Numbers have points wherever a locale puts commas."""
    here = run("models", "cnn", "--json")
    for name in ("de_DE.UTF-8", "C.UTF-8"):
        assert run("models", "cnn", "--json", LC_ALL=name) == here
    assert run("codec", "roundtrip", "--codec", "ms:r=0.99,b=2", "--in", "x.npy", LC_ALL="de_DE.UTF-8").count(",") < 12
    if "de_DE.utf8" not in subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout:
        print("SKIP: the locale de_DE.UTF-8 is not installed: it is the C locale here")


def without_a_home():
    assert "fashion-mnist" in run("data", "list", HOME=None)
    assert "name one by --to" in run("data", "fetch", "cifar-10", code=1, HOME=None, CUTWIRE_DATA=None)


def odd_names():
    """Whatever a path is made of, messages are one line of text and JSON is JSON."""
    for name in (b"a b.npy", b"a\nb.npy", b"\xff\xfe.npy", "\u00e4\u20ac\U0001f600.npy".encode(), b"\x1b[31mred.npy",
                 b"%s%n.npy", b'quo"te\\.npy'):
        shutil.copy("x.npy", name)
        e = last_object(run("codec", "encode", "--codec", "fp16", "--in", name, "--out", name + b".cw", "--json"))
        assert e["out"] == (name + b".cw").decode(errors="replace"), e
        run("codec", "inspect", name + b".cw")
        text = run("codec", "decode", "--in", name, "--out", "z.npy", code=1)
        assert text.count("\n") == 1 and "\x1b" not in text and ".npy" in text, text
        text = run("report", name, code=1)
        assert text.count("\n") == 1 and "\x1b" not in text, text
        key = last_object(run("keygen", name + b".key", "--json"))
        assert key["secret_key_file"] == (name + b".key").decode(errors="replace"), key
        assert "File exists" in run("keygen", name + b".key", code=1)
        os.remove(name)
    out = b"run \xff\n1"
    r = last_object(run("train", "--local", "--train-limit", "32", "--test-limit", "32", "--epochs", "1", "--threads", "1",
                        "--out", out, "--json"))
    assert r["out"] == out.decode(errors="replace") and os.path.exists(out + b"/model.safetensors"), r
    with open(out + b"/config.json", encoding="utf-8") as f:
        assert json.load(f)["out"] == out.decode(errors="replace")
    assert last_object(run("report", out, "--json"))["runs"][0]["out"] == out.decode(errors="replace")
    assert last_object(run("train", "--resume", out, "--epochs", "2", "--threads", "1", "--json"))["epochs"] == 2


def what_is_no_file():
    """Folders, pipes and devices where files are meant."""
    os.mkdir("folder")
    for args in (["codec", "inspect", "folder"], ["codec", "encode", "--codec", "none", "--in", "folder", "--out", "z.cw"],
                 ["server", "--key", "folder", "--client-keys", "folder"], ["client", "--key", "folder", "--server-key", "y"],
                 ["train", "--weights", "folder"], ["train", "--data", "adult", "--recipe", "folder"],
                 ["train", "--resume", "folder"], ["report", "folder"], ["report", "x.npy"]):
        assert "folder" in run(*args, code=1) or args[-1] == "x.npy"
    assert "irectory" in run("codec", "encode", "--codec", "none", "--in", "x.npy", "--out", "folder", code=1)
    assert not os.path.exists("folder.tmp")
    assert "same file" in run("codec", "roundtrip", "--codec", "none", "--in", "x.npy", "--out", "./x.npy", code=2)
    os.mkfifo("pipe")
    for command in (["codec", "encode", "--codec", "fp16", "--out", "piped.cw", "--in"],
                    ["codec", "roundtrip", "--codec", "fp16", "--in"]):
        with subprocess.Popen(["cp", "x.npy", "pipe"]):
            run(*command, "pipe")
    run("codec", "encode", "--codec", "fp16", "--in", "x.npy", "--out", "file.cw")
    with open("piped.cw", "rb") as f, open("file.cw", "rb") as g:
        assert f.read() == g.read()


def keys():
    """Each key where it belongs, and nowhere else; none is ever replaced."""
    run("keygen", "server.key"), run("keygen", "device.key")
    with open("server.key", "rb") as f:
        before = f.read()
    assert "File exists" in run("keygen", "server.key", code=1)
    with open("server.key", "rb") as f:
        assert f.read() == before
    os.remove("device.key.pub")
    assert "File exists" in run("keygen", "device.key", code=1)
    run("keygen", "client.key")
    listen = ["server", "--listen", "tcp://127.0.0.1:*", "--out", "keyed"]
    text = run(*listen, "--key", "client.key.pub", "--client-keys", "client.key.pub", code=1)
    assert "--key: client.key.pub, line 2: a public key" in text and "--client-keys" in text, text
    text = run(*listen, "--key", "server.key", "--client-keys", "client.key", code=1)
    assert "--client-keys: client.key, line 2: a secret key" in text and "--key" in text, text
    text = run("client", "--key", "server.key.pub", "--server-key", "server.key.pub", code=1)
    assert "--key: server.key.pub, line 2: a public key" in text and "--server-key" in text, text
    text = run("client", "--key", "client.key", "--server-key", "server.key", code=1)
    assert "--server-key: server.key, line 2: a secret key" in text, text
    with open("both.pub", "w") as out:
        for name in ("server.key.pub", "client.key.pub"):
            with open(name) as f:
                out.write(f.read())
    assert "holds 2 keys" in run("client", "--key", "client.key", "--server-key", "both.pub", code=1)
    assert not os.path.exists("keyed")


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
    helps_by_name()
    codecs()
    damage()
    arguments()
    numbers()
    in_another_locale()
    without_a_home()
    odd_names()
    what_is_no_file()
    keys()
print("every command keeps the contract")
