"""What importing costs: recipes need no torch, the core no optional package."""

import subprocess
import sys
import tomllib
from pathlib import Path

OPTIONAL = (
    "math_verify",
    "reasoning_gym",
    "trl",
    "deepspeed",
    "datasets",
    "vllm",
    "pyspiel",
    "open_spiel",
    "pettingzoo",
    "gymnasium",
    "textarena",
)


def modules_after(imports, before=""):
    code = f"import sys\n{before}\nimport {imports}\nprint(*(name for name, module in sys.modules.items() if module))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_recipes_and_games_are_read_without_torch():
    loaded = modules_after(
        "marft.config, marft.recipe, marft.games, marft.rewards, marft.credit, marft.compliance, marft.memory"
    )
    assert "pydantic" in loaded
    assert not loaded & {"torch", "transformers", "peft", "accelerate", "tokenizers", *OPTIONAL}


def test_the_core_runs_without_the_optional_packages():
    hidden = "\n".join(f"sys.modules[{name!r}] = None  # as if it were not installed" for name in OPTIONAL)
    loaded = modules_after("marft.train.loop, marft.team, marft.tiny, marft.store, marft.stages.stage", hidden)
    assert "torch" in loaded
    assert not loaded & set(OPTIONAL)


def test_every_package_is_in_what_is_built():
    root = Path(__file__).parent.parent
    listed = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    tops = {"marft": (), "games": ("marft",), "rewards": ("marft",), "eval": ("marft",)}
    found = [(path.parent.relative_to(root), top) for top in tops for path in (root / top).rglob("__init__.py")]
    assert {".".join((*tops[top], *folder.parts)) for folder, top in found} == listed
