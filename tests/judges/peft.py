"""PEFT and diffusers as judges: they load files written here and must find the same W': python3 tests/judges/peft.py.

So they must in files that `lowrank doctor --fix` wrote, of every algorithm. Makes a virtual environment beside this file
unless the packages are there already, has `tests/support/judged.ts` write the files with Deno, and prints a line for
each. The files of Stable Diffusion are judged by the networks that the fixtures give (`LOWRANK_GOLDEN`, default
`../shared/golden`), converted ones by what they put out; without the fixtures they are left out.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [place for place in sys.path if Path(place).resolve() != HERE]  # this file is no package "peft"
ROOT = HERE.parent.parent
GOLDEN = Path(os.environ.get("LOWRANK_GOLDEN", ROOT.parent / "shared" / "golden")) / "sd"
PACKAGES = ["torch==2.13.0", "peft==0.21.2", "diffusers==0.42.1", "transformers", "safetensors"]


def ensure_packages():
    """Runs this file again in an environment that has the packages."""
    try:
        import diffusers, peft, torch, transformers  # noqa: F401, E401
        return
    except ImportError:
        if os.environ.get("JUDGE"):
            raise
    place = HERE / ".venv"
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    os.execve(python, [str(python), __file__], {**os.environ, "JUDGE": "1"})


ensure_packages()

import torch  # noqa: E402
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel  # noqa: E402
from peft import PeftModel  # noqa: E402
from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import CLIPTextModel  # noqa: E402

count = {"passed": 0, "failed": 0}


def judge(name, error, limit):
    passed = error <= limit
    count["passed" if passed else "failed"] += 1
    print(f"{'ok  ' if passed else 'FAIL'} {name}: {error:.1e}")


def distance(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(6, 8, bias=False)
        self.block = torch.nn.ModuleDict({
            "dense": torch.nn.Linear(6, 8, bias=False),
            "point": torch.nn.Conv2d(6, 8, 1, bias=False),
            "conv": torch.nn.Conv2d(6, 8, 3, bias=False),
            "line": torch.nn.Conv1d(6, 8, 3, bias=False),
        })


def net_of(out):
    net = Net()
    net.load_state_dict(load_file(out / "base.safetensors"))
    return net


def peft_kinds(out):
    """Every kind of adapter in a network of five layers, by its weights after PEFT has merged it."""
    for folder in sorted((out / "peft").iterdir()):
        kind, dtype = folder.name.split(".")
        merged = PeftModel.from_pretrained(net_of(out), folder).merge_and_unload().state_dict()
        expected = load_file(out / "expected" / f"{kind}.safetensors")
        error = max(distance(merged[key].float(), W) for key, W in expected.items())
        untouched = load_file(out / "base.safetensors")
        for key in merged.keys() - expected.keys():
            error = max(error, distance(merged[key], untouched[key]))
        judge(f"PEFT, {kind} in {dtype}", error, 1e-5 if dtype == "f32" else 8 * 2**-11)


def unet_of(folder):
    return UNet2DConditionModel.from_pretrained(GOLDEN / folder / "unet").eval()


def text_of(folder):
    return CLIPTextModel.from_pretrained(GOLDEN / folder / "text_encoder").eval()


def output(unet, io, folder):
    with torch.no_grad():
        if folder == "tiny":
            args = (io["unet/latents"], io["unet/timesteps"], io["unet/encoder_hidden_states"])
            return unet(*args).sample
        added = {"text_embeds": io["text_embeds@0"], "time_ids": io["time_ids"]}
        args = (io["latents"], io["timesteps"], io["encoder_hidden_states@0"])
        return unet(*args, added_cond_kwargs=added).sample


WANTED = {
    "locon": "locon/unet_out@1",
    "peft": "peft/unet_out@1",
    "diffusers_mixed_noalpha": "peft_noalpha/unet_out@1",
    "locon_sgm": "unet_only_out@1",
}


def stable_diffusion(out):
    """The fixtures' files in other dialects, by the output of the adapted network."""
    for path in sorted((out / "sd").iterdir()):
        name, dialect = path.name.split(".")[:2]
        folder = "tiny_xl" if name == "locon_sgm" else "tiny"
        io, unet = load_file(GOLDEN / folder / "io.safetensors"), unet_of(folder)
        if dialect == "peft":
            unet = PeftModel.from_pretrained(unet, path)
        else:
            pipeline = StableDiffusionXLPipeline if folder == "tiny_xl" else StableDiffusionPipeline
            state, alphas, metadata = pipeline.lora_state_dict(
                str(path), unet_config=unet.config, return_lora_metadata=True
            )
            pipeline.load_lora_into_unet(state, alphas, unet, metadata=metadata)
        wanted = io[WANTED.get(name, f"peft_more/{name}/unet_out")]
        judge(f"diffusers, {name} as {dialect}", distance(output(unet, io, folder), wanted), 2e-5)


def off(actual, before, wanted):
    """How far W' - W is from what was trained, over its largest number; nothing else may have moved."""
    error = 0 if wanted.keys() <= before.keys() else float("inf")
    for key, W in before.items():
        moved, delta = actual[key].float() - W, wanted.get(key, W) - W
        error = max(error, ((moved - delta).abs().max() / (delta.abs().max() or 1)).item())
    return error


def merged(network):
    """The weights of a network that adapters were loaded into, with them."""
    for module in network.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    return {key.replace(".base_layer.", "."): W for key, W in network.state_dict().items()}


def wanted_of(out, network, kind, prefix, before):
    """The weights as trained, by the names that a network has: a text encoder's are others in transformers 5."""
    wanted = load_file(out / "cured" / "expected" / f"{network}.{kind}.safetensors")
    own = {key[len(prefix):]: W for key, W in wanted.items() if key.startswith(prefix)}
    return {key if key in before else key.removeprefix("text_model."): W for key, W in own.items()}


def cured_peft(out, name, make, prefix=""):
    """What `doctor --fix peft` wrote, by the weights after PEFT has merged it."""
    for folder in sorted((out / "cured" / name).iterdir()):
        network = make()
        before = {key: W.clone() for key, W in network.state_dict().items()}
        actual = PeftModel.from_pretrained(network, folder).merge_and_unload().state_dict()
        error = off(actual, before, wanted_of(out, name, folder.name, prefix, before))
        judge(f"PEFT, {folder.name} fixed for a {name}", error, 1e-5)


def cured_diffusers(out):
    """What `doctor --fix diffusers` wrote for a pipeline, by the weights of both networks."""
    for path in sorted((out / "cured" / "pipeline").iterdir()):
        networks = {"unet": unet_of("tiny"), "text_encoder": text_of("tiny")}
        before = {
            prefix: {key: W.clone() for key, W in network.state_dict().items()} for prefix, network in networks.items()
        }
        unet, text, load = *networks.values(), StableDiffusionPipeline
        state, alphas, metadata = load.lora_state_dict(str(path), unet_config=unet.config, return_lora_metadata=True)
        load.load_lora_into_unet(state, alphas, unet, metadata=metadata)
        load.load_lora_into_text_encoder(state, alphas, text, prefix="text_encoder", metadata=metadata)
        error = max(
            off(merged(network), before[prefix], wanted_of(out, "pipeline", path.stem, prefix + ".", before[prefix]))
            for prefix, network in networks.items()
        )
        judge(f"diffusers, {path.stem} fixed for a pipeline", error, 1e-5)


with tempfile.TemporaryDirectory() as place:
    out = Path(place)
    golden = [str(GOLDEN)] if GOLDEN.exists() else []
    subprocess.run(["deno", "run", "-A", "tests/support/judged.ts", str(out), *golden], cwd=ROOT, check=True)
    peft_kinds(out)
    cured_peft(out, "net", lambda: net_of(out))
    if golden:
        stable_diffusion(out)
        cured_peft(out, "unet", lambda: unet_of("tiny"), "unet.")
        cured_diffusers(out)

print(f"{count['passed']} passed, {count['failed']} failed")
sys.exit(1 if count["failed"] else 0)
