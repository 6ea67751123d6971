"""Gates over config.json, the index and the headers of the ground truth."""

from __future__ import annotations

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.structure import INDEX, Structure, skeleton, structure
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.checks.integrity_config import dtype_findings, expectation_findings
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.formats.checkpoint import read_json_object

INTEGRITY: Family[ModelLab] = Family(
    domain="integrity", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.FILE
)
NAMES: Family[ModelLab] = Family(
    domain="integrity", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.TENSOR
)
_P0 = Severity.P0


@INTEGRITY.gate(
    "G0-INTEGRITY-CONFIG",
    "config.json is an object that names a known kind of model.",
    severity=_P0,
)
def config_is_read(lab: ModelLab) -> Finding:
    """An unknown model_type needs code of the publisher's, which is never run."""
    found = lab.once(structure)
    if found.unread:
        return refuted(found.unread, culprit="config.json")
    kind = found.config.get("model_type")
    from transformers import CONFIG_MAPPING

    if kind in CONFIG_MAPPING:
        return held(f"config.json says model_type {kind}")
    return refuted(
        f"config.json says model_type {kind!r:.60}; expected one that transformers knows",
        culprit="config.json",
    )


@INTEGRITY.gate("G0-VALIDATE-001", "Every shard is whole, and its header fits it.", severity=_P0)
def shards_are_whole(lab: ModelLab) -> Finding:
    """Offsets within the file, no overlaps, no gap at the end, sizes as the shapes say."""
    found = lab.once(structure)
    broken = [line for line in found.problems if INDEX not in line]
    if broken:
        first = broken[0]
        named = [p.name for p in found.directory.glob("*.safetensors") if p.name in first]
        return refuted(first, culprit=named[0] if named else found.directory.name)
    if not found.tensors:
        return refuted("the shards hold no tensor", culprit=found.directory.name)
    return held(f"{len(found.tensors)} tensors described, all within their files")


@INTEGRITY.gate(
    "F-INDEX-STALE-001", "The index and the shards agree on every tensor.", severity=_P0
)
def index_agrees(lab: ModelLab) -> Finding:
    """Neither names a tensor or shard that the other does not have."""
    found = lab.once(structure)
    stale = [line for line in found.problems if INDEX in line]
    if stale:
        return refuted(stale[0], culprit=INDEX)
    if not (found.directory / INDEX).is_file():
        return without_meaning("there is no index")
    return held(f"the index names {len(found.tensors)} tensors where they are")


@INTEGRITY.gate("F-INDEX-SIZE-001", "The index's total_size is the bytes of its tensors.")
def index_size(lab: ModelLab) -> Finding:
    """Loaders plan their memory by it; shared tensors count once."""
    found = lab.once(structure)
    path = found.directory / INDEX
    if not path.is_file():
        return without_meaning("there is no index")
    said = read_json_object(path).get("metadata", {}).get("total_size")
    if said is None:
        return without_meaning("the index states no total_size")
    total = sum(info.nbytes for info in found.tensors.values())
    if said != total:
        return refuted(f"{INDEX} says total_size {said}, its tensors have {total}", culprit=INDEX)
    return held(f"total_size {said}")


@INTEGRITY.gate(
    "G0-INTEGRITY-LAYERS", "config.json's number of layers is the weights'.", severity=_P0
)
def layers_agree(lab: ModelLab) -> Finding:
    """Layer numbers in the tensors' names, from 0 on."""
    found = lab.once(structure)
    said = found.said("num_hidden_layers")
    if said is None or not found.layers:
        return without_meaning("config.json or the tensors' names number no layers")
    if found.layers[-1] + 1 != said:
        return refuted(
            f"{found.numbers.said('num_hidden_layers')}, the weights hold layers 0 to "
            f"{found.layers[-1]}",
            culprit="config.json",
        )
    return held(f"{said} layers")


@INTEGRITY.gate("F-LAYERS-GAP-001", "No layer is missing between others.", severity=_P0)
def no_gap(lab: ModelLab) -> Finding:
    """Layer numbers run without holes."""
    layers = lab.once(structure).layers
    if not layers:
        return without_meaning("the tensors' names number no layers")
    missing = sorted(set(range(layers[-1] + 1)) - set(layers))
    if missing:
        return refuted(
            f"the weights hold layers {list(layers)}; layer {missing[0]} is missing",
            culprit=f"layer {missing[0]}",
        )
    return held(f"layers 0 to {layers[-1]}")


def _size(found: Structure, meaning: str, there: int | None, what: str) -> Finding:
    said = found.said(meaning)
    if said is None or there is None:
        return without_meaning(f"nothing to compare: config.json has no {meaning}, or no {what}")
    if said != there:
        return refuted(
            f"{found.numbers.said(meaning)}, but {what} is {there}", culprit="config.json"
        )
    return held(f"{meaning} {said} is {what}")


@INTEGRITY.gate(
    "G0-INTEGRITY-HIDDEN", "config.json's hidden size is the embedding's width.", severity=_P0
)
def hidden_agrees(lab: ModelLab) -> Finding:
    """Models whose embedding is narrower by design say so and are not judged."""
    found = lab.once(structure)
    narrow = any(key in found.config for key in ("embedding_size", "word_embed_proj_dim"))
    info = None if narrow else found.embedding()
    there = None if info is None else info.shape[1]
    return _size(found, "hidden_size", there, "the width of the embedding")


@INTEGRITY.gate(
    "G0-INTEGRITY-VOCAB", "config.json's vocabulary size is the embedding's rows.", severity=_P0
)
def vocabulary_agrees(lab: ModelLab) -> Finding:
    """Padded rows count: config.json must say how many there are."""
    found = lab.once(structure)
    info = found.embedding()
    there = None if info is None else info.shape[0]
    return _size(found, "vocab_size", there, "the number of the embedding's rows")


def _rows(found: Structure, meaning: str, unit: int | None, *roles: str) -> Finding:
    """The rows of most matrices of these roles are `unit` times what config.json says."""
    said, rows = found.said(meaning), found.rows(*roles)
    if said is None or not rows or unit is None or found.quantized:
        return without_meaning(f"config.json has no {meaning}, or the weights no {'/'.join(roles)}")
    if said * unit not in rows:
        most = rows.most_common(1)[0][0]
        return refuted(
            f"{found.numbers.said(meaning)}: {said * unit} rows of {'/'.join(roles)}, the weights "
            f"have {most}",
            culprit="config.json",
        )
    return held(f"{meaning} {said} is what {'/'.join(roles)} have")


@INTEGRITY.gate(
    "F-CONFIG-FFN-001", "config.json's feed-forward size is the weights'.", severity=_P0
)
def feed_forward_agrees(lab: ModelLab) -> Finding:
    """By the rows of up and gate projections; mixtures whose experts differ are told apart."""
    found = lab.once(structure)
    if any("expert" in name for name in found.tensors):
        return without_meaning("a mixture of experts has several feed-forward sizes")
    return _rows(found, "intermediate_size", 1, "up_proj", "gate_proj")


@INTEGRITY.gate(
    "F-CONFIG-HEADS-001", "config.json's attention heads are the query projection's.", severity=_P0
)
def heads_agree(lab: ModelLab) -> Finding:
    """Heads times head size are its rows."""
    found = lab.once(structure)
    return _rows(found, "num_attention_heads", found.head_dim, "q_proj")


@INTEGRITY.gate(
    "F-CONFIG-KVHEADS-001",
    "config.json's key and value heads are their projections'.",
    severity=_P0,
)
def kv_heads_agree(lab: ModelLab) -> Finding:
    """Key and value heads times head size are their rows."""
    found = lab.once(structure)
    return _rows(found, "num_key_value_heads", found.head_dim, "k_proj", "v_proj")


@INTEGRITY.gate("F-CONFIG-LAYERTYPES-001", "config.json gives every layer one kind.")
def layer_types_count(lab: ModelLab) -> Finding:
    """Where it lists layer_types, there is one entry for each layer."""
    found = lab.once(structure)
    kinds = found.config.get("layer_types")
    if not isinstance(kinds, list):
        return without_meaning("config.json lists no layer_types")
    said = found.said("num_hidden_layers")
    if len(kinds) != said:
        return refuted(
            f"config.json lists {len(kinds)} layer_types for {said} layers", culprit="config.json"
        )
    return held(f"{len(kinds)} layer types")


@INTEGRITY.gate("F-CONFIG-DTYPE-001", "Most weights are stored in the type that config.json names.")
def dtype_agrees(lab: ModelLab) -> Finding:
    """Norms and routers may be wider."""
    found = lab.once(structure)
    if found.quantized:
        return without_meaning("the weights are quantized (quantization_config)")
    wrong, notes = dtype_findings(found.config, found.tensors)
    if wrong:
        return refuted(wrong[0].message, culprit="config.json")
    return without_meaning(notes[0]) if notes else held("the weights are of the type it names")


@INTEGRITY.gate(
    "F-CONFIG-EXPECT-001", "config.json gives the sizes that the playbook expects.", severity=_P0
)
def as_expected(lab: ModelLab) -> Finding:
    """By the playbook's `expected_…` keys."""
    found = lab.once(structure)
    wrong, notes = expectation_findings(found.config, lab.expectations)
    if wrong:
        return refuted(wrong[0].message, culprit="config.json")
    stated = [name for name in _EXPECTED if getattr(lab.expectations, name) is not None]
    if len(stated) == len(notes):
        return without_meaning("the playbook expects no size that config.json gives")
    return held(f"{len(stated) - len(notes)} sizes as expected")


_EXPECTED = (
    "hidden_dim", "num_layers", "num_heads", "num_kv_heads", "vocab_size", "intermediate_dim",
)  # fmt: skip


@INTEGRITY.gate(
    "F-CONFIG-GENERATION-001", "generation_config.json is an object, where there is one."
)
def generation_config_is_read(lab: ModelLab) -> Finding:
    """It holds the end tokens that generation stops at."""
    path = lab.directory / "generation_config.json"
    if not path.is_file():
        return without_meaning("there is no generation_config.json")
    keys = read_json_object(path)
    return held(f"generation_config.json has {len(keys)} keys")


@INTEGRITY.gate(
    "F-CONFIG-IDS-001", "Every special id of the configs has a row in the embedding.", severity=_P0
)
def ids_in_range(lab: ModelLab) -> Finding:
    """Start, end and padding ids of config.json; -1 is how some say that there is no padding."""
    found = lab.once(structure)
    info = found.embedding()
    rows = info.shape[0] if info is not None else found.said("vocab_size")
    if rows is None:
        return without_meaning("neither the weights nor config.json give a vocabulary size")
    seen = 0
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = found.config.get(key)
        for number in value if isinstance(value, list) else [value]:
            if number is None or (key == "pad_token_id" and number == -1):
                continue
            seen += 1
            if type(number) is not int or not 0 <= number < rows:
                return refuted(
                    f"config.json: {key} is {number!r:.40}; expected an id below {rows}",
                    culprit="config.json",
                )
    return held(f"{seen} special ids below {rows}") if seen else without_meaning("no special ids")


@NAMES.gate("F-CONFIG-VALID-001", "config.json makes a configuration of its kind.", severity=_P0)
def config_is_valid(lab: ModelLab) -> Finding:
    """Transformers' own class for the model_type takes it."""
    found = lab.once(skeleton)
    if found.invalid:
        return refuted(found.refused, culprit="config.json")
    if found.differences is None:
        return without_meaning(found.refused)
    return held(f"config.json describes a {found.differences.model_class}")


@NAMES.gate("G0-TENSOR-001", "Every tensor that the model is made of is there.", severity=_P0)
def none_missing(lab: ModelLab) -> Finding:
    """By the class that config.json names, without its weights."""
    found = lab.once(skeleton)
    if found.differences is None:
        return without_meaning(found.refused)
    missing = found.differences.missing
    if missing:
        more = f" ({len(missing) - 1} more)" if len(missing) > 1 else ""
        return refuted(
            f"tensor {missing[0]} of {found.differences.model_class} is missing{more}",
            culprit=missing[0],
        )
    return held(f"every tensor of {found.differences.model_class} is there")


@NAMES.gate("F-TENSOR-SURPLUS-001", "No tensor is there that the model has no place for.")
def none_surplus(lab: ModelLab) -> Finding:
    """It would be dropped without a word when the model is loaded."""
    found = lab.once(skeleton)
    if found.differences is None:
        return without_meaning(found.refused)
    surplus = found.differences.unexpected
    if surplus:
        return refuted(
            f"tensor {surplus[0]} is no part of {found.differences.model_class}",
            culprit=surplus[0],
        )
    tensors = lab.checkpoint.tensors
    return (
        held(f"{len(tensors)} tensors, each has its place") if tensors else undecided("no tensor")
    )


@NAMES.gate("F-TENSOR-LOADABLE-001", "The tensors make the model without trouble.", severity=_P0)
def no_trouble(lab: ModelLab) -> Finding:
    """Experts that cannot be stacked, sizes that the class refuses."""
    found = lab.once(skeleton)
    if found.differences is None:
        return without_meaning(found.refused)
    if found.differences.trouble:
        return refuted(found.differences.trouble[0], culprit="config.json")
    return held(f"{found.differences.model_class} is made without trouble")


@NAMES.gate(
    "F-TENSOR-TIE-001", "Tensors that config.json ties are equal, if both are stored.", severity=_P0
)
def ties_hold(lab: ModelLab) -> Finding:
    """An untied head in a model that is said to be tied would be replaced by the embedding."""
    found = lab.once(skeleton)
    if found.differences is None:
        return without_meaning(found.refused)
    checkpoint, judged = lab.checkpoint, 0
    for target, source in found.differences.tied:
        one, other = checkpoint.tensors.get(target), checkpoint.tensors.get(source)
        if one is None or other is None or one.shape != other.shape:
            continue
        judged += 1
        if bytes(checkpoint.bytes_of(target)) != bytes(checkpoint.bytes_of(source)):
            return refuted(
                f"{target} differs from {source}, which config.json ties it to", culprit=target
            )
    if not found.differences.tied:
        return without_meaning("config.json ties no tensors")
    if not judged:
        return without_meaning("no tied tensor is stored twice")
    return held(f"{judged} tied tensors are stored twice and equal")


FAMILIES = (INTEGRITY, NAMES)
