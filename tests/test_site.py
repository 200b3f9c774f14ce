"""The documentation site: it builds strictly, loads nothing from elsewhere, and has every error message."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.tools.error_index import error_entries, error_page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "muybridge"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path):
    loading = re.compile(
        r"<(?:script|link|img|iframe|source|video)\b[^>]*\b(?:src|href|srcset)=[\"']?(?:https?:)?//[^>]*>"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        external = [tag for tag in loading.findall(page.read_text(encoding="utf-8")) if "canonical" not in tag]
        assert not external, page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_the_api_has_every_package(site: Path):
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if not re.search(r"\._|^muybridge$", module):
            assert f'id="{module}"' in pages, module


def test_every_error_is_on_the_page():
    """As many messages as the source has, of each class, but for helpers and copies of other errors."""
    entries = error_entries(PACKAGE)
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for kind in ("DataError", "RecipeError", "RunError", "MissingExtraError"):
        raised = len(re.findall(rf"\b{kind}\(\n?\s*[^)\n]", source)) - source.count(f"class {kind}(")
        listed = [entry for entry in entries if entry.kind == kind]
        assert len(listed) >= 0.9 * raised
        assert all(entry.problem and entry.expected and entry.hint for entry in listed)


def test_an_error_is_shown_with_its_three_parts():
    page = error_page(PACKAGE)
    assert "**derivatives = ‹derivatives›**" in page
    assert ":   Expected: each order once, 0 or more." in page
    assert "What to do: set for instance \\[0, 1, 2\\] for a second-order network, or \\[\\] for an LSTM." in page


def test_templates_show_alternatives_constants_and_helpers(tmp_path: Path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "errors.py").write_text("class MuybridgeError(Exception): ...\nclass DataError(MuybridgeError): ...\n")
    (package / "reader.py").write_text(
        "HINT = 'fix it'\n"
        "def read(path, *, expected, hint):\n"
        "    raise DataError(f'{path.name} is empty', expected=expected, hint=hint)\n"
        "def check(rows, strict):\n"
        "    kind = 'a row' if strict else 'rows'\n"
        "    if len(rows) > 1:\n"
        "        raise DataError(f'{len(rows)} rows', expected=f'{kind} of numbers', hint=HINT)\n"
        "    read(rows, expected='a list', hint='write `x`')\n"
    )
    found = [(entry.problem, entry.expected, entry.hint) for entry in error_entries(package)]
    assert found == [
        ("‹number of rows› rows", "a row / rows of numbers", "fix it"),
        ("‹name› is empty", "a list", "write `x`"),
    ]
