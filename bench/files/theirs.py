"""LyCORIS's and kohya's side of the benches of files: takes one task a line from stdin, answers a line each; see task.ts."""

import os
import sys
import time
from pathlib import Path

import torch
from lycoris.modules import get_module, make_module
from lycoris.utils import extract_conv, extract_linear
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from theirs import clear_peak, kibibytes, serve  # noqa: E402


def pair(task):
    tensors = load_file(os.path.join(task["folder"], "pair.safetensors"))
    return tensors["base"], tensors["tuned"]


def extraction(task):
    """lycoris.utils: extract_diff of one layer, a 1×1 convolution as a matrix."""
    base, tuned = pair(task)
    extract = extract_conv if base.dim() == 4 else extract_linear

    def run():
        found, kind = extract(tuned - base, task["mode"], task["param"])
        if kind == "full":
            return {"rank": 0, "missed": 0}
        down, _, diff = found
        return {"rank": down.shape[0], "missed": (diff.norm() / (tuned - base).norm()).item()}

    return run


def merging(task):
    """lycoris.utils.merge of one layer."""
    base, _ = pair(task)
    path = os.path.join(task["folder"], task["algorithm"] + ".safetensors")
    state = {key: value.float() for key, value in load_file(path).items()}
    if base.dim() == 4:
        layer = torch.nn.Conv2d(base.shape[1], base.shape[0], base.shape[2], bias=False)
    else:
        layer = torch.nn.Linear(base.shape[1], base.shape[0], bias=False)
    layer.weight.data.copy_(base)

    def run():
        kind, parameters = get_module(state, "lora_unet_layer")
        module = make_module(kind, parameters, "lora_unet_layer", layer)
        module.merge_to(0.7)
        return {"rank": getattr(module, "lora_dim", 0)}

    return run


def resizing(task):
    """kohya's resize_lora.py: the SVD of up @ down, whose rank is as the methods are defined."""
    state = load_file(os.path.join(task["folder"], task["algorithm"] + ".safetensors"))
    up, down = state["lora_unet_layer.lora_up.weight"], state["lora_unet_layer.lora_down.weight"]

    def rank_of(s):
        mode, p = task["mode"], task["param"]
        if mode == "fixed":
            return p
        if mode == "sv_ratio":
            return int((s > s[0] / p).sum())
        powers, share = (s, p) if mode == "sv_cumulative" else (s**2, p * p)
        return int(torch.searchsorted(torch.cumsum(powers, 0) / powers.sum(), share)) + 1

    def run():
        matrix = up.flatten(1) @ down.flatten(1)
        u, s, vh = torch.linalg.svd(matrix)
        rank = max(1, min(rank_of(s), len(s) - 1))
        u, vh = u[:, :rank] @ torch.diag(s[:rank]), vh[:rank]
        u, vh = u.clone(), vh.clone()
        return {"rank": rank, "missed": (s[rank:].norm() / s.norm()).item()}

    return run


# at least so many, as a program's first runs are slower, but of what takes long
RUNS = 8

WORK = {"extract": extraction, "merge": merging, "resize": resizing}


def timed(run, task):
    """The least milliseconds."""
    now = time.process_time if task.get("cpu") else time.perf_counter
    best, spent, runs, answer, budget = float("inf"), 0, 0, {}, task["budget"]
    while spent < budget or (runs < RUNS and spent < 10 * budget):
        before = now()
        answer = run()
        took = (now() - before) * 1e3
        best, spent, runs = min(best, took), spent + took, runs + 1
    return {**answer, "ms": best}


def peak(task):
    """MiB that it takes at most above what the process had."""
    clear_peak()
    before = kibibytes("VmRSS")
    made(task)()
    return {"mib": (kibibytes("VmHWM") - before) / 1024}


def made(task):
    return WORK[task["what"]](task)


with torch.no_grad():
    serve(made, timed, peak)
