from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Evidence, RunRecord
from pytest_aprqa.domain.mqs import score_run
from pytest_aprqa.reports.evidence_files import (
    DOCUMENT,
    JOURNAL,
    append_line,
    read_record,
    write_atomically,
    write_record,
)
from tests.reports.card_records import evidence, plan, record, sums

AWKWARD = 'a\x00b\x1b[31mred\udfff\ud800 \U0001f600\u2028\u202e\ufeff\r\n\x85\x7f"\\end'

SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
"""Two code units that JSON cannot tell from the one character they encode."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


def with_output(text: str) -> RunRecord:
    base = record(plan(sums(1)))
    told = base.evidence[0].model_copy(
        update={"output": text, "reason": text, "question": text, "rendered_prompt": text}
    )
    return base.model_copy(update={"evidence": (told,)})


def saved(folder: Path, **changes: Any) -> Path:
    """The file of a sound record, with keys of the document replaced; None removes one."""
    data = record(plan(sums(1))).model_dump(mode="json") | changes
    path = folder / "changed.json"
    text = json.dumps({key: value for key, value in data.items() if value is not ...})
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(AprqaError) as caught:
        read_record(path)
    return str(caught.value).removeprefix(f"{path}: ")


def journal(folder: Path) -> list[Any]:
    lines = (folder / JOURNAL).read_text(encoding="ascii").splitlines()
    return [json.loads(line) for line in lines]


# The document.


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    told = with_output(AWKWARD)
    assert read_record(write_record(tmp_path, told)) == told


@given(st.text(st.characters(codec=None, categories=None) | st.sampled_from(AWKWARD)))
def test_any_output_is_read_back_as_the_model_gave_it(folder: Path, text: str) -> None:
    assume(not SURROGATE_PAIR.search(text))
    told = with_output(text)
    assert read_record(write_record(folder, told)) == told


def test_a_record_read_back_scores_the_same(tmp_path: Path) -> None:
    told = record(plan(sums(3)))
    assert score_run(read_record(write_record(tmp_path, told))) == score_run(told)


def test_the_document_is_plain_ascii_json(tmp_path: Path) -> None:
    path = write_record(tmp_path, with_output(AWKWARD))
    data = json.loads(path.read_bytes().decode("ascii"))
    assert data["evidence"][0]["output"] == AWKWARD


def test_the_document_is_named_evidence_json_in_a_directory_that_is_made(tmp_path: Path) -> None:
    written = write_record(tmp_path / "run" / "q", record(plan(sums(1))))
    assert written == tmp_path / "run" / "q" / DOCUMENT
    assert written.name == "evidence.json"


# Whole or not at all.


def test_writing_leaves_no_draft(tmp_path: Path) -> None:
    write_record(tmp_path, record(plan(sums(1))))
    assert [path.name for path in tmp_path.iterdir()] == [DOCUMENT]


def test_writing_replaces_the_file_before(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", "old")
    write_atomically(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "new"


def test_what_cannot_be_encoded_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "f", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = write_atomically(tmp_path / "f", "old")

    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, full)
        with pytest.raises(OSError, match="No space left on device"):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# The journal.


def test_the_journal_grows_line_by_line(tmp_path: Path) -> None:
    append_line(tmp_path / "run", {"n": 1})
    append_line(tmp_path / "run", {"n": 2})
    assert journal(tmp_path / "run") == [{"n": 1}, {"n": 2}]


def test_the_journal_keeps_one_line_for_a_text_of_many(tmp_path: Path) -> None:
    append_line(tmp_path, {"output": AWKWARD})
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 1
    assert journal(tmp_path) == [{"output": AWKWARD}]


def test_evidence_is_read_back_from_the_journal(tmp_path: Path) -> None:
    (entry,) = plan(sums(1)).owed("q.playbook.yaml").scenarios
    told = evidence(entry, output=AWKWARD)
    append_line(tmp_path, told.model_dump(mode="json"))
    assert Evidence.model_validate(journal(tmp_path)[0]) == told


# What cannot be read.


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert refusal(path) == (
        f"no readable evidence: [Errno 2] No such file or directory: {str(path)!r}"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no readable evidence: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "no readable evidence: Expecting property name enclosed in double quotes"),
        (b"\xff", "no readable evidence: 'utf-8' codec can't decode byte 0xff in position 0"),
        (b"[" * 100_000, "no readable evidence: "),
        (b"[]", "evidence format unknown; this version reads 1.3"),
        (b"null", "evidence format unknown; this version reads 1.3"),
        (b"{}", "evidence format unknown; this version reads 1.3"),
    ],
)
def test_what_is_no_evidence_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(content)
    assert refusal(path).startswith(told)


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "x"])
def test_another_major_version_is_refused(tmp_path: Path, version: str) -> None:
    assert refusal(saved(tmp_path, schema_version=version)) == (
        f"evidence format {version}; this version reads 1.3: "
        "run the playbook again or use the version that wrote it"
    )


def test_a_later_minor_version_is_read(tmp_path: Path) -> None:
    assert read_record(saved(tmp_path, schema_version="1.7")).schema_version == "1.7"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"plan": ...}, "plan: Field required"),
        ({"tier": "hourly"}, "tier: Input should be 'smoke', 'mvp', 'quick', 'standard' or 'deep'"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"evidence": [{}]}, "evidence.0.id: Field required"),
    ],
)
def test_a_document_of_another_shape_is_refused_by_its_first_fault(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    assert refusal(saved(tmp_path, **changes)) == told
