"""The house's floors, by the import statements of each file."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "kerasdiffusion"
FILES = sorted(ROOT.rglob("*.py"))
# From the ground up. A room sees those of the floors below, and itself.
FLOORS = (
    {"storage"},
    {"_version", "compute", "presets", "datasets"},
    {"prompts", "pictures", "models", "sampling"},
    {"weights"},
    {"adapters"},
    {"requests"},
    {"networks"},
    {"tasks"},
    {"training", "keras_cv"},
    {"batch"},
    {"apps"},
    {"__main__"},
)
FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}
ONLY_NUMPY = {
    *("schedule", "spacings", "samplers", "names", "table", "noise", "rng", "brownian"),
    *("methods", "multistep", "singlestep", "stochastic"),
}


def room(module: str) -> str:
    """`weights` for `kerasdiffusion.weights.load`."""
    return module.split(".")[1]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative path"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module)
    return found


def floor_of(module: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return height
    raise AssertionError(f"{module} is on no floor: name it in FLOORS")


def files_of(*rooms: str) -> list[Path]:
    """The files of some rooms; of all without one."""
    own = [path for path in FILES if name_of(path) != "kerasdiffusion"]
    return [path for path in own if not rooms or room(name_of(path)) in rooms]


@pytest.mark.parametrize("name", sorted(set().union(*FLOORS)))
def test_nothing_imports_upward(name):
    assert files_of(name), f"there is no {name}"
    for path in files_of(name):
        own = floor_of(name_of(path))
        for module in imports(path) - {"kerasdiffusion.__version__"}:
            if module.startswith("kerasdiffusion."):
                below = floor_of(module) < own or room(module) == name
                assert below, f"{path} imports {module}"


def test_every_file_is_on_a_floor():
    for path in files_of():
        floor_of(name_of(path))


def test_sampling_knows_no_networks_and_its_numbers_no_framework():
    for path in files_of("sampling"):
        modules = imports(path)
        assert not any(m.startswith("kerasdiffusion.models") for m in modules), path
        if path.stem in ONLY_NUMPY:
            assert not {m.split(".")[0] for m in modules} & FRAMEWORKS, path


def test_one_room_decides_by_the_backend():
    """Others may print its name, or choose it before Keras is imported."""
    for path in set(FILES) - set(files_of("compute")):
        code = path.read_text("utf-8")
        for node in ast.walk(ast.parse(code)) if ".backend()" in code else ():
            if isinstance(node, (ast.Compare, ast.Subscript, ast.Match)):
                text = ast.unparse(node)
                for asked in ("backend.backend()", "config.backend()"):
                    assert asked not in text, f"{path}: {text}"


def test_files_are_read_and_written_by_python_alone():
    for path in files_of("storage"):
        foreign = {m for m in imports(path) if not m.startswith("kerasdiffusion.")}
        assert {m.split(".")[0] for m in foreign} <= sys.stdlib_module_names, path


def test_on_the_ground_stand_rooms_alone():
    beside = {path.name for path in ROOT.glob("*.py")}
    assert beside == {"__init__.py", "__main__.py", "_version.py"}


@pytest.mark.parametrize("folder", ["kerasdiffusion", "tests"])
def test_files_are_short(folder):
    for path in (ROOT.parent / folder).rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 400, path


@pytest.mark.parametrize("module", ["kerasdiffusion", "kerasdiffusion.presets.config"])
def test_importing_loads_no_framework(module):
    script = f"import sys, {module}; print(sorted({FRAMEWORKS} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert child.stdout.strip() == "[]", child.stdout + child.stderr


def test_the_public_names_are_all_there():
    import kerasdiffusion

    for name in kerasdiffusion.__all__:
        assert getattr(kerasdiffusion, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'NoSuchName'"):
        _ = kerasdiffusion.NoSuchName
