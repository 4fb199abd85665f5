"""The logger plugin within the real Snakemake: a workflow whose jobs only print what stages print."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daar.run import start
from daar.storage.bundled import PACKAGE
from tests.progress.emulator import Emulator

WORKFLOW = r"""
from daar.run import handlers

DENSE, SETTING = "digits/resnet20/c798e8d76de3/seed0", "digits/resnet20/seed0/l1/uniform-all-0.7"

onstart:
    print("checked")
    handlers._leave_signals_to_snakemake()

rule all:
    input: f"{SETTING}/record.json"

rule train:
    output: "{dataset}/{network}/{recipe}/seed{seed}/model"
    log: "{dataset}/{network}/{recipe}/seed{seed}/train.log"
    shell:
        "echo 'epoch 1/2  lr 0.1  loss 1.0  train 81.00  val 82.22  10.1 s  ETA 5 h 0 min' 2>&1 | tee -i {log};"
        "trap 'echo daar: SIGINT: saved after epoch 1 | tee -i {log}; exit 130' INT;"
        "while ! test -e go; do sleep 0.05; done; touch {output}"

rule record:
    input: f"{DENSE}/model"
    output: "{dataset}/{network}/seed{seed}/{variant}/{policy}-{scope}-{target}/record.json"
    log: "{dataset}/{network}/seed{seed}/{variant}/{policy}-{scope}-{target}/record.log"
    shell:
        "if test -e full; then echo 'daar: error: no space left. Delete something.' | tee -i {log}; exit 2; fi;"
        "touch {output}"
"""
RUN = "import sys; from daar.run import start; sys.exit(start.run(sys.argv[1:]))"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(WORKFLOW)


def command(*options: str) -> list[str]:
    engine = [sys.executable, "-P", str(PACKAGE / "run" / "engine.py"), "--snakefile", "Snakefile", "--cores", "1"]
    return [sys.executable, "-c", RUN, *engine, *(options or ("--logger", "daar"))]


def piped(*options: str) -> tuple[int, list[str], str]:
    """Exit code, lines of stderr without times, and stdout."""
    done = subprocess.run(command(*options), capture_output=True, text=True, check=False)
    return done.returncode, re.sub(r"\d+:\d\d", "0:00", done.stderr).splitlines(), done.stdout


def test_in_a_pipe_a_line_for_each_finished_setting() -> None:
    Path("go").touch()
    assert piped() == (
        0,
        ["checked", "daar: 3 jobs to do for 1 setting", "[2/3  0:00]  resnet20 seed 0 l1 0.7: done in 0:00",
         "daar: 3 of 3 jobs done in 0:00"],
        "",
    )  # fmt: skip
    # Snakemake's own log is whole, and what jobs print is next to it
    (log,) = Path(".snakemake", "log").glob("*.snakemake.log")
    assert "rule record:" in log.read_text()
    assert "3 of 3 steps (100%) done" in log.read_text()
    assert log.with_suffix(".jobs.log").read_text().startswith("epoch 1/2")
    assert piped() == (0, ["daar: nothing to do: all results are there, and current"], "")


def test_a_failure_is_one_line_and_the_last_one_counts_it() -> None:
    for name in ("go", "full"):
        Path(name).touch()
    code, lines, out = piped()
    setting = "digits/resnet20/seed0/l1/uniform-all-0.7"
    failure = (
        f"record resnet20 seed 0 l1 0.7 failed: daar: error: no space left. Delete something. [{setting}/record.log]"
    )
    (log,) = Path(".snakemake", "log").resolve().glob("*.snakemake.log")
    assert (code, lines[2:], out) == (
        1,
        [f"[1/3  0:00]  {failure}", f"daar: 1 of 3 jobs done in 0:00, 1 failed, see above. Snakemake's log: {log}"],
        "",
    )


def test_quiet_says_only_what_failed() -> None:
    Path("go").touch()
    quiet = ("--logger", "daar", "--logger-daar-quiet")
    Path("full").touch()
    code, lines, _ = piped(*quiet)
    assert code == 1
    assert [line.split(":")[0] for line in lines if line != "checked"] == ["[1/3  0", "daar"]
    Path("full").unlink()
    assert piped(*quiet) == (0, ["checked"], "")


SLOW = [pytest.param(option, marks=pytest.mark.slow) for option in ("--printshellcmds", "--verbose")]


@pytest.mark.parametrize("option", ["-n", *SLOW])
def test_snakemake_s_own_output_where_it_is_asked_for(option: str) -> None:
    Path("go").touch()
    code, lines, out = piped("--logger", "daar", option)
    text = out + "\n".join(lines)
    assert code == 0
    assert "rule record:" in text
    assert "jobs to do" not in text


def test_what_is_no_run_is_printed_as_ever() -> None:
    code, _, out = piped("--logger", "daar", "--summary")
    assert code == 0
    assert out.startswith("output_file\t")
    code, lines, out = piped("--logger", "daar", "--no-such-option")
    assert (code, out) == (2, "")
    assert lines[-1].endswith("unrecognized arguments: --no-such-option")


@contextmanager
def on(emulator: Emulator) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a terminal, once it shows an epoch."""
    process = subprocess.Popen(command(), stdin=subprocess.DEVNULL, stdout=emulator.file, stderr=emulator.file)
    try:
        while process.poll() is None and not any("epoch" in line for line in emulator.shows):
            time.sleep(0.05)
        yield process
    finally:
        Path("go").touch()
        process.wait()


def test_a_terminal_shows_what_is_at_work(emulator: Emulator) -> None:
    emulator.resize(80, 24)
    with on(emulator) as process:
        lines = emulator.shows
        assert lines[:2] == ["checked", "daar: 3 jobs to do for 1 setting"]
        assert re.fullmatch(r"0 of 3 jobs  ─{30}  0:\d\d, about [45]:\d\d:\d\d left", lines[2])
        assert re.fullmatch(r"  train  resnet20 seed 0 dense  epoch 1/2  val 82.22  ETA [45]:\d\d:\d\d", lines[3])
        assert len(lines) == 4
        emulator.resize(60)
        while not any("s0 dense" in line for line in emulator.shows):
            time.sleep(0.05)
        assert len(emulator.shows) == 4
        assert emulator.shows[3].startswith("  train  resnet20 s0 dense  1/2 val 82.22 ETA ")
        Path("go").touch()
        assert process.wait() == 0
    assert [re.sub(r"\d+:\d\d", "0:00", line) for line in emulator.shows] == [
        *("checked", "daar: 3 jobs to do for 1 setting"),
        *("[2/3  0:00]  resnet20 seed 0 l1 0.7: done in 0:00", "daar: 3 of 3 jobs done in 0:00"),
    ]


def test_ctrl_c_ends_it_with_one_line(emulator: Emulator) -> None:
    emulator.resize(100, 24)
    with on(emulator) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    said = "daar: interrupted after 0 of 3 jobs; the same command goes on from what was saved last."
    assert emulator.shows[2:] == [said]
    Path("go").touch()
    assert piped()[0] == 0


def test_plain_snakemake_finds_it_by_its_name_and_does_without(tmp_path: Path) -> None:
    Path("go").touch()
    plain = [sys.executable, "-m", "snakemake", "--cores", "1"]
    asked = subprocess.run([*plain, "--logger", "daar"], capture_output=True, text=True, check=True)
    assert "[2/3  " in asked.stderr
    done = subprocess.run([*plain, "--forceall"], capture_output=True, text=True, check=True)
    assert "3 of 3 steps (100%) done" in done.stderr
    assert "[2/3  " not in done.stderr


def test_daar_run_asks_for_it_unless_another_is_asked_for() -> None:
    suite = Path("suite.yaml")
    assert "--logger daar --cores 2" in " ".join(start.command(suite, 2))
    assert "--logger daar --logger-daar-quiet --cores 2" in " ".join(start.command(suite, 2, quiet=True))
    for theirs in (["--logger", "rich"], ["--logger=rich"]):
        assert " ".join(start.command(suite, 2, theirs)).count("--logger") == 1
