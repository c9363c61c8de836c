"""A cut in a model: what crosses it is what the network would carry, byte for byte."""
import copy
import gc
import io
import os
import pickle
import socket

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cutwire
import cutwire.torch as cwt
from cutwire import _seeds

torch.set_num_threads(1)
UP, DOWN = "ec:err=0.15", "ec:step=4.5,round=stochastic,scope=sample"


def halves(activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), activation())
    return head, nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 36, 4))


def batch(seed=1, n=16):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 12, 12, generator=g), torch.randint(0, 4, (n,), generator=g)


def by_hand(head, tail, x, t, up, down, mask, epoch, step, seed=1, client=0):
    """A client's and a server's work as src/modes has it, in plain calls. (loss, payloads up and down)."""
    def args(flow):
        return {"seed": _seeds.codec_seed(seed, flow, client, epoch, step)}

    z = head(x)
    sent = torch.empty(z.shape, dtype=torch.uint8)
    blob_up = cutwire.Codec(up).encode(z, **args(_seeds.UPLINK))
    y = cwt.decode(blob_up, sent=sent).requires_grad_()
    loss = F.cross_entropy(tail(y), t)
    loss.backward()
    support = sent if mask else None
    dy = torch.where(sent != 0, y.grad, torch.zeros(())) if mask else y.grad
    blob_down = cutwire.Codec(down).encode(dy, support=support, **args(_seeds.DOWNLINK))
    z.backward(cwt.decode(blob_down, support=support))
    return loss.detach(), blob_up, blob_down


@pytest.mark.parametrize("up, down, activation, mask", [
    (UP, DOWN, nn.ReLU, True), (UP, DOWN, nn.Tanh, False), (UP, "none", nn.ReLU, False), ("none", "none", nn.ReLU, False),
    ("ms:r=0.9,b=2", "qu:b=4,round=stochastic", nn.ReLU, True), ("rt:r=0.9", DOWN, nn.ReLU, True)])
def test_as_the_network_to_the_bit(up, down, activation, mask):
    nets, cut = [halves(activation) for _ in range(2)], cwt.Cut(up, down)
    net = nn.Sequential(nets[0][0], cut, nets[0][1])
    optimizers = [torch.optim.SGD([*h.parameters(), *t.parameters()], 0.1, momentum=0.9) for h, t in nets]
    raw = wire_up = wire_down = 0
    for epoch in (0, 3):
        cut.set_epoch(epoch)
        for step in range(3):
            x, t = batch(step)
            for o in optimizers:
                o.zero_grad()
            loss = F.cross_entropy(net(x), t)
            loss.backward()
            wanted, blob_up, blob_down = by_hand(*nets[1], x, t, up, down, mask, epoch, step)
            assert torch.equal(loss, wanted)
            for p, q in zip(nets[0][0].parameters(), nets[1][0].parameters()):
                assert torch.equal(p.grad, q.grad)
            for o in optimizers:
                o.step()
            raw, wire_up, wire_down = raw + 16 * 8 * 144 * 4, wire_up + len(blob_up), wire_down + len(blob_down)
    s = cut.stats
    assert (s.uplink_bytes, s.downlink_bytes, s.uplink_raw_bytes, s.downlink_raw_bytes, s.calls) == \
        (wire_up, wire_down, raw, raw, 12) and s.seconds > 0
    cut.reset_stats()
    assert cut.stats == cwt.Stats()


def test_without_codecs_it_is_the_model():
    head, tail = halves()
    x, t = batch()
    grads = []
    for net in (nn.Sequential(head, tail), nn.Sequential(head, cwt.Cut("none", "none"), tail)):
        net.zero_grad()
        F.cross_entropy(net(x), t).backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    assert all(map(torch.equal, *grads))


@pytest.mark.parametrize("layers, behind", [
    ([nn.ReLU()], True), ([nn.ReLU(), nn.MaxPool1d(2)], True), ([nn.ReLU6(), nn.Dropout(0.5)], True),
    ([nn.ReLU(), nn.AvgPool1d(2), nn.Flatten()], True), ([nn.ReLU(), nn.AdaptiveAvgPool1d(1)], True),
    ([nn.Tanh()], False), ([nn.ReLU(), nn.Linear(8, 8)], False), ([nn.LeakyReLU()], False), ([nn.Hardtanh()], False),
    ([nn.GELU(), nn.MaxPool1d(2)], False)], ids=str)
def test_behind_a_relu(layers, behind):
    z = nn.Sequential(nn.Linear(8, 8), *layers)(torch.rand(3, 2, 8))
    assert cwt.is_behind_relu(z) == behind
    assert not cwt.is_behind_relu(z.detach())


def test_scaled_by_what_may_be_negative():
    r = nn.Linear(8, 8)(torch.rand(3, 8)).relu()
    assert cwt.is_behind_relu(r * 0.5) and not cwt.is_behind_relu(r * -1) and not cwt.is_behind_relu(r * r)
    assert not cwt.is_behind_relu(r + r)
    assert cwt.is_behind_relu(torch.relu_(nn.Linear(8, 8)(torch.rand(3, 8))))


def test_mask_gradient():
    x, t = batch()
    for mask, masks in ((True, True), (False, False), ("auto", True)):
        head, tail = halves()
        cut = cwt.Cut("ms:r=0.9", "bf16", mask_gradient=mask)
        seen = []
        z = head(x)
        z.register_hook(seen.append)
        y = cut(z)
        F.cross_entropy(tail(y), t).backward()
        assert bool((seen[0][y == 0] == 0).all()) == masks
    with pytest.raises(ValueError, match="mask_gradient"):
        cwt.Cut(mask_gradient="maybe")
    with pytest.raises(cutwire.Error, match="comes in as 0"):
        cwt.Cut("ms:r=0.9,recon=centroid", mask_gradient=True)


def test_eval_and_no_grad():
    head, tail = halves()
    cut = cwt.Cut("rt:r=0.9,alpha=0.5", "none", eval_up="bf16")
    net = nn.Sequential(head, cut, tail).eval()
    x, _ = batch()
    z = head(x)
    assert torch.equal(cut(z), z.bfloat16().float())
    with torch.no_grad():
        assert not net(x).requires_grad
    with torch.inference_mode():
        net(x)
    assert cut.stats.downlink_bytes == 0 and cut.stats.calls == 3
    cut.set_epoch(0)
    first = cut.train()(z)
    cut.set_epoch(0)
    cut.eval()(z)
    assert torch.equal(cut.train()(z), first)  # an evaluation in between moves no stream of training


def test_streams():
    z, cut = torch.rand(8, 64), cwt.Cut("ec:step=2,round=stochastic", seed=5)
    first, second = cut(z), cut(z)
    assert not torch.equal(first, second)
    cut.set_epoch(0)
    assert torch.equal(cut(z), first)
    cut.set_epoch(1)
    assert not torch.equal(cut(z), first)
    other = cwt.Cut("ec:step=2,round=stochastic", seed=6)
    assert not torch.equal(other(z), first)
    assert not torch.equal(cwt.Cut("ec:step=2,round=stochastic", seed=5, client=1)(z), first)


def test_nothing_in_the_state_dict_and_it_can_be_copied():
    head, tail = halves()
    net = nn.Sequential(head, cwt.Cut(UP, DOWN), tail)
    assert not net[1].state_dict() and not list(net[1].parameters()) and not list(net[1].buffers())
    x, _ = batch()
    wanted = net(x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(file)):
        twin[1].set_epoch(0)
        twin[1].reset_stats()
        assert torch.equal(twin(x), wanted) and twin[1].stats.calls == 1
    assert net[1].stats.calls == 1 and "ec:err=0.15" in repr(net)


def test_several_cuts_in_one_model():
    torch.manual_seed(0)
    cuts = [cwt.Cut(UP, DOWN, seed=s) for s in (1, 2)]
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), cuts[0], nn.Linear(32, 32), nn.ReLU(), cuts[1], nn.Linear(32, 4))
    optimizer, x, t = torch.optim.Adam(net.parameters(), 0.01), torch.rand(64, 16), torch.arange(64) % 4
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), t)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    for cut in cuts:
        assert cut.stats.calls == 120 and cut.stats.downlink_bytes < cut.stats.downlink_raw_bytes / 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats(dtype):
    z = torch.rand(8, 32, dtype=dtype, requires_grad=True)
    cut = cwt.Cut("ec:err=0.05", "bf16")
    y = cut(z)
    y.float().square().sum().backward()
    assert y.dtype == z.grad.dtype == dtype and cut.stats.uplink_raw_bytes == cut.stats.downlink_raw_bytes == 8 * 32 * 2
    assert float((y - z).norm() / z.norm()) < 0.06


def test_odd_gradients_and_batches():
    cut = cwt.Cut("none", "none")
    z = torch.rand(3, 4, requires_grad=True)
    cut(z).sum().backward()  # an expanded gradient, with strides of 0
    assert torch.equal(z.grad, torch.ones(3, 4))
    assert cut(torch.empty(0, 4)).shape == (0, 4)
    y = cut(z)
    torch.relu_(y)  # in place, as the layers behind a cut may do
    (a,), (b,) = (torch.autograd.grad(y.sum(), z, retain_graph=True) for _ in range(2))
    assert torch.equal(a, b)
    cwt.Cut()(torch.rand(2, 2, requires_grad=True).t())


def test_what_cannot_cross():
    cut = cwt.Cut()
    with pytest.raises(TypeError, match="one tensor crosses it, not a tuple"):
        cwt.Cut()((torch.rand(2, 3), None))
    with pytest.raises(TypeError, match="float tensor"):
        cut(torch.zeros(2, dtype=torch.long))
    with pytest.raises(TypeError, match=r"\.float\(\)"):
        cut(torch.zeros(2).double())
    with pytest.raises(cutwire.Error, match="training has diverged") as caught:
        cut(torch.tensor([1.0, float("nan")]))
    assert caught.value.code == "CW_ERR_DIVERGED" and caught.value.offset == 1
    z = torch.rand(4, requires_grad=True)
    with pytest.raises(cutwire.Error, match="gradient at the cut"):
        (cut(z) * float("inf")).sum().backward()
    with pytest.raises(cutwire.Error) as caught:
        cwt.Cut(down="nothing")
    assert caught.value.code == "CW_ERR_SPEC"


def test_compress_gradients():
    spec = "ec:step=0.5,round=stochastic"
    (head, tail), (x, t) = halves(), batch()
    frozen = head[1].bias.requires_grad_(False)
    F.cross_entropy(tail(head(x)), t).backward()
    flat = torch.cat([p.grad.reshape(-1) for p in head.parameters() if p.grad is not None]).reshape(1, 1, -1)
    flat = cwt.decode(cutwire.Codec(spec).encode(flat, seed=_seeds.codec_seed(1, _seeds.CLIENT_GRAD, 0, 2, 0)))
    update = cwt.compress_gradients(head, spec)
    update.set_epoch(2)
    update()
    assert frozen.grad is None
    assert torch.equal(torch.cat([p.grad.reshape(-1) for p in head.parameters() if p.grad is not None]), flat.reshape(-1))
    stats = update.stats
    assert stats.calls == 1 and 0 < stats.uplink_bytes < stats.uplink_raw_bytes == 4 * flat.numel()
    assert stats.downlink_bytes == stats.downlink_raw_bytes == 0
    head[0].weight.grad[0] = float("inf")
    with pytest.raises(cutwire.Error, match="the client half's gradient"):
        update()


def test_error_feedback_sends_all_in_the_end():
    """Of ten steps with one gradient: what was sent, and the residual, are ten times it."""
    (head, tail), (x, t) = halves(), batch()
    F.cross_entropy(tail(head(x)), t).backward()
    gradients = [p.grad.clone() for p in head.parameters()]
    sums, left = {}, {}
    for feedback in (False, True):
        update = cwt.compress_gradients(head, "sp:r=0.9", error_feedback=feedback)
        sums[feedback] = [torch.zeros_like(g) for g in gradients]
        for step in range(10):
            for p, g, total in zip(head.parameters(), gradients, sums[feedback]):
                p.grad.copy_(g)
            if feedback and step == 5:  # as from a checkpoint
                state, update = update.state_dict(), cwt.compress_gradients(head, "sp:r=0.9", error_feedback=True)
                update.load_state_dict(state)
            update()
            for p, total in zip(head.parameters(), sums[feedback]):
                total += p.grad
        left[feedback] = update.state_dict()["residual"]
    flat = {k: torch.cat([g.reshape(-1) for g in v]) for k, v in sums.items()}
    whole = 10 * torch.cat([g.reshape(-1) for g in gradients])
    assert left[False] is None
    torch.testing.assert_close(flat[True] + left[True].reshape(-1), whole)
    error = {k: float((v - whole).norm() / whole.norm()) for k, v in flat.items()}
    assert error[True] < 0.5 * error[False]
    next(iter(head.parameters())).requires_grad_(False)
    head.zero_grad(set_to_none=True)
    F.cross_entropy(tail(head(x)), t).backward()
    with pytest.raises(ValueError, match="the same parameters"):
        update()


def test_compress_gradients_before_each_step_of_an_optimizer():
    results = []
    for hooked in (False, True):
        (head, tail), (x, t) = halves(), batch()
        optimizer = torch.optim.SGD([*head.parameters(), *tail.parameters()], 0.1)
        update = cwt.compress_gradients(head, optimizer=optimizer if hooked else None)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1) if hooked else None
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(tail(head(x)), t).backward()
            if not hooked:
                update()
            optimizer.step()
        assert update.stats.calls == 2
        if scheduler:
            scheduler.step()
        results.append([p.detach().clone() for p in head.parameters()])
    assert all(map(torch.equal, *results))


def test_compress_gradients_of_an_embedding():
    torch.manual_seed(0)
    grads = []
    for sparse in (False, True):
        torch.manual_seed(0)
        head = nn.Embedding(6, 4, sparse=sparse)
        head(torch.tensor([[1, 2], [2, 5]])).square().sum().backward()
        cwt.compress_gradients(head)()
        grads.append(head.weight.grad)
    assert torch.equal(*grads)


def test_no_leak():
    import resource

    cut, x = cwt.Cut(UP, DOWN), torch.rand(4, 8, 8, requires_grad=True)

    def calls(n):
        for _ in range(n):
            cut(x.relu()).sum().backward()
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = calls(30)
    assert calls(300) - before < 4096  # KiB


def in_ddp(rank, port, results):
    """One of two processes: a step of a model with a cut."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    head, tail = halves()
    cut = cwt.Cut(UP, DOWN)
    net = nn.parallel.DistributedDataParallel(nn.Sequential(head, cut, tail))
    x, t = batch(seed=rank)
    F.cross_entropy(net(x), t).backward()
    results.put((rank, [p.grad.numpy() for p in head.parameters()], cut.stats.uplink_bytes))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=in_ddp, args=(rank, port, results)) for rank in range(2)]
    for p in processes:
        p.start()
    got = sorted((results.get(timeout=300) for _ in processes), key=lambda r: r[0])
    for p in processes:
        p.join(60)
        assert p.exitcode == 0
    wanted = []
    for rank in range(2):  # each a client of its own
        (head, tail), (x, t) = halves(), batch(seed=rank)
        _, blob, _ = by_hand(head, tail, x, t, UP, DOWN, True, 0, 0, client=rank)
        assert got[rank][2] == len(blob)
        wanted.append([p.grad for p in head.parameters()])
    for a, b, mean in zip(got[0][1], got[1][1], ((p + q) / 2 for p, q in zip(*wanted))):
        assert torch.equal(torch.from_numpy(a), torch.from_numpy(b))
        assert torch.allclose(torch.from_numpy(a), mean, rtol=1e-5, atol=1e-8)
