"""The main job once over, on generated speech: evaluate, report, train, recognise."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from serein import corpora, synthetic
from serein.errors import UnknownName
from serein.evaluation.evaluate import evaluate
from serein.evaluation.train import train
from serein.inference.formats import as_table
from serein.inference.recognizer import DEFAULT_MODEL, Recognizer
from serein.report import html, terminal

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SYNTHETIC_CONFIG = synthetic.SyntheticConfig(speakers=6, sentences=4, emotions=EMOTIONS)
RECIPE = "quickstart"


def run(
    folder: Path,
    console: Console,
    jobs: int,
    show_progress: Callable[[Any], AbstractContextManager[Any]],
) -> None:
    """Do it all in one folder, and say where everything is and what to try next.

    Args:
        folder: where corpus, run, report and model are put.
        console: where to tell of it.
        jobs: folds at a time.
        show_progress: shows how far the evaluation is.
    """
    speech = folder / "speech"
    console.print("[bold]1. Speech-like audio with known emotions, speakers and words[/]")
    if not (speech / synthetic.TABLE_NAME).is_file():
        synthetic.generate(speech, SYNTHETIC_CONFIG)
    corpus = corpora.load(f"synthetic={speech}")
    console.print(f"{len(corpus.utterances)} recordings in {speech}\n")

    console.print("[bold]2. Train and test, no speaker on two sides[/]")
    results, place, _ = evaluate(
        RECIPE, corpus, jobs=jobs, runs=folder, open_progress=show_progress
    )
    html.write_page(results, place)
    console.print(terminal.render_terminal(results))

    console.print("\n[bold]3. A model of the whole corpus[/]")
    model = folder / "quickstart.safetensors"
    train(RECIPE, corpus, model, run=place)
    console.print(f"{model}, {model.stat().st_size / 1e6:.2f} MB\n")

    sample = corpus.utterances[0]
    console.print(f"[bold]4. Recognise {sample.path.name}, in truth {sample.labels['emotion']}[/]")
    for name in (model, DEFAULT_MODEL):
        try:
            console.print(f"with {name}:", as_table([Recognizer(name)(sample.path)]))
        except UnknownName as error:
            console.print(str(error))

    console.print(
        f"""
[bold]Where everything is[/]
  {place / "report.html"}    open it in a browser
  {place / "results.json"}   every score and prediction
  {model}

[bold]What to try next[/]
  serein recognize YOUR.wav                      the shipped model
  serein corpora                                 corpora that can be read
  serein evaluate li2019-emodb --corpus emodb=FOLDER
  serein evaluate li2019-emodb --corpus mine=labels.csv
""",
        highlight=False,
    )
