#!/usr/bin/python3
"""scripts/torch_weights: PyTorch's weights into a run and out of it again: torch_weights.py CUTWIRE."""
import os
import subprocess
import sys

try:
    import torch
except ImportError:
    print("SKIP: /usr/bin/python3 has no torch (Debian: python3-torch)")
    sys.exit(77)

from cli_run import Folder, last_object, run, skip_without_fashion

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "nn"))
import torch_reference  # noqa: E402


def convert(source, target, code=0):
    done = subprocess.run([os.path.join(ROOT, "scripts", "torch_weights"), source, target], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def there_and_back():
    torch.manual_seed(4)
    odd = {"a.weight": torch.randn(3, 5).t(), "b": torch.randn(7).bfloat16(), "c": torch.randn(2, 2).half(),
           "d": torch.tensor(2.5), "e.running_var": torch.rand(4).double(), "none": torch.zeros(0, 3),
           "n": torch.tensor(9)}
    torch.save(odd, "odd.pth")
    convert("odd.pth", "odd.safetensors")
    convert("odd.safetensors", "back.pth")
    back = torch.load("back.pth", weights_only=True)
    assert set(back) == set(odd) - {"n"}, back.keys()
    for name, value in back.items():
        assert value.dtype == torch.float32 and torch.equal(value, odd[name].float()), name


def through_a_run():
    torch.manual_seed(3)
    model = torch_reference.build("cnn", (1, 28, 28), 10, torch.nn.ReLU)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, "a.pth")
    assert "tensors" in convert("a.pth", "a.safetensors")
    # a run that learns nothing leaves the parameters as they were; batch norm's statistics move
    run("train", "--local", "--data", "fashion-mnist", "--model", "cnn", "--weights", "a.safetensors", "--lr", "0",
        "--schedule", "constant", "--epochs", "1", "--train-limit", "64", "--batch", "32", "--test-limit", "32",
        "--threads", "1", "--out", "run")
    convert("run/model.safetensors", "b.pth")
    after = torch.load("b.pth", weights_only=True)
    before = model.state_dict()
    for name, value in after.items():
        assert "running_" in name or torch.equal(value, before[name]), name
    model.load_state_dict(after)


def resnet18_of_torchvision(channels, stem, classes):
    """The shapes of its state dict, without num_batches_tracked, written down from torchvision's naming and not from
    code of ours."""
    shapes = {}

    def conv(name, inputs, outputs, size):
        shapes[name + ".weight"] = (outputs, inputs, size, size)

    def norm(name, width):
        for of in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{of}"] = (width,)

    conv("conv1", channels, 64, stem)
    norm("bn1", 64)
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            inputs = width // 2 if layer > 1 and block == 0 else width
            at = f"layer{layer}.{block}"
            conv(f"{at}.conv1", inputs, width, 3)
            norm(f"{at}.bn1", width)
            conv(f"{at}.conv2", width, width, 3)
            norm(f"{at}.bn2", width)
            if inputs != width:
                conv(f"{at}.downsample.0", inputs, width, 1)
                norm(f"{at}.downsample.1", width)
    shapes["fc.weight"], shapes["fc.bias"] = (classes, 512), (classes,)
    assert len(shapes) == 102  # 62 parameters, and two statistics of 20 batch norms
    return shapes


def resnet18_has_torchvisions_names():
    run("train", "--local", "--data", "fashion-mnist", "--model", "resnet18", "--epochs", "1", "--train-limit", "2",
        "--batch", "2", "--test-limit", "1", "--checkpoint-every", "0", "--threads", "1", "--out", "resnet18")
    convert("resnet18/model.safetensors", "resnet18.pth")
    ours = {name: tuple(value.shape) for name, value in torch.load("resnet18.pth", weights_only=True).items()}
    theirs = resnet18_of_torchvision(1, 3, 10)  # the stem of small images
    assert ours == theirs, sorted(ours.items() ^ theirs.items())


def vgg19_has_torchvisions_names():
    """The layers with parameters of its vgg19_bn, and how many these are; the classifier is the paper's."""
    theirs, place, inputs = {}, 0, 3
    for width, convolutions in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(convolutions):
            theirs[f"features.{place}"] = 9 * inputs * width + width
            theirs[f"features.{place + 1}"] = 2 * width
            place, inputs = place + 3, width  # conv, bn, relu
        place += 1  # pooling
    theirs |= {"classifier.0": 513 * 4096, "classifier.3": 4097 * 4096, "classifier.6": 4097 * 10}
    layers = last_object(run("models", "vgg19", "--sample", "3x32x32", "--classes", "10", "--json"))["layers"]
    ours = {layer["name"]: layer["parameters"] for layer in layers if layer["parameters"]}
    assert ours == theirs, sorted(ours.items() ^ theirs.items())


def what_is_no_weights_is_said():
    with open("text.pth", "w") as f:
        f.write("no weights")
    torch.save([1, 2], "list.pth")
    for source in ("text.pth", "list.pth", "missing.pth"):
        said = convert(source, "out.safetensors", code=1)
        assert source in said and "Traceback" not in said, said
    os.rename("text.pth", "text.safetensors")
    said = convert("text.safetensors", "out.pth", code=1)
    assert "no safetensors file" in said and "Traceback" not in said, said
    for names in (("list.pth", "out.pth"), ("text.safetensors", "out.safetensors")):
        assert ".safetensors" in convert(*names, code=1)
    torch.save({"x": torch.zeros(1)}, "x.pth")
    assert "no/such" in convert("x.pth", "no/such/out.safetensors", code=1)
    assert not any(name.startswith("out") for name in os.listdir("."))


def main():
    skip_without_fashion()
    with Folder():
        there_and_back()
        through_a_run()
        resnet18_has_torchvisions_names()
        vgg19_has_torchvisions_names()
        what_is_no_weights_is_said()


if __name__ == "__main__":
    main()
