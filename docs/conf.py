"""Sphinx builds these pages: `sphinx-build -W docs docs/_build`."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kerasdiffusion import __version__  # noqa: E402

project = "kerasdiffusion"
author = copyright = "The kerasdiffusion authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
# Docstrings are Keras's: single backticks are code, sections as Google names them.
default_role = "code"
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Call returns", "returns_style"),
    ("Reference", "references"),
]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
myst_heading_anchors = 3
_FENCE = "```"


def _leave_out_keras(app, what, name, thing, skip, options):
    """Members that Keras documents itself."""
    module = getattr(thing, "__module__", None) or ""
    return True if module.startswith("keras.") else skip


def _fences_to_directives(app, what, name, thing, options, lines):
    """Docstrings have Markdown's fences, as Keras's do."""
    indent, new = None, []
    for line in lines:
        text = line.lstrip()
        if text.startswith(_FENCE):
            if indent is None:
                indent = line[: len(line) - len(text)]
                new += [f"{indent}.. code-block:: {text[3:] or 'text'}", ""]
            else:
                indent = None
                new.append("")
        else:
            new.append(line if indent is None else f"   {line}")
    lines[:] = new


def setup(app):
    app.connect("autodoc-skip-member", _leave_out_keras)
    # Ahead of napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", _fences_to_directives, priority=100)
