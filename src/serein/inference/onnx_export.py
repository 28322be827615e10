"""A saved model as one ONNX file: a waveform in, probabilities or values out.

The file's input is ``wave``, (1, samples) of float32 at the model's rate. Its outputs are, for
each task, the probabilities by its name, (1, classes), temperature and all, or the value, (1, 1);
and each attention map as ``attention.NAME``, (1, heads, steps), or (1, heads, steps, steps) of
queries by keys. To cut a long recording into windows is left to who applies it. The metadata
holds, under ``serein``, what a bundle's holds.
"""

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from serein.bundle import Bundle, bundle_to_json
from serein.errors import ConfigError
from serein.inference.onnx_modules import build_onnx_system
from serein.inference.onnx_runtime import ONNXSystem, load_onnx
from serein.system import Output, System, predict_batch
from serein.utils.files import write_bytes

TOLERANCE = 1e-4
"""How far a probability or a value may be from that of the model itself."""
CHECKED_SECONDS = (0.025, 0.06, 0.31, 1.0, 2.7)
"""Seconds of noise on which both are compared."""


def to_onnx(bundle: Bundle, path: Path) -> None:
    """Write a model as ONNX, once it answers in onnxruntime as it does here.

    Args:
        bundle: the model.
        path: of the file, with the ending ``.onnx``.

    Raises:
        ConfigError: the model cannot be exported, or the extra ``onnx`` is not installed.
        StorageError: the file could not be written.
    """
    if path.suffix != ".onnx":
        raise ConfigError(f"{path} does not end in .onnx; name it {path.with_suffix('.onnx')}")
    if isinstance(bundle.system, ONNXSystem):
        raise ConfigError("this model is an ONNX file already; copy it")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'to export needs {error.name}: pip install "serein[onnx]"') from error
    system = copy.deepcopy(bundle.system).cpu().eval()
    content = _export_model(replace(bundle, system=system))
    _check_outputs(system, load_onnx(content, str(path)).system)
    write_bytes(path, content)


class _WaveformModel(nn.Module):
    """A system as a function of one waveform, its answers laid side by side."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system

    def forward(self, wave_bs: Tensor) -> tuple[Tensor, ...]:
        """(1, S) -> probabilities of each task, and attention maps."""
        output = self.compute_output(wave_bs)
        maps = [one.weight for one in output.attention.values()]
        return (*self.system.decode(output).values(), *maps)

    def compute_output(self, wave_bs: Tensor) -> Output:
        """(1, S) -> what the system answers."""
        length_b = torch.full((1,), wave_bs.shape[1])
        return self.system(self.system.extract_features(wave_bs, length_b))


def _export_model(bundle: Bundle) -> bytes:
    system = bundle.system
    one = _WaveformModel(build_onnx_system(system))
    noise_bs = _make_noise(system, 2.0)
    with torch.inference_mode():
        maps = _WaveformModel(system).compute_output(noise_bs).attention
    with _silence_exporter():
        program = torch.onnx.export(
            one,
            (noise_bs,),
            dynamo=True,
            dynamic_shapes=({1: torch.export.Dim("samples", min=1)},),
            input_names=["wave"],
            output_names=[*system.classes, *(f"attention.{name}" for name in maps)],
            verbose=False,
        )
    assert program is not None
    document = json.loads(bundle_to_json(bundle)) | {"maps": {k: m.stride for k, m in maps.items()}}
    program.model.metadata_props["serein"] = json.dumps(document)
    return program.model_proto.SerializeToString()


def _make_noise(system: System, seconds: float) -> Tensor:
    """(1, S)."""
    count = round(seconds * system.front_end.rate)
    return 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(count))


def _check_outputs(system: System, exported: System) -> None:
    """Raises ConfigError where both do not answer alike."""
    for seconds in CHECKED_SECONDS:
        wave_bs = _make_noise(system, seconds)
        length_b = torch.tensor([wave_bs.shape[1]])
        with torch.inference_mode():
            ours, _ = predict_batch(system, system.extract_features(wave_bs, length_b))
        theirs, _ = predict_batch(exported, exported.extract_features(wave_bs, length_b))
        worst = max(_max_difference(ours[task], theirs[task]) for task in ours)
        if not worst <= TOLERANCE:
            raise ConfigError(
                f"not exported: of {seconds} s of noise onnxruntime's answers are "
                f"{worst:.2g} from the model's own. Try other versions of torch and onnxruntime"
            )


def _max_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference; of values beyond 1, by their size."""
    return float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max())


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """What the exporter says of its own parts is of no use to a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels: list[Any] = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
