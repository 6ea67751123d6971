"""Operators over the bytes of GGUF and APR files themselves."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.gguf_header import GgufHeader, read_header
from pytest_aprqa.mutation.operator import (
    Damage,
    NotApplicable,
    Operator,
    Site,
    Subject,
    graded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GGUF, APR, BOTH = (Subject.GGUF,), (Subject.APR,), (Subject.GGUF, Subject.APR)


def _truncate(site: Site) -> Damage:
    data = site.path.read_bytes()
    site.path.write_bytes(
        data[: int(len(data) * site.size)] if site.size < 1 else data[: -int(site.size)]
    )
    return Damage(f"{site.path.name} cut off", (site.path.name,))


def _magic(site: Site) -> Damage:
    data = bytearray(site.path.read_bytes())
    data[:4] = b"XXXX"
    site.path.write_bytes(data)
    return Damage(f"{site.path.name}: no magic", (site.path.name,))


def _version(site: Site) -> Damage:
    data = bytearray(site.path.read_bytes())
    data[4] = 99
    site.path.write_bytes(data)
    return Damage(f"{site.path.name}: version 99", (site.path.name,))


def _place_of(site: Site) -> tuple[str, int, int, str]:
    """Name, first byte, bytes and encoding of a feed-forward matrix in the middle of the file."""
    if site.path.suffix == ".gguf":
        entries = [e for e in _gguf(site)[1].entries if "ffn_up" in e.name]
        if not entries:
            raise NotApplicable("the file has no ffn_up tensor")
        entry = entries[len(entries) // 2]
        return entry.name, entry.offset, entry.nbytes, entry.encoding
    from pytest_aprqa.formats.apr_file import AprFile

    file = AprFile.open(site.path)
    names = [n for n in file.tensors if "up_proj" in n]
    if not names:
        raise NotApplicable("the file has no up projection")
    name = names[len(names) // 2]
    data, whole = bytes(file.bytes_of(name)), site.path.read_bytes()
    return name, whole.index(data), len(data), file.tensors[name].dtype


def _gguf(site: Site) -> tuple[bytes, GgufHeader]:
    data = site.path.read_bytes()
    return data, read_header(site.path, data)


def _noise(site: Site) -> Damage:
    """Random bytes over a share of one tensor."""
    name, start, size, _ = _place_of(site)
    count = max(1, int(size * site.size))
    data = bytearray(site.path.read_bytes())
    place = start + (size - count) // 2
    data[place : place + count] = site.random().bytes(count)
    site.path.write_bytes(data)
    return Damage(f"{site.path.name}: {count} random bytes in {name}", (name, *_plain(name)))


def _block_scale(site: Site) -> Damage:
    """The half-float scale of some blocks of q8_0, which each begin with it."""
    name, start, size, encoding = _place_of(site)
    if encoding != "Q8_0":
        raise NotApplicable(f"{name} is in {encoding}, whose blocks do not begin with a scale")
    factor, share = site.size
    data = bytearray(site.path.read_bytes())
    count = max(1, int(size // 34 * share))
    for block in range(count):
        at = start + 34 * block
        (scale,) = struct.unpack_from("<e", data, at)
        struct.pack_into("<e", data, at, max(-65000.0, min(65000.0, scale * factor)))
    site.path.write_bytes(data)
    return Damage(
        f"{site.path.name}: scales of {count} blocks of {name} times {factor}",
        (name, *_plain(name)),
    )


def _plain(name: str) -> tuple[str, ...]:
    """How Hugging Face calls a GGUF tensor."""
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) > 2 and parts[2] == "ffn_up":
        return (f"model.layers.{parts[1]}.mlp.up_proj.weight",)
    return ()


def _in_header(
    find: Callable[[bytes, Any], tuple[int, bytes]], told: str
) -> Callable[[Site], Damage]:
    """Some bytes of the header replaced: `find` gives where, and what they become."""

    def apply(site: Site) -> Damage:
        data, header = _gguf(site)
        place, replacement = find(data, (header, site))
        changed = bytearray(data)
        changed[place : place + len(replacement)] = replacement
        site.path.write_bytes(changed)
        return Damage(
            f"{site.path.name}: {told.format(site.size)}", (site.path.name, told.split()[0])
        )

    return apply


def _entry(data: bytes, given: Any) -> int:
    """Where the numbers behind a tensor's name begin."""
    header, _ = given
    entry = next(e for e in header.entries if "ffn_up" in e.name)
    name = entry.name.encode()
    return data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)


def _dtype_code(data: bytes, given: Any) -> tuple[int, bytes]:
    at = _entry(data, given)
    (dims,) = struct.unpack_from("<I", data, at)
    return at + 4 + 8 * dims, struct.pack("<I", given[1].size)


def _offset(data: bytes, given: Any) -> tuple[int, bytes]:
    at = _entry(data, given)
    (dims,) = struct.unpack_from("<I", data, at)
    at += 4 + 8 * dims + 4
    (offset,) = struct.unpack_from("<Q", data, at)
    return at, struct.pack("<Q", offset + given[1].size)


def _shape(data: bytes, given: Any) -> tuple[int, bytes]:
    at = _entry(data, given) + 4
    one, two = struct.unpack_from("<QQ", data, at)
    return at, struct.pack("<QQ", two, one)


def _name(data: bytes, given: Any) -> tuple[int, bytes]:
    header, _ = given
    entry = next(e for e in header.entries if "ffn_up" in e.name)
    return data.index(entry.name.encode()), entry.name.replace("ffn_up", "ffn_xx").encode()


def _key(
    key: str, form: str, change: Callable[[Any, Any], Any]
) -> Callable[[bytes, Any], tuple[int, bytes]]:
    """The number behind a key of the file's architecture."""

    def find(data: bytes, given: Any) -> tuple[int, bytes]:
        header, site = given
        arch = header.fields["general.architecture"].value
        full = key.format(arch)
        if full not in header.fields:
            raise NotApplicable(f"the file has no {full}")
        at = data.index(struct.pack("<Q", len(full)) + full.encode()) + 8 + len(full) + 4
        (value,) = struct.unpack_from(form, data, at)
        return at, struct.pack(form, change(value, site.size))

    return find


def _apr_header(site: Site) -> Damage:
    data = bytearray(site.path.read_bytes())
    data[16] ^= 0xFF
    site.path.write_bytes(data)
    return Damage(f"{site.path.name}: a header byte flipped", (site.path.name,))


def _of(
    name: str,
    told: str,
    subjects: tuple[Subject, ...],
    sizes: dict[Any, Any],
    apply: Callable[[Site], Damage],
) -> Operator:
    return Operator(name, told, subjects, sizes, apply, in_file=True)


OPERATORS = (
    _of("file-truncate", "the file cut off", BOTH, graded(0.5, 0.99, 1), _truncate),
    _of("file-magic", "no magic number", BOTH, graded(1), _magic),
    _of("file-version", "an unknown version", BOTH, graded(1), _version),
    _of("file-noise", "random bytes in a tensor", BOTH, graded(0.9, 0.1, 0.001), _noise),
    _of(
        "block-scale",
        "scales of blocks changed",
        GGUF,
        graded((30.0, 1.0), (2.0, 0.2), (1.05, 0.01)),
        _block_scale,
    ),
    _of(
        "gguf-dtype",
        "a wrong type code",
        GGUF,
        graded(0, 10),
        _in_header(_dtype_code, "ffn_up type code {}"),
    ),
    _of(
        "gguf-offset",
        "a wrong offset",
        GGUF,
        graded(32768, 32),
        _in_header(_offset, "ffn_up offset +{}"),
    ),
    _of(
        "gguf-shape",
        "a reversed shape",
        GGUF,
        graded(1),
        _in_header(_shape, "ffn_up shape reversed"),
    ),
    _of("gguf-name", "a tensor renamed", GGUF, graded(1), _in_header(_name, "ffn_up renamed")),
    _of(
        "gguf-rope",
        "another rope base in the keys",
        GGUF,
        graded(100.0, 5.0, 1.2),
        _in_header(_key("{}.rope.freq_base", "<f", lambda v, s: v * s), "rope base times {}"),
    ),
    _of(
        "gguf-eps",
        "another epsilon in the keys",
        GGUF,
        graded(1e6, 1e4, 10.0),
        _in_header(
            _key("{}.attention.layer_norm_rms_epsilon", "<f", lambda v, s: v * s),
            "epsilon times {}",
        ),
    ),
    _of(
        "gguf-heads",
        "a wrong number of heads in the keys",
        GGUF,
        graded(2),
        _in_header(
            _key("{}.attention.head_count", "<I", lambda v, s: v * s), "head count times {}"
        ),
    ),
    _of(
        "gguf-context",
        "another context in the keys",
        GGUF,
        graded(16, 64, 256),
        _in_header(_key("{}.context_length", "<I", lambda v, s: s), "context length {}"),
    ),
    _of(
        "gguf-eos",
        "another end token in the keys",
        GGUF,
        graded(100000, 65),
        _in_header(_key("tokenizer.ggml.eos_token_id", "<I", lambda v, s: s), "eos token {}"),
    ),
    _of("apr-header", "a byte of the header flipped", APR, graded(1), _apr_header),
)
