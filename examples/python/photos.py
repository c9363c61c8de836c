#!/usr/bin/python3
"""torchvision's ResNet-18 on photos, cut after its first stage, with everything that crosses the cut compressed.

    PYTHONPATH=build/python /usr/bin/python3 examples/python/photos.py --data FOLDER
    PYTHONPATH=build/python /usr/bin/python3 examples/python/photos.py --data FOLDER --weights resnet18.pth --lr 0.01

FOLDER holds train/CLASS/ and val/CLASS/. --weights takes a state dict of torchvision's resnet18, of any number of
classes; without it training begins from scratch. --save FILE keeps what was learned, under torchvision's names. 1500
photos take some minutes on two cores; --limit 0 takes all there are.
"""
import argparse
import pathlib

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

import cutwire.torch as cwt

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--data", type=pathlib.Path, default=pathlib.Path.home() / ".cache/cutwire/data/imagenette-224")
    p.add_argument("--weights", help="a state dict to begin with")
    p.add_argument("--save", help="where the trained state dict goes")
    p.add_argument("--after", default="layer1", help="any name of cutwire.torch.cut_points(model)")
    p.add_argument("--up", default="ec:err=0.15")
    p.add_argument("--down", default="ec:step=4.5,round=stochastic,scope=sample")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--lr", type=float, default=0.05)
    p.add_argument("--size", type=int, default=112, help="pixels of a side")
    p.add_argument("--limit", type=int, default=1500, help="photos of each split; 0: all")
    p.add_argument("--workers", type=int, default=0)
    return p.parse_args()


def photos(folder, o, augment):
    steps = [transforms.RandomResizedCrop(o.size, (0.35, 1)), transforms.RandomHorizontalFlip()] if augment else \
        [transforms.Resize(o.size * 8 // 7), transforms.CenterCrop(o.size)]
    steps += [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    images = torchvision.datasets.ImageFolder(folder, transforms.Compose(steps))
    if o.limit:
        every = max(len(images) // o.limit, 1)
        kept = torch.utils.data.Subset(images, range(0, len(images), every))
    else:
        kept = images
    return len(images.classes), torch.utils.data.DataLoader(kept, 32, shuffle=augment, num_workers=o.workers)


def begin(classes, weights):
    model = torchvision.models.resnet18(num_classes=classes)
    if weights:
        state = torch.load(weights, map_location="cpu")
        own = model.state_dict()
        fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        model.load_state_dict({**own, **fitting})
        print(f"{weights}: {len(fitting)} of {len(own)} tensors")
    return model


def accuracy(net, batches):
    net.eval()
    with torch.no_grad():
        right = [(net(x).argmax(1) == y).float() for x, y in batches]
    return torch.cat(right).mean().item()


def main():
    o = options()
    torch.manual_seed(1)
    classes, train_set = photos(o.data / "train", o, True)
    _, val_set = photos(o.data / "val", o, False)
    model = begin(classes, o.weights)

    head, tail = cwt.split(model, after=o.after)
    cut = cwt.Cut(up=o.up, down=o.down)
    net = nn.Sequential(head, cut, tail)
    optimizer = torch.optim.SGD(net.parameters(), o.lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, o.lr, total_steps=o.epochs * len(train_set))
    for epoch in range(o.epochs):
        cut.set_epoch(epoch)
        net.train()
        for x, y in train_set:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y, label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
        s = cut.stats
        print(f"epoch {epoch + 1}: {100 * accuracy(net, val_set):.1f}%; up {s.uplink_raw_bytes / s.uplink_bytes:.1f} times "
              f"fewer bytes, down {s.downlink_raw_bytes / s.downlink_bytes:.1f}", flush=True)
    if o.save:
        torch.save(model.state_dict(), o.save)  # the halves share its parameters: it has learned what they have


if __name__ == "__main__":
    main()
