"""The program as a whole: versions, help, exit codes, colours, pipes, completion."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from aico_crdt.cli.main import cli
from aico_crdt.home import Home
from aico_crdt.versions import versions
from tests.cli.support import ROOT, Device, Devices

COMMANDS = [
    "init", "id", "admit", "revoke", "devices", "status", "inspect", "log", "why", "merge", "diff", "bundle", "export",
    "import", "verify", "repair", "compact", "vacuum", "backup", "restore", "serve", "sync", "completion",
]  # fmt: skip
ESCAPE = "\x1b["


def test_every_command_has_a_help_text_and_is_in_the_list() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", listed, re.MULTILINE), name
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0
        assert "Usage: " in result.stdout


def test_help_for_one_command_does_not_load_the_store() -> None:
    program = "import sys\nfrom aico_crdt.cli.main import cli\ncli(['completion', 'fish'], standalone_mode=False)\n"
    program += "print(sorted({'pycrdt', 'zmq', 'nacl'} & set(sys.modules)), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_version_names_what_it_stands_on() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{name} {version}" for name, version in versions().items()]


@pytest.mark.parametrize("words", [["nonsense"], ["status", "--nonsense"], ["why"]])
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert result.stdout == ""


def test_global_options_stand_before_or_after_the_command(laptop: Device, tmp_path: Path) -> None:
    assert "no store at" in laptop.fails("--store", tmp_path / "none", "status")
    assert "no store at" in laptop.fails("status", "--store", tmp_path / "none")
    # The inner one wins, and the environment is the weakest.
    assert laptop("--store", tmp_path / "none", "status", "--store", laptop.store_path)
    laptop.environment["AICO_CRDT_STORE"] = str(tmp_path / "none")
    laptop.fails("status")
    assert laptop("status", "--store", laptop.store_path)
    assert laptop("--store", laptop.store_path, "status")


def test_every_help_text_names_the_global_options_and_is_whole() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).stdout
    assert "..." not in listed.partition("Commands:")[2]
    for name in [*COMMANDS, "demo"]:
        assert "Global options: --store" in CliRunner().invoke(cli, [name, "--help"]).stdout, name


def test_more_log_tells_that_the_store_was_opened_by_ids_only(laptop: Device) -> None:
    status = laptop.json("status")
    said = laptop.run("status", "-v").stderr
    assert f"opened store {status['store']} of device {status['device']}" in said
    assert laptop.run("status").stderr == ""


def test_errors_show_where_they_arose_only_when_asked(new: Devices) -> None:
    device = new("device")
    assert "Traceback" not in device.fails("status", "-v")
    assert "Traceback" in device.run("status", "-vv").stderr
    assert "Traceback" in device.run("-v", "-v", "status").stderr


def test_a_log_file_is_written_without_content(laptop: Device, month: Path, tmp_path: Path) -> None:
    logging.getLogger("aico_crdt").warning("before")
    laptop("import", month, "--log-file", tmp_path / "log", "-vv")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert "jasmine" not in (tmp_path / "log").read_text()


def test_without_settings_the_system_s_directories_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATA", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    home = Home.of({})
    if sys.platform == "linux":
        assert home.store == tmp_path / "DATA" / "aico-crdt" / "store"
        assert home.keys == tmp_path / "CONFIG" / "aico-crdt" / "keys"
        assert home.leases == tmp_path / "STATE" / "aico-crdt" / "leases"
    assert home.store not in (*home.keys.parents, *home.leases.parents)


def test_the_installed_command_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"aico-crdt": "aico_crdt.cli.main:main"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_AICO_CRDT_COMPLETE" in result.stdout


# As processes


@pytest.mark.processes
def test_exit_codes_and_streams_of_a_process(new: Devices) -> None:
    device = new("device")
    process = device.process("status")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"Error: There is no store at {device.store_path}.\n"
        "Run `aico-crdt init` to make one, or name another with --store.\n"
    )
    process = device.process("nonsense")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")


@pytest.mark.processes
def test_no_colour_when_asked_and_none_in_pipes(laptop: Device) -> None:
    coloured, _ = laptop.process("devices", FORCE_COLOR="1").communicate(timeout=20)
    assert ESCAPE in coloured
    plain, _ = laptop.process("devices", FORCE_COLOR="1", NO_COLOR="1").communicate(timeout=20)
    assert ESCAPE not in plain
    piped, _ = laptop.process("devices").communicate(timeout=20)
    assert ESCAPE not in piped
    assert piped == plain or piped.split() == plain.split()


@pytest.mark.processes
def test_a_reader_that_has_seen_enough_is_no_error(laptop: Device, tmp_path: Path) -> None:
    with laptop.open() as store, store.transaction() as transaction:
        for number in range(500):
            store.memories.add("x" * 500, id=f"memory-{number:06}", within=transaction)
    process = laptop.process("export")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("{")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=20) == 0
