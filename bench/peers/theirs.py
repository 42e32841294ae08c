"""LyCORIS's side of bench/peers: takes one task a line from stdin, answers a line each; see task.ts."""

import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from theirs import clear_peak, kibibytes, serve  # noqa: E402

MODULES = {
    "lora": LoConModule,
    "loha": LohaModule,
    "lokr": LokrModule,
    "ia3": IA3Module,
    "dylora": DyLoraModule,
}
BATCH = 64
STEPS = 3


def adapt(layer, way, rank, bypass):
    """Puts LyCORIS's module on a frozen layer; the module."""
    options = way.get("options", {})
    more = {"bypass_mode": True} if bypass else {}
    if options.get("tucker"):
        more["use_tucker"] = True
    if options.get("dora"):
        more.update(weight_decompose=True, wd_on_out=True)
    if options.get("block"):
        more["block_size"] = options["block"]
    rank = rank if way.get("ranked") else 4
    module = MODULES[way["algorithm"]]("bench", layer, 1.0, rank, rank, **more)
    module.apply_to()
    module.train()
    return module


def layer_step(task):
    """Forward and backward of one layer: gradients of its input and of every factor."""
    shape, kernel = task["place"]["x"], task["place"]["kernel"]
    if len(kernel) == 2:
        layer, x = torch.nn.Linear(*kernel), torch.randn(shape) * 0.1
    else:
        k, _, inputs, outputs = kernel
        layer = torch.nn.Conv2d(inputs, outputs, k, padding=k // 2)
        n, h, w, c = shape
        x = torch.randn(n, c, h, w) * 0.1
    if task.get("channelsLast"):
        layer, x = layer.to(memory_format=torch.channels_last), x.to(
            memory_format=torch.channels_last
        )
    layer.requires_grad_(False)
    x.requires_grad_(True)
    parameters = [x]
    if "algorithm" in task["way"]:
        module = adapt(layer, task["way"], task["rank"], task.get("bypass"))
        parameters += module.parameters()
    with torch.no_grad():
        dy = torch.randn_like(layer(x)) * 0.1

    def run():
        layer(x).backward(dy)
        for parameter in parameters:
            parameter.grad = None

    return run


class Same(torch.nn.Module):
    """TensorFlow's padding "same" at stride 2 on an even length: the odd zero comes after."""

    def __init__(self, k, length):
        super().__init__()
        total = max(0, (-(-length // 2) - 1) * 2 + k - length)
        self.zeros = (total // 2, total - total // 2) * 2

    def forward(self, x):
        return F.pad(x, self.zeros)


def network():
    """The demo's network, lib/models/convnet.ts."""
    conv, relu = torch.nn.Conv2d, torch.nn.ReLU
    return torch.nn.Sequential(
        *(Same(5, 28), conv(1, 16, 5, 2), relu()),
        *(Same(3, 14), conv(16, 32, 3, 2), relu()),
        *(Same(3, 7), conv(32, 64, 3, 2), relu()),
        *(torch.nn.Flatten(), torch.nn.Linear(1024, 64), relu(), torch.nn.Linear(64, 10)),
    )


def model_step(task):
    """A whole step: forward, loss, backward, Adam."""
    net = network()
    x, y = torch.rand(BATCH, 1, 28, 28), torch.arange(BATCH) % 10
    if task.get("channelsLast"):
        net, x = net.to(memory_format=torch.channels_last), x.to(
            memory_format=torch.channels_last
        )
    parameters = list(net.parameters())
    if "algorithm" in task["way"]:
        net.requires_grad_(False)
        modules = [
            adapt(layer, task["way"], task["rank"], task.get("bypass"))
            for layer in net
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
        ]
        parameters = [parameter for module in modules for parameter in module.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-3)

    def run():
        adam.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        adam.step()
        loss.item()

    return run


def made(task):
    return layer_step(task) if "place" in task else model_step(task)


def least(run, budget):
    """The least milliseconds of a run, for so many milliseconds and at least twice."""
    run()
    best, start, runs = float("inf"), time.perf_counter(), 0
    while runs < 2 or (time.perf_counter() - start) * 1e3 < budget:
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
        runs += 1
    return best * 1e3


def peak(task):
    """MiB that steps take at most above what the process had."""
    before, run = kibibytes("VmRSS"), made(task)
    clear_peak()
    for _ in range(STEPS):
        run()
    return {"mib": (kibibytes("VmHWM") - before) / 1024, "resident": before / 1024}


serve(made, lambda run, task: {"ms": least(run, task["budget"])}, peak)
