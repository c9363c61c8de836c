#!/usr/bin/python3
"""What error feedback is worth: what a codec does not send in one step is added in the next.

    make python && PYTHONPATH=build/python /usr/bin/python3 research/error_feedback.py

trains what research/results/error-feedback.csv does not have yet, and writes the table beside it. Fashion-MNIST, the network
of examples/python/simulate.py. One flow is coded at a time: `update`, the gradients of the client's weights, or
`downlink`, those of the activations. A place of the downlink belongs to another photo in each step, so its feedback adds
what one photo lacked to the gradient of another.
"""
import pathlib
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "research" / "peers"), str(ROOT / "examples" / "python")]
import cutwire.torch as cwt  # noqa: E402
import peers  # noqa: E402
import simulate  # noqa: E402

FIELDS = ["flow", "codec", "feedback", "seed", "epochs", "samples", "accuracy", "bytes", "raw"]
UPDATES = ["ec:step=0.75,round=stochastic", "ec:step=6,round=stochastic", "ec:step=6", "ms:r=0.99,b=2", "sp:r=0.99", "qu:b=2"]
DOWNLINKS = ["ec:step=4.5,round=stochastic,scope=sample", "ec:step=18,round=stochastic,scope=sample",
             "ec:step=18,scope=sample", "ms:r=0.99,b=2", "sp:r=0.99", "qu:b=3"]


def contenders():
    """(flow, codec, whether with feedback): random rounding is unbiased, and goes without"""
    yield "none", "none", False
    for flow, specs in (("update", UPDATES), ("downlink", DOWNLINKS)):
        for spec in specs:
            for feedback in ([False] if "stochastic" in spec else [False, True]):
                yield flow, spec, feedback


class DownlinkFeedback:
    """Around a cut: its gradient gets the residual on the way in, and leaves a new one on the way out."""

    def __init__(self, cut):
        self.residual = None
        cut.register_forward_hook(self.watch)

    def watch(self, cut, inputs, output):
        if cut.training:
            kept = output.detach() != 0  # elsewhere the cut sends no gradient
            output.register_hook(lambda dy: self.add(dy * kept))
            inputs[0].register_hook(self.take)

    def add(self, dy):
        if self.residual is not None and self.residual.shape == dy.shape:
            dy = dy + self.residual
        self.wanted = dy
        return dy

    def take(self, sent):
        self.residual = self.wanted - sent


def measure(what, data, test, seed, epochs):
    """The accuracy, bytes of the flow, and its bytes in fp32."""
    (flow, spec, feedback), updates = what, []

    def prepare(net, optimizer):
        head, cut, _ = net
        if flow == "update":
            updates.append(cwt.compress_gradients(head, spec, optimizer=optimizer, error_feedback=feedback, seed=seed))
        elif feedback:
            DownlinkFeedback(cut)

    down = spec if flow == "downlink" else "none"
    accuracy, _, sent, raw = peers.train(lambda: cwt.Cut("none", down, seed=seed, mask_gradient=flow == "downlink"), data, test,
                                         seed, epochs, prepare)
    if updates:
        sent, raw = updates[0].stats.uplink_bytes, updates[0].stats.uplink_raw_bytes
    return {"accuracy": accuracy, "bytes": sent, "raw": raw}


def table(rows, epochs, samples):
    rows = [r for r in rows if int(r["epochs"]) == epochs and int(r["samples"]) == samples]
    base = {r["seed"]: float(r["accuracy"]) for r in rows if r["flow"] == "none"}
    yield "# Error feedback\n"
    yield (f"Fashion-MNIST, {samples} samples, {epochs} epochs, seeds {', '.join(sorted(base))}; the network of\n"
           "`examples/python/simulate.py`. One flow is coded at a time. Points beside the run without codecs,\n"
           f"{100 * sum(base.values()) / len(base):.2f}%. `research/error_feedback.py` made this.\n")
    yield "| flow | codec | times fewer bytes | points without feedback | of each seed | with feedback | of each seed |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for flow, codec in dict.fromkeys((r["flow"], r["codec"]) for r in rows if r["flow"] != "none"):
        cells, saved = [], ""
        for feedback in ("no", "yes"):
            mine = [r for r in rows if (r["flow"], r["codec"], r["feedback"]) == (flow, codec, feedback)]
            points = [100 * (float(r["accuracy"]) - base[r["seed"]]) for r in mine]
            cells += [f"{sum(points) / len(points):+.2f}", ", ".join(f"{p:+.2f}" for p in points)] if points else ["", ""]
            if mine and not saved:
                saved = f"{sum(int(r['raw']) for r in mine) / sum(int(r['bytes']) for r in mine):.1f}"
        yield f"| {flow} | `{codec}` | {saved} | {' | '.join(cells)} |"


def main():
    def asked():
        for flow, spec, feedback in contenders():
            key = {"flow": flow, "codec": spec, "feedback": "yes" if feedback else "no"}
            yield f"{flow}, {spec}{', feedback' * feedback}", key, (flow, spec, feedback)

    peers.run(peers.options(__doc__, 6000, "error-feedback"), "error-feedback", FIELDS, asked, measure, table)


if __name__ == "__main__":
    main()
