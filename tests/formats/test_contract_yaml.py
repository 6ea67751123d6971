from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.domain.contract import Bounds
from pytest_aprqa.formats.contract_yaml import ContractError, read_contract

GOOD = """\
contract: rules
tensors:
  - names: "*.weight"
    count: 2 * num_hidden_layers
    shape: [hidden_size, 4]
    std: {least: 0.1}
metadata:
  equal: {tie_word_embeddings: true, rope_theta: 10000.0}
files:
  - name: tokenizer.json
"""


def refused(tmp_path: Path, text: str | bytes) -> list[str]:
    path = tmp_path / "rules.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ContractError) as caught:
        read_contract(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_a_contract_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)

    contract = read_contract(path)

    claim = contract.tensors[0]
    assert (claim.count, claim.shape) == ("2 * num_hidden_layers", ("hidden_size", 4))
    assert claim.bounds == {"std": Bounds(least=0.1)}
    assert contract.metadata.equal == {"tie_word_embeddings": True, "rope_theta": 10000.0}
    assert contract.files[0].present


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("names:", "name:", 3, "tensors[0].names: Field required"),
        ("std:", "stdev:", 6, "tensors[0].stdev: Extra inputs are not permitted"),
        ("least: 0.1", "least: high", 6, "tensors[0].std.least: Input should be a valid number"),
        ("2 * num_hidden_layers", "2 ** 9", 4, "tensors[0].count: '2 ** 9': only whole numbers"),
        ("tokenizer.json", "../secret", 10, "files[0].name: String should match pattern"),
        ("contract: rules", "rules: 1", 1, "contract: Field required"),
    ],
)
def test_each_mistake_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, told: str
) -> None:
    problems = refused(tmp_path, GOOD.replace(old, new))

    assert any(problem.startswith(f"{line}: {told}") for problem in problems), problems


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    problems = refused(tmp_path, GOOD.replace("std:", "stdev:").replace("files:", "file:"))

    assert [problem.partition(":")[0] for problem in problems] == ["6", "9"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("contract: empty\n", "1: a contract without claims"),
        ("a: [\n", "2: not valid YAML"),
        (b"contract: \xff\n", "1: byte 0xff is not UTF-8"),
        ("contract: a\ncontract: b\nfiles: [{name: x}]\n", "2: key given twice, first on line 1"),
    ],
)
def test_what_is_no_contract_is_refused(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert refused(tmp_path, text)[0].startswith(told)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"none\.yaml: cannot be read: No such file"):
        read_contract(tmp_path / "none.yaml")
