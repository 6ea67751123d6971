"""Look inside a forward pass of transformers: hooks on its modules, for one pass only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.trace import SPINE, ModuleTrace, Role, Trace, TraceLevel
from pytest_aprqa.engines.engine import EngineClosed, EngineCrashed
from pytest_aprqa.engines.generation import require_tokens
from pytest_aprqa.engines.tracing import TracedPass
from pytest_aprqa.engines.transformers_quiet import quiet, torch_threads
from pytest_aprqa.engines.transformers_statistics import (
    attention_of,
    norm_of,
    residual_of,
    value_stats,
)

if TYPE_CHECKING:
    from pytest_aprqa.engines.transformers_parts import Parts

_ACTIVATIONS = ("hidden_activation", "hidden_act", "activation_function", "activation")
"""What families call the MLP's activation in their configurations."""
MOST_TOKENS = 512
"""Longest text that is traced: attention weights grow with its square."""


class Tracing:
    """What lets a transformers engine be traced; it has the model and the settings."""

    _model: Any
    _threads: int | None
    device: str
    context_length: int | None

    def trace(self, token_ids: Sequence[int], level: TraceLevel) -> TracedPass:
        """One teacher-forced pass with its inside recorded; the model stays as it was.

        At level payload attention is computed by transformers' plain implementation for this pass,
        where the model has one; else the trace says so in its remarks.

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, too many, a closed
                engine, or a model built otherwise than the decoders that are known.
            EngineCrashed: torch or transformers raised.
        """
        from pytest_aprqa.engines.transformers_parts import parts_of

        if self._model is None:
            raise EngineClosed
        ids = tuple(int(i) for i in token_ids)
        vocabulary = self._model.get_input_embeddings().weight.shape[0]
        require_tokens(ids, vocabulary, min(self.context_length or MOST_TOKENS, MOST_TOKENS))
        parts = parts_of(self._model)
        with quiet(), torch_threads(self._threads):
            try:
                return _traced(self._model, parts, ids, level, self.device)
            except Exception as error:
                raise EngineCrashed.from_exception(error) from error


def _traced(
    model: Any, parts: Parts, ids: tuple[int, ...], level: TraceLevel, device: str
) -> TracedPass:
    import torch

    recorder = _Recorder(parts, level, device)
    with torch.inference_mode(), recorder.listening(), _plain_attention(model, level) as remarks:
        inputs = torch.tensor([ids], dtype=torch.long, device=device)
        began = time.perf_counter()
        # Not asked for `output_attentions`: Falcon then computes without its causal mask.
        logits = model(input_ids=inputs, use_cache=False).logits[0]
        recorder.wait()
        took = time.perf_counter() - began
        arrays = {"logits": logits.float().cpu().numpy(), **recorder.arrays()}
        config = model.config.get_text_config()
        named = (getattr(config, key, None) for key in _ACTIVATIONS)
        activation = next((found for found in named if isinstance(found, str)), "")
        lacking = [] if level is not TraceLevel.PAYLOAD else recorder.lacking()
        trace = Trace(
            level=level,
            token_ids=ids,
            layers=int(config.num_hidden_layers),
            dtype=str(model.dtype).removeprefix("torch."),
            activation=activation,
            seconds=took,
            modules=tuple(recorder.modules),
            residuals=recorder.residuals(),
            attention=tuple(recorder.attention[i][0] for i in sorted(recorder.attention)),
            norms=tuple(recorder.norms),
            remarks=(*remarks, *lacking),
        )
    return TracedPass(trace, arrays)


@contextmanager
def _plain_attention(model: Any, level: TraceLevel) -> Iterator[list[str]]:
    """Attention gives its weights in the block, at level payload; yields what stands against it."""
    before = model.config._attn_implementation
    remarks: list[str] = []
    if level is not TraceLevel.PAYLOAD or before == "eager":
        yield remarks
        return
    try:
        model.set_attn_implementation("eager")
    except (ValueError, ImportError) as error:
        remarks.append(f"attention stays {before}, which tells no weights: {error}")
        yield remarks
        return
    try:
        yield remarks
    finally:
        model.set_attn_implementation(before)


class _Recorder:
    """Hooks, and what they gathered."""

    def __init__(self, parts: Parts, level: TraceLevel, device: str) -> None:
        self._parts = parts
        self._level = level
        self._device = device
        self._began: dict[str, float] = {}
        self._inputs: dict[int, Any] = {}
        self._outputs: dict[int, Any] = {}
        self._added: dict[tuple[int, Role], Any] = {}
        self._heads: dict[int, Any] = {}
        self._neurons: dict[int, float] = {}
        self._embedding: Any = None
        self._final: Any = None
        self.modules: list[ModuleTrace] = []
        self.attention: dict[int, tuple[Any, Any]] = {}
        self.norms: list[Any] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The hooks are there in the block."""
        handles: list[Any] = []
        try:
            if self._level is not TraceLevel.NONE:
                for part in self._parts.modules:
                    before, after = self._hooks(part.name, part.role, part.layer)
                    handles.append(part.module.register_forward_pre_hook(before, with_kwargs=True))
                    handles.append(part.module.register_forward_hook(after, with_kwargs=True))
            if self._level is TraceLevel.PAYLOAD:
                for layer, module in self._parts.head_outputs.items():
                    handles.append(module.register_forward_pre_hook(self._head_hook(layer)))
                for layer, module in self._parts.neuron_outputs.items():
                    handles.append(module.register_forward_pre_hook(self._neuron_hook(layer)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def wait(self) -> None:
        """Until the device has computed what it was given."""
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self._device)

    def _hooks(
        self, name: str, role: Role, layer: int | None
    ) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(_module: Any, args: Any, kwargs: Any) -> None:
            if role is Role.LAYER and layer is not None and self._looks:
                self._inputs[layer] = _hidden(args, kwargs)
            self.wait()
            self._began[name] = time.perf_counter()

        def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            self.wait()
            seconds = time.perf_counter() - self._began[name]
            values = output[0] if isinstance(output, (tuple, list)) else output
            stats = None
            if self._level is TraceLevel.PAYLOAD or (self._looks and role in SPINE):
                stats = value_stats(values, first=8 if self._level is TraceLevel.PAYLOAD else 0)
            shape = tuple(values.shape)
            kind = type(module).__name__
            self.modules.append(ModuleTrace(name, kind, role, layer, shape, seconds, stats))
            self._keep(module, name, role, layer, values, output, _hidden(args, kwargs))

        return before, after

    @property
    def _looks(self) -> bool:
        return self._level in (TraceLevel.LAYER, TraceLevel.PAYLOAD)

    def _keep(
        self,
        module: Any,
        name: str,
        role: Role,
        layer: int | None,
        values: Any,
        output: Any,
        given: Any,
    ) -> None:
        if not self._looks:
            return
        if role is Role.LAYER and layer is not None:
            self._outputs[layer] = values
        if role in (Role.ATTENTION, Role.MLP) and layer is not None:
            self._added[layer, role] = values
        if self._level is not TraceLevel.PAYLOAD:
            return
        if role is Role.EMBEDDING:
            self._embedding = values
        if role is Role.FINAL_NORM:
            self._final = values
        if role in (Role.NORM, Role.FINAL_NORM):
            seen = norm_of(module, name, given, values)
            self.norms += [] if seen is None else [seen]
        weights: Any = output[1] if isinstance(output, (tuple, list)) and len(output) > 1 else None
        if role is Role.ATTENTION and layer is not None and _is_square(weights):
            self.attention[layer] = (attention_of(module, name, layer, weights), weights[0])

    def _head_hook(self, layer: int) -> Callable[..., None]:
        def keep(_module: Any, args: Any) -> None:
            self._heads[layer] = args[0]

        return keep

    def _neuron_hook(self, layer: int) -> Callable[..., None]:
        def keep(_module: Any, args: Any) -> None:
            flat = args[0].reshape(-1, args[0].shape[-1])
            self._neurons[layer] = float((flat == 0).all(dim=0).float().mean())

        return keep

    def residuals(self) -> tuple[Any, ...]:
        """What each layer did, the first layer first."""
        return tuple(
            residual_of(
                layer,
                self._parts.layer_names[layer],
                self._inputs[layer],
                self._outputs[layer],
                attention=self._added.get((layer, Role.ATTENTION)),
                mlp=self._added.get((layer, Role.MLP)),
                neurons=self._neurons.get(layer),
                heads=self._heads.get(layer),
                head_count=self._parts.heads,
            )
            for layer in sorted(self._outputs)
        )

    def arrays(self) -> dict[str, Any]:
        """The arrays of the level payload."""
        import torch

        if self._level is not TraceLevel.PAYLOAD or not self._outputs:
            return {}
        stream = [self._inputs[min(self._inputs)]]
        stream += [self._outputs[layer] for layer in sorted(self._outputs)]
        found = {"hidden": torch.stack([h.reshape(-1, h.shape[-1]).float() for h in stream])}
        for name, tensor in (("embedding", self._embedding), ("final", self._final)):
            if tensor is not None:
                found[name] = tensor.reshape(-1, tensor.shape[-1]).float()
        kept: list[Any] = [self.attention[layer][1].float() for layer in sorted(self.attention)]
        if len(kept) == len(self._outputs) and len({tuple(k.shape) for k in kept}) == 1:
            found["attention"] = torch.stack(kept)
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def lacking(self) -> list[str]:
        """What the level payload promises and this model did not give."""
        parts = [part for part in self._parts.modules if part.role is Role.ATTENTION]
        attends = {part.layer for part in parts if part.layer is not None}
        silent = sorted(layer for layer in attends if layer not in self.attention)
        return [f"attention of layers {silent} told no weights"] if silent else []


def _hidden(args: Any, kwargs: Any) -> Any:
    """The tensor that a module was given."""
    for name in ("hidden_states", "input", "inputs_embeds", "x"):
        if kwargs.get(name) is not None:
            return kwargs[name]
    with suppress(StopIteration):
        return next(a for a in (*args, *kwargs.values()) if hasattr(a, "shape"))
    return None


def _is_square(weights: Any) -> bool:
    return (
        hasattr(weights, "shape")
        and len(weights.shape) == 4
        and weights.shape[-1] == weights.shape[-2]
    )
