"""The command line: what it says, how it ends, and that it is quick."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import pytest
from typer.testing import CliRunner, Result

from simfer.pipeline import chain, results, runtime, screen
from simfer.pipeline.chain import STAGES, SimferError
from simfer.pipeline.cli import app
from simfer.pipeline.studies import STUDIES
from simfer.stages.model.plugins import resolve
from tests import fakes

MOST_MODULES = 700  # twice what is imported today: what makes a command slow to start is seen in their number
HEAVY = ("jax", "numpy", "xarray", "zarr", "numpyro", "equinox", "diffrax", "optax")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(chain, "write_report", fakes.write_report)
    monkeypatch.setattr(chain, "prior_predictive", fakes.prior_predictive)
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return fakes.write_project(tmp_path)


def simfer(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def answer(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def test_run_shows_the_result(project: Path) -> None:
    result = simfer("run", project)
    assert result.exit_code == 0
    assert result.stdout.startswith("PASSED")
    assert "alpha" in result.stdout and "1.25" in result.stdout and "plot.png" in result.stdout
    assert "simulate-0: done in" in result.stderr
    assert "cached" in simfer("run", project).stderr


def test_quiet_is_quiet(project: Path) -> None:
    result = simfer("run", project, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_json(project: Path) -> None:
    found = answer(simfer("run", project, "--json"))
    assert found["exit_code"] == 0 and found["passed"] is True
    assert [step["stage"] for step in found["steps"]] == list(STAGES)
    assert found["steps"][0]["summary"]["facts"] == {"passed": True, "loss": None}
    assert Path(found["steps"][0]["folder"]).is_dir()
    assert {step["cached"] for step in answer(simfer("run", project, "--json"))["steps"]} == {True}


def test_json_of_a_wrong_config(project: Path) -> None:
    result = simfer("run", project, "--json", "--set", "train.stps=1", "--set", "simulate.seed=-1")
    assert result.exit_code == 2
    assert {problem["where"] for problem in answer(result)["error"]["mistakes"]} == {"train.stps", "simulate.seed"}


def test_a_wrong_config_has_no_traceback(project: Path) -> None:
    result = simfer("run", project, "--set", "train.stps=1", "--set", "simulate.seed=-1")
    assert result.exit_code == 2
    assert "2 mistakes" in result.stderr
    assert 'train.stps: unknown key. Did you mean "steps"?' in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_brings_the_chain_up_to_it(project: Path, stage: str) -> None:
    assert simfer(stage, project).exit_code == 0
    built = [line for line in fakes.said() if line.endswith("-0")]
    assert f"{stage}, round 0" in simfer(stage, project).stdout
    assert built == [f"{name}-0" for name in STAGES[: STAGES.index(stage) + 1]]


def test_a_bad_verdict_has_a_code_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PASSES", "9")
    result = simfer("run", project)
    assert result.exit_code == 4 and result.stdout.startswith("FAILED")
    assert answer(simfer("run", project, "--json"))["passed"] is False
    assert simfer("infer", project).exit_code == 0


def test_an_unchecked_posterior_is_called_so(project: Path) -> None:
    assert "NOT CHECKED" in simfer("infer", project).stdout
    assert "NOT CHECKED" in simfer("show", project).stdout


def test_a_stage_that_cannot_go_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> dict[str, Any]:
        raise SimferError("half of the simulations failed")

    monkeypatch.setattr(chain, "run", fail)
    result = simfer("run", project)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith("half of the simulations failed\n")


def page(project: Path) -> dict[str, Any]:
    return dict(json.loads((project.parent / "data" / "artifacts" / "reports" / "problem.html").read_text()))


def test_a_run_ends_with_its_page(project: Path) -> None:
    result = simfer("run", project)
    assert "Report: " in result.stdout and "problem.html" in result.stdout
    assert page(project) == {"name": "problem", "steps": [f"{name}-0" for name in STAGES], "failure": None}
    assert answer(simfer("run", project, "--json"))["report"].endswith("problem.html")
    assert "Report" not in simfer("run", project, "--no-report").stdout


def test_the_page_of_a_failed_run_says_what_failed_until_it_does_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "train-0")
    assert simfer("run", project).exit_code == 3
    assert page(project)["steps"] == ["simulate-0", "dataset-0"]
    assert page(project)["failure"] == {"where": "A stage could not go on", "what": "too many rows"}
    simfer("report", project)  # later, it is known still
    assert page(project)["failure"]["what"] == "too many rows"
    monkeypatch.delenv("FAKE_FAIL")
    assert simfer("run", project).exit_code == 0
    assert page(project)["failure"] is None


def test_simulate_ends_with_runs_over_the_data(project: Path) -> None:
    result = simfer("simulate", project)
    assert "beyond all runs" in result.stdout and "problem.prior.png" in result.stdout
    assert answer(simfer("simulate", project, "--json"))["prior_predictive"]["warnings"]
    assert "runs beside the data" not in simfer("dataset", project).stdout


def test_a_page_that_cannot_be_written_is_no_failed_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "write_report", lambda material, file: 1 / 0)
    result = simfer("run", project)
    assert result.exit_code == 0 and "no report was written: ZeroDivisionError" in result.stderr


def test_an_interrupt_says_how_to_go_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(chain, "run", interrupt)
    result = simfer("run", project)
    assert result.exit_code == 130 and "go on with: simfer" in result.stderr


def begun(project: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a run, and return when its first stage is at work."""
    fakes.said()
    process = subprocess.Popen(
        **fakes.process("run", project, "--json", **environment), text=True, stdout=-1, stderr=-1
    )
    while not fakes.has_begun("simulate-0"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "environment"),
    [
        (signal.SIGINT, {"FAKE_PAUSE": "20"}),
        (signal.SIGTERM, {"FAKE_PAUSE": "20"}),
        (signal.SIGHUP, {"FAKE_STUCK": "machine code"}),
        (signal.SIGINT, {"FAKE_STUCK": "callback"}),  # as of JAX, which loses what is raised in it
        (signal.SIGINT, {"FAKE_STUCK": "machine code"}),  # as of XLA, in which Python has no turn
    ],
)
def test_a_process_is_stopped_whatever_it_is_at(
    project: Path, number: signal.Signals, environment: dict[str, str]
) -> None:
    process = begun(project, **environment)
    time.sleep(0.3)
    process.send_signal(number)
    try:
        shown, errors = process.communicate(timeout=50)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "Traceback" not in errors and f"simfer run {project}" in errors
    assert json.loads(shown)["error"]["kind"] == "interrupted"


def test_a_bug_of_ours_has_a_traceback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "run", lambda *arguments: 1 / 0)
    result = simfer("run", project, "--json")
    assert result.exit_code == 1 and isinstance(result.exception, ZeroDivisionError)
    assert answer(result)["error"]["kind"] == "ZeroDivisionError"


def test_status(project: Path) -> None:
    assert simfer("status", project).stdout.count("to build") == 5
    simfer("dataset", project)
    lines = simfer("status", project, "--why", "--set", "dataset.floor=1e-8").stdout.splitlines()
    assert lines[1].split()[:2] == ["simulate-0", "cached"]
    assert lines[2].split()[:3] == ["dataset-0", "to", "build"]
    assert "dataset-0: dataset.floor: 1e-10 -> 1e-08" in lines


def test_status_lists_what_is_there_and_what_comes_next(project: Path) -> None:
    rounds = "--set", "refine.max_rounds=2"
    before = simfer("status", project, *rounds).stdout
    assert before.count("to build") == 5 and "2 more rounds at most" in before
    simfer("run", project, *rounds)
    after = simfer("status", project, *rounds).stdout
    assert after.count("cached") == 5 and "more round" not in after and "check-1" not in after


def test_status_tells_of_damage_and_of_other_versions(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simfer("run", project)
    folder = Path(simfer("path", project, "train").stdout.strip())
    (folder / "nested" / "out.txt").unlink()
    assert "damaged" in simfer("status", project).stdout
    monkeypatch.setattr("simfer.pipeline.screen.versions", lambda: runtime.versions() | {"jax": "9.9"})
    said = simfer("status", project).stdout
    assert f"simulate-0 to check-0, were made with jax {runtime.versions()['jax']}; here it is 9.9" in said
    assert said.count("here it is 9.9") == 1


def test_show(project: Path) -> None:
    assert "No posterior yet" in simfer("show", project).stdout
    simfer("run", project)
    text = simfer("show", project).stdout
    assert text.startswith("PASSED")
    assert text.index("infer, round 0") < text.index("train, round 0") < text.index("simulate, round 0")
    assert "loss: -" in text and str(project.parent / "data" / "artifacts" / "train") in text


def test_memory_is_shown_in_units_that_fit() -> None:
    assert screen._fact("memory_peak_mb", 612.3) == "memory peak: 612 MB"
    assert screen._fact("memory_peak_mb", 2345.0) == "memory peak: 2.35 GB"
    assert screen._fact("memory_peak_mb", None) == "memory peak: -"
    assert screen._fact("rows_per_second", 12345.6) == "rows per second: 12,346"


def test_path(project: Path) -> None:
    missing = simfer("path", project, "infer")
    assert (missing.exit_code, missing.stdout) == (3, "") and "not built yet" in missing.stderr
    simfer("run", project)
    found = simfer("path", project, "infer")
    assert found.exit_code == 0 and (Path(found.stdout.removesuffix("\n")) / "nested" / "out.txt").is_file()
    assert simfer("path", project, "infr").exit_code == 2


def test_another_store(project: Path, tmp_path: Path) -> None:
    simfer("run", project, "--store", tmp_path / "elsewhere")
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} >= set(STAGES)
    assert not (tmp_path / "data").exists()


def test_clean(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    simfer("run", project)
    simfer("run", project, "--set", "train.steps=9")
    assert simfer("clean").exit_code == 2  # no config is named, and there is no configs/: everything would go
    assert "would free" in simfer("clean", project, "--dry-run").stdout
    assert "in 3 folders" in simfer("clean", project).stdout
    assert "nothing to remove" in simfer("clean", project).stdout
    assert {step["cached"] for step in answer(simfer("run", project, "--json"))["steps"]} == {True}
    simfer("run", project, "--set", "train.steps=9")
    assert "nothing to remove" in simfer("clean", project, "--older-than", "30d").stdout
    assert simfer("clean", project, "--older-than", "soon").exit_code == 2


def test_clean_spares_what_a_config_that_is_not_right_may_need(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "half_written.toml").write_text("[train\n")
    simfer("run", project)
    assert simfer("clean", project).exit_code == 2


def test_new(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    assert simfer("new", folder).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"problem.toml", "my_model.py", "observations.csv", "README.md"}
    assert simfer("status", folder / "problem.toml").exit_code == 0
    (folder / "my_model.py").write_text("mine")
    assert simfer("new", folder).exit_code == 2
    assert (folder / "my_model.py").read_text() == "mine"


def test_nothing_in_a_help_is_taken_for_markup() -> None:
    for command in app.registered_commands:
        shown = simfer(str(command.name or command.callback.__name__), "--help").stdout  # type: ignore[union-attr]
        assert "``" not in shown and not re.search(r"\w \.(?!\w)", shown), command.name


def test_whoever_closes_the_pipe_is_told_nothing_more() -> None:
    told = "import sys; from simfer.pipeline.cli import main; sys.argv = ['simfer', 'list', 'settings']; main()"
    with subprocess.Popen([sys.executable, "-c", told], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        assert listing.stdout is not None and listing.stderr is not None
        listing.stdout.close()
        assert listing.stderr.read() == b"" and listing.wait() == 128 + signal.SIGPIPE


def test_help_tells_the_exit_codes() -> None:
    result = simfer("run", "--help")
    assert result.exit_code == 0 and "4 the verdict is bad" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["status", "CONFIG", "--why"], ["show", "CONFIG"], ["run", "CONFIG"]]
)
def test_nothing_heavy_is_imported_where_nothing_is_computed(project: Path, arguments: list[str]) -> None:
    simfer("run", project)
    words = [str(project) if word == "CONFIG" else word for word in arguments]
    code = (
        "import sys\nfrom simfer.pipeline.cli import main\nsys.argv = ['simfer', *sys.argv[1:]]\n"
        f"try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], len(sys.modules), sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=fakes.ROOT, text=True, capture_output=True, check=False
    )
    heavy, num_modules = done.stderr.splitlines()[-2:]
    assert heavy == "[]", done.stderr
    assert int(num_modules) < MOST_MODULES


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["compare", "--help"], ["--version"]])
def test_a_help_reads_no_settings(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom simfer.pipeline.cli import main\nsys.argv = ['simfer', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print([name for name in sys.modules if name.startswith('simfer.stages.settings')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=fakes.ROOT, text=True, capture_output=True, check=False
    )
    assert done.stderr == "[]\n"


class TestRuntime:
    """JAX is set up before it is imported, or refused."""

    def environment(self, code: str, **more: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value for name, value in fakes.process()["env"].items() if name not in ("JAX_ENABLE_X64", "XLA_FLAGS")
        }
        return subprocess.run(
            [sys.executable, "-c", code], cwd=fakes.ROOT, env=clean | more, text=True, capture_output=True, check=False
        )

    def test_before_jax_is_imported(self) -> None:
        show = "print(os.environ['JAX_ENABLE_X64'], os.environ['XLA_FLAGS'])"
        code = f"import os\nfrom simfer.pipeline import runtime\nruntime.prepare()\n{show}"
        assert self.environment(code).stdout.startswith("1 --xla_force_host_platform_device_count=")
        chosen = "--xla_force_host_platform_device_count=3"
        kept, added = self.environment(code, XLA_FLAGS=chosen).stdout.removeprefix("1 ").split()
        assert kept == chosen
        assert added.startswith("--xla_backend_extra_options=")
        chosen += " --xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=0"
        assert self.environment(code, XLA_FLAGS=chosen).stdout == f"1 {chosen}\n"

    def test_after_jax_is_imported_and_before_it_computes(self) -> None:
        code = (
            "import os, jax\njax.config.update('jax_enable_x64', True)\nfrom simfer.pipeline import runtime\n"
            "runtime.num_cores = lambda: 3\nruntime.prepare()\nprint(len(jax.devices()), os.environ['XLA_FLAGS'])"
        )
        found = self.environment(code).stdout
        assert found.startswith("3 --xla_force") and "small_while_loop" in found

    @pytest.mark.parametrize(
        ("before", "refused"),
        [
            ("pass", False),
            ("key = jax.random.PRNGKey(0)", False),  # 32 bits in any case
            ("chosen = jnp.ones(3, jnp.bfloat16)", False),
            ("gone = jnp.ones(3) ; del gone", False),
            ("x = jnp.ones(3)", True),
            ("x = jnp.arange(3)", True),
            ("jax.config.update('jax_enable_x64', True) ; x = jnp.ones(3, jnp.float32)", False),  # chosen, as it shows
        ],
    )
    def test_after_jax_was_imported(self, before: str, refused: bool) -> None:
        code = f"import jax, jax.numpy as jnp\n{before}\nfrom simfer import ODESimulator\nprint(jnp.ones(2).dtype)"
        found = self.environment(code)
        if refused:
            assert "JAX holds arrays in 32 bits" in found.stderr and "Start Python again" in found.stderr
        else:
            assert found.stdout == "float64\n"

    def test_nothing_is_said_of_widgets_that_are_not_needed(self) -> None:
        code = "import warnings\nfrom simfer.pipeline import runtime\nruntime.prepare()\n"
        code += "warnings.warn('IProgress not found. Please update jupyter')\nwarnings.warn('something else')"
        found = self.environment(code).stderr
        assert "something else" in found and "IProgress" not in found

    def test_edited_modules_are_imported_anew(self, tmp_path: Path) -> None:
        (tmp_path / "plug.py").write_text("from helper import value\n")
        for value in (1, 1, 2):
            (tmp_path / "helper.py").write_text(f"value = {value}\n")
            runtime.forget_edited([tmp_path / "plug.py", tmp_path / "helper.py"])
            assert resolve(f"{tmp_path / 'plug.py'}:value", {}) == value

    def test_whoever_asks_for_32_bits_in_the_environment_has_64(self) -> None:
        code = "from simfer.pipeline import runtime\nruntime.prepare()\nimport jax.numpy as jnp\n"
        found = self.environment(f"{code}print(jnp.ones(1).dtype, runtime.precision())", JAX_ENABLE_X64="0")
        assert found.stdout == "float64 float64\n"

    def test_a_fork_of_a_process_that_has_computed_is_refused(self) -> None:
        code = (
            "import os, warnings\nfrom simfer.pipeline import runtime\nruntime.prepare()\nimport jax.numpy as jnp\n"
            "jnp.ones(1).block_until_ready()\nruntime.prepare()\nwarnings.simplefilter('ignore')\nchild = os.fork()\n"
            "if child:\n    os.waitpid(child, 0)\n    runtime.prepare()\n    print('and here it goes on')\nelse:\n"
            "    try:\n        runtime.prepare()\n    except Exception as error:\n        print(error, flush=True)\n"
            "    os._exit(0)\n"
        )
        found = self.environment(code)
        assert found.stdout.startswith("this process was forked from one in which JAX had computed")
        assert found.stdout.endswith("and here it goes on\n")

    def test_code_that_sets_32_bits_while_it_runs_is_refused(self) -> None:
        runtime.refuse_narrow()
        jax.config.update("jax_enable_x64", False)
        with pytest.raises(SimferError, match="set to 32 bits while this ran"):
            runtime.refuse_narrow()
        assert jax.config.jax_enable_x64


class TestHelp:
    """What a newcomer reads at 80 columns."""

    @pytest.fixture(autouse=True)
    def _terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")

    def test_commands_are_in_groups(self) -> None:
        shown = simfer("-h").stdout
        groups = ["The chain", "Look", "Study", "Use the emulator", "Project"]
        assert [name for name in groups if f"─ {name} ─" in shown] == groups
        assert "--install-completion" in shown and max(map(len, shown.splitlines())) <= 80

    @pytest.mark.parametrize(
        "command", [*STUDIES, *chain.STAGES, "run", "status", "show", "predict", "export", "clean"]
    )
    def test_no_flag_says_that_it_is_a_bool(self, command: str) -> None:
        shown = simfer(command, "-h").stdout
        assert "Usage: simfer" in shown.replace("root", "simfer") and "bool" not in shown.lower()

    def test_a_study_has_the_options_of_its_table(self, project: Path) -> None:
        result = simfer("calibrate", project, "--replicates", "5")
        assert (
            result.exit_code == 2 and "calibrate.replicates: got 5, expected a number of at least 20" in result.stderr
        )
        result = simfer("compare", project, "--architecture", "mlpp", "--architecture", "mlp")
        assert result.exit_code == 2 and 'compare.architectures[0]: got "mlpp"' in result.stderr


def test_settings_are_listed_and_the_schema_is_json() -> None:
    shown = simfer("list", "settings", "train").stdout
    assert "train.steps = 5000" in shown and "Gradient steps at most." in shown and "infer." not in shown
    assert json.loads(simfer("list", "schema").stdout)["properties"]["train"]
    wrong = simfer("list", "settings", "trian")
    assert wrong.exit_code == 2
    assert "The command cannot be run" in wrong.stderr and 'Did you mean "train"?' in wrong.stderr
    assert simfer("list", "noise", "train").exit_code == 2


class TestExits:
    """What calls sys.exit() has not done what was asked."""

    def test_in_the_user_s_code(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project.parent / "my_model.py").write_text(
            "import sys, helper\n\ndef stop():\n    sys.exit(0)\n\nclass Model: ...\n"
        )
        stop = resolve(f"{project.parent / 'my_model.py'}:stop", {})
        monkeypatch.setattr(chain, "run", lambda *given: stop())
        result = simfer("run", project, "--json")
        assert result.exit_code == 3 and answer(result)["error"]["kind"] == "UserCodeError"
        assert "your code raised SystemExit" in result.stderr and "line 4, in stop" in result.stderr

    def test_elsewhere(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chain, "run", lambda *given: sys.exit(0))
        result = simfer("run", project, "--json")
        assert result.exit_code == 1 and answer(result)["exit_code"] == 1


@pytest.mark.parametrize("keeps_its_time", [True, False])
def test_damage_is_said_by_show_and_path_and_where_it_is_opened(project: Path, keeps_its_time: bool) -> None:
    simfer("run", project)
    file = next((project.parent / "data" / "artifacts" / "infer").glob("[!.]*/nested/out.txt"))
    before = file.stat()
    file.write_text("x" * before.st_size)
    if keeps_its_time:  # as where bits rot
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        assert "infer is damaged, and a run builds it again" in simfer("show", project).stdout
        shown = simfer("path", project, "infer")
        assert shown.exit_code == 3 and "infer is damaged" in shown.stderr and "out.txt" in shown.stderr
    with pytest.raises(SimferError, match=r"infer is damaged: .*its content has changed"):
        _ = results.load(project).posterior
