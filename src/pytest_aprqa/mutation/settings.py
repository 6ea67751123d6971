"""Operators over config.json, generation settings and the files around the weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_aprqa.mutation.editing import edit_json, edit_tensors, pick, tensor_names
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

SOURCE = (Subject.SOURCE,)
ALL = (Subject.SOURCE, Subject.GGUF, Subject.APR)
CONFIG = "config.json"


def _config(change: Callable[[dict[str, Any], Any], object], told: str) -> Callable[[Site], Damage]:
    def apply(site: Site) -> Damage:
        edit_json(site.path / CONFIG, lambda config: change(config, site.size))
        return Damage(f"{CONFIG}: {told.format(site.size)}", (CONFIG,))

    return apply


def _set(key: str) -> Callable[[Site], Damage]:
    def change(config: dict[str, Any], size: Any) -> None:
        if key not in config:
            raise NotApplicable(f"config.json has no {key}")
        config[key] = size

    return _config(change, f"{key} {{}}")


def _times(key: str) -> Callable[[Site], Damage]:
    def change(config: dict[str, Any], size: Any) -> None:
        if not isinstance(config.get(key), int | float):
            raise NotApplicable(f"config.json has no {key}")
        config[key] = type(config[key])(config[key] * size)

    return _config(change, f"{key} times {{}}")


def _plus(key: str) -> Callable[[Site], Damage]:
    def change(config: dict[str, Any], size: Any) -> None:
        if not isinstance(config.get(key), int):
            raise NotApplicable(f"config.json has no {key}")
        config[key] += size

    return _config(change, f"{key} {{:+}}")


def _rope_base(config: dict[str, Any], size: Any) -> None:
    """The base wherever the config has it."""
    homes = [config, config.get("rope_parameters"), config.get("rope_scaling")]
    found = [h for h in homes if isinstance(h, dict) and "rope_theta" in h]
    if not found:
        raise NotApplicable("config.json has no rope_theta")
    for home in found:
        home["rope_theta"] *= size


def _rope_scaling(config: dict[str, Any], size: Any) -> None:
    base = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta")
    if base is None:
        raise NotApplicable("config.json has no rope_theta")
    scaled = {"rope_type": "linear", "factor": size, "rope_theta": base}
    if "rope_parameters" in config:
        config["rope_parameters"] = scaled
    else:
        config["rope_scaling"] = scaled


def _window(config: dict[str, Any], size: Any) -> None:
    layers = config.get("num_hidden_layers", 0)
    config["use_sliding_window"] = True
    config["sliding_window"] = size
    config["max_window_layers"] = 0
    if "layer_types" in config:
        config["layer_types"] = ["sliding_attention"] * layers


def _tie(config: dict[str, Any], size: Any) -> None:
    config["tie_word_embeddings"] = not config.get("tie_word_embeddings", False)


def _layers(site: Site) -> Damage:
    """One layer less, in config.json alone or in the weights alone."""
    if site.size == "config":
        return _plus("num_hidden_layers")(Site(site.path, site.strength, site.seed, -1))
    name = pick(site.path, "down_proj.weight", layer=-1)
    stem = name[: name.index(".mlp")] if ".mlp" in name else name.rsplit(".", 2)[0]
    gone = tuple(n for n in tensor_names(site.path) if n.startswith(f"{stem}."))
    edit_tensors(site.path, {}, drop=gone)
    return Damage(f"the weights of {stem} dropped", (CONFIG, stem, *gone))


def _generation(site: Site) -> Damage:
    path = site.path / "generation_config.json"
    edit_json(path, lambda content: content.update(eos_token_id=site.size))
    return Damage(f"{path.name}: eos_token_id {site.size}", (path.name, "eos"))


def _file(name: str, content: str) -> Callable[[Site], Damage]:
    def apply(site: Site) -> Damage:
        (site.path / name).write_bytes(content.encode("latin-1"))
        return Damage(f"{name} added", (name,))

    return apply


def _weights(site: Site) -> Any:
    found = sorted(site.path.glob("*.safetensors"))
    return found[0]


def _truncate(site: Site) -> Damage:
    path = _weights(site)
    data = path.read_bytes()
    path.write_bytes(
        data[: int(len(data) * site.size)] if site.size < 1 else data[: -int(site.size)]
    )
    return Damage(f"{path.name} cut off", (path.name,))


def _header(
    change: Callable[[dict[str, Any], str, Any], object], told: str
) -> Callable[[Site], Damage]:
    """Work on the JSON header of a safetensors file; the bytes after it stay as they are."""

    def apply(site: Site) -> Damage:
        path = _weights(site)
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        name = pick(site.path, "up_proj.weight")
        change(header, name, site.size)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
        return Damage(f"{path.name}: {told} of {name}", (name, path.name))

    return apply


def _offsets(header: dict[str, Any], name: str, size: Any) -> None:
    header[name]["data_offsets"] = [place + size for place in header[name]["data_offsets"]]


def _exchange_offsets(header: dict[str, Any], name: str, size: Any) -> None:
    other = name.replace("up_proj", "gate_proj")
    if other not in header:
        raise NotApplicable("the model has no gate projection")
    one, two = header[name], header[other]
    one["data_offsets"], two["data_offsets"] = two["data_offsets"], one["data_offsets"]


def _dtype(header: dict[str, Any], name: str, size: Any) -> None:
    header[name]["dtype"] = {"BF16": "F16", "F16": "BF16"}.get(header[name]["dtype"], "I32")


def _shape(header: dict[str, Any], name: str, size: Any) -> None:
    header[name]["shape"] = header[name]["shape"][::-1]


def _index(site: Site) -> Damage:
    """Two shards, and an index that does not fit them."""
    names = tensor_names(site.path)
    total = sum(p.stat().st_size for p in site.path.glob("*.safetensors"))
    edit_tensors(site.path, {}, shard_bytes=total // 2)
    index = site.path / "model.safetensors.index.json"
    if not index.is_file():
        raise NotApplicable("the weights fit one shard")
    if site.size == "shard":
        gone = sorted(site.path.glob("model-*.safetensors"))[-1]
        gone.unlink()
        return Damage(f"{gone.name} is missing", (gone.name, index.name))

    def stale(content: dict[str, Any]) -> None:
        shards = sorted(set(content["weight_map"].values()))
        moved = names[0]
        content["weight_map"][moved] = next(
            shard for shard in shards if shard != content["weight_map"][moved]
        )

    edit_json(index, stale)
    return Damage(f"{index.name} names the wrong shard of {names[0]}", (index.name, names[0]))


def _surplus(site: Site) -> Damage:
    import numpy as np

    edit_tensors(site.path, {}, add={"model.extra.weight": np.ones(8, np.float32)})
    return Damage("a tensor added", ("model.extra.weight",))


def _of(
    name: str,
    told: str,
    sizes: dict[Any, Any],
    apply: Callable[[Site], Damage],
    subjects: tuple[Subject, ...] = SOURCE,
) -> Operator:
    return Operator(name, told, subjects, sizes, apply)


OPERATORS = (
    _of(
        "rope-base",
        "another rope base",
        graded(100.0, 5.0, 1.2),
        _config(_rope_base, "rope base times {}"),
        ALL,
    ),
    _of(
        "rope-scaling",
        "rope scaled linearly",
        graded(8.0, 2.0, 1.1),
        _config(_rope_scaling, "linear rope factor {}"),
        ALL,
    ),
    _of(
        "norm-eps",
        "another epsilon of the norms",
        graded(1.0, 0.01, 1e-5),
        _set("rms_norm_eps"),
        ALL,
    ),
    _of("activation", "another activation", graded("relu2", "gelu"), _set("hidden_act"), ALL),
    _of(
        "kv-heads",
        "a wrong number of key heads",
        graded(
            2,
        ),
        _times("num_key_value_heads"),
    ),
    _of("heads", "a wrong number of query heads", graded(2), _times("num_attention_heads")),
    _of("hidden-size", "a wrong hidden size", graded(0.5), _times("hidden_size")),
    _of("ffn-size", "a wrong feed-forward size", graded(2), _times("intermediate_size")),
    _of("layers", "a layer too few", graded("config", "weights"), _layers),
    _of("vocabulary", "a vocabulary off by some", graded(100, 1), _plus("vocab_size")),
    _of(
        "tie",
        "the head tied where it is not, or not where it is",
        graded(1),
        _config(_tie, "tie flipped"),
    ),
    _of("window", "a sliding window", graded(2, 16, 128), _config(_window, "window {}"), ALL),
    _of("context", "a shorter context", graded(16, 64, 256), _set("max_position_embeddings"), ALL),
    _of("eos", "another end token", graded(100000, 65), _set("eos_token_id"), ALL),
    _of("bos", "another start token", graded(100000, subtle=65), _set("bos_token_id")),
    _of("dtype", "another stored type claimed", graded(moderate="float32"), _set("dtype")),
    _of("model-type", "another kind of model", graded("gpt2"), _set("model_type")),
    _of(
        "architecture",
        "another architecture claimed",
        graded(moderate=["LlamaForCausalLM"]),
        _set("architectures"),
    ),
    _of(
        "generation-eos",
        "generation settings with another end token",
        graded([1, 2], 65),
        _generation,
    ),
    _of("truncate", "weights cut off", graded(0.5, 0.99, 1), _truncate),
    _of("header-offset", "a tensor's offsets moved", graded(2), _header(_offsets, "offsets moved")),
    _of(
        "header-swap",
        "two tensors' offsets exchanged",
        graded(1),
        _header(_exchange_offsets, "offsets exchanged"),
    ),
    _of(
        "header-dtype",
        "a tensor's type claimed otherwise",
        graded(1),
        _header(_dtype, "another type"),
    ),
    _of("header-shape", "a tensor's shape reversed", graded(1), _header(_shape, "shape reversed")),
    _of("index", "shards and an index that do not fit", graded("shard", "stale"), _index),
    _of("surplus-tensor", "a tensor that nobody needs", graded(moderate=1), _surplus),
    _of(
        "pickle",
        "a pickle beside the weights",
        graded(1),
        _file("pytorch_model.bin", "\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."),
    ),
    _of("code", "code beside the weights", graded(1), _file("modeling_x.py", "import os\n")),
)
