"""Settings of the documentation site: `make docs`. Source folder is the project's root."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import serein

project = "serein"
author = "the authors of serein"
copyright = f"{author}. MIT licence"
version = release = serein.__version__
root_doc = "docs/index"
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
include_patterns = [
    "docs/**.md",
    "docs/**.ipynb",
    "results/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "src", "tests", "benchmarks", "docs/site"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated_pages",
]
myst_heading_anchors = 4
smartquotes = False
napoleon_use_ivar = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
copybutton_prompt_text = r"^\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = False

html_theme = "furo"
html_title = f"serein {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_search_summary = False  # the summaries need a server
html_show_sourcelink = False
html_copy_source = False
html_last_updated_fmt = None
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_additional_pages = {"index": "forward.html"}
templates_path = ["templates"]
pygments_style = "default"
pygments_dark_style = "github-dark"
