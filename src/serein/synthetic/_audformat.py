"""Made-up speech in audformat."""

from pathlib import Path

from serein.synthetic._files import write_wav
from serein.synthetic._voices import LEXICON, Voice, make_rng
from serein.synthetic.speech import RATE, synthesize
from serein.utils.files import write_text

AUDFORMAT_EMOTIONS = ("anger", "neutral")
AUDFORMAT_HEADER = """\
name: made-up
source: serein
usage: unrestricted
languages: [deu]
description: 'Made-up speech: two sentences in every file, each a row of the table of
  its split, and speakers in a miscellaneous table.'
media:
  microphone: {{type: audio, format: wav, channels: 1, sampling_rate: {rate}}}
raters:
  gold: {{type: human}}
schemes:
  age: {{dtype: int, minimum: 0}}
  arousal: {{dtype: float, minimum: 0, maximum: 1}}
  emotion:
    dtype: str
    labels: [anger, neutral]
  gender:
    dtype: str
    labels: [female, male]
  speaker: {{dtype: str, labels: speaker}}
  transcription:
    dtype: str
    labels:
      a01: {first}
      a02: {second}
splits:
  test: {{type: test}}
  train: {{type: train}}
tables:
  files:
    type: filewise
    media_id: microphone
    columns:
      speaker: {{scheme_id: speaker}}
  emotion.train: &emotion
    type: segmented
    split_id: train
    columns:
      emotion: {{scheme_id: emotion, rater_id: gold}}
      arousal: {{scheme_id: arousal, rater_id: gold}}
      sentence: {{scheme_id: transcription}}
  emotion.test:
    <<: *emotion
    split_id: test
misc_tables:
  speaker:
    levels: {{speaker: str}}
    columns:
      gender: {{scheme_id: gender}}
      age: {{scheme_id: age}}
"""


def write_audformat(root: Path, *, speakers: int = 4, words: int = 2, seed: int = 0) -> None:
    """Write made-up speech in audformat: ``db.yaml``, its tables, and ``audio/01-anger.wav``.

    Each file holds two sentences, a stretch each; the second one ends with the file. Every second
    pair of speakers is for testing. The last label of arousal is absent.

    Args:
        root: the folder to fill.
        speakers: how many; they alternate between female and male.
        words: of each sentence.
        seed: other seeds give other voices and sentences.
    """
    said = {text: make_rng(seed, text).choice(LEXICON, words).tolist() for text in ("a01", "a02")}
    files, tables = ["file,speaker"], {"train": ["file,start,end,emotion,arousal,sentence"]}
    tables["test"] = tables["train"].copy()
    people = ["speaker,gender,age"]
    for number in range(1, speakers + 1):
        name, gender = f"{number:02}", ("female", "male")[number % 2]
        voice, rows = (
            Voice.for_speaker(name, gender, seed=seed),
            tables[("train", "test")[number // 2 % 2]],
        )
        people.append(f"{name},{gender},{20 + number}")
        for emotion in AUDFORMAT_EMOTIONS:
            file = f"audio/{name}-{emotion}.wav"
            spoken = [
                synthesize(one, voice, emotion, make_rng(seed, file)) for one in said.values()
            ]
            write_wav(root / file, *spoken)
            files.append(f"{file},{name}")
            cut, arousal = _format_timedelta(len(spoken[0])), 0.1 + 0.6 * (emotion == "anger")
            rows.append(f"{file},{_format_timedelta(0)},{cut},{emotion},{arousal},a01")
            rows.append(f"{file},{cut},NaT,{emotion},,a02")
    texts = [" ".join(one) for one in said.values()]
    header = AUDFORMAT_HEADER.format(rate=RATE, first=texts[0], second=texts[1])
    content = {"files": files, "speaker": people, **{f"emotion.{k}": v for k, v in tables.items()}}
    for name, lines in content.items():
        write_text(root / f"db.{name}.csv", "\n".join([*lines, ""]))
    write_text(root / "db.yaml", header)


def _format_timedelta(samples: int) -> str:
    """As pandas writes it."""
    whole, rest = divmod(samples * 1_000_000 // RATE, 1_000_000)
    return f"0 days 00:{whole // 60:02}:{whole % 60:02}" + (f".{rest:06}" if rest else "")
