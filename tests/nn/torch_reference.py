"""The engine's models in PyTorch, from the same weights and the same batch: what test_torch.c compares with.

    torch_reference.py MODEL ACTIVATION DIR STEPS

reads DIR/weights.safetensors, x.npy, labels.npy; writes logits.npy, grads.npy (flat, in the order of the weights file),
losses.npy (STEPS of SGD with momentum 0.9, weight decay 5e-4, rate 0.05), eval.npy (logits afterwards, evaluation mode),
and the same in double precision as *64.npy. Module names are torchvision's.
"""
import json
import sys

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def read_safetensors(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
        body = f.read()
    header.pop("__metadata__", None)
    items = sorted(header.items(), key=lambda kv: kv[1]["data_offsets"])
    return {k: torch.from_numpy(np.frombuffer(body[v["data_offsets"][0]:v["data_offsets"][1]], np.float32)
                                .reshape(v["shape"]).copy()) for k, v in items}


class Cnn(nn.Module):
    def __init__(self, sample, classes, act):
        super().__init__()
        layers, channels = [], sample[0]
        for i, out in enumerate((16, 16, 32, 32, 64, 64)):
            if i in (2, 4):
                layers.append(nn.MaxPool2d(2))
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), act()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * (sample[1] // 4) * (sample[2] // 4), classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def build(name, sample, classes, act):
    if name == "cnn":
        return Cnn(sample, classes, act)
    raise SystemExit("no reference for " + name)


def run(model, weights, x, labels, steps, dtype):
    model.load_state_dict(weights, strict=False)
    model = model.to(dtype)
    x = x.to(dtype) if x.is_floating_point() else x
    model.train()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    named, losses = dict(model.named_parameters()), []
    for step in range(steps):
        sgd.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        if step == 0:
            first = logits.detach()
            grads = torch.cat([named[k].grad.flatten() for k in weights if k in named])
        losses.append(loss.item())
        sgd.step()
    model.eval()
    with torch.no_grad():
        after = model(x)
    return {"logits": first, "grads": grads, "losses": torch.tensor(losses, dtype=torch.float64), "eval": after}


def main():
    name, activation, where, steps = sys.argv[1:5]
    torch.set_num_threads(2)
    weights = read_safetensors(where + "/weights.safetensors")
    x = torch.from_numpy(np.load(where + "/x.npy"))
    labels = torch.from_numpy(np.load(where + "/labels.npy")).long()
    classes = list(weights.values())[-1].shape[0]
    for dtype, suffix in ((torch.float32, ""), (torch.float64, "64")):
        model = build(name, tuple(x.shape[1:]), classes, ACTIVATIONS[activation])
        missing = set(weights) - set(model.state_dict())
        absent = {k for k in model.state_dict() if not k.endswith("num_batches_tracked")} - set(weights)
        if missing or absent:
            raise SystemExit("names differ: only ours %s, only PyTorch's %s" % (sorted(missing), sorted(absent)))
        for key, value in run(model, weights, x, labels, int(steps), dtype).items():
            np.save("%s/%s%s.npy" % (where, key, suffix), value.to(torch.float32 if key != "losses" else
                                                                   torch.float64).float().numpy())


main()
