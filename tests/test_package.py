"""What holds for the package as a whole: what an import costs, which way imports point, how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy
import pytest

import minicnn

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("minicnn/**/*.py"), *ROOT.glob("kernels/**/*.py")])
HEAVY = ("numba", "cupy", "matplotlib", "h5py", "safetensors", "PIL", "rich", "tensorboard", "onnx", "torch", "keras")

FLOORS = [
    ["minicnn.kernels"],
    [
        "minicnn.version",
        "minicnn.atomic",
        "minicnn.registry",
        "minicnn.backend",
        "minicnn.config",
        "minicnn.dtypes",
        "minicnn.modes",
        "minicnn.random",
    ],
    ["minicnn.values"],
    ["minicnn.tensor"],
    ["minicnn.autograd"],
    ["minicnn.functional"],
    ["minicnn.gradcheck", "minicnn.samples"],
    ["minicnn.initializers", "minicnn.regularizers", "minicnn.constraints", "minicnn.activations", "minicnn.schedules"],
    ["minicnn.layers", "minicnn.losses", "minicnn.metrics", "minicnn.optimizers"],
    ["minicnn.models", "minicnn.callbacks", "minicnn.utils"],
    ["minicnn.datasets", "minicnn.preprocessing", "minicnn.visualize", "minicnn.saving", "minicnn.applications"],
    ["minicnn.cli"],
]
UPWARD = {("minicnn.tensor", "minicnn.autograd"), ("minicnn.tensor", "minicnn.functional")}
"""The one place where an import looks up: Tensor's operators are functions of the floors above."""


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name.replace("kernels", "minicnn.kernels", 1) if name.startswith("kernels") else name


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def imported_rooms(path: Path) -> set[str]:
    """Rooms imported when the file is: what stands at its top level, type-checking blocks aside."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "minicnn":
            found |= {f"minicnn.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minicnn."):
            found.add(room_of(node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {room_of(alias.name) for alias in node.names if alias.name.startswith("minicnn.")}
    return found


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.name != "__init__.py" or p.parent.name != "minicnn"], ids=module_of
)
def test_imports_point_down(path: Path) -> None:
    room = room_of(module_of(path))
    upward = {other for other in imported_rooms(path) if other != room and floor_of(other) > floor_of(room)}
    assert {(room, other) for other in upward} <= UPWARD


def test_importing_minicnn_imports_nothing_heavy() -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, minicnn; print([m for m in {HEAVY} if m in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "[]"


def test_everything_promised_is_there() -> None:
    for name in minicnn.__all__:
        assert getattr(minicnn, name) is not None


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_files_are_of_a_length_to_be_read(path: Path) -> None:
    lines = path.read_text().count("\n")
    allowed = {"autograd.py": 500, "base.py": 450, "samples.py": 450, "contract.py": 450}
    assert lines <= allowed.get(path.name, 420)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_files_say_on_their_first_line_what_lives_there(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_a_checkout_can_be_imported_without_installing_it() -> None:
    """`python -S` sees neither an installed minicnn nor an editable one; NumPy is shown to it by hand."""
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; sys.path.append({str(Path(numpy.__file__).parent.parent)!r})\n"
        "import minicnn, minicnn.kernels.reference as r; print(r.__file__, minicnn.ones(2).sum().item())"
    )
    told = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True)
    assert told.stdout == f"{ROOT / 'kernels' / 'reference' / '__init__.py'} 2.0\n", told.stderr


def test_every_package_is_installed() -> None:
    """The list in pyproject.toml names each folder of modules; an installation would miss what it leaves out."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({module_of(p) for p in SOURCES if p.name == "__init__.py"})


def test_no_pickle_is_used_anywhere() -> None:
    """But for compiled code in the user's own cache folder: Numba gives and takes it in that form only."""
    for path in SOURCES:
        if module_of(path) == "minicnn.kernels.cpu.jit":
            continue
        assert not {"pickle", "marshal", "shelve"} & {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
        }, path


def test_the_readme_programs_run() -> None:
    """Every Python block of the README, in a process of its own, on a cut-down sample."""
    text = (ROOT / "README.md").read_text()
    programs = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert len(programs) == 3
    shorter = (
        "import minicnn.datasets.mnist as m; whole = m.load_sample\n"
        "m.load_sample = lambda: tuple((x[:256], y[:256]) for x, y in whole())\n"
    )
    for program in programs:
        done = subprocess.run([sys.executable, "-W", "error", "-c", shorter + program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout
