"""Whatever an installation of the service brings along may be distributed beside code under Apache-2.0."""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICE_EXTRAS = ("imaging", "worker", "report", "pandas")
# The Lesser licence allows use as a library, unmodified, as it comes from the index.
COPYLEFT = re.compile(r"(?<!L)(?<!Lesser )(?<!Library )\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def required() -> dict[str, str]:
    """The licences of every package that the service's extras need, directly or not, by name."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in SERVICE_EXTRAS for one in extras(project, extra))]
    found: dict[str, str] = {}
    visit(map(Requirement, wanted), found)
    return found


def extras(project: dict, extra: str) -> list[str]:
    return [one for one in project["optional-dependencies"][extra] if not one.startswith("radfuse")]


def visit(requirements: Iterable[Requirement], found: dict[str, str]) -> None:
    for requirement in requirements:
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        )
        if not applies or requirement.name in found:
            continue
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # needed on other platforms alone
        found[requirement.name] = licence_of(package.metadata)
        nested = [Requirement(one) for one in package.requires or ()]
        visit([one for one in nested if one.marker is None or chosen(one, requirement.extras)], found)


def chosen(requirement: Requirement, asked: Iterable[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *asked))


def licence_of(metadata: object) -> str:
    classifiers = [one for one in metadata.get_all("Classifier", []) if one.startswith("License")]
    return (
        metadata.get("License-Expression") or "; ".join(classifiers) or (metadata.get("License") or "").split("\n")[0]
    )


def test_no_package_is_under_a_licence_that_would_bind_ours():
    licences = required()
    assert {"highdicom", "pyarrow", "pylibjpeg-openjpeg", "pandas", "SimpleITK", "numpy"} <= licences.keys()
    assert {name: licence for name, licence in licences.items() if COPYLEFT.search(licence)} == {}
    assert [name for name, licence in licences.items() if not licence] == []


def test_the_gpl_variant_of_the_jpeg_decoder_is_not_among_them():
    assert "pylibjpeg-libjpeg" not in required()
    assert "pylibjpeg-libjpeg" not in (REPOSITORY / "constraints.txt").read_text()


def test_the_search_would_find_one():
    for text in ("GPL-3.0-only", "AGPL-3.0", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"):
        assert COPYLEFT.search(text)
    for text in ("LGPL-3.0-only", "GNU Lesser General Public License v3 (LGPLv3)", "MIT"):
        assert not COPYLEFT.search(text)
