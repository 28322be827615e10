"""Look at the built site in Chromium: `make docs`, then `python tests/docs_site.py [PICTURES]`.

Every page is opened on a phone and a desktop, light and dark. Reported are pages wider than
the window, pictures that do not load, and violations of WCAG 2.2 A and AA that axe-core finds.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from builders.browser import open_browser

SITE = Path(__file__).parents[1] / "build" / "site"
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
SCHEMES: tuple[Any, ...] = ("light", "dark")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
TOO_WIDE = "document.documentElement.scrollWidth > window.innerWidth + 1"
BROKEN = (
    "[...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.src)"
)


def list_pages(site: Path) -> list[Path]:
    """Return the pages of the site, without indexes."""
    skipped = {"index.html", "genindex.html", "py-modindex.html"}
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    return [page for page in pages if page.parent != site or page.name not in skipped]


def find_faults(page: Any) -> list[str]:
    """Return what is wrong with the opened page."""
    from axe_playwright_python.sync_playwright import Axe

    faults = ["wider than the window"] if page.evaluate(TOO_WIDE) else []
    faults += [f"does not load: {source}" for source in page.evaluate(BROKEN)]
    options = {"runOnly": {"type": "tag", "values": RULES}}
    for one in Axe().run(page, options=options).response["violations"]:
        faults += [f"{one['id']}: {node['html'][:100]}" for node in one["nodes"][:2]]
    return faults


def check_search(page: Any, site: Path) -> list[str]:
    """Return a fault if the search does not find a page, from the disk."""
    page.goto(f"{(site / 'search.html').as_uri()}?q=leakage")
    page.wait_for_selector("#search-results li", timeout=30_000)
    found = page.inner_text("#search-results")
    return [] if "protocols" in found.lower() else [f"search for leakage finds {found[:200]}"]


def check_site(site: Path, pages: list[Path], pictures: Path | None = None) -> Counter[str]:
    """Return the faults of all pages, in all sizes and schemes."""
    faults: Counter[str] = Counter()
    with open_browser() as chromium:
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                options: Any = {"viewport": {"width": width, "height": height}}
                context = chromium.new_context(**options, color_scheme=scheme)
                page = context.new_page()
                page.on("pageerror", lambda error: faults.update([f"script: {error}"]))
                for path in pages:
                    page.goto(path.as_uri())
                    where = f"{path.relative_to(site)}, {size}, {scheme}"
                    faults.update(f"{where}: {fault}" for fault in find_faults(page))
                    if pictures is not None:
                        page.screenshot(path=pictures / f"{path.stem}-{size}-{scheme}.png")
                faults.update(check_search(page, site))
                context.close()
    return faults


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    found = check_site(SITE, list_pages(SITE), folder)
    print("\n".join(found) or "no faults")
    sys.exit(bool(found))
