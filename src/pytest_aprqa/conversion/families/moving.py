"""Carrying out a link: units of bytes gathered from one side's tensors into the other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.links import Link, Part, units_of
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.encodings import (
    FLOATS,
    decode,
    decoded_chunks,
    encode,
    encoding_of,
    nbytes_of,
)
from pytest_aprqa.formats.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np


def forward(link: Link, sources: Sequence[Tensor]) -> list[Tensor]:
    """Hugging Face's tensors of a link as the other format's."""
    if link.wide:
        sources = [tensor.as_encoding("F32") for tensor in sources]
    made = []
    for part, tensor in zip(
        link.targets, _moved(link, sources, link.targets, link.order), strict=True
    ):
        if part.transposed:
            tensor = _transposed(tensor, part.shape)
        if link.plus_one:
            tensor = tensor.derived(part.shape, lambda values: values + 1)
        made.append(tensor)
    return made


def backward(link: Link, targets: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `forward`, but for the encoding of what it widened."""
    import numpy as np

    inputs = []
    for part, tensor in zip(link.targets, targets, strict=True):
        if part.transposed:
            tensor = _transposed(tensor, part.straight)
        if link.plus_one:
            tensor = tensor.derived(part.shape, lambda values: values - 1)
        inputs.append(tensor)
    order = None if link.order is None else np.argsort(link.order)
    return _moved(link, inputs, link.sources, order)


def returned(
    link: Link,
    targets: Sequence[Tensor],
    source_dtypes: Mapping[str, str],
    decode_to: str | None,
) -> list[Tensor]:
    """Hugging Face's tensors of a link, each back in its own encoding where that is exact.

    What is quantized is decoded to `decode_to`; with None it stays where its blocks stay whole, and
    becomes F32 where they do not (transposed, say). It is decoded as late as possible, so that one
    expert is read out of a stack without the others.
    """
    if all(tensor.encoding in FLOATS for tensor in targets):
        made = backward(link, targets)
        return [
            restored(each, source_dtypes.get(each.name, each.encoding), rounded=link.plus_one)
            for each in made
        ]
    if not _moves_as_it_is(link, targets):
        targets = [tensor.as_encoding(decode_to or "F32") for tensor in targets]
    made = backward(link, targets)
    return made if decode_to is None else [tensor.as_encoding(decode_to) for tensor in made]


def _moves_as_it_is(link: Link, targets: Sequence[Tensor]) -> bool:
    encoding = encoding_of(targets[0].encoding)
    if len(link.sources) == len(targets) == 1 and link.order is None:
        return not link.targets[0].transposed
    return (
        len({tensor.encoding for tensor in targets}) == 1
        and not any(part.transposed for part in link.targets)
        and encoding.by_row
        and link.unit % encoding.block == 0
    )


def restored(tensor: Tensor, encoding: str, *, rounded: bool = False) -> Tensor:
    """A float tensor back in the encoding it was widened from; every value is checked.

    A quantized tensor stays as it is: what it lost does not come back. A `rounded` one was kept as
    1 + weight, so its values may be off by what float32 loses of that sum.
    """
    if tensor.encoding == encoding or tensor.encoding not in FLOATS or encoding not in FLOATS:
        return tensor

    def read() -> np.ndarray[Any, Any]:
        import numpy as np

        made = np.empty(nbytes_of(encoding, tensor.shape), np.uint8)
        size, begin = encoding_of(encoding).nbytes, 0
        for values in decoded_chunks(tensor.encoding, tensor.read(), tensor.shape):
            narrow = encode(encoding, values)
            back = decode(encoding, narrow, values.shape)
            same = values.view(np.uint32) == back.view(np.uint32)
            if rounded:
                with np.errstate(invalid="ignore"):  # infinities are the same, or they differ
                    same |= np.abs(values - back) < 2.0**-23 * np.maximum(1, np.abs(values + 1))
            if not same.all():
                raise ConversionError(
                    f"tensor {tensor.name}: its values no longer fit in {encoding}, which the "
                    f"original had; the file was changed: keep it in {tensor.encoding}"
                )
            made[begin : begin + values.size * size] = narrow
            begin += values.size * size
        return made

    return replace(tensor, encoding=encoding, read=read)


def _moved(
    link: Link,
    inputs: Sequence[Tensor],
    outputs: Sequence[Part],
    order: np.ndarray[Any, Any] | None,
) -> list[Tensor]:
    """Tensors of the outputs' straight shapes, units taken from the inputs."""
    if order is None and len(inputs) == len(outputs) == 1:
        return [replace(inputs[0], name=outputs[0].name, shape=outputs[0].straight)]
    inputs = _alike(inputs)
    _check_unit(inputs[0], link.unit)

    def done() -> None:
        for tensor in inputs:
            tensor.done()

    made, begin = [], 0
    for part in outputs:
        end = begin + units_of(part, link.unit)
        read = _gathering(inputs, link.unit, order, begin, end)
        made.append(Tensor(part.name, inputs[0].encoding, part.straight, read, done))
        begin = end
    return made


def _gathering(
    inputs: Sequence[Tensor],
    unit: int,
    order: np.ndarray[Any, Any] | None,
    begin: int,
    end: int,
) -> Any:
    """A function that reads units begin to end of the ordered list, as flat bytes."""

    def read() -> np.ndarray[Any, Any]:
        import numpy as np

        size = nbytes_of(inputs[0].encoding, (unit,))
        made = np.empty((end - begin, size), np.uint8)
        wanted = None if order is None else order[begin:end]
        first = 0
        for tensor in inputs:
            last = first + tensor.nbytes // size
            if wanted is None:
                low, high = max(begin, first), min(end, last)
                if low < high:
                    lines = tensor.read().reshape(-1, size)
                    made[low - begin : high - begin] = lines[low - first : high - first]
                    tensor.done()
            else:
                mine = (wanted >= first) & (wanted < last)
                if mine.any():
                    made[mine] = tensor.read().reshape(-1, size)[wanted[mine] - first]
            first = last
        return made.reshape(-1)

    return read


def _alike(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tensors in one encoding: plain ones of different width are widened to F32."""
    kinds = {tensor.encoding for tensor in tensors}
    if len(kinds) == 1:
        return tensors
    if kinds <= set(FLOATS):
        return [tensor.as_encoding("F32") for tensor in tensors]
    raise ConversionError(
        f"tensors {tensors[0].name} to {tensors[-1].name} become one, but are encoded as "
        f"{' and '.join(sorted(kinds))}; expected one encoding: decode them first"
    )


def _check_unit(tensor: Tensor, unit: int) -> None:
    encoding = encoding_of(tensor.encoding)
    if not encoding.by_row or unit % encoding.block:
        raise ConversionError(
            f"tensor {tensor.name}: its rows are moved in pieces of {unit} values, which "
            f"{tensor.encoding} (blocks of {encoding.block}) does not keep apart; decode it first"
        )


def _transposed(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor with its last two dimensions exchanged, in its own (plain) encoding."""
    encoding = encoding_of(tensor.encoding)
    if not encoding.plain:
        raise ConversionError(
            f"tensor {tensor.name}: it is {tensor.encoding} and must be transposed, which "
            f"only plain values can be; decode it first"
        )

    def read() -> np.ndarray[Any, Any]:
        import numpy as np

        values = tensor.read().view(str(encoding.view)).reshape(tensor.shape)
        return np.ascontiguousarray(values.swapaxes(-1, -2)).reshape(-1).view(np.uint8)

    return replace(tensor, shape=shape, read=read)
