"""Folders of short recordings, and a small model that hears them."""

import os
from pathlib import Path

import numpy as np
import soundfile
from builders.small_systems import small_system
from torch import Tensor, nn

from serein.bundle import Bundle, Card
from serein.inference.recognizer import Recognizer

RATE = 16_000
DEADLY = 0.75


def small_recognizer(confidence: float = 0.0) -> Recognizer:
    bundle = Bundle(small_system("features.pad=false").eval(), Card(name="small"))
    return Recognizer(bundle, confidence=confidence, answer_nonspeech=True)


def speech(path: Path, seconds: float, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, noise, RATE)


def spoken(folder: Path, count: int = 9) -> list[str]:
    """Recordings of 0.1 s and more; their names, sorted."""
    names = [f"{'abc'[i % 3]}/{i:02d}.{('wav', 'flac')[i % 2]}" for i in range(count)]
    for i, name in enumerate(names):
        speech(folder / name, 0.1 + 0.07 * i, seed=i)
    return sorted(names)


def bad_files(folder: Path) -> list[str]:
    """Files that are named like recordings and are none; their names, sorted."""
    whole = folder / "whole.wav"
    speech(whole, 1.0)
    (folder / "cut.wav").write_bytes(whole.read_bytes()[:9000])
    whole.unlink()
    (folder / "empty.wav").touch()
    (folder / "text.flac").write_text("this is not audio")
    (folder / "gone.ogg").symlink_to("nowhere.ogg")
    speech(folder / "short.wav", 0.01)
    os.mkfifo(folder / "pipe.wav")
    return ["cut.wav", "empty.wav", "gone.ogg", "pipe.wav", "short.wav", "text.flac"]


class DeadlyFrontEnd(nn.Module):
    """Ends its process when it hears a sample of 0.75."""

    def __init__(self, front_end: nn.Module) -> None:
        super().__init__()
        self.inner = front_end
        for name in ("rate", "hop", "max_seconds", "width", "config"):
            setattr(self, name, getattr(front_end, name))

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        if bool((wave_bs == DEADLY).any()):
            os._exit(1)
        return self.inner(wave_bs, length_b)
