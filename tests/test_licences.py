"""docs/licences.md lists all that is downloaded, read or installed, and the project's own licence is whole."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from seg_det.weights.catalogue import CATALOGUE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "licences.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# Of https://www.apache.org/licenses/LICENSE-2.0.txt, which SPDX calls Apache-2.0.
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def table(heading, first_column):
    """The rows of a section's table by the names in their first cell; a row may have several names, a name several rows."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    (rows,) = re.findall(rf"^\| {first_column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section, re.M)
    named = {}
    for row in rows.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        for name in re.findall(r"`([^`]+)`", cells[0]):
            named.setdefault(name, []).append(cells[1:])
    return named


def packages():
    """What pyproject.toml asks for: the name of each package and who needs it."""
    needed = {"core": PROJECT["dependencies"], "build": PYPROJECT["build-system"]["requires"]}
    named = {}
    for needed_by, requirements in (needed | PROJECT["optional-dependencies"]).items():
        for requirement in requirements:
            name = re.match(r"[\w.-]+", requirement)[0]
            if name != PROJECT["name"]:
                named.setdefault(name, set()).add(needed_by)
    return named


def test_the_project_s_own_licence():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    # PEP 639 forbids them beside an expression
    assert not [name for name in PROJECT.get("classifiers", ()) if name.startswith("License ::")]


def test_every_published_weights_file_is_listed():
    rows = table("Published weights", "name")
    assert rows.keys() == CATALOGUE.keys()
    for name, ((publisher, trained_on, licence, stated_in),) in rows.items():
        published = CATALOGUE[name]
        assert publisher.split(";")[0] == name.split("/")[0]
        assert trained_on.startswith(published.trained_on)
        assert licence.startswith(f"`{published.licence}`")
        assert "](https://" in stated_in


def test_every_data_set_is_listed():
    rows = table("Data sets", "`dataset=`")
    assert rows.keys() == {path.stem for path in (ROOT / "conf" / "dataset").glob("*.yaml")}
    text = str(rows)
    for script in (ROOT / "datasets").glob("prepare_*.py"):
        assert f"`{script.name}`" in text


def test_every_package_is_listed():
    rows = table("Python packages", "package")
    listed = {name: {needed_by.strip("`")} for name, ((needed_by, *_),) in rows.items()}
    assert listed == packages()


@pytest.mark.parametrize("heading", ["Published weights", "Data sets", "Python packages"])
def test_every_row_says_something(heading):
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    rows = [line for line in section.splitlines() if line.startswith("|")]
    for row in rows:
        *cells, _ = [cell.strip() for cell in row.strip("|").split("|")]
        assert all(cells), row


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
