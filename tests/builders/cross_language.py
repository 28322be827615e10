"""Small SAVEE and EMO-DB corpora, read as one: two languages with different classes."""

from pathlib import Path

from builders.corpus_layouts import write_emodb, write_savee
from builders.small_systems import QUICK

from serein import corpora
from serein.records import Corpus

ONE_EPOCH = (*QUICK, "training.epochs=1")
CROSS_LANGUAGE = (*ONE_EPOCH, "protocol.main=savee")
SPEAKER_TASK = ("tasks.gender=remove", "tasks.speaker.weight=1")


def read_two_languages(folder: Path) -> Corpus:
    """Write and read both corpora, with one synthetic word per utterance."""
    write_savee(folder / "savee", utterances=32, words=1)
    write_emodb(folder / "emodb", utterances=40, words=1)
    return corpora.as_corpus(
        [f"savee={folder / 'savee'}", f"emodb={folder / 'emodb'}"], partial=True
    )
