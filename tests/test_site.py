"""The documentation site builds without a warning, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("mkdocs")
pytest.importorskip("material")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """What a page loads by itself: of links only those that fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = {name: value or "" for name, value in attributes}
        if tag == "link" and given.get("rel") == "canonical":
            return
        if tag != "a":
            self.found += [given[name] for name in ("href", "src", "srcset", "data", "poster") if given.get(name)]


def outside(address: str) -> bool:
    return re.match(r"\s*(https?:)?//", address) is not None


def test_what_loads_from_elsewhere_is_seen():
    page = Loads('<a href="https://a.b"></a><script src="https://a.b"></script><img src="//c"><link href="x.css">')
    assert [outside(one) for one in page.found] == [True, True, False]


def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = Loads(page.read_text(encoding="utf-8")).found
        assert loaded
        assert not [one for one in loaded if outside(one)], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", text), style


def test_every_page_of_the_docs_is_in_the_site(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), page
