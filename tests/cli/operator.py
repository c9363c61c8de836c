#!/usr/bin/python3
"""What whoever operates a server needs: options from a file, logs that programs read: operator.py CUTWIRE."""
import datetime
import json
import os
import re
import signal

from cli_run import Folder, Process, run, skip_without_fashion

SMALL = ["--model", "mlp", "--train-limit", "128", "--test-limit", "64", "--epochs", "1", "--threads", "1"]

WRONG = (("epohcs: 3", "f.yaml:1: no option epohcs: did you mean epochs?"),
         ("# a comment\n\nzzzzzzzz: 3", "f.yaml:3: no option zzzzzzzz: `cutwire server --help` lists them"),
         ("clients: 2\nepochs: many", "f.yaml:2: --epochs: 'many' is not a whole number from 1"),
         ("epochs: 1\nepochs: 2", "f.yaml:2: epochs is there already, in line 1"),
         ("epochs: [1]", "f.yaml:1: a value that is a list"), ("a: {b: c}", "f.yaml:1: a value that is a list"),
         ("- epochs", "f.yaml:1: something else than names"), ("epochs:", "f.yaml:1: a name without a value"),
         ("lr: &a 1", "f.yaml:1: an anchor"), ("lr: 1\n---\nlr: 2", "f.yaml:2: a second document"),
         ("out: \"x", "f.yaml:1: "), ("\tlr: 1", "f.yaml:1: "), ("json: maybe", "neither true nor false"),
         ("out: \"\"", "the value is empty"), ("config: g.yaml", "names no other one"), ("lr: \"a\\0b\"", "a zero byte"))


def files():
    """Every mistake in a file is named with its line; help needs no file; flags win."""
    for text, said in WRONG:
        with open("f.yaml", "w", encoding="utf-8") as f:
            f.write(text)
        assert said in run("server", "--config", "f.yaml", code=2), text
    assert "No such file" in run("serve", "--config", "absent.yaml", code=1)
    assert "--config: .: Is a directory" in run("serve", "--config", ".", code=1)
    assert "needs a value" in run("train", "--config", code=2)
    assert "is empty" in run("train", "--config=", code=2)
    for name in ("train", "server", "serve", "client"):
        assert re.search(r"^  --config FILE", run(name, "--help", "--config", "absent.yaml"), re.M)
    with open("f.yaml", "w", encoding="utf-8") as f:
        f.write("# empty\n")
    assert "--run is missing" in run("serve", "--config", "f.yaml", code=2)


def values():
    with open("f.yaml", "w", encoding="utf-8") as f:
        f.write("clients: 3\nbatch: 16\nnesterov: true\nuplink: ms:r=0.9,b=2\njson: yes\nquiet: on\n")
    report = json.loads(run("train", "--split", *SMALL, "--config=f.yaml", "--clients", "2", "--out", "a"))
    assert report["clients"] == 2 and report["uplink"] == "ms:r=0.9,b=2", report
    kept = json.load(open("a/config.json", encoding="utf-8"))
    assert kept["nesterov"] is True and kept["batch"] == 16 and kept["clients"] == 2, kept


def check_line(line):
    o = json.loads(line)
    assert datetime.datetime.fromisoformat(o["time"].replace("Z", "+00:00")).year >= 2024, o
    assert o["level"] in ("debug", "info", "warn", "error") and re.fullmatch(r"[a-z_]+", o["event"]), o
    return o


def logs():
    """JSON lines are all JSON; levels hold; a client that is refused is named by address and key."""
    for name in ("server", "alice", "mallory"):
        run("keygen", f"{name}.key")
    server = Process("server", "--listen", "tcp://127.0.0.1:*", "--key", "server.key", "--client-keys", "alice.key.pub",
                     "--log-format", "json", "--log-level", "debug", "--out", "b", "--json", *SMALL)
    endpoint = server.wait_for(r"listening on (tcp://[0-9.:]+)").group(1)
    link = ["client", "--connect", endpoint, "--server-key", "server.key.pub", "--threads", "1", "--key"]
    refused = run(*link, "mallory.key", code=1)
    assert "not on its list" in refused, refused
    run(*link, "alice.key")
    server.finish()
    lines = [check_line(line) for line in server.lines]
    by = {o["event"]: o for o in lines}
    public = {name: re.search(r"^[^# ]\S{39}", open(f"{name}.key.pub", encoding="utf-8").read(), re.M).group()
              for name in ("alice", "mallory")}
    no = by["handshake_refused"]
    assert no["level"] == "warn" and no["address"] == "127.0.0.1" and public["mallory"].startswith(no["key"]), no
    assert len(no["key"]) == 10 and "client" not in no
    yes = by["client_joined"]
    assert yes["client"] == 1 and yes["address"] == "127.0.0.1" and public["alice"].startswith(yes["key"]), yes
    assert {"listening", "step", "evaluation", "epoch"} <= set(by), set(by)
    for name in ("batch_applied", "gradient_applied"):  # each step once
        told = [(o["epoch"], o["step"], o["client"]) for o in lines if o["event"] == name]
        assert told == [(1, i + 1, 1) for i in range(by["step"]["steps"])], told


def public_key(name):
    return re.search(r"^[^# ]\S{39}", open(f"{name}.key.pub", encoding="utf-8").read(), re.M).group()


def rotation():
    """SIGHUP reads the list of keys again: for new connections. A list that is broken changes nothing."""
    def write(*lines):
        with open("clients.pub", "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
    write(public_key("alice"))
    server = Process("server", "--listen", "tcp://127.0.0.1:*", "--key", "server.key", "--client-keys", "clients.pub",
                     "--clients", "2", "--heartbeat", "5", "--connections", "20", "--out", "r", "--json", *SMALL)
    endpoint = server.wait_for(r"listening on (tcp://[0-9.:]+)").group(1)
    link = ["client", "--connect", endpoint, "--server-key", "server.key.pub", "--threads", "1", "--key"]
    alice = Process(*link, "alice.key", "--send-timeout", "9")
    server.wait_for("client 1 joined")
    for text, said in (("no key", r"the list of keys stays as it was: clients.pub, line 1: not a key"),
                       (public_key("mallory"), "read clients.pub again: 1 key of clients is let in")):
        assert "not on its list" in run(*link, "mallory.key", code=1)
        write(text)
        server.interrupt(signal.SIGHUP)
        server.wait_for(said)
    assert "not on its list" in run(*link, "alice.key", code=1)
    run(*link, "mallory.key")
    alice.finish()
    server.finish()


def mistakes():
    """What can never come true is refused, and what failed says what to do."""
    listen = ["--listen", "tcp://127.0.0.1:*", "--out", "q", *SMALL]
    assert "a step cannot have 3 clients, the run has 2" in run("server", *listen, "--clients", "2", "--step-deadline", "1", "--quorum", "3", code=2)
    for _ in range(2):  # the second goes on with what has not begun
        e = run("server", *listen, "--join-timeout", "0.5", code=1)
        assert "0 of 1 client joined within 0.5 s" in e and "--join-timeout" in e, e
        listen = listen[:2] + ["--resume", "q"]
    assert "holds config.json" in run("server", "--out", "q", code=1)


def connections():
    for option, said in (("--heartbeat=4000", "from 0 to 3600"), ("--connections=1000001", "from 0 to 1000000"),
                         ("--max-frame=12", "from 1K to 1G"), ("--max-frame=7X", "from 1K to 1G"),
                         ("--max-frame=2G", "from 1K to 1G")):
        assert said in run("server", option, "--listen", "tcp://127.0.0.1:*", code=2), option
    assert "is not from 0" in run("client", "--send-timeout=2e6", code=2)
    with open("f.yaml", "w", encoding="utf-8") as f:
        f.write("heartbeat: 5\nmax-frame: 2K\nconnections: 1\nclients: 2\n")
    assert "room for 1 connection:" in run("server", "--config", "f.yaml", "--listen", "tcp://127.0.0.1:*", "--out", "m",
                                           *SMALL, code=1)


def levels():
    for level, told in (("warn", set()), ("info", {"client_joined", "epoch"})):
        p = Process("train", "--split", *SMALL, "--log-format", "json", "--log-level", level, "--out", level)
        p.finish()
        assert {check_line(line)["event"] for line in p.lines} == told, (level, p.lines)
    os.makedirs("w/checkpoint.safetensors.tmp")  # so that none can be written
    p = Process("train", "--split", *SMALL, "--log-format", "json", "--log-level", "warn", "--out", "w")
    p.finish()
    assert [check_line(line)["event"] for line in p.lines] == ["not_saved"] and "training goes on" in p.lines[0], p.lines
    text = Process("train", "--split", *SMALL, "--log-format", "text", "--out", "t")
    text.finish()
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z info  client_joined: client 1 joined .* \(client=1\)$", text.lines[0]), text.lines
    for option, names in (("format", "plain, text or json"), ("level", "debug, info, warn or error")):
        assert names in run("server", f"--log-{option}", "loud", code=2)
    failed = Process("server", "--listen", "tcp://127.0.0.1:*", "--join-timeout", "0.1", "--log-format", "json",
                     "--out", "n", *SMALL)
    failed.finish(code=1)
    assert check_line(failed.lines[-2])["event"] == "failed" and failed.lines[-1].startswith("cutwire: server: ")


with Folder():
    files()
    skip_without_fashion()
    values()
    logs()
    rotation()
    mistakes()
    connections()
    levels()
