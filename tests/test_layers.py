"""The architecture's layer table and library rules, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = {
    "worldenv_kernels": -1,
    "base": 0,
    "geometry": 0,
    "diffusion": 0,
    "dynamics": 1,
    "bodies": 2,
    "tasks": 3,
    "sims": 3,
    "models": 3,
    "data": 4,
    "memory": 4,
    "world": 5,
    "engine": 6,
    "envs": 7,
    "training": 7,
    "play": 8,
    "eval": 9,
    "worldenv_agents": 10,
    "ablations": 10,
    "bench": 10,
    "making": 11,
    "cli": 12,
}

# library -> the modules (or whole packages, by prefix) that may import it
LIBRARIES = {
    "vizdoom": ("worldenv.sims.doom",),
    "mujoco": ("worldenv.sims.mujoco", "worldenv.bodies.mjcf"),
    "stable_baselines3": ("worldenv.envs.sb3", "worldenv_agents"),
    "accelerate": ("worldenv.training", "worldenv.bench.training"),
    "h5py": ("worldenv.data",),
    "ray": (),  # ``base.cluster`` imports it when it is asked for
    "tyro": ("worldenv.cli", "worldenv_agents.cli"),
    "gymnasium": (
        "worldenv.ids",
        "worldenv.envs",
        "worldenv.bodies",
        "worldenv.sims.gym",
        "worldenv.sims.told",
        "worldenv.sims.metaworld",
        "worldenv.sims.fetch",
        "worldenv.data.sources.gym",
        "worldenv.data.sources.expert",
        "worldenv.data.sources.minari",
        "worldenv.play.server",
        "worldenv_agents",
    ),
    "safetensors": ("worldenv.base.checkpoint",),
    "huggingface_hub": ("worldenv.world",),
    "matplotlib": ("worldenv.eval", "worldenv.play", "worldenv.training.loop.plots"),
    "rich": ("worldenv.base.log", "worldenv.eval", "worldenv.ablations", "worldenv.bench", "worldenv_agents.scores"),
    "skimage": ("worldenv.eval", "worldenv.sims.doom.distance"),
    "starlette": ("worldenv.play",),
    "uvicorn": ("worldenv.play.server",),
    "imageio": ("worldenv.base.media", "worldenv.eval", "worldenv.play"),
    "pyiqa": ("worldenv.eval.learned",),
    "torch_fidelity": ("worldenv.eval.learned",),
    "cdfvd": ("worldenv.eval.learned",),
    "triton": ("worldenv_kernels",),
    "diffusers": ("worldenv.models.pretrained",),
    "transformers": ("worldenv.models.pretrained",),
    "selenium": ("worldenv.bench.browser",),
}


def sources() -> Iterator[tuple[str, bool, Path]]:
    """Yield (module name, whether it is a package, path) of every source file."""
    folders = {"worldenv": ROOT, "worldenv_kernels": ROOT / "kernels", "worldenv_agents": ROOT / "agents"}
    for package, base in folders.items():
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            yield ".".join(parts[:-1] if is_package else parts), is_package, path


def imported(module: str, is_package: bool, source: str) -> set[str]:
    """Return the absolute names that a module imports, anywhere in it (lazy imports count)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            else:
                base = node.module or ""
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def layer(name: str) -> str | None:
    """Return the key of LAYERS that a dotted name belongs to, None for the root and foreign packages."""
    parts = name.split(".")
    if parts[0] in ("worldenv_agents", "worldenv_kernels"):
        return parts[0]
    return parts[1] if parts[0] == "worldenv" and len(parts) > 1 and parts[1] in LAYERS else None


def violations(module: str, is_package: bool, source: str) -> list[str]:
    """List the imports of a module that do not go downwards."""
    own = layer(module)
    if own is None:
        return []
    found = []
    for name in sorted(imported(module, is_package, source)):
        other = layer(name)
        if other is not None and other != own and LAYERS[other] >= LAYERS[own]:
            found.append(f"{module} imports {name}: layer {LAYERS[own]} may not see layer {LAYERS[other]}")
    return found


def test_every_package_stands_in_the_layer_table() -> None:
    packages = {p.name for p in (ROOT / "worldenv").iterdir() if (p / "__init__.py").is_file()}
    assert packages <= set(LAYERS), f"not in architecture.md's table: {packages - set(LAYERS)}"


def test_imports_go_downwards_only() -> None:
    found = [v for m, p, path in sources() for v in violations(m, p, path.read_text())]
    assert not found, "\n".join(found)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """List the groups of modules that import one another, in circles of any length."""

    def reach(start: str) -> set[str]:
        found, todo = set(), [start]
        while todo:
            for name in graph.get(todo.pop(), set()) - found:
                found.add(name)
                todo.append(name)
        return found

    reached = {name: reach(name) for name in graph}
    groups = {frozenset(other for other in reached[name] if name in reached.get(other, set())) for name in graph}
    return sorted(sorted(group) for group in groups if group)


def test_no_files_import_one_another_in_a_circle() -> None:
    modules = {module: (is_package, path) for module, is_package, path in sources()}
    graph = {}
    for module, (is_package, path) in modules.items():
        names = imported(module, is_package, path.read_text())
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & set(modules)
    assert not circles(graph)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("worldenv.geometry.pose", "from ..base.rng import derive_seed"),  # sideways
        ("worldenv.tasks.base", "from worldenv.training import loop"),
        ("worldenv.dynamics.spec", "from ..bodies.camera import press"),
        ("worldenv.engine.engine", "def f():\n    from ..envs import core"),  # upwards, lazily
        ("worldenv.models.vae", "import worldenv.memory.bank"),
        ("worldenv.envs.core", "import worldenv_agents"),
        ("worldenv_kernels.pages", "from worldenv.models import kv_cache"),
    ],
)
def test_the_checker_sees_a_forbidden_import(module: str, source: str) -> None:
    assert len(violations(module, False, source)) == 1


def test_the_checker_passes_a_downward_import() -> None:
    assert not violations("worldenv.envs.core", False, "from ..engine.engine import Engine\nfrom .make import x")
    assert not violations("worldenv.eval", True, "from .image import psnr")


def test_libraries_are_imported_only_where_they_belong() -> None:
    found = []
    for module, is_package, path in sources():
        for name in imported(module, is_package, path.read_text()):
            allowed = LIBRARIES.get(name.split(".")[0])
            if allowed is not None and not any(module == a or module.startswith(a + ".") for a in allowed):
                found.append(f"{module} imports {name}; only {', '.join(allowed)} may")
    assert not found, "\n".join(found)


def test_no_stage_inherits_from_another() -> None:
    for path in sorted((ROOT / "worldenv" / "training" / "stages").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Stage"):
                assert not node.bases, f"{path.name}: {node.name}"


def test_kernels_need_torch_and_triton_only() -> None:
    known = {"torch", "triton", "worldenv_kernels", *sys.stdlib_module_names}
    for module, is_package, path in sources():
        if module.split(".")[0] == "worldenv_kernels":
            names = {name.split(".")[0] for name in imported(module, is_package, path.read_text())}
            assert names <= known, f"{module} imports {names - known}"


def test_package_inits_only_re_export() -> None:
    for module, is_package, path in sources():
        if not is_package or module == "worldenv":
            continue
        for node in ast.parse(path.read_text()).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            exports = isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == [
                "__all__"
            ]
            lazy = isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
            imports = isinstance(node, ast.Import | ast.ImportFrom)
            assert docstring or exports or lazy or imports, f"{path}:{node.lineno}"


def test_importing_worldenv_imports_no_torch() -> None:
    code = (
        "import sys, worldenv, gymnasium\n"
        "assert 'worldenv/Navigate-v0' in gymnasium.registry; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "False"


def test_environments_need_no_extras_and_nothing_that_training_reads_with() -> None:
    code = (
        "import sys\n"
        "extras = 'stable_baselines3', 'h5py', 'accelerate', 'vizdoom', 'mujoco', 'ray', 'huggingface_hub'\n"
        "for name in extras: sys.modules[name] = None\n"
        "import torch; alone = {name for name in sys.modules if name.startswith('torch.distributed')}\n"
        "import gymnasium, worldenv\n"
        "env = gymnasium.make('worldenv/Navigate-v0'); env.reset(seed=0); env.step(env.action_space.sample())\n"
        "assert {name for name in sys.modules if name.startswith('torch.distributed')} == alone\n"
        "try: worldenv.envs.sb3\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "pip install 'worldenv[agents]'" in result.stdout


def test_no_environment_variables_and_no_pickles() -> None:
    """No configuration by environment variables (but a launcher's and OpenMP's), and no pickle is ever loaded.

    Two released files are torch archives; they are read with ``weights_only=True``.
    """
    launchers = ("worldenv.sims", "worldenv.training.loop.parallel", "worldenv.base.device")
    for module, is_package, path in sources():
        text = path.read_text()
        assert "pickle" not in {n.split(".")[0] for n in imported(module, is_package, text)}, module
        loads = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]
        safe = [node for node in loads if "weights_only=True" in map(ast.unparse, node.keywords)]
        assert loads == safe, module
        assert not loads or module.startswith("worldenv.models.pretrained."), module
        assert "os.environ" not in text or module.startswith(launchers), module
