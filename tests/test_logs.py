from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from aico_crdt import logs
from aico_crdt.errors import NotFound, ReadOnly

SECRET = "Anna told me about the surgery"


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger("aico_crdt")
    before, level = list(root.handlers), root.level
    yield tmp_path / "aico.log"
    for handler in [h for h in root.handlers if h not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


log = logs.logger("aico_crdt.test")


def test_ids_and_numbers_are_written(log_file: Path) -> None:
    logs.configure(2, log_file)
    log.debug(
        "applied %d entries of %s in %.1f ms from %s", 3, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1.25, Path("a b")
    )
    assert log_file.read_text().endswith(
        "Z DEBUG aico_crdt.test applied 3 entries of 01ARZ3NDEKTSV4RRFFQ69G5FAV in 1.2 ms from a b\n"
    )


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        (SECRET, "<30 characters>"),
        (SECRET.encode(), "<30 bytes>"),
        ({"text": SECRET}, "<dict>"),
        ([SECRET], "<list>"),
        (ValueError(SECRET), "<ValueError>"),
    ],
)
def test_content_passed_by_mistake_appears_as_its_size(
    argument: object, written: str, log_file: Path
) -> None:
    logs.configure(2, log_file)
    log.warning("got %s then %s", argument, 1)
    log.warning("got %(it)s", {"it": argument})
    text = log_file.read_text()
    assert SECRET not in text
    assert f"got {written} then 1\n" in text
    assert f"got {written}\n" in text


def test_a_message_that_is_no_text_is_reduced(log_file: Path) -> None:
    logs.configure(2, log_file)
    log.warning(ValueError(SECRET))
    assert log_file.read_text().endswith("<ValueError>\n")


def test_an_exception_is_written_without_its_text(log_file: Path) -> None:
    logs.configure(2, log_file)
    try:
        raise KeyError(SECRET)
    except KeyError:
        log.exception("failed at %d", 7)
    text = log_file.read_text()
    assert SECRET not in text
    assert "failed at 7" in text
    assert "test_logs.py" in text
    assert "<KeyError>" in text


def test_a_text_another_handler_left_on_the_record_is_not_taken_over(log_file: Path) -> None:
    logs.configure(2, log_file)
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        record = log.makeRecord(
            log.name, logging.ERROR, "f", 1, "failed", (), (KeyError, error, error.__traceback__)
        )
    logging.Formatter().format(record)
    assert SECRET in str(record.exc_text)
    log.handle(record)
    assert SECRET not in log_file.read_text()
    assert SECRET in str(record.exc_text)


def test_our_own_errors_keep_their_sentence(log_file: Path) -> None:
    logs.configure(2, log_file)
    log.warning("refused: %s", NotFound("No document x1.", "Look with inspect."))
    assert "refused: No document x1. Look with inspect." in log_file.read_text()


def test_the_log_file_is_its_owner_s_alone_even_if_it_was_not(log_file: Path) -> None:
    log_file.write_text("before\n")
    log_file.chmod(0o644)
    logs.configure(0, log_file)
    log.warning("after")
    assert stat.S_IMODE(log_file.stat().st_mode) == 0o600
    assert log_file.read_text().startswith("before\n")
    assert "after" in log_file.read_text()


def test_verbosity_chooses_what_is_written(log_file: Path) -> None:
    for verbosity, expected in [(-1, 1), (0, 1), (1, 2), (2, 3), (9, 3)]:
        log_file.unlink(missing_ok=True)
        logs.configure(verbosity, log_file)
        log.warning("w")
        log.info("i")
        log.debug("d")
        assert len(log_file.read_text().splitlines()) == expected


def test_configuring_again_replaces_the_handlers(log_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(0, log_file)
    logs.configure(0, log_file)
    log.warning("once")
    assert log_file.read_text().count("once") == 1
    assert capsys.readouterr().err.count("once") == 1


def test_a_log_file_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ReadOnly, match=r"cannot be written.*--log-file"):
        logs.configure(0, tmp_path / "absent" / "aico.log")
