"""What packages say is what the project says."""

from __future__ import annotations

import re
import tomllib

from tests import helpers

_ELSEWHERE = {"matplotlib": "matplotlib-base"}  # names that conda-forge has


def recipe() -> str:
    return (helpers.ROOT / "packaging" / "recipe.yaml").read_text("utf-8")


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((helpers.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def test_the_recipe_asks_for_what_the_project_asks_for() -> None:
    run = recipe()[recipe().index("  run:") : recipe().index("tests:")]
    told = dict(re.findall(r"- ([\w-]+) >=([\d.]+)", run))
    wanted = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", each).groups() for each in project()["dependencies"])  # type: ignore
    assert told.pop("python") == str(project()["requires-python"]).removeprefix(">=")
    assert told == {_ELSEWHERE.get(name, name): least for name, least in wanted.items()}


def test_the_recipe_is_of_this_version_and_has_its_command() -> None:
    (version,) = re.findall(r'^  version: "([\d.]+)"$', recipe(), re.MULTILINE)
    assert version == project()["version"]
    assert all(f"{name} = {where}" in recipe() for name, where in project()["scripts"].items())  # type: ignore
    assert f'summary: "{project()["description"]}"' in recipe() and f"license: {project()['license']}" in recipe()


def test_whoever_cites_it_and_whoever_reads_of_changes_is_told_this_version() -> None:
    cited = dict(
        re.findall(r"^(version|date-released): (.+)$", (helpers.ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    )
    told = re.findall(r"^## \[([\d.]+)\] - ([\d-]+)$", (helpers.ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert cited["version"] == project()["version"] == told[0][0]
    assert cited["date-released"] == told[0][1]
