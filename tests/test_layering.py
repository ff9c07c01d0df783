"""A folder of the package imports only folders above it in the list of the design."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxreloc"
LAYERS = ["geometry", "formats", "data", "models", "localization", "evaluation", "training", "cli"]
FORBIDDEN_EXTRA = {"geometry": {"flax"}, "models": {"jaxreloc.data"}}


def imported_modules(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_folder_imports_only_folders_above(layer):
    below = {f"jaxreloc.{name}" for name in LAYERS[LAYERS.index(layer) + 1 :]}
    forbidden = below | FORBIDDEN_EXTRA.get(layer, set()) | {"run_train", "run_eval"}
    for path in (PACKAGE / layer).rglob("*.py"):
        for name in imported_modules(path):
            hits = [f for f in forbidden if name == f or name.startswith(f + ".")]
            assert not hits, f"{path} imports {name}"
