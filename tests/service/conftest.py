"""Speech for tests of the page: a file to drop, and the audio of the microphone."""

from pathlib import Path

import pytest
from builders.encoded_audio import encode
from builders.speech_streams import make_speech

from serein.records import Corpus

SPOKEN_SECONDS = 12.0


@pytest.fixture(scope="module")
def spoken(corpus: Corpus) -> bytes:
    """A WAV file with speech."""
    return encode("wav", make_speech(corpus, SPOKEN_SECONDS))


@pytest.fixture(scope="module")
def microphone(spoken: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as the microphone's audio, over and over again."""
    path = tmp_path_factory.mktemp("heard") / "microphone.wav"
    path.write_bytes(spoken)
    return path
