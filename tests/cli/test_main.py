"""The command itself: what it says of itself, how flags are read, one line about each mistake."""

import dataclasses
import subprocess
import sys
from typing import Annotated, Literal

import pytest
import tyro

import jaxreloc
from jaxreloc.cli import main, parsing
from jaxreloc.cli.parsing import Listed, flag
from jaxreloc.usage import UsageError
from tests.scripts import ROOT, assert_fails, call_command, run_command

MAX_HELP_LINES = 39
# Of flags; the others have one.
GROUPS = {"map build": 3, "query": 3, "serve": 4, "eval": 3, "train": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    count: Annotated[int, flag("How many.", "N")] = 5
    kind: Annotated[Literal["a", "b"], flag("Which.", "NAME")] = "a"


def remember(calls):
    def target(
        needed_path: Annotated[str, flag("A path.", "PATH")],
        names: Annotated[Listed, flag("Names.", "A,B")] = ("one",),
        turned: Annotated[bool, flag("Not turned.")] = True,
        loud: Annotated[bool, flag("Loud.")] = False,
        length: Annotated[float | None, flag("Length.", "M")] = None,
        group: Group = Group(),
        overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = (),
    ) -> None:
        """Does something."""
        calls.append(locals())

    return target


def called(*argv):
    calls = []
    parsing.call(remember(calls), argv, "program")
    (values,) = calls
    return values


def test_values_have_the_types_of_the_signature():
    values = called("--needed_path=p", "--length=2", "--count", "3", "--kind=b")
    assert (values["needed_path"], values["length"]) == ("p", 2.0)
    assert values["group"] == Group(count=3, kind="b")
    assert (values["names"], values["turned"], values["loud"]) == (("one",), True, False)


def test_underscores_and_hyphens_are_alike():
    assert called("--needed-path=p", "--no-turned", "--loud")["turned"] is False
    assert called("--needed_path", "p", "--no_turned")["turned"] is False


@pytest.mark.parametrize(
    "given, names", [("a.jpg", ("a.jpg",)), ("a,b c,", ("a", "b c")), ("", ())]
)
def test_lists_are_separated_by_commas(given, names):
    assert called("--needed_path=p", f"--names={given}")["names"] == names


def test_fields_of_the_config_are_set_apart():
    overrides = ("--config.a.b=1", "--config.c", "2", "--noconfig.d")
    values = called(*overrides[:3], "--needed_path=p", overrides[3], "--count=1")
    assert values["overrides"] == overrides and values["group"].count == 1


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "--needed_path is missing; see program --help"),
        (["--needed_pth=p"], "program takes no --needed_pth; did you mean --needed_path?"),
        (
            ["--needed_path=p", "--xyz"],
            "takes no --xyz; known: --needed_path, --names, --no_turned",
        ),
        (["--needed_path=p", "--kind=c"], "^--kind=c: known: a, b$"),
        (["--needed_path=p", "--count", "many"], "^--count=many: is no whole number$"),
        (["--needed_path=p", "--length=1m"], "^--length=1m: is no number$"),
        (["--needed_path=p", "--count"], "--count has no value; give --count=VALUE"),
        (["--needed_path", "--count=1"], "--needed_path has no value"),
        (["--needed_path=p", "--loud=true"], "--loud takes no value; leave =true out"),
        (["--needed_path=p", "word"], "unknown argument 'word'; flags start with --"),
    ],
)
def test_a_mistake_is_one_line(argv, words):
    with pytest.raises(UsageError, match=words):
        parsing.call(remember([]), argv, "program")


def test_a_mistake_within_the_call_keeps_its_words():
    def target(count: int = 1) -> None:
        """Does something."""
        raise UsageError(f"file.txt: {count} is wrong")

    with pytest.raises(UsageError, match="^file.txt: 2 is wrong$"):
        parsing.call(target, ["--count=2"], "program")


@pytest.mark.parametrize("command", main.COMMANDS)
def test_help_is_grouped_and_short(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    result = run_command(*command.split(), "--help")
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and lines[0].startswith(f"usage: jaxreloc {command} ")
    assert len(lines) <= MAX_HELP_LINES
    assert sum(" options ─" in line for line in lines) == GROUPS.get(command, 1)


def test_a_bare_command_prints_what_there_is():
    for argv in ([], ["--help"], ["-h"]):
        result = call_command(*argv)
        assert result.returncode == 0
        for command in main.COMMANDS:
            assert f"\n  {command} " in result.stdout
    result = call_command("map")
    assert "\n  map info " in result.stdout and "\n  query" not in result.stdout
    assert call_command("--version").stdout == f"{jaxreloc.__version__}\n"


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "jaxreloc"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_wrong_commands_name_the_nearest():
    assert_fails(run_command("qurey"), "no command 'qurey'; did you mean query?")
    assert_fails(call_command("map", "ad", "--map=x"), "'map ad'; did you mean map add?")
    known = "build add remove depth index info check merge export".split()
    assert_fails(call_command("map", "--images=x"), ", ".join(f"map {name}" for name in known))
    assert_fails(call_command("--versoin"), "no command '--versoin'; did you mean --version?")
    assert_fails(call_command("map", "--hlep"), "no command 'map --hlep'; did you mean --help?")
    assert_fails(call_command("--scene=x"), "known: --version, --help, map build, ")
    assert_fails(call_command("evaluate", "--scene=x"), "did you mean eval?")
    assert_fails(call_command("zzz"), "known: map build", "train")


def test_a_query_does_not_wait_for_scipy():
    code = (
        "import sys\n"
        "from jaxreloc.evaluation.report.views import MapViews\n"
        "from jaxreloc.formats.localized_poses import LINE_FORMATS\n"
        "from jaxreloc.localization.jobs import querying\n"
        "print('jax' in sys.modules, 'scipy.spatial' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "True False\n"


def test_help_and_mistakes_do_not_wait_for_jax():
    code = (
        "import sys; from jaxreloc.cli import main\n"
        "main.run(['query', '--map=x', '--imges=y'])\n"
        "try: main.run(['eval', '--help'])\n"
        "except SystemExit: print('jax' in sys.modules, 'cv2' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "False False"
    assert result.stderr == "error: jaxreloc query takes no --imges; did you mean --images?\n"
