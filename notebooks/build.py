"""Makes the notebooks from their sources: `python notebooks/build.py [NAME ...]`.

A source is Python with cells that begin with `# %%`; `# %% [markdown]` begins text. A
cell marked `local` is for `notebooks/` alone, where the bundled model paints and the
outputs are kept; one marked `colab` for `colab/`, which is not executed here.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "notebooks" / "sources"
TITLES = [path.stem for path in sorted(SOURCES.glob("*.py"))]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
COLAB = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}
INSTALL = '''# @title Install { display-mode: "form" }
# @markdown Choose a GPU or a TPU under *Runtime > Change runtime type* first.
REPOSITORY = ""  # @param {type:"string"}
# @markdown The address of this repository, as `git clone` takes it. On a TPU, take JAX.
BACKEND = "tensorflow"  # @param ["tensorflow", "jax", "torch"]
assert REPOSITORY, "Paste the address of this repository, as `git clone` takes it."
%pip install -q "kerasdiffusion[video] @ git+{REPOSITORY}"
%env KERAS_BACKEND={BACKEND}'''


def cells_of(name: str, place: str) -> list[tuple[str, str]]:
    """Kind (`code` or `markdown`) and text of each cell.

    Args:
        name: A source's, without its ending.
        place: `"local"` or `"colab"`.
    """
    cells = [("code", INSTALL)] if place == "colab" else []
    text = (SOURCES / f"{name}.py").read_text("utf-8")
    for head, body in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", text, re.M):
        marks = head.split()
        if {"local", "colab"} & set(marks) and place not in marks:
            continue
        body = body.strip("\n")
        if "[markdown]" in marks:
            cells.append(("markdown", re.sub(r"^# ?", "", body, flags=re.M)))
        else:
            cells.append(("code", body))
    if place == "colab":  # The title stays first.
        cells[0], cells[1] = cells[1], cells[0]
    return cells


def make(name: str, place: str):
    """The notebook of a source, not executed."""
    import nbformat
    from nbformat import v4

    new = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}
    cells = [
        new[kind](text, id=f"{name}-{i}".replace("_", "-"))
        for i, (kind, text) in enumerate(cells_of(name, place))
    ]
    metadata = {"kernelspec": KERNEL, **(COLAB if place == "colab" else {})}
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return notebook


def execute(notebook, timeout: int = 600):
    """Runs a notebook in a new kernel; its outputs are filled in.

    It runs in a folder that has the pictures, and nothing else.
    """
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "notebooks" / "pictures", Path(folder, "pictures"))
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )
        # The checkout's own library, wherever another is installed.
        path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split()])
        client.execute(env={**os.environ, "PYTHONPATH": path})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = without_logs(cell.outputs)
            for output in cell.outputs:  # Pictures are shown as both.
                output.get("data", {}).pop("image/jpeg", None)
    notebook.metadata.pop("language_info", None)
    return notebook


def without_logs(outputs: list) -> list:
    """Outputs without logs and progress bars, which cut what is printed in two."""
    found = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if found and output.get("name") == found[-1].get("name") == "stdout":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main(names: list[str]) -> None:
    """Writes all notebooks, or some."""
    import nbformat

    for name in names or TITLES:
        nbformat.write(make(name, "colab"), ROOT / "colab" / f"{name}.ipynb")
        path = ROOT / "notebooks" / f"{name}.ipynb"
        nbformat.write(execute(make(name, "local")), path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
