"""`serein quickstart`: evaluate, report, train and recognize, on generated speech."""

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
from serein.inference.model_loading import DEFAULT_MODEL
from serein.inference.recognizer import Recognizer
from serein.report import html, terminal

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SYNTHETIC_CONFIG = synthetic.SyntheticConfig(speakers=6, sentences=4, emotions=EMOTIONS)
RECIPE = "quickstart"


def run_quickstart(
    folder: Path,
    console: Console,
    jobs: int,
    show_progress: Callable[[Any], AbstractContextManager[Any]],
) -> None:
    """Run all steps in one folder, and print where the results are and what to try next.

    Args:
        folder: of the corpus, the run, the report and the model.
        console: to print to.
        jobs: folds to train at a time.
        show_progress: opens the progress bar of the evaluation.
    """
    speech = folder / "speech"
    console.print("[bold]1. Generate speech with known emotions, speakers and words[/]")
    if not (speech / synthetic.TABLE_NAME).is_file():
        synthetic.generate(speech, SYNTHETIC_CONFIG)
    corpus = corpora.load(f"synthetic={speech}")
    console.print(f"{len(corpus.utterances)} recordings in {speech}\n")

    console.print("[bold]2. Train and test; training and test speakers are different[/]")
    run = evaluate(RECIPE, corpus, jobs=jobs, runs=folder, open_progress=show_progress)
    html.write_page(run.results, run.folder)
    console.print(terminal.render_terminal(run.results))

    console.print("\n[bold]3. Train a model on the whole corpus[/]")
    model = folder / "quickstart.safetensors"
    train(RECIPE, corpus, model, run=run.folder)
    console.print(f"{model}, {model.stat().st_size / 1e6:.2f} MB\n")

    sample = corpus.utterances[0]
    emotion = sample.labels["emotion"]
    console.print(f"[bold]4. Recognize {sample.path.name}; its true emotion is {emotion}[/]")
    for name in (model, DEFAULT_MODEL):
        try:
            console.print(f"with {name}:", as_table([Recognizer(name)(sample.path)]))
        except UnknownName as error:
            console.print(str(error))

    console.print(
        f"""
[bold]Files[/]
  {run.folder / "report.html"}    the report; open it in a browser
  {run.folder / "results.json"}   every score and prediction
  {model}

[bold]What to try next[/]
  serein recognize YOUR.wav                      use the shipped model
  serein corpora                                 list the corpora that can be read
  serein evaluate li2019-emodb --corpus emodb=FOLDER
  serein evaluate li2019-emodb --corpus mine=labels.csv
""",
        highlight=False,
    )
