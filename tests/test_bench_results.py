"""benchmarks/run.py writes each section into its place and leaves the others alone."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def run(monkeypatch):
    for name in ("games", "rewards"):  # the benchmark's own modules of these names
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("bench_run", BENCHMARKS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("games", "rewards"):
        sys.modules.pop(name, None)


def test_a_section_takes_its_place_and_the_others_stay(run):
    one, two, again = (run.section(title, [("x", f)], 0.1, 0.2) for title, f in (("A", "1"), ("B", "2"), ("A", "3")))
    document = ""
    for title, text in (("A", one), ("B", two), ("A", again)):
        document = run.put(document, title, text)
    assert [line for line in document.splitlines() if line.startswith(("# ", "## "))] == [
        "# Benchmark results",
        "## A",
        "## B",
    ]
    assert "| x | 3 |" in document
    assert "| x | 2 |" in document
    assert "| x | 1 |" not in document
    assert run.put(document, "A", again) == document
