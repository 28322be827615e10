"""Files that a page of the documentation shows: blocks whose first line is ``# PATH``."""

import re
from pathlib import Path

FILE = re.compile(r"^```(?:python|toml)\n(# ([\w/]+\.(?:py|toml))\n.*?)^```$", re.M | re.S)


def write_shown_files(page: Path, folder: Path) -> list[str]:
    """Write the files that a page shows to a folder; return their texts."""
    shown = FILE.findall(page.read_text(encoding="utf-8"))
    for text, path in shown:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return [text for text, _ in shown]
