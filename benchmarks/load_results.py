"""Time to load a results file of 100,000 predictions and to write its report; size of the page.

    python -m benchmarks.load_results

The predictions are random: three selections, seven emotions and two genders, ten speakers.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from serein.evaluation.scores import pool_scores
from serein.report.html import REPORT_NAME, write_page
from serein.results import io
from serein.results.evaluation import Prediction, Results

COUNT = 100_000
CLASSES = {"emotion": list("abcdefg"), "gender": ["female", "male"]}
SELECTIONS = ("validation", "last", "test")


def build_results(count: int = COUNT) -> Results:
    """Build results of random predictions, with nine digits as those in single precision."""
    rng = np.random.default_rng(0)
    rows = {
        (name, task): rng.dirichlet(np.ones(len(names)), count).astype("f4").astype("U").tolist()
        for name in SELECTIONS
        for task, names in CLASSES.items()
    }
    truth = {task: rng.choice(names, count).tolist() for task, names in CLASSES.items()}
    predictions = [
        Prediction(
            id=f"utterance-{n:06}",
            fold="all",
            speaker=f"s{n % 10}",
            gender=None,
            truth={task: truth[task][n] for task in CLASSES},
            selections={
                name: {task: [float(x) for x in rows[name, task][n]] for task in CLASSES}
                for name in SELECTIONS
            },
        )
        for n in range(count)
    ]
    return Results(
        format=io.FORMAT,
        name="random",
        command="python -m benchmarks.load_results",
        created="2026-11-30T00:00:00+00:00",
        recipe={},
        corpus={},
        protocol={},
        environment={},
        seconds=0.0,
        classes=CLASSES,
        headline=SELECTIONS[0],
        selections=dict.fromkeys(SELECTIONS, ""),
        fold_means={},
        baselines={},
        folds=[],
        predictions=predictions,
        warnings=[],
        **pool_scores(predictions, SELECTIONS, CLASSES),
    )


def main() -> None:
    """Print processor times and the sizes of both files."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        io.save_record(build_results(), file)
        started = time.process_time()
        results = io.load_results(file)
        seconds = time.process_time() - started
        megabytes = file.stat().st_size / 1e6
        started = time.process_time()
        write_page(results, Path(folder))
        page_seconds = time.process_time() - started
        page_megabytes = (Path(folder) / REPORT_NAME).stat().st_size / 1e6
    print(f"load {len(results.predictions):,} predictions, {megabytes:.0f} MB: {seconds:.1f} s")
    print(f"write the report, {page_megabytes:.1f} MB: {page_seconds:.1f} s")


if __name__ == "__main__":
    main()
