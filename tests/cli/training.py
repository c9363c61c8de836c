#!/usr/bin/python3
"""Training as a user runs it, on one machine and as processes: training.py CUTWIRE."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

from cli_run import CUTWIRE, LIMIT, Folder, Process, last_object, run, skip_without_fashion

SMALL = ["--data", "fashion-mnist", "--model", "cnn", "--cut", "2", "--batch", "32", "--threads", "1",
         "--train-limit", "512", "--test-limit", "256"]
MS = ["--uplink", "ms:r=0.99,b=2", "--downlink", "none", "--update", "none"]
KEYS = {"test_accuracy", "train_loss", "uplink_bytes", "downlink_bytes", "uplink_payload_bytes", "uplink_raw_bytes",
        "seconds"}


def check_result(result, epochs, raw):
    assert KEYS <= set(result), result
    assert result["epochs"] == epochs and not result["stopped"], result
    assert 0.05 < result["test_accuracy"] <= 1 and 0 < result["train_loss"] < 5, result
    assert result["uplink_raw_bytes"] == raw, result
    assert 13 < result["uplink_raw_bytes"] / result["uplink_payload_bytes"] < 14, result
    assert result["uplink_bytes"] > result["uplink_payload_bytes"], result
    for name in ("config.json", "summary.json", "metrics.jsonl", "model.safetensors"):
        assert os.path.getsize(os.path.join(result["out"], name)) > 0
    with open(os.path.join(result["out"], "metrics.jsonl")) as f:
        assert len([json.loads(line) for line in f]) == epochs


def on_one_machine():
    raw = 512 * 16 * 28 * 28 * 4  # what 512 samples are at cut 2, in fp32
    split = last_object(run("train", "--split", *SMALL, *MS, "--clients", "4", "--epochs", "1", "--json"))
    check_result(split, 1, raw)
    tcp = last_object(run("train", "--processes", *SMALL, *MS, "--clients", "2", "--epochs", "2", "--json"))
    check_result(tcp, 2, 2 * raw)
    local = last_object(run("train", "--local", *SMALL, "--epochs", "1", "--json"))
    assert local["uplink_bytes"] == 0 and local["mode"] == "unsplit", local
    table = run("report", split["out"], tcp["out"], local["out"])
    assert table.count("ms:r=0.99,b=2") >= 2, table
    reports(local["out"])


def coded_both_ways():
    """By default a run takes few bytes of all that it takes without codecs, both ways, and learns."""
    result = last_object(run("train", "--split", *SMALL, "--clients", "2", "--epochs", "1", "--json"))
    raw = 512 * 16 * 28 * 28 * 4
    assert 0.15 < result["test_accuracy"] <= 1, result
    assert result["uplink_raw_bytes"] == raw and result["downlink_raw_bytes"] == raw, result
    assert raw / result["uplink_payload_bytes"] > 20, result
    assert raw / result["downlink_payload_bytes"] > 20, result
    assert result["uplink_bytes"] > result["uplink_payload_bytes"], result
    assert result["downlink_bytes"] > result["downlink_payload_bytes"], result


def reports(finished):
    """Runs that have not finished are left out, with a word about each, and there may be many."""
    os.makedirs("killed")
    shutil.copy(finished + "/config.json", "killed")
    done = subprocess.run([CUTWIRE, "report", "killed", *100 * [finished], "nowhere", "--json"], capture_output=True,
                          text=True, timeout=LIMIT)
    assert done.returncode == 0 and len(last_object(done.stdout)["runs"]) == 100, done
    assert len(done.stderr.splitlines()) == 2 and "killed/summary.json" in done.stderr, done.stderr
    assert "killed" in run("report", "killed", code=1)


def own_data():
    """--processes hands what is a client's own to the clients: with --own-data each has all of the data."""
    few = [*SMALL, *MS, "--clients", "2", "--epochs", "1", "--train-limit", "64", "--test-limit", "32"]
    own = Process("train", "--processes", *few, "--own-data", "--join-timeout", "47", "--json")
    clients = set()
    while own.child.poll() is None:
        with contextlib.suppress(OSError):
            with open(f"/proc/{own.child.pid}/task/{own.child.pid}/children") as f:
                for pid in f.read().split():
                    with open(f"/proc/{pid}/cmdline") as g:
                        clients.add(tuple(g.read().split("\0")))
        time.sleep(0.02)
    result = last_object(own.finish())
    assert result["uplink_raw_bytes"] == 2 * 64 * 16 * 28 * 28 * 4, result
    assert any("--join-timeout" in c and "47" in c for c in clients), clients


def by_preset():
    """A preset sets what the command line does not, wherever its flags stand; the rest keeps its default."""
    rest = ["--data", "fashion-mnist", "--model", "cnn", "--cut", "2", "--threads", "1", "--train-limit", "256",
            "--test-limit", "64", "--json"]
    local = last_object(run("train", "--epochs", "1", "--preset", "paper-cifar100", "--lr", "0.03", "--local", *rest))
    with open(os.path.join(local["out"], "config.json")) as f:
        config = json.load(f)
    assert (config["epochs"], config["lr"], config["model"]) == (1, 0.03, "cnn"), config
    assert (config["schedule"], config["batch"], config["crop-pad"]) == ("multistep:at=60/120/160,gamma=0.2", 256, 4)
    assert (config["uplink"], config["seed"]) == ("ms:r=0.99,b=2", "1") and config["downlink"] == "none", config
    server = Process("server", "--listen", "tcp://127.0.0.1:*", *rest, "--preset", "paper-cifar10", "--epochs", "1",
                     "--out", "by-preset")
    endpoint = server.wait_for(r"listening on (tcp://127\.0\.0\.1:[0-9]+) ").group(1)
    Process("client", "--connect", endpoint, "--threads", "1").finish()
    server.finish()
    with open("by-preset/config.json") as f:
        assert json.load(f)["schedule"] == "cosine"
    names = [line.split()[0] for line in run("train", "--preset", "list").splitlines() if not line.startswith(" ")]
    assert {"paper-cifar10", "paper-cifar100", "paper-imagenet"} <= set(names), names
    assert run("server", "--preset", "list") == run("train", "--preset", "list")
    text = run("train", "--preset", "papers", code=2)
    assert all(name in text for name in names), text
    assert "exclude each other" in run("train", "--preset", names[0], "--resume", local["out"], code=2)


def serve(clients, epochs, *more):
    server = Process("server", "--listen", "tcp://127.0.0.1:*", *SMALL, *MS, "--clients", str(clients), "--epochs",
                     str(epochs), "--json", *more)
    endpoint = server.wait_for(r"listening on (tcp://127\.0\.0\.1:[0-9]+) ").group(1)
    return server, [Process("client", "--connect", endpoint, "--threads", "1") for _ in range(clients)]


def as_processes():
    server, clients = serve(2, 2)
    check_result(last_object(server.finish()), 2, 2 * 512 * 16 * 28 * 28 * 4)
    for client in clients:
        client.finish()


def client_dies():
    server, clients = serve(3, 4, "--timeout", "20", "--grace", "0")
    server.wait_for(r"epoch 1/4: train loss")
    clients[1].kill()
    result = last_object(server.finish())
    assert result["epochs"] == 4 and not result["stopped"], result
    assert any("client" in line and "epoch" not in line for line in server.lines), server.lines
    clients[0].finish()
    clients[2].finish()


def resumed():
    """--resume alone goes on as the run was, unsplit or split; a flag that says otherwise is refused, and the run's
    files stay as they are."""
    for mode, name, others in (("--local", "unsplit", ["--split", "--processes"]), ("--split", "split", ["--local"])):
        folder = "resumed" + mode
        run("train", mode, *SMALL, *MS, "--schedule", "constant", "--epochs", "1", "--out", folder)
        with open(folder + "/summary.json") as f:
            before = f.read()
        for other in others:
            assert "that run was" in run("train", other, "--resume", folder, "--epochs", "2", code=2)
        with open(folder + "/summary.json") as f:
            assert f.read() == before
        again = last_object(run("train", "--resume", folder, "--epochs", "2", "--json"))
        assert (again["mode"], again["epochs"], again["out"]) == (name, 2, folder), again
        whole = last_object(run("train", mode, *SMALL, *MS, "--schedule", "constant", "--epochs", "2", "--json"))
        assert again["train_loss"] == whole["train_loss"] and again["test_loss"] == whole["test_loss"], (again, whole)
    text = run("server", "--listen", "tcp://127.0.0.1:*", "--resume", "resumed--local", "--epochs", "3", code=2)
    assert "train --resume resumed--local" in text, text
    text = run("train", "--resume", "resumed--local", "--recipe", "recipe.txt", code=2)
    assert "a run goes on with its own recipe" in text, text
    text = run("train", "--resume", "resumed--local", "--weights", "resumed--local/model.safetensors", code=2)
    assert "a run goes on with its own weights" in text, text
    text = run("train", "--local", *SMALL, "--weights", "resumed--local/config.json", code=1)
    assert "resumed--local/config.json" in text, text
    text = run("train", "--resume", "nowhere", code=1)
    assert "nowhere" in text, text


def digest(folder):
    """Of every file: what is refused changes none."""
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", "rb") as f:
            found[name] = hashlib.sha256(f.read()).hexdigest()
    return found


def earlier_runs_are_kept():
    few = [*SMALL, "--train-limit", "64", "--test-limit", "32", "--epochs", "1", "--out", "kept"]
    server = ["server", "--listen", "tcp://127.0.0.1:*"]
    run("train", "--local", *few)
    before = digest("kept")
    for command in (["train", "--local"], ["train", "--split"], ["train"], ["train", "--processes", "--clients", "2"], server):
        text = run(*command, *few, "--seed", "7", code=1)
        assert "kept holds" in text and "model.safetensors" in text and "--overwrite" in text and "--resume" in text, text
    # Before any work: also where the data would not be found.
    assert "--overwrite" in run("train", "--out", "kept", "--data", "fashion-mnist:/absent", code=1)
    assert "--overwrite" in run("train", "--resume", "resumed--local", "--out", "kept", code=1)
    assert "exclude each other" in run("train", "--resume", "kept", "--overwrite", code=2)
    assert digest("kept") == before
    with open("a-file", "w") as f:
        f.write("text")
    assert "a-file is a file" in run("train", "--local", *SMALL, "--out", "a-file", code=1)
    assert "a-file is a file" in run(*server, *SMALL, "--out", "a-file/run", code=1)
    run("train", "--resume", "kept", "--out", "kept/", "--epochs", "2")  # the same folder by another name
    with open("kept/metrics.jsonl") as f:
        assert len(f.readlines()) == 2
    run("train", "--local", *few, "--seed", "7", "--overwrite")
    assert digest("kept") != before
    os.makedirs("mine")
    with open("mine/notes.txt", "w") as f:
        f.write("text")
    run("train", "--local", *few, "--out", "mine")
    assert os.path.getsize("mine/notes.txt") == 4 and os.path.exists("mine/model.safetensors")
    text = run("repro", "figure2", "--run", "kept", "--samples", "0", code=2)
    os.makedirs("figure/run")
    shutil.copy("kept/model.safetensors", "figure/run")
    for name in ("figure2", "theorem1"):
        text = run("repro", name, "--out", "figure", code=1)
        assert "figure/run holds" in text and "--overwrite" in text and "--run figure/run" in text, text


def saved_epochs(folder):
    """Those that the checkpoint holds; 0: there is none yet."""
    try:
        with open(folder + "/checkpoint.safetensors", "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    except FileNotFoundError:
        return 0
    return json.loads(header["__metadata__"]["cutwire"])["next_epoch"]


def kill_after_a_checkpoint(process, folder):
    """Kills a run of very many epochs somewhere in its second or a later one; the epochs that are saved."""
    end = time.monotonic() + LIMIT
    while not saved_epochs(folder):
        assert process.child.poll() is None and time.monotonic() < end, process.lines
        time.sleep(0.02)
    time.sleep(0.1)
    process.kill()
    assert not os.path.exists(folder + "/model.safetensors")
    return saved_epochs(folder)


def same_model(a, b):
    with open(a + "/model.safetensors", "rb") as f, open(b + "/model.safetensors", "rb") as g:
        assert f.read() == g.read(), (a, b)


def killed_over_tcp():
    """A server that is killed, and what its clients knew with it, goes on with clients that join anew, and ends as one
    that was never killed."""
    few = ["--train-limit", "256", "--test-limit", "64", "--schedule", "constant"]
    split = ["--processes", *SMALL, *MS, "--clients", "2", *few]
    training = Process("train", *split, "--epochs", "100000", "--out", "killed-processes")
    saved = [kill_after_a_checkpoint(training, "killed-processes")]
    server, clients = serve(2, 100000, *few, "--out", "killed-server")
    saved.append(kill_after_a_checkpoint(server, "killed-server"))
    for client in clients:
        client.kill()
    epochs = max(saved) + 2
    run("train", *split, "--epochs", str(epochs), "--out", "never-killed")

    training = Process("train", "--processes", "--resume", "killed-processes", "--epochs", str(epochs))
    training.wait_for(f"going on after epoch {saved[0]} of killed-processes")
    training.finish()
    same_model("killed-processes", "never-killed")
    # Places are held for the clients of before: others wait until that is over.
    server, clients = serve(2, epochs, *few, "--grace", "1", "--resume", "killed-server")
    server.wait_for(f"going on after epoch {saved[1]} of killed-server")
    assert last_object(server.finish())["epochs"] == epochs
    for client in clients:
        client.finish()
    same_model("killed-server", "never-killed")


def interrupted():
    """Ctrl-C ends a run with what was reached, and exit code 0."""
    for mode in (["--local"], ["--split", *MS, "--clients", "2"], ["--processes", *MS, "--clients", "2"]):
        training = Process("train", *mode, *SMALL, "--epochs", "1000", "--json", "--out", "stopped" + mode[0])
        training.wait_for(r"epoch 1/1000: train loss")
        training.interrupt()
        result = last_object(training.finish(seconds=30))
        assert result["stopped"] and result["epochs"] >= 1 and result["test_accuracy"] > 0.05, result
        assert os.path.getsize(f"stopped{mode[0]}/model.safetensors") > 0
        assert any("stopped after" in line for line in training.lines), training.lines


def drained():
    """A server that gets SIGTERM finishes the step, saves it in the middle of the epoch, and goes on from there with
    a client that has waited, as if it had never stopped."""
    few = ["--batch", "8", "--train-limit", "1200", "--test-limit", "64", "--checkpoint-every", "0",
           "--update", "ec:step=0.75,round=stochastic"]
    run("train", "--processes", *SMALL, *MS, *few, "--epochs", "1", "--out", "never-drained")
    server, (client,) = serve(1, 1, *few, "--out", "drained")
    endpoint = server.wait_for(r"listening on (tcp://127\.0\.0\.1:[0-9]+) ").group(1)
    server.wait_for("client 1 joined")
    time.sleep(0.3)
    server.interrupt(signal.SIGTERM)
    assert last_object(server.finish())["stopped"]
    server.wait_for("the step under way is finished and saved first")
    again = Process("server", "--listen", endpoint, "--resume", "drained", "--json")
    again.wait_for("going on after step [1-9][0-9]* of epoch 1 of drained")
    again.finish()
    client.finish()
    same_model("drained", "never-drained")


def interrupted_server():
    server, clients = serve(2, 1000)
    server.wait_for(r"epoch 1/1000: train loss")
    server.interrupt()
    assert last_object(server.finish(seconds=30))["stopped"]
    for client in clients:
        client.child.wait(timeout=30)


skip_without_fashion()
with Folder():
    on_one_machine()
    coded_both_ways()
    own_data()
    by_preset()
    as_processes()
    client_dies()
    resumed()
    earlier_runs_are_kept()
    killed_over_tcp()
    interrupted()
    drained()
    interrupted_server()
print("training from the command line works, and ends as it should")
