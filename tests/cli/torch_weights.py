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

from cli_run import Folder, run, skip_without_fashion

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
        what_is_no_weights_is_said()


if __name__ == "__main__":
    main()
