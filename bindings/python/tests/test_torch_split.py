"""Models in two: names that work, names that do not, and halves that are the model."""
import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import cutwire.torch as cwt
from networks import Patches

torch.set_num_threads(1)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Transformer(nn.Module):
    """With blocks of its own, or PyTorch's."""

    def __init__(self, own, width=16):
        super().__init__()
        self.embed, self.position = nn.Embedding(50, width), nn.Parameter(torch.randn(1, 12, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(3))) if own else nn.TransformerEncoder(layer, 3)
        self.classify = nn.Linear(width, 4)

    def forward(self, tokens):
        x = self.blocks(self.embed(tokens) + self.position[:, :tokens.shape[1]])
        return self.classify(F.dropout(x.mean(1), 0.2, training=self.training))


def image(n=2, size=32):
    return torch.rand(n, 3, size, size)


def same_as_model(model, after, x):
    """Outputs, gradients and running statistics, in training and evaluation, to the bit; and one state dict."""
    keys = list(model.state_dict())
    head, tail = cwt.split(model, after)
    assert list(model.state_dict()) == keys
    assert set(head.state_dict()) | set(tail.state_dict()) == set(keys)
    shared = {id(p) for p in (*head.parameters(), *tail.parameters())}
    assert shared == {id(p) for p in model.parameters()}
    for training in (False, True):
        for module in (model, head, tail):
            module.train(training)
        kept = {k: v.clone() for k, v in model.state_dict().items()}
        results = []
        for forward in (model, lambda v: tail(head(v))):
            model.load_state_dict(kept)
            model.zero_grad()
            torch.manual_seed(5)
            y = forward(x)
            y.square().sum().backward()
            results.append((y, [p.grad.clone() for p in model.parameters()], [b.clone() for b in model.buffers()]))
        (y, grads, buffers), (y2, grads2, buffers2) = results
        assert torch.equal(y, y2)
        assert all(map(torch.equal, grads, grads2)) and all(map(torch.equal, buffers, buffers2))
    return head, tail


@pytest.mark.parametrize("name, after", [
    ("resnet18", "layer1"), ("resnet18", "layer2.0"), ("resnet18", "maxpool"), ("resnet18", "layer1.1.relu"),
    ("vgg19_bn", "features.6"), ("mobilenet_v2", "features.3"), ("mobilenet_v2", "features.1.conv.0")])
def test_torchvision(name, after):
    model = getattr(torchvision.models, name)(num_classes=10, **({"init_weights": False} if name == "vgg19_bn" else {}))
    if name == "vgg19_bn":
        model.avgpool, model.classifier = nn.Identity(), nn.Linear(512, 10)  # 120 million parameters are much for a test
    same_as_model(model, after, image(size=64 if name == "mobilenet_v2" else 32))


def test_sequential():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    same_as_model(model, "1", torch.rand(5, 3, 2, 2))
    assert cwt.cut_points(model) == ["0", "1", "2"]


@pytest.mark.parametrize("own, after", [(True, "blocks.0"), (True, "blocks.1"), (False, "blocks.layers.1"),
                                        (False, "blocks")])
def test_transformer(own, after):
    torch.manual_seed(1)
    same_as_model(Transformer(own), after, torch.randint(0, 50, (3, 9)))


def test_encoder_alone():
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 3), torch.rand(2, 5, 16)
    head, tail = cwt.split(model, "layers.0")
    model.eval(), head.eval(), tail.eval()
    assert torch.allclose(model(x), tail(head(x)), atol=1e-6)


@pytest.mark.parametrize("after", ["layer1.0.conv1", "layer1.0.bn2", "layer2.0.downsample"])
def test_inside_a_skip_connection(after):
    with pytest.raises(ValueError, match="skip connection") as caught:
        cwt.split(torchvision.models.resnet18(), after)
    for name in ("conv1", "maxpool", "layer1", "layer2.1", "avgpool"):
        assert name in str(caught.value).split("cut after ")[1].split(", ")
    assert after not in str(caught.value).split("cut after ")[1]


def test_listed_names_work():
    model = torchvision.models.resnet18(num_classes=4)
    names = cwt.cut_points(model)
    assert "layer1.0" in names and "fc" not in names
    x = image()
    model.eval()
    for name in names[::4]:
        head, tail = cwt.split(model, name)
        assert torch.equal(tail(head(x)), model(x)), name


@pytest.mark.parametrize("after", ["layer9", "", "fc", "layer1."])
def test_no_such_cut(after):
    with pytest.raises(ValueError, match="can be cut after conv1, "):
        cwt.split(torchvision.models.resnet18(), after)
    with pytest.raises(TypeError):
        cwt.split(torchvision.models.resnet18(), 3)


def test_inputs_with_a_default_keep_it():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x, mask=None, scale=2.0):
            x = self.a(x) * scale
            return self.b(x if mask is None else x * mask)

    model, x = Masked(), torch.rand(2, 3)
    head, tail = same_as_model(model, "a", x)
    with pytest.raises(TypeError):
        head(x, mask=x)


def test_inputs_by_keyword_alone_and_more_of_them():
    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x, *more, scale, mask=None, **other):
            x = self.a(x * scale)
            return self.b(x if mask is None and not more and not other else x * mask)

    model, x = Keywords(), torch.rand(2, 3)
    head, tail = cwt.split(model, "a")
    assert torch.equal(tail(head(x, scale=3.0)), model(x, scale=3.0))
    with pytest.raises(ValueError, match="names no input"):
        cwt.cut_points(nn.DataParallel(model))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("both_ways", [False, True])
def test_the_last_state_of_a_recurrent_layer(kind, both_ways):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = kind(5, 4, batch_first=True, bidirectional=both_ways)
            self.classify = nn.Linear(8 if both_ways else 4, 3)

        def forward(self, x):
            if kind is nn.LSTM:
                _, (h, c) = self.layer(x)
            else:
                _, h = self.layer(x)
            return self.classify(torch.cat([h[-2], h[-1]], 1) if both_ways else h[-1])

    x = torch.rand(3, 7, 5)
    head, _ = same_as_model(Last(), "layer", x)
    assert head(x).shape == ((2, 3, 4) if both_ways else (3, 4))


@pytest.mark.parametrize("after", ["embed", "lstm"])
def test_a_module_that_gives_a_tuple(after):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm = nn.Embedding(50, 6), nn.LSTM(6, 8, batch_first=True)
            self.classify = nn.Linear(8, 3)

        def forward(self, tokens):
            h, _ = self.lstm(self.embed(tokens))
            return self.classify(h[:, -1])

    same_as_model(Recurrent(), after, torch.randint(0, 50, (3, 7)))


def test_shapes_are_unpacked_and_asserted():
    same_as_model(Patches(), "a", image(2, 8))
    same_as_model(torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5), "encoder.layers.encoder_layer_0",
                  image())


@pytest.mark.parametrize("count", [lambda x: x.size(0), lambda x: x.shape[0]], ids=["size", "shape"])
def test_the_number_of_samples_may_cross(count):
    class Flat(nn.Module):
        def __init__(self, turned=False):
            super().__init__()
            self.a, self.b, self.turned = nn.Linear(6, 4), nn.Linear(4, 2), turned

        def forward(self, x):
            n = count(x)
            x = self.a(x.transpose(0, 1) if self.turned else x)
            return self.b(x).reshape(n, -1)

    head, tail = same_as_model(Flat(), "a", torch.rand(5, 3, 6))
    assert tail(head(torch.rand(2, 3, 6))).shape == (2, 6)
    turned = cwt.split(Flat(turned=True), "a")[0]
    with pytest.raises(ValueError, match="first dimension at the cut is 3, where the forward goes on with 5"):
        turned(torch.rand(5, 3, 6))


class Segments(nn.Module):
    """As torchvision's networks for segmentation do, and a size that is asked for late."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        y = self.a(x)
        z = F.avg_pool2d(self.b(y), 2)
        z = F.interpolate(self.c(z), size=(y.shape[2], y.shape[3]))
        return F.interpolate(z, size=x.shape[-2:]) + x.shape[-1] // 2


@pytest.mark.parametrize("after", ["a", "b", "c"])
def test_the_height_and_width_may_cross_with_an_example(after, tmp_path):
    model, x = Segments(), torch.rand(2, 3, 9, 12)
    assert cwt.cut_points(model) == [] and cwt.cut_points(model, x) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="give example=, an input"):
        cwt.split(model, after)
    head, tail = cwt.split(model, after, example=x)
    for images in (x, x[:1], torch.rand(5, 3, 9, 12)):
        assert torch.equal(tail(head(images)), model(images))
    with pytest.raises(ValueError, match=r"of this input .*9, 10.*: split once more"):
        head(torch.rand(2, 3, 9, 10))
    torch.save(head, tmp_path / "head.pt")
    assert torch.equal(torch.load(tmp_path / "head.pt")(x), head(x))


def test_sizes_that_the_tail_knows_need_no_example():
    class Knows(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.w = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Parameter(torch.rand(6, 4))

        def forward(self, x):
            w, y = self.w, self.a(x)
            z = F.interpolate(self.b(y), size=y.shape[-2:])
            return F.linear(z.mean((2, 3)), w).reshape(-1, w.shape[0] // 2)

    same_as_model(Knows(), "a", torch.rand(2, 3, 8, 6))


def test_torchvision_networks_for_segmentation_are_cut():
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    model.eval()
    x = torch.rand(1, 3, 32, 48)
    head, tail = cwt.split(model, "backbone.3", example=x)
    with torch.no_grad():
        assert torch.equal(tail(head(x))["out"], model(x)["out"])


def test_halves_are_saved_and_loaded(tmp_path):
    x = image(2, 8)
    halves = nn.Sequential(*cwt.split(Patches(), "a"))
    torch.save(halves, tmp_path / "halves.pt")
    assert torch.equal(torch.load(tmp_path / "halves.pt")(x), halves(x))


def test_what_cannot_be_followed():
    class Decides(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.b(self.a(x)) if x.sum() > 0 else self.b(x)

    class Modes(Decides):
        def forward(self, x):
            return self.b(self.a(x).relu() if self.training else self.a(x))

    with pytest.raises(ValueError, match="split it by hand"):
        cwt.split(Decides(), "a")
    with pytest.raises(ValueError, match="in training and another in evaluation"):
        cwt.split(Modes(), "a")
    whole = nn.Sequential(Decides(), nn.Linear(3, 1))  # what is beside the cut need not be followed
    same_as_model(whole, "0", torch.rand(2, 3))
    assert cwt.cut_points(whole) == ["0"]
    with pytest.raises(ValueError, match="cannot follow"):
        cwt.split(whole, "0.a")


class Keeps(nn.Module):
    """Tensors that are no parameters, of every kind; and what it remembers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.plain = nn.Linear(3, 4), nn.Linear(4, 2), torch.rand(4)
        self.register_buffer("kept", torch.rand(4))
        self.register_buffer("unsaved", torch.rand(4), persistent=False)

    def forward(self, x):
        self.seen = self.a((x - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor(2.0))
        return self.b(self.seen + self.plain + self.kept + self.unsaved + torch.ones(4))


def test_constants_are_in_no_state_dict_and_not_left_in_the_model():
    model, x = Keeps(), torch.rand(5, 3)
    attributes = set(model.__dict__)
    head, tail = same_as_model(model, "a", x)
    assert set(model.__dict__) == attributes | {"seen"} and isinstance(model.seen, torch.Tensor)
    for again in (copy.deepcopy(tail), pickle.loads(pickle.dumps(tail))):
        assert list(again.state_dict()) == ["kept", "b.weight", "b.bias"]
        assert torch.equal(again(head(x)), model(x))


def test_a_random_constant_is_refused():
    class Noisy(Keeps):
        def forward(self, x):
            return self.b(self.a(x + torch.randn(3)))

    with pytest.raises(ValueError, match="random numbers"):
        cwt.split(Noisy(), "a")


@pytest.mark.parametrize("drop", [F.dropout, F.dropout2d, F.dropout3d, F.alpha_dropout])
@pytest.mark.parametrize("fixed", [None, True, False])
def test_dropout_that_does_not_follow_the_mode_stays_so(drop, fixed):
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 64), nn.Linear(64, 64)

        def forward(self, x):
            return drop(self.b(self.a(x)), 0.5, training=self.training if fixed is None else fixed)

    same_as_model(Drops(), "a", torch.rand(2, 4, 1, 1, 3) if drop is F.dropout3d else torch.rand(2, 4, 1, 3))


def test_the_mode_stays_and_is_followed():
    model = Transformer(True).eval()
    model.embed.train()
    head, tail = cwt.split(model, "blocks.0")
    assert not model.training and model.embed.training and not tail.training
    tail.train()
    z = torch.rand(2, 9, 16)
    assert not torch.equal(tail(z), tail(z))  # its dropout
    tail.eval()
    assert torch.equal(tail(z), tail(z))


def test_hooks_of_what_is_cut_open_are_not_lost_without_a_word():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2))
    seen = []
    inside = model[0][0].register_forward_hook(lambda *_: seen.append(1))
    head, tail = cwt.split(model, after="0.0")
    tail(head(torch.rand(3, 4)))
    assert seen == [1]  # those of whole modules are called
    inside.remove()
    for module, name in ((model[0], r"0 \(Sequential\)"), (model, "the model")):
        handle = module.register_forward_hook(lambda *_: None)
        with pytest.raises(ValueError, match=f"^{name}.* hooks"):
            cwt.split(model, after="0.0")
        handle.remove()
    model[0].register_forward_hook(lambda *_: seen.append(2))
    head, tail = cwt.split(model, after="0")
    tail(head(torch.rand(3, 4)))
    assert seen == [1, 2]
