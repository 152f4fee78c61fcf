"""Sphinx settings of the site. `make docs` builds it into build/docs, offline; every warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from maskrcnn import __version__  # noqa: E402

project = "maskrcnn"
release = __version__
copyright = "the authors of maskrcnn, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
exclude_patterns = ["figures"]
nitpicky = True
# Types of other packages have no page here, and there is no network to ask theirs; inner types of ours have none.
nitpick_ignore_regex = [("py:.*", r"(?!maskrcnn\.\w+$).*")]
suppress_warnings = ["myst.header"]  # a page may begin below the first level where the README is quoted

# Markdown: the anchors that GitHub and GitLab make, so that one link works on the site and in the repository.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "deflist"]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"maskrcnn {release}"
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
