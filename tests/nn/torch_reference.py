"""The engine's models in PyTorch, from the same weights and the same batch: what test_torch.c compares with.

Each line of standard input asks for one, MODEL ACTIVATION DIR STEPS RATE SMOOTHING INPUT, and is answered by "done". It
reads DIR/weights.safetensors, x.npy, labels.npy; writes logits.npy, grads.npy (flat, in the order of the weights file),
eval.npy (logits in evaluation mode after one update), losses.npy (STEPS of SGD: momentum 0.9, weight decay 5e-4, rate
RATE, label smoothing SMOOTHING), and the same in double precision as *64.npy. Module names are torchvision's.
INPUT says what x holds (cw_model_options.input).
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


class Vgg19(nn.Module):
    def __init__(self, sample, classes, act):
        super().__init__()
        layers, channels = [], sample[0]
        for width, repeat in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
            for _ in range(repeat):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), act()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        # the engine's test sets its dropout to 0: the masks could not agree
        self.classifier = nn.Sequential(nn.Linear(512, 4096), act(), nn.Dropout(0.0), nn.Linear(4096, 4096), act(),
                                        nn.Dropout(0.0), nn.Linear(4096, classes))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class BasicBlock(nn.Module):
    def __init__(self, channels, width, stride, act):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act, self.downsample = act(), None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    def __init__(self, sample, classes, act, blocks, width):
        super().__init__()
        large = len(blocks) == 4 and min(sample[1:]) >= 64
        self.conv1 = nn.Conv2d(sample[0], width, *((7, 2, 3) if large else (3, 1, 1)), bias=False)
        self.bn1, self.act = nn.BatchNorm2d(width), act()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages, channels = len(blocks), width
        for s, count in enumerate(blocks):
            layer = []
            for i in range(count):
                layer.append(BasicBlock(channels, width << s, 2 if s and not i else 1, act))
                channels = width << s
            setattr(self, "layer%d" % (s + 1), nn.Sequential(*layer))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        for s in range(self.stages):
            x = getattr(self, "layer%d" % (s + 1))(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PooledStage(nn.Module):
    def __init__(self, channels, width, act):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1, self.act = nn.BatchNorm2d(width), act()

    def forward(self, x):
        return F.max_pool2d(self.act(self.bn1(self.conv1(x))), 2)


class ResNet9(nn.Module):
    def __init__(self, sample, classes, act, width):
        super().__init__()
        self.conv1 = nn.Conv2d(sample[0], width, 3, padding=1, bias=False)
        self.bn1, self.act = nn.BatchNorm2d(width), act()
        self.layer1 = nn.Sequential(PooledStage(width, 2 * width, act), BasicBlock(2 * width, 2 * width, 1, act))
        self.layer2 = nn.Sequential(PooledStage(2 * width, 4 * width, act))
        self.layer3 = nn.Sequential(PooledStage(4 * width, 8 * width, act), BasicBlock(8 * width, 8 * width, 1, act))
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.act(self.bn1(self.conv1(x))))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def fields_of(what):
    """"table:N/C1/C2/..." -> N, [C1, C2, ...]"""
    numbers = [int(part) for part in what.split(":")[1].split("/")]
    return numbers[0], numbers[1:]


class TextCnn(nn.Module):
    def __init__(self, sample, classes, act, what):
        super().__init__()
        self.vocabulary = int(what.split(":")[1])
        self.embedding = nn.Embedding(self.vocabulary, 128, padding_idx=0)
        layers = []
        for _ in range(3):
            layers += [nn.Conv2d(128, 128, (1, 5), padding=(0, 2), bias=False), act()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(128, classes)

    def forward(self, x):
        ids = x.squeeze(1).squeeze(1).long()
        ids = torch.where((ids >= 0) & (ids < self.vocabulary), ids, torch.ones_like(ids))
        maps = self.features(self.embedding(ids).transpose(1, 2).unsqueeze(2))
        return self.classifier(maps.amax(3).flatten(1))


class Mlp(nn.Module):
    def __init__(self, sample, classes, act, what):
        super().__init__()
        self.numeric, self.fields = fields_of(what) if what.startswith("table:") else (0, [])
        width = int(np.prod(sample))
        if self.fields:
            self.embedding = nn.Embedding(sum(self.fields), 8)
            width = self.numeric + 8 * len(self.fields)
        layers = []
        for hidden in (256, 128, 64):
            layers += [nn.Linear(width, hidden), act()]
            width = hidden
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x):
        x = x.flatten(1)
        if self.fields:
            base = torch.tensor([sum(self.fields[:i]) for i in range(len(self.fields))])
            rows = self.embedding(x[:, self.numeric:].long() + base)
            x = torch.cat([x[:, :self.numeric], rows.flatten(1)], 1)
        return self.classifier(self.layers(x))


RESNETS = {"resnet18": ((2, 2, 2, 2), 64), "resnet34": ((3, 4, 6, 3), 64), "resnet20": ((3,) * 3, 16),
           "resnet56": ((9,) * 3, 16), "resnet110": ((18,) * 3, 16)}


def build(name, sample, classes, act, what=None):
    if name == "cnn":
        return Cnn(sample, classes, act)
    if name == "vgg19":
        return Vgg19(sample, classes, act)
    if name in RESNETS:
        return ResNet(sample, classes, act, *RESNETS[name])
    if name in ("resnet9", "resnet9s"):
        return ResNet9(sample, classes, act, 64 if name == "resnet9" else 48)
    if name in ("textcnn", "mlp"):
        return (TextCnn if name == "textcnn" else Mlp)(sample, classes, act, what)
    raise SystemExit("no reference for " + name)


def run(model, weights, x, labels, steps, rate, smoothing, dtype):
    model.load_state_dict(weights, strict=False)
    model = model.to(dtype)
    x = x.to(dtype) if x.is_floating_point() else x
    model.train()
    sgd = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    named, losses = dict(model.named_parameters()), []
    for step in range(steps):
        sgd.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss.backward()
        if step == 0:
            first = logits.detach()
            grads = torch.cat([named[k].grad.flatten() for k in weights if k in named])
        losses.append(loss.item())
        sgd.step()
        if step == 0:
            model.eval()
            with torch.no_grad():
                after = model(x)
            model.train()
    return {"logits": first, "grads": grads, "losses": torch.tensor(losses, dtype=torch.float64), "eval": after}


def answer(name, activation, where, steps, rate, smoothing, what):
    weights = read_safetensors(where + "/weights.safetensors")
    x = torch.from_numpy(np.load(where + "/x.npy"))
    labels = torch.from_numpy(np.load(where + "/labels.npy")).long()
    classes = list(weights.values())[-1].shape[0]
    for dtype, suffix in ((torch.float32, ""), (torch.float64, "64")):
        model = build(name, tuple(x.shape[1:]), classes, ACTIVATIONS[activation], what)
        missing = set(weights) - set(model.state_dict())
        absent = {k for k in model.state_dict() if not k.endswith("num_batches_tracked")} - set(weights)
        if missing or absent:
            raise SystemExit("names differ: only ours %s, only PyTorch's %s" % (sorted(missing), sorted(absent)))
        for key, value in run(model, weights, x, labels, int(steps), float(rate), float(smoothing), dtype).items():
            np.save("%s/%s%s.npy" % (where, key, suffix), value.to(torch.float32 if key != "losses" else
                                                                   torch.float64).float().numpy())


def main():
    torch.set_num_threads(1)  # two wait for each other by spinning, for ever on a busy machine
    for line in sys.stdin:
        answer(*line.split())
        print("done", flush=True)


if __name__ == "__main__":
    main()
