#!/usr/bin/python3
"""The same model, data and cut with other systems' codecs and with ours: bytes both ways, and accuracy.

    make python && PYTHONPATH=build/python /usr/bin/python3 research/peers/peers.py

trains what research/results/peers.csv does not have yet, and writes the table beside it. The network and the data are those
of examples/python/simulate.py: Fashion-MNIST, cut behind a ReLU and a max pooling, on one thread. Bytes are those of
training: payloads alone, as all of these codecs need labels and heads of messages on top.
"""
import argparse
import csv
import pathlib
import sys

import torch
from torch import nn
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "research" / "peers"), str(ROOT / "examples" / "python")]
import cutwire.torch as cwt  # noqa: E402
import peer_codecs as peer  # noqa: E402
import simulate  # noqa: E402

FIELDS = ["whose", "codec", "seed", "epochs", "samples", "accuracy", "up", "down", "raw"]
OURS = [("ec:err=0.15", "ec:step=4.5,round=stochastic,scope=sample", "the defaults"),
        ("ec:err=0.25", "ec:step=7,round=stochastic,scope=sample", "coarser"),
        ("ec:err=0.05", "ec:step=1,round=stochastic,scope=sample", "finer")]


def contenders():
    """(whose, what, a function that makes a cut)"""
    yield "", "none", lambda: cwt.Cut("none", "none")
    for whose, codec in (("hivemind, NVFlare, SecretFlow", peer.Fp16()), ("SecretFlow", peer.ZeroPoint8()),
                         ("hivemind", peer.Uniform8()), ("NVFlare", peer.NormalFloat4()), ("SecretFlow", peer.TopK(0.9)),
                         ("SecretFlow", peer.TopK(0.99))):
        yield whose, codec.name, lambda codec=codec: peer.PeerCut(codec)
    for up, down, name in OURS:
        yield "cutwire", f"`ec`, {name}", lambda up=up, down=down: cwt.Cut(up, down)


def counted(cut):
    if isinstance(cut, peer.PeerCut):
        return cut.counted
    s = cut.stats
    return [s.uplink_bytes, s.downlink_bytes, s.uplink_raw_bytes]


def train(make, data, test, seed, epochs, prepare=lambda net, optimizer: None):
    """(accuracy of the last epoch, bytes up, down and of one direction in fp32). `prepare` is given (head, cut, tail) and
    the optimizer before the first step."""
    torch.manual_seed(seed)
    model, cut, (x, y) = simulate.network(), make(), data
    for layer in model:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    head, tail = cwt.split(model, "5")
    net = nn.Sequential(head, cut, tail)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    prepare(net, optimizer)
    batches = -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=epochs * batches)
    for epoch in range(epochs):
        net.train()
        for i in torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * seed + epoch)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[i]), y[i]).backward()
            optimizer.step()
            schedule.step()
    spent = list(counted(cut))
    return [simulate.accuracy(net, *test), *spent]


def read(path):
    return list(csv.DictReader(path.open())) if path.exists() else []


def write(path, rows, fields):
    with path.open("w", newline="") as f:
        out = csv.DictWriter(f, fields, lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def table(rows, epochs, samples):
    """Rows by codec; over seeds the mean accuracy, how it lies beside that without a codec, and from where to where."""
    rows = [r for r in rows if int(r["epochs"]) == epochs and int(r["samples"]) == samples]
    seeds = sorted({r["seed"] for r in rows})
    base = {r["seed"]: float(r["accuracy"]) for r in rows if r["codec"] == "none"}
    yield "# Other systems' codecs beside ours\n"
    yield (f"Fashion-MNIST, {samples} samples, {epochs} epochs, seed {', '.join(seeds)}; the network of\n"
           "`examples/python/simulate.py`, cut behind a ReLU and a max pooling. Both directions go through the codec.\n"
           "`research/peers/peers.py` made this; what each codec is stands in `research/peers/peer_codecs.py`.\n")
    yield "| whose | codec | accuracy, % | beside none, points | of each seed | times fewer bytes up | down | both |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for codec in dict.fromkeys(r["codec"] for r in rows):
        mine = [r for r in rows if r["codec"] == codec and r["seed"] in base]
        if not mine:
            continue
        accuracy = 100 * sum(float(r["accuracy"]) for r in mine) / len(mine)
        beside = [100 * (float(r["accuracy"]) - base[r["seed"]]) for r in mine]
        up, down, raw = (sum(int(r[k]) for r in mine) for k in ("up", "down", "raw"))
        yield (f"| {mine[0]['whose']} | {codec} | {accuracy:.2f} | {sum(beside) / len(beside):+.2f} | "
               f"{', '.join(f'{lost:+.2f}' for lost in beside)} | {raw / up:.1f} | {raw / down:.1f} | "
               f"{2 * raw / (up + down):.1f} |")


def options(about, limit, name):
    """What both programs that train that network are asked: see --help."""
    p = argparse.ArgumentParser(description=about.split("\n\n")[0])
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--limit", type=int, default=limit, help="training samples")
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    p.add_argument("--results", type=pathlib.Path, default=ROOT / "research" / "results", help=f"the folder of {name}.csv")
    return p.parse_args()


def run(o, name, fields, contenders, measure, table):
    """Measures what NAME.csv does not have yet, seed by seed, and writes the table beside it. `contenders` gives (text, key,
    what measure needs), a key's values being texts; `measure(what, data, test, seed, epochs)` the other fields."""
    torch.set_num_threads(1)
    data, test = simulate.read(o.data, "train", o.limit), simulate.read(o.data, "t10k", min(10000, 2 * o.limit))
    path = o.results / f"{name}.csv"
    for seed in range(1, o.seeds + 1):
        for text, key, what in contenders():
            rows = read(path)
            key = {**key, "seed": str(seed), "epochs": str(o.epochs), "samples": str(len(data[0]))}
            if not any(all(r[k] == v for k, v in key.items()) for r in rows):
                found = measure(what, data, test, seed, o.epochs)
                write(path, [*rows, {**key, **found, "accuracy": f"{found['accuracy']:.4f}"}], fields)
                print(f"{text}, seed {seed}: {100 * found['accuracy']:.2f}%", flush=True)
    (o.results / f"{name}.md").write_text("\n".join(table(read(path), o.epochs, len(data[0]))) + "\n")


def measure_cut(make, data, test, seed, epochs):
    return dict(zip(("accuracy", "up", "down", "raw"), train(make, data, test, seed, epochs)))


def main():
    def asked():
        for whose, codec, make in contenders():
            yield codec, {"whose": whose, "codec": codec}, make

    run(options(__doc__, 12000, "peers"), "peers", FIELDS, asked, measure_cut, table)


if __name__ == "__main__":
    main()
