"""Peak memory of each part and of a picture, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import kerasdiffusion
from kerasdiffusion.apps.bench.measuring import OPENVINO, begin, begin_peer
from kerasdiffusion.apps.bench.worker import GUIDANCE_SCALE, PROMPT, Job, peak_memory
from kerasdiffusion.compute.compile_cache import SWITCH

SIDES = (512, 768, 1024, 2048)
#: What is measured, and what it is called. The first has no weights and no size.
TASKS = {
    "nothing": "the backend alone",
    "encode": "text encoder",
    "denoise": "U-Net, one guided call",
    "decode": "decoder",
    "picture": "a picture",
    "low memory": "a picture, low_memory=True",
    "smallest": 'a picture, low_memory="smallest"',
}
NEXT = "the next process"
#: How a model that paints a picture has its networks.
LOW_MEMORY = {"picture": False, "smallest": "smallest"}


def measure(
    preset: str,
    sides: Sequence[int] = SIDES,
    precision: str = "auto",
    jit_compile: bool | str = "auto",
    tasks: Sequence[str] = tuple(TASKS),
    peers: Sequence[str] = (),
) -> Iterator[dict]:
    """What each task takes at most, at each size.

    The weights are zeros of the preset's shapes, in a folder that is there meanwhile.

    Args:
        preset: What `from_preset` takes.
        sides: Of square pictures, in pixels.
        precision: One of `backend.PRECISIONS`.
        jit_compile: Whether to compile by XLA, or `"auto"`.
        tasks: Of `TASKS`.
        peers: Other libraries, of `worker.LIBRARIES`, which paint a picture too.

    Yields:
        A dict of `"task"`, `"side"` and `"bytes"` (of the whole process at its peak; of
        the accelerator, where there is one; `None` where it failed, for want of memory
        for example, and then the `"error"`) as soon as it is known; of this library
        also `"cpu"`, the seconds of processor time that the process took.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = {"preset": preset, "precision": precision, "jit_compile": jit_compile}
        job["folder"] = str(Path(folder, "model"))
        written = _apart(job | {"task": "write", "side": None})
        if "error" in written:
            raise ChildProcessError(
                f"The model could not be written: {written['error']}"
            )
        job |= {name: written.get(name) for name in ("resolved", "config")}
        for task in tasks:
            once = task in ("nothing", "encode")
            for side in sides[:1] if once else sides:
                job |= {"task": task, "side": None if once else side}
                yield {"task": task, "side": job["side"], **_apart(job)}
        for peer in peers:
            for side in sides:
                for task, found in _of_peer(peer, side, job).items():
                    yield {"task": task, "side": side, **found}


def table(results: Sequence[dict]) -> str:
    """The results for people, in GiB.

    Args:
        results: What `measure` yields.

    Returns:
        Lines of text, without a last line break.
    """
    lines = _lines("peak memory, GiB", results, _shown)
    if any("cpu" in each for each in results):
        lines += ["", *_lines("processor time of the process, s", results, _cpu)]
    errors = [
        f"{named(each['task'])}, {each['side']}x{each['side']}: {each['error']}"
        for each in results
        if "error" in each
    ]
    tasks = {each["task"] for each in results}
    if "picture" in tasks and not tasks <= TASKS.keys():
        lines += ["", "In brackets: a picture by this library over that by another."]
    return "\n".join(lines + errors)


def _lines(title: str, results: Sequence[dict], shown: Callable) -> list[str]:
    """A table of some figure of each task, at each size."""
    sides = list(dict.fromkeys(each["side"] for each in results if each["side"]))
    rows = [[title, *(f"{side}x{side}" for side in sides)]]
    by_task: dict = {}
    for each in results:
        by_task.setdefault(each["task"], {})[each["side"]] = each
    for task, found in by_task.items():
        cells = [named(task)]
        for side in sides:
            ours = None if task in TASKS else by_task.get("picture", {}).get(side)
            cells.append(shown(found.get(side, found.get(None)), ours))
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]


def named(task: str) -> str:
    """What was measured, in words."""
    return TASKS.get(task, f"a picture by {task}")


def _of_peer(peer: str, side: int, job: dict) -> dict[str, dict]:
    """What a picture takes in a process of another library's, of the same weights.

    By its name; by way of OpenVINO also what it takes in the next process, which finds
    what the first has kept.
    """
    precision = job["resolved"]
    asked = Job(
        library=peer,
        preset=job["preset"],
        random_weights=False,
        height=side,
        width=side,
        batch_size=1,
        steps=1,
        # Others have no weights that are narrower than what they compute with.
        precision={"float16_weights": "float32"}.get(precision, precision),
        jit_compile=job["jit_compile"],
        repeats=0,
        config=job["config"],
        folder=job["folder"],
        only=("picture",),
    )
    if peer != OPENVINO:
        return {peer: _peak_of(lambda stack: begin_peer(asked, stack))}
    with tempfile.TemporaryDirectory() as folder:
        kept = {SWITCH: folder, "KERAS_BACKEND": "tensorflow"}
        return {
            name: _peak_of(lambda stack: begin(asked, stack, **kept))
            for name in (peer, f"{peer}, {NEXT}")
        }


def _peak_of(begin: Callable) -> dict:
    """What a process held at most that a function begins, in a stack that ends it."""
    try:
        with contextlib.ExitStack() as stack:
            found, _ = begin(stack)
    except ChildProcessError as error:
        return {"bytes": None, "error": str(error)}
    device = found["bytes"]["device_peak"]
    return {"bytes": found["bytes"]["peak"] if device is None else device}


def _shown(result: dict | None, ours: dict | None) -> str:
    """A peak; of another library's also what `ours` is of it."""
    if result is None:
        return "-"
    if "error" in result:
        return "failed"
    share = ""
    if ours is not None and "error" not in ours:
        share = f" ({ours['bytes'] / result['bytes']:.2f})"
    return f"{result['bytes'] / 2**30:.2f}{share}"


def _cpu(result: dict | None, ours: dict | None) -> str:
    del ours
    return f"{result['cpu']:.0f}" if result and "cpu" in result else "-"


def _apart(job: dict) -> dict:
    package = str(Path(kerasdiffusion.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "kerasdiffusion.apps.bench.memory", json.dumps(job)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or "killed").splitlines()[-1]
        return {"bytes": None, "error": f"exit code {done.returncode}: {last}"}
    return json.loads(done.stdout.splitlines()[-1])


def _run(job: dict) -> dict:
    """One task, in this process; gives what peers have to know, if it was writing."""
    import keras
    import numpy as np

    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

    task, options = job["task"], {"precision": job["precision"]}
    if task == "nothing":
        keras.ops.convert_to_numpy(keras.ops.ones(1))
        return {}
    if task == "write":
        return _write(job, options)
    side = job["side"]
    if side is not None:
        options |= {"img_height": side, "img_width": side}
    model = StableDiffusion.from_preset(
        job["folder"],
        jit_compile=job["jit_compile"],
        low_memory=LOW_MEMORY.get(task, True),
        **options,
    )
    if task == "encode":
        model.encode_text(PROMPT)
        return {}
    if task == "decode":
        model.decode_latents(np.zeros((1, *model.latent_shape), "float32"))
        return {}
    if task == "denoise":
        # A context of nothing and no decoder: neither is read.
        tokens = model.config.tokenizer.context_length
        context = np.zeros((1, tokens, model.config.text_width), "float32")
        model.decode_all = lambda latents: latents
        model.text_to_image(
            context, context, 1, 1, GUIDANCE_SCALE, 0, progress_bar=False
        )
        return {}
    model.text_to_image(PROMPT, None, 1, 1, GUIDANCE_SCALE, 0, progress_bar=False)
    return {}


def _write(job: dict, options: dict) -> dict:
    import numpy as np

    from kerasdiffusion.compute import backend
    from kerasdiffusion.networks.parts import read_tokenizer
    from kerasdiffusion.presets.named import find_preset
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
    from kerasdiffusion.weights import load

    source, known = find_preset(job["preset"])
    config = known or load.read_config(source)
    options["tokenizer"] = read_tokenizer([] if known else [source], config)
    model = StableDiffusion(config=config, weights=None, **options)
    with backend.empty_weights():
        model.build()
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape, np.dtype(variable.dtype)))
    model.save_preset(job["folder"])
    return {"resolved": model.precision, "config": dataclasses.asdict(model.config)}


def _peak() -> int:
    """Bytes that this process held at most; an accelerator's where there is one."""
    from kerasdiffusion.compute import devices

    device = devices.peak_device_memory()
    return peak_memory() if device is None else device


if __name__ == "__main__":
    told = _run(json.loads(sys.argv[1]))
    print(json.dumps({"bytes": _peak(), "cpu": time.process_time(), **told}))
