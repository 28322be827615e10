"""Folders of short recordings, and a small model for them."""

import os
from pathlib import Path

import numpy as np
import soundfile
from builders.small_systems import small_system
from torch import Tensor, nn

from serein.bundle import Bundle, Card
from serein.inference.recognizer import Recognizer

RATE = 16_000
CRASH_SAMPLE = 0.75


def small_recognizer(confidence: float = 0.0) -> Recognizer:
    bundle = Bundle(small_system("features.pad=false").eval(), Card(name="small"))
    return Recognizer(bundle, confidence=confidence, answer_nonspeech=True)


def write_noise(path: Path, seconds: float, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, noise, RATE)


def write_recordings(folder: Path, count: int = 9) -> list[str]:
    """Write recordings of at least 0.1 s, and return their names, sorted."""
    names = [f"{'abc'[i % 3]}/{i:02d}.{('wav', 'flac')[i % 2]}" for i in range(count)]
    for i, name in enumerate(names):
        write_noise(folder / name, 0.1 + 0.07 * i, seed=i)
    return sorted(names)


def write_bad_files(folder: Path) -> list[str]:
    """Write files with names of recordings that are not valid audio; return their names, sorted."""
    whole = folder / "whole.wav"
    write_noise(whole, 1.0)
    (folder / "cut.wav").write_bytes(whole.read_bytes()[:9000])
    whole.unlink()
    (folder / "empty.wav").touch()
    (folder / "text.flac").write_text("this is not audio")
    (folder / "gone.ogg").symlink_to("nowhere.ogg")
    write_noise(folder / "short.wav", 0.01)
    os.mkfifo(folder / "pipe.wav")
    return ["cut.wav", "empty.wav", "gone.ogg", "pipe.wav", "short.wav", "text.flac"]


class CrashingFrontEnd(nn.Module):
    """A front end that ends its process at a sample of ``CRASH_SAMPLE``."""

    def __init__(self, front_end: nn.Module) -> None:
        super().__init__()
        self.inner = front_end
        for name in ("rate", "hop", "max_seconds", "width", "config"):
            setattr(self, name, getattr(front_end, name))

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        if bool((wave_bs == CRASH_SAMPLE).any()):
            os._exit(1)
        return self.inner(wave_bs, length_b)
