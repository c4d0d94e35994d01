"""A model repository for Triton Inference Server: the bundle, and a model of Triton's Python back end that opens it.

    REPOSITORY/elir_TASK/config.pbtxt       inputs, outputs, dynamic batching
    REPOSITORY/elir_TASK/1/model.py         some lines: the model is elir_trt.serving.triton
    REPOSITORY/elir_TASK/1/bundle/          a copy of the bundle, opened with its digests checked

The server's Python needs this package and what the bundle's backend needs.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from elir_trt.bundle import Bundle, find_bundle
from elir_trt.errors import ElirError
from elir_trt.files import locked, written_folder

#: Names of the tensors on the wire.
INPUT, OUTPUT = "frame", "restored"
BUNDLE = "bundle"
#: Keys of the model's parameters.
STEPS, DEVICE = "steps", "device"

_MODEL = '''"""The restorer as a model of Triton's Python back end."""

import sys

sys.path.extend({packages!r})

from elir_trt.serving.triton import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Options:
    """How the server runs a bundle.

    Attributes:
        batch: frames of one size that Triton hands over together at most.
        delay_us: microseconds that it waits for more of them.
        instances: restorers, each in a process of its own.
        device: "auto", "cpu" or "cuda".
        steps: of every frame; None: the bundle's default.
        packages: folders in which the server's Python finds this package and what it needs, where it does not by
            itself: Triton's Python back end knows neither virtual environments nor PYTHONPATH.
    """

    batch: int = 8
    delay_us: int = 2000
    instances: int = 1
    device: str = "auto"
    steps: int | None = None
    packages: tuple[str, ...] = ()


def write_repository(
    bundle: str | Path, output: Path, options: Options | None = None, *, force: bool = False
) -> Path:
    """Write a model for Triton into the model repository ``output``, in one step.

    Args:
        bundle: a bundle's folder, or a task.
        output: the repository; it may hold other models.
        options: how the server runs it.
        force: replace a model of that name.

    Returns:
        the model's folder.

    Raises:
        BundleError: there is no such bundle, or it must not be trusted.
        ElirError: an option is out of its range, or the model is there already.
    """
    options = options or Options()
    opened = Bundle(find_bundle(bundle))
    recipe = opened.recipe
    for name, value, least in (
        ("batch", options.batch, 1),
        ("delay_us", options.delay_us, 0),
        ("instances", options.instances, 1),
    ):
        if value < least:
            raise ElirError(f"{name} is {value}; expected {least} or more")
    if options.device not in ("auto", "cpu", "cuda"):
        raise ElirError(f"device is {options.device!r}; allowed: auto, cpu, cuda")
    if options.steps is not None and not 0 <= options.steps <= recipe.steps:
        raise ElirError(f"steps is {options.steps}; this bundle allows 0 to {recipe.steps}")
    path = output / f"elir_{recipe.task}"
    if path.exists() and not force:
        raise ElirError(f"{path}: exists; use --force to replace it")
    output.mkdir(parents=True, exist_ok=True)
    with locked(path), written_folder(path) as folder:
        version = folder / "1"
        shutil.copytree(opened.path, version / BUNDLE)
        (version / "model.py").write_text(_MODEL.format(packages=list(options.packages)))
        (folder / "config.pbtxt").write_text(configuration(path.name, options))
    return path


def configuration(name: str, options: Options) -> str:
    """The model's ``config.pbtxt``."""
    parameters = {DEVICE: options.device, STEPS: "" if options.steps is None else str(options.steps)}
    written = "\n".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    )
    # The core chooses its device by itself, so that Triton need not have one.
    return f"""name: "{name}"
backend: "python"
max_batch_size: {options.batch}
input {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}
output {{ name: "{OUTPUT}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}
dynamic_batching {{ max_queue_delay_microseconds: {options.delay_us} }}
instance_group {{ count: {options.instances} kind: KIND_CPU }}
{written}
"""
