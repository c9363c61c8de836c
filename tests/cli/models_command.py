#!/usr/bin/python3
"""cutwire models: every network shows itself without further options, and says what it assumed: models_command.py CUTWIRE."""
from cli_run import last_object, run

ADULT = "table:6/10/17/8/16/7/6/3/43"


def show(*args):
    return last_object(run("models", *args, "--json"))


def test_every_network():
    for name in show()["models"]:
        model = show(name)
        assert model["model"] == name and len(model["layers"]) >= 5 and len(model["cuts"]) >= 3, model
        assert model["parameters"] == sum(layer["parameters"] for layer in model["layers"]) > 0 and model["flops"] > 0
        aliases = [cut["alias"] for cut in model["cuts"] if cut["alias"]]
        assert aliases == ["shallow", "medium", "deep"], aliases
        if name not in ("textcnn", "mlp"):
            assert model["assumed"] == "--sample 3x32x32 --input image --classes 10", model["assumed"]


def test_texts():
    model = show("textcnn")
    assert model["assumed"] == "--sample 64 --input tokens:20002 --classes 4", model["assumed"]
    assert model["layers"][0]["kind"] == "embedding" and model["layers"][0]["parameters"] == 20002 * 128
    assert [cut["smashed"] for cut in model["cuts"]] == 3 * ["128x1x64"], model["cuts"]
    model = show("textcnn", "--input", "tokens:500", "--classes", "3")
    assert model["assumed"] == "--sample 64" and model["layers"][0]["parameters"] == 500 * 128, model
    model = show("textcnn", "--sample", "20")
    assert model["assumed"] == "--input tokens:20002 --classes 4" and model["cuts"][0]["smashed"] == "128x1x20", model


def test_tables():
    model = show("mlp")
    assert model["assumed"] == f"--sample 14 --input {ADULT} --classes 2", model["assumed"]
    assert model["layers"][0]["parameters"] == 8 * (10 + 17 + 8 + 16 + 7 + 6 + 3 + 43)
    assert model["layers"][1]["parameters"] == (6 + 8 * 8) * 256 + 256
    model = show("mlp", "--input", "table:2/3/4")
    assert model["sample"] == "4" and model["layers"][0]["parameters"] == 8 * 7, model
    model = show("mlp", "--sample", "20")
    assert model["input"] == "table:20" and model["layers"][0]["parameters"] == 20 * 256 + 256, model
    model = show("mlp", "--sample", "1x28x28")
    assert model["assumed"] == "--input image --classes 10" and model["layers"][0]["kind"] == "flatten", model
    assert show("mlp", "--input", "image")["sample"] == "3x32x32"


def test_said():
    """People see it too, and nothing when everything was given."""
    assert "\nassumed, as not given: --sample 64 --input tokens:20002 --classes 4\n" in run("models", "textcnn")
    out = run("models", "mlp", "--sample", "4", "--input", "table:4", "--classes", "2", "--activation", "tanh")
    assert out.startswith("mlp on 4 (table:4), 2 classes, tanh: ") and "assumed" not in out, out
    help_text = run("models", "--help")
    for word in ("tokens:20002", ADULT, "relu, leaky_relu, gelu, silu, tanh"):
        assert word in help_text, help_text


def test_refusals():
    assert "--input tokens:V --sample L" in run("models", "textcnn", "--sample", "3x32x32", code=1)
    assert "say --sample 14" in run("models", "mlp", "--sample", "13", "--input", ADULT, code=1)
    said = run("models", "vgg19", "--input", "tokens:9", code=1)
    assert "64 (tokens)" in said and "--input image --sample CxHxW" in said, said
    assert "sides of at least" in run("models", "resnet18", "--sample", "3x32", code=1)
    assert "known are" in run("models", "vgg91", code=2)
    assert "tanh" in run("models", "cnn", "--activation", "tahn", code=2)
    assert "0 classes" in run("models", "cnn", "--classes", "0", code=1)
    assert "give image, tokens:V" in run("models", "mlp", "--input", "words", code=2)


for test in (test_every_network, test_texts, test_tables, test_said, test_refusals):
    test()
print("models: every network shows itself")
