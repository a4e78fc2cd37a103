"""The examples of docs/routing.md are run as they stand there."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from gatepost import settings
from gatepost.cli import main

PAGE = (Path(__file__).parents[2] / "docs/routing.md").read_text("utf-8")


def tidy(text):
    """Leave out what differs from run to run: times, and blanks at the end of lines."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_every_command_of_the_page_says_what_the_page_says(tmp_path):
    """Settings and commands in the order of the page, on a fresh data directory."""
    (block,) = re.findall(r"```toml\n# gatepost.toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "gatepost.toml").write_text(block)
    wrong = []
    commands = [
        part for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    for part in commands:
        command, _, expected = part.partition("\n")
        done = CliRunner().invoke(main, [*shlex.split(command)[1:], "--data", str(tmp_path)])
        if done.exit_code or tidy(done.output) != tidy(expected):
            wrong.append((command, done.output))
    assert not wrong
    assert len(commands) == 9


def test_defaults_that_the_page_names_are_the_settings():
    """Numbers in brackets after an option are its default."""
    routing = settings.Settings().routing
    for name, number in re.findall(r"`routing\.(\w+)`[^()|\n]*?\((\d+)\)", PAGE):
        assert getattr(routing, name) == int(number), name
    for name in re.findall(r"`routing\.(\w+)`", PAGE):
        assert hasattr(routing, name), name
