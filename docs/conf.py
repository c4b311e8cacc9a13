"""How the site is made: `make docs`, offline, every warning an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from simfer import __version__  # before autodoc brings JAX, which is then in 64 bits

project = "Simfer"
author = copyright = "The Simfer authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "simfer_reference"]
myst_enable_extensions = ["colon_fence"]  # directives are ::: blocks, so that ``` blocks are code that tests run
myst_heading_anchors = 3
default_role = "code"  # docstrings quote names in single backticks
autodoc_typehints = "none"  # docstrings say in words what is taken and given, with shapes
autodoc_member_order = "bysource"
nitpicky = False  # types of other libraries have no page here; a link of ours that leads nowhere is a warning anyway
exclude_patterns = ["extensions"]

html_theme = "furo"
html_title = f"Simfer {version}"
html_static_path = ["static"]
html_css_files = ["simfer.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched page by page, which a browser refuses where the site is a folder
