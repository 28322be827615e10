"""Made-up speech in the layouts of SAVEE."""

from pathlib import Path

from serein.synthetic._studio import SentenceRecorder
from serein.utils.files import write_text

SAVEE_LETTERS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SAVEE_SPEAKERS = ("DC", "JE", "JK", "KL")


def write_savee(
    root: Path, *, flat: bool = False, utterances: int = 56, words: int = 2, seed: int = 0
) -> None:
    """Write made-up speech in a layout of SAVEE: ``AudioData/DC/a01.wav``, or ``DC_a01.wav``.

    Names and the shares of the emotions are SAVEE's; the rate is 16 kHz. What is said is made
    up, the same for each emotion and number. Surprise sounds like happiness.

    Args:
        root: the folder to fill.
        flat: all files in one folder.
        utterances: how many; SAVEE has 480.
        words: of each sentence; 0 for silence.
        seed: other seeds give other voices and sentences.
    """
    studio = SentenceRecorder(words=words, seed=seed)
    names = [
        (speaker, f"{letters}{number:02}")
        for number in range(1, 31)
        for letters in SAVEE_LETTERS
        for speaker in SAVEE_SPEAKERS
        if number <= 15 or letters == "n"
    ]
    for speaker, sentence in names[:utterances]:
        name = f"{speaker}_{sentence}"
        studio.record(
            root / (f"{name}.wav" if flat else f"AudioData/{speaker}/{sentence}.wav"),
            name=name,
            speaker=speaker,
            gender="male",
            emotion=SAVEE_LETTERS[sentence[:-2]],
            sentence=studio.make_sentence(sentence),
        )
    write_text(root / ("Info.txt" if flat else "AudioData/Info.txt"), "Made-up speech.\n")
