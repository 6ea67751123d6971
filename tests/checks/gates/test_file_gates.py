"""Gates over files where one planted defect does not show all."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_aprqa.checks.gates.files.gguf_survey import surveys
from pytest_aprqa.checks.gates.files.planting_bytes import file_lab
from pytest_aprqa.checks.gates.proof import ProofBench
from pytest_aprqa.checks.gates.registry import checks
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.formats.gguf_field import string
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.tensor import tensors_of


def _ruling(gate: str, bench: ProofBench, directory: Path) -> Ruling:
    return examine(checks()[gate], bench.model_lab(directory)).ruling


def _with_template(bench: ProofBench, template: str) -> Path:
    directory = bench.copy()
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a' * 100000000 }}",
        "{{ '%1000000000s' % 'a' }}",
        "{{ '%1000000000s' | format('a') }}",
        "{{ '{:>1000000000}'.format('a') }}",
        "{{ 10 ** 1000000000 }}",
    ],
)
def test_a_template_that_grows_is_stopped_before_it_does(bench: ProofBench, template: str) -> None:
    directory = _with_template(bench, template)

    assert _ruling("F-SEC-TEMPLATE-003", bench, directory) is Ruling.FALSIFIED


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content.strip() }}{{ loop.index0 % 2 }}{% endfor %}",
        "{{ 'date: 1234567890'.upper() }}{{ messages | tojson(indent=2) }}",
        "{% for i in range(messages | length) %}{{ '%s' % messages[i].role }}{% endfor %}",
        "{% generation %}{{ messages[-1]['content'] }}{% endgeneration %}",
    ],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_published_templates_do_is_allowed(
    bench: ProofBench, template: str, number: int
) -> None:
    directory = _with_template(bench, template)

    ruling = _ruling(f"F-SEC-TEMPLATE-00{number}", bench, directory)

    assert ruling is Ruling.CORROBORATED


def test_a_template_that_refuses_every_chat_is_not_passed(bench: ProofBench) -> None:
    directory = _with_template(bench, "{{ raise_exception('no chats') }}")

    assert _ruling("F-SEC-TEMPLATE-003", bench, directory) is Ruling.INCONCLUSIVE


@pytest.mark.parametrize("way", ["attr", "subscript"])
def test_hidden_attributes_are_found_however_they_are_named(bench: ProofBench, way: str) -> None:
    reach = {"attr": "{{ '' | attr('__class__') }}", "subscript": "{{ ''['__class__'] }}"}[way]
    directory = _with_template(bench, reach)

    assert _ruling("F-SEC-TEMPLATE-001", bench, directory) is Ruling.FALSIFIED


def _bomb(directory: Path) -> None:
    with zipfile.ZipFile(directory / "assets.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))


def _tar_that_escapes(directory: Path) -> None:
    with tarfile.open(directory / "assets.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("/etc/outside"))


def _packed_tar_that_escapes(directory: Path) -> None:
    with tarfile.open(directory / "assets.tar.xz", "w:xz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))


def _backslashes(directory: Path) -> None:
    with zipfile.ZipFile(directory / "assets.zip", "w") as archive:
        archive.writestr("..\\..\\outside", "harm")


def _damaged(directory: Path) -> None:
    _tame(directory)
    path = directory / "assets.zip"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\x01\x02", b"XX\x01\x02"))


def _tame(directory: Path) -> None:
    with zipfile.ZipFile(directory / "assets.zip", "w") as archive:
        archive.writestr("notes/readme.txt", "harmless")


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (_bomb, Ruling.FALSIFIED),
        (_tar_that_escapes, Ruling.FALSIFIED),
        (_packed_tar_that_escapes, Ruling.FALSIFIED),
        (_backslashes, Ruling.FALSIFIED),
        (_damaged, Ruling.INCONCLUSIVE),
        (_tame, Ruling.CORROBORATED),
    ],
)
def test_archives(bench: ProofBench, plant: Callable[[Path], None], expected: Ruling) -> None:
    directory = bench.copy()
    plant(directory)

    assert _ruling("F-SEC-ARCHIVE-001", bench, directory) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0", Ruling.FALSIFIED),
        (b"MZ are two letters of many words", Ruling.CORROBORATED),
    ],
)
def test_windows_programs(bench: ProofBench, content: bytes, expected: Ruling) -> None:
    directory = bench.copy()
    (directory / "notes.dat").write_bytes(content)

    assert _ruling("F-SEC-EXEC-001", bench, directory) is expected


def test_a_hub_cache_may_link_to_its_blobs(bench: ProofBench) -> None:
    repository = bench.place("models--someone--model")
    directory = repository / "snapshots" / "0123abc"
    directory.mkdir(parents=True)
    (repository / "blobs").mkdir()
    blob = repository / "blobs" / "0f0f"
    blob.write_text("{}", encoding="utf-8")
    (directory / "config.json").symlink_to(Path("../../blobs/0f0f"))

    assert _ruling("F-SEC-LINK-001", bench, directory) is Ruling.CORROBORATED


def test_all_parts_of_a_split_file_are_looked_at(bench: ProofBench) -> None:
    source = GgufFile.open(bench.converted(Format.GGUF))
    tensors = tensors_of(source)
    first = bench.place("model-00001-of-00002.gguf")
    second = first.with_name("model-00002-of-00002.gguf")
    write_gguf(first, fields=source.fields, tensors=tensors[:20])
    write_gguf(second, fields={"general.architecture": string("qwen2")}, tensors=tensors[20:])
    second.write_bytes(second.read_bytes()[:-500])
    lab = file_lab(bench, Format.GGUF, first)

    finding = examine(checks()["F-GGUF-OFFSET-001"], lab)

    assert [len(each.claims) for each in lab.once(surveys)] == [20, len(tensors) - 20]
    assert finding.ruling is Ruling.FALSIFIED
    assert finding.culprit == tensors[-1].name
