"""Both ends of a traced pass against the file: the embedding's rows, and the head's product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import SECTION, TRACED, looked_into
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.tensor_chunks import RowReader
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.tolerance import SAME_DIRECTION
from pytest_aprqa.domain.trace import Role, TraceLevel

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.engines.tracing import TracedPass
    from pytest_aprqa.formats.tensor import Tensor

ENDS: Family[TargetLab] = Family(
    domain="trace-ends",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.TENSOR,
    section=SECTION,
    formats=TRACED,
)
_ROWS = 8192
"""Rows of a matrix that are decoded at once."""


@ENDS.gate("F-TRACE-EMBED-001", "The embedding gives each token's row of the file's matrix.")
@looked_into(TraceLevel.PAYLOAD)
def embeds_the_rows(lab: TargetLab, found: TracedPass) -> Finding:
    """The cosine of each token's vector with its row; families may scale them."""
    import numpy as np

    module = found.trace.of_role(Role.EMBEDDING)
    tensor = _tensor(lab, module[0].name) if module else None
    if tensor is None:
        return without_meaning("the file has no embedding by the name of the module")
    ids = found.trace.token_ids
    seen = found.arrays["embedding"].astype(np.float64)
    if tensor.shape[-1] != seen.shape[-1]:
        return without_meaning("the file's embedding has another width")
    reader = RowReader(tensor.encoding, tensor.read(), tensor.shape)
    rows = np.concatenate([reader.rows(i, i + 1) for i in ids]).astype(np.float64)
    tensor.done()
    if not rows.any():
        return undecided("the rows of the prompt's tokens are all zero")
    cosines = _cosines(rows, seen)
    worst = int(cosines.argmin())
    if not cosines[worst] >= SAME_DIRECTION:
        return refuted(
            f"token {ids[worst]} is embedded with a cosine of {cosines[worst]:.4f} to "
            f"its row of {tensor.name}; expected at least {SAME_DIRECTION}",
            culprit=tensor.name,
        )
    return held(f"{len(ids)} tokens are embedded as their rows of {tensor.name}")


@ENDS.gate(
    "F-TRACE-LOGITS-001", "The logits are the file's head applied to the last norm's output."
)
@looked_into(TraceLevel.PAYLOAD)
def logits_are_the_heads(lab: TargetLab, found: TracedPass) -> Finding:
    """The cosine of the last token's logits with the product, a soft cap undone."""
    import numpy as np

    tensor = _head(lab, found)
    if tensor is None or "final" not in found.arrays:
        return without_meaning("the file has no head, or the model no last norm, by a known name")
    final, logits = (found.arrays[name][-1].astype(np.float64) for name in ("final", "logits"))
    if tensor.shape[-1] != len(final):
        return without_meaning("the last state is projected before the head")
    reader = RowReader(tensor.encoding, tensor.read(), tensor.shape)
    count = tensor.shape[0]
    parts = [reader.rows(i, min(i + _ROWS, count)) @ final for i in range(0, count, _ROWS)]
    tensor.done()
    product = np.concatenate(parts)[: len(logits)]
    bias = _tensor(lab, tensor.name.removesuffix(".weight"), "bias")
    if bias is not None:
        product = product + bias.values()[: len(product)]
    config = lab.model.config
    cap = (config.get("text_config") or config).get("final_logit_softcapping")
    if cap:
        logits = cap * np.arctanh(np.clip(logits / cap, -1 + 1e-7, 1 - 1e-7))
    cosine = float(_cosines(product[None], logits[None, : len(product)])[0])
    if not cosine >= SAME_DIRECTION:
        return refuted(
            f"the logits have a cosine of {cosine:.4f} to {tensor.name} times the output of the "
            f"last norm; expected at least {SAME_DIRECTION}",
            culprit=tensor.name,
            measured={"cosine": cosine},
        )
    return held(f"cosine {cosine:.6f} to {tensor.name} times the output of the last norm")


def _head(lab: TargetLab, found: TracedPass) -> Tensor | None:
    """The head's matrix; a model without one of its own uses the embedding's."""
    for role in (Role.HEAD, Role.EMBEDDING):
        for module in found.trace.of_role(role):
            if (tensor := _tensor(lab, module.name)) is not None:
                return tensor
    return None


def _tensor(lab: TargetLab, module: str, kind: str = "weight") -> Tensor | None:
    """A module's tensor; some checkpoints leave the first part of a module's name out."""
    wanted = f"{module}.{kind}"
    named = {tensor.name: tensor for tensor in lab.portable.tensors}
    shorter = wanted.partition(".")[2]
    return named.get(wanted) or (named.get(shorter) if "." in shorter else None)


def _cosines(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    found: np.ndarray[Any, Any] = (a * b).sum(axis=-1) / np.maximum(lengths, 1e-30)
    return found


FAMILIES = (ENDS,)
ALIASES = {"F-CHECK-002": "F-TRACE-EMBED-001"}
