import subprocess
import sys

import pytest

from jaxreloc.usage import UsageError, check_choice, one_line

SCRIPT = """
from absl import flags
from jaxreloc.usage import UsageError, run_script
flags.DEFINE_integer("number", 1, "a number")
def main(argv):
    if flags.FLAGS.number == 2:
        raise UsageError("file.txt:\\n  field is wrong; mend it")
    print("ran")
run_script(main)
"""
SKIPPED = "photos: 1 picture(s) in .gif are skipped, the first is a.gif; convert them to JPEG\n"
WARNING = """
import logging, pathlib
from jaxreloc.images import note_unread_formats
def main(argv=()):
    note_unread_formats("photos", [pathlib.Path("a.gif")])
"""


def run(*arguments, script=SCRIPT):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
    )


def test_success_exits_zero():
    result = run()
    assert (result.returncode, result.stdout) == (0, "ran\n")


@pytest.mark.parametrize("arguments", [["--number=2"], ["--number=x"], ["--nunber=1"]])
def test_mistake_is_one_line_and_status_2(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("from jaxreloc.usage import run_script\nrun_script(main)", SKIPPED),
        ("main()", SKIPPED),
        ("logging.getLogger('jaxreloc').setLevel('ERROR')\nmain()", ""),
    ],
    ids=["script", "library", "silenced library"],
)
def test_a_warning_is_its_sentence_alone(script, said):
    result = run(script=WARNING + script)
    assert (result.returncode, result.stderr) == (0, said)


def test_unknown_choice_lists_the_known():
    with pytest.raises(UsageError, match="unknown backbone 'vgg'; known: resnet18, resnet34"):
        check_choice("backbone", "vgg", ["resnet34", "resnet18"])


def test_a_line_keeps_its_words_but_not_endless_ones():
    words = " ".join(f"parameter{i} is missing;" for i in range(500))
    assert one_line(words.replace(" ", "\n")) == words
    assert len(one_line("a" * 10**6)) < 1000
