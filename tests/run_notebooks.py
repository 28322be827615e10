"""Execute the notebooks of the docs and save their outputs: `make notebooks`.

Outputs have no audio and no name of a folder of this machine. The test executes the code in its own
process, which is faster than a kernel (`tests/test_notebooks.py`).
"""

import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
TEMPORARY = re.compile(r"/tmp/tmp\w+")


def list_notebooks() -> list[Path]:
    """Return the notebooks of the docs."""
    return sorted(FOLDER.glob("*.ipynb"))


def read_code(path: Path) -> list[str]:
    """Return the code of each cell of a notebook."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def execute(path: Path) -> Any:
    """Execute a notebook in a kernel, in the folder that it is in, and return it with outputs."""
    from nbclient import NotebookClient

    nbformat: Any = import_module("nbformat")
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, resources=resources, record_timing=False).execute()
    return notebook


def anonymize(text: str) -> str:
    """Replace the name of a temporary folder, which differs with every run."""
    return TEMPORARY.sub("/tmp/speech", text)


def main() -> None:
    """Execute all notebooks, and write them with their outputs."""
    nbformat: Any = import_module("nbformat")
    os.environ["PYTHONWARNINGS"] = "ignore"
    for path in list_notebooks():
        notebook = execute(path)
        path.write_text(anonymize(nbformat.writes(notebook)) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
