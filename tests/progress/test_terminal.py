"""What a terminal shows of what is written: pyte, an emulator, is asked."""

import os
import sys
from pathlib import Path

import pytest
from rich.text import Text

from daar.progress.terminal import Above, Streams, Terminal, is_ascii
from tests.progress.emulator import Emulator


def foot(*lines: str) -> list[Text]:
    return [Text(line) for line in lines]


def test_lines_stay_above_a_foot_that_changes(emulator: Emulator) -> None:
    terminal = Terminal(emulator.file)
    assert terminal.live
    terminal.say(Text("first"))
    terminal.show(foot("1 of 3", "  train"))
    assert emulator.shows == ["first", "1 of 3", "  train"]
    terminal.say(Text("second"))
    assert emulator.shows == ["first", "second", "1 of 3", "  train"]
    terminal.show(foot("2 of 3", "  finetune", "  record"))
    assert emulator.shows == ["first", "second", "2 of 3", "  finetune", "  record"]
    terminal.show(foot("3 of 3"))
    assert emulator.shows == ["first", "second", "3 of 3"]
    terminal.show([])
    terminal.say(Text("done"))
    assert emulator.shows == ["first", "second", "done"]


def test_what_has_not_changed_is_not_written_again(emulator: Emulator) -> None:
    terminal = Terminal(emulator.file)
    terminal.show(foot("1 of 3"))
    assert emulator.shows == ["1 of 3"]
    before = emulator.written
    terminal.show(foot("1 of 3"))
    assert emulator.shows == ["1 of 3"]
    assert emulator.written == before


@pytest.mark.parametrize("columns", [39, 25, 20, 13, 80])
def test_a_terminal_that_is_resized_keeps_its_lines_and_nothing_else(emulator: Emulator, columns: int) -> None:
    terminal = Terminal(emulator.file)
    terminal.say(Text("kept"))
    terminal.show(foot("x" * 39, "y" * 39))
    assert emulator.shows == ["kept", "x" * 39, "y" * 39]
    emulator.resize(columns)
    terminal.show(foot("z" * (columns - 1)))
    assert emulator.shows == ["kept", "z" * (columns - 1)]


def test_it_scrolls(emulator: Emulator) -> None:
    terminal = Terminal(emulator.file)
    for number in range(30):
        terminal.show(foot(f"{number} of 30", "  train"))
        terminal.say(Text(f"line {number}"))
    assert emulator.shows == [*(f"line {number}" for number in range(22, 30)), "29 of 30", "  train"]


def test_keys_that_the_terminal_echoes_are_gone_with_the_next_foot(emulator: Emulator) -> None:
    terminal = Terminal(emulator.file)
    terminal.show(foot("1 of 3", "  train"))
    emulator.file.write("^C")  # as it does itself
    emulator.file.flush()
    terminal.show(foot("1 of 3  stopping"))
    assert emulator.shows == ["1 of 3  stopping"]


def test_colours_unless_they_are_not_wanted(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(*, colours: bool = True) -> bytes:
        before = len(emulator.written)
        Terminal(emulator.file, colours=colours).say(Text("failed", style="red"))
        assert emulator.shows[-1] == "failed"
        return emulator.written[before:].strip()

    assert b"\x1b[31m" in written()
    assert written(colours=False) == b"failed"
    monkeypatch.setenv("NO_COLOR", "1")
    assert written() == b"failed"


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", "unknown"), ("CI", "true")])
def test_no_foot_where_it_would_be_no_use(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not Terminal(emulator.file).live


def test_no_foot_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with (tmp_path / "log").open("w") as file:
        terminal = Terminal(file)
        assert not terminal.live
        assert terminal.size == (80, 24)
        terminal.say(Text("failed", style="red"))
        terminal.pass_on("\x1b[31mx\x1b[0m\n")
    assert (tmp_path / "log").read_text() == "failed\nx\n"


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX", "LC_CTYPE": "C.UTF-8"}, True),  # Python's own doing
        ({"LANG": "de_DE@euro"}, True),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "en_GB.UTF-8"}, False),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LC_CTYPE": "de_DE.utf8"}, False),
        ({"LC_ALL": "C.UTF-8"}, False),
    ],
)
def test_what_a_locale_can_show(environment: dict[str, str], ascii_only: bool) -> None:
    assert is_ascii(environment) == ascii_only


def test_nothing_but_ascii_comes_to_a_terminal_that_has_no_more(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "C")
    Terminal(emulator.file).say(Text("café ━"))
    assert emulator.shows == ["caf\\xe9 \\u2501"]


def test_what_this_process_prints_comes_above_and_what_its_children_print_into_a_file(
    emulator: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():
        own = os.dup(2)
        os.dup2(emulator.file.fileno(), 2)  # a process whose errors go to the terminal
        streams = Streams()
        try:
            terminal = Terminal(streams.stderr)
            streams.redirect(tmp_path / "jobs.log", terminal)
            terminal.show(foot("1 of 3"))
            print("a warning", file=sys.stderr)
            print("half", end="", file=sys.stderr)
            os.system("echo from a job; echo and its error >&2")
            assert emulator.shows == ["a warning", "1 of 3"]
            sys.stderr.flush()
            assert emulator.shows == ["a warning", "half", "1 of 3"]
            assert sys.stderr.isatty()
            os.write(sys.stderr.fileno(), b" at once")
            assert emulator.shows == ["a warning", "half", "1 of 3 at once"]
        finally:
            streams.restore()
            os.dup2(own, 2)
            os.close(own)
        assert not isinstance(sys.stderr, Above)
    assert (tmp_path / "jobs.log").read_text() == "from a job\nand its error\n"


def test_a_reader_that_has_gone_ends_no_run() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as file:
        os.close(read)
        terminal = Terminal(file)
        terminal.say(Text("nobody reads this"))
