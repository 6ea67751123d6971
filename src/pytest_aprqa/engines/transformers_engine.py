"""Run a causal language model with transformers."""

from __future__ import annotations

import resource
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.engines.engine import (
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
    told,
)
from pytest_aprqa.engines.generation import (
    GREEDY_BELOW,
    encodable,
    require_room,
    require_sane,
    require_start,
    require_tokens,
)
from pytest_aprqa.engines.transformers_load import load_model
from pytest_aprqa.engines.transformers_quiet import quiet, seeded, torch_threads
from pytest_aprqa.engines.transformers_watch import NanGuard, StopWatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.domain.model import Backend


def load(
    directory: Path, *, backend: Backend, dtype: str | None = None, threads: int | None = None
) -> TransformersEngine:
    """Load the model in a directory; nothing is ever fetched from the network.

    `dtype` None keeps the checkpoint's own, on the CPU too: what ships is what is qualified.
    `threads` is torch's thread count while this model loads and runs; None leaves torch's own.

    Raises:
        LoadFailed: the files do not make a model (missing or misshapen tensors included).
        EngineUnavailable: this machine cannot run it: no CUDA device, too little memory.
    """
    model, tokenizer = load_model(directory, backend=backend, dtype=dtype, threads=threads)
    return TransformersEngine(model, tokenizer, threads=threads)


class TransformersEngine:
    """A loaded model; only the request's settings act on its answers.

    The sampling defaults in the model's `generation_config.json` (repetition penalty, top-k, top-p)
    do not act, only its end tokens do, together with the tokenizer's own end token. Temperature 0
    is greedy; above, tokens are drawn from the whole distribution with the request's seed, and the
    process's own random state stays as it was.

    A plain prompt becomes tokens as the tokenizer does by default (with a start token where the
    model has one); a chat becomes the text of the model's template, which holds its own. A prompt
    of no tokens is replaced by the model's start or end-of-text token. Lone surrogates, which have
    no encoding, become U+FFFD; the name of a special token in a prompt is that token.
    """

    name = "transformers"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        threads: int | None = None,
        source: Mapping[str, str] | None = None,
    ) -> None:
        """`source` is what `describe` tells of weights that are not a directory's own."""
        self._model = model
        self._tokenizer = tokenizer
        self._threads = threads
        self._source = dict(source or {})
        self.version = version("transformers")
        self.device = str(next(model.parameters()).device)
        self.has_chat_template = bool(tokenizer.chat_template)
        self.context_length = _context_length(model.config)
        self._end_ids, self._start_ids = _end_ids(model, tokenizer), _start_ids(model, tokenizer)
        # `generate` fills what a request leaves open from the model's defaults: leave it none.
        model.generation_config = _generation_config(pad_token_id=min(self._end_ids, default=0))

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request; at the time limit the answer is what there is, one token late.

        The limit is looked at after each token, the first time after the prefill.

        Raises:
            InvalidRequest: the model cannot be asked this: ContextOverflow, NoChatTemplate, or
                settings or messages that make no sense to it.
            EngineCrashed: torch or transformers raised, or the logits hold NaN.
        """
        self._require_open()
        require_sane(request)
        with quiet(), torch_threads(self._threads):
            rendered, prompt_ids = self._tokenize(request)
            require_room(len(prompt_ids), request.max_tokens, self.context_length)
            watch = StopWatch(
                request,
                end_ids=self._end_ids | self._special_stops(request.stop),
                text_of=lambda ids: self._text_after(prompt_ids, ids),
            )
            try:
                self._run(request, prompt_ids, watch)
                text = watch.text()
            except Exception as error:
                raise EngineCrashed.from_exception(error) from error
        return Completion(
            text=text,
            token_ids=tuple(watch.token_ids),
            prompt_tokens=len(prompt_ids),
            finish_reason=watch.finish_reason or FinishReason.LENGTH,
            ttft_s=watch.ttft_s,
            total_s=watch.total_s,
            peak_memory_bytes=self._peak_memory_bytes(),
            rendered_prompt=rendered,
            prompt_token_ids=tuple(prompt_ids),
        )

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The text's token ids; `special` adds the start and end tokens the model asks for."""
        with quiet():
            ids = self._tokenizer(encodable(text), add_special_tokens=special).input_ids
        return tuple(int(i) for i in ids)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Teacher-forced logits in one prefill: float32 [tokens, vocabulary].

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, more than the context.
            EngineCrashed: torch or transformers raised.
        """
        self._require_open()
        import torch

        ids = tuple(token_ids)
        vocabulary = self._model.get_input_embeddings().weight.shape[0]
        require_tokens(ids, vocabulary, self.context_length)
        with quiet(), torch_threads(self._threads), torch.inference_mode():
            try:
                inputs = torch.tensor([ids], dtype=torch.long, device=self.device)
                logits = self._model(input_ids=inputs, use_cache=False).logits[0]
                found: np.ndarray[Any, Any] = logits.float().cpu().numpy()
            except Exception as error:
                raise EngineCrashed.from_exception(error) from error
        return found

    def describe(self) -> dict[str, str]:
        """What ran, for the evidence: library versions, device, dtype, threads, attention."""
        import torch

        on_cuda = self.device.startswith("cuda")
        return {
            "engine": f"{self.name} {self.version}",
            "torch": str(torch.__version__),
            "tokenizers": version("tokenizers"),
            "device": self.device,
            "device_name": torch.cuda.get_device_name(self.device) if on_cuda else "cpu",
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "threads": str(self._threads or torch.get_num_threads()),
            "attention": str(self._model.config._attn_implementation),
            "architecture": type(self._model).__name__,
            **self._source,
        }

    def close(self) -> None:
        """Free the model's memory; the engine answers no more. Closing twice is fine."""
        self._model = None
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def _run(self, request: GenerationRequest, prompt_ids: list[int], watch: StopWatch) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        greedy = request.temperature < GREEDY_BELOW
        settings: dict[str, Any] = {"max_new_tokens": request.max_tokens, "use_cache": True}
        if not greedy:
            whole = {"top_k": 0, "top_p": 1.0}
            settings |= {"do_sample": True, "temperature": float(request.temperature), **whole}
        input_ids = torch.tensor([prompt_ids], dtype=torch.long, device=self.device)
        with seeded(None if greedy else request.seed, self.device):
            watch.start()
            self._model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                generation_config=_generation_config(**settings),
                logits_processor=LogitsProcessorList([NanGuard()]),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
            watch.stop()

    def _tokenize(self, request: GenerationRequest) -> tuple[str, list[int]]:
        if request.prompt is None:
            rendered = self._render(request)
            return rendered, list(self._tokenizer(rendered, add_special_tokens=False).input_ids)
        rendered = encodable(request.prompt)
        ids = list(self._tokenizer(rendered).input_ids) or self._start_ids
        return rendered, require_start(ids, rendered)

    def _render(self, request: GenerationRequest) -> str:
        if not self.has_chat_template:
            raise NoChatTemplate(
                "the model has no chat template (tokenizer_config.json, chat_template.jinja); "
                "ask it with modality run"
            )
        messages = [{"role": m.role, "content": encodable(m.content)} for m in request.messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:
            raise InvalidRequest(
                f"the model's chat template refuses the messages: {told(error)}"
            ) from error

    def _require_open(self) -> None:
        if self._model is None:
            raise InvalidRequest("the engine is closed; load the model again")

    def _special_stops(self, stop: Sequence[str]) -> frozenset[int]:
        # Special tokens are not in the text, so a stop string that names one acts by its id.
        added = self._tokenizer.get_added_vocab() if stop else {}
        return frozenset(added[text] for text in stop if text in added)

    def _text_after(self, prompt_ids: list[int], token_ids: list[int]) -> str:
        # Some decoders drop the space before their first token: give them the prompt's last token.
        anchor = self._decode(prompt_ids[-1:])
        text = self._decode(prompt_ids[-1:] + token_ids)
        return text[len(anchor) :] if text.startswith(anchor) else self._decode(token_ids)

    def _decode(self, token_ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _peak_memory_bytes(self) -> int:
        if self.device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _generation_config(**settings: Any) -> Any:
    from transformers import GenerationConfig

    untyped: Any = GenerationConfig
    return untyped(**settings)


def _context_length(config: Any) -> int | None:
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    declared = model.generation_config.eos_token_id
    listed = declared if isinstance(declared, (list, tuple)) else [declared]
    return frozenset(i for i in (*listed, tokenizer.eos_token_id) if i is not None)


def _start_ids(model: Any, tokenizer: Any) -> list[int]:
    """The token that stands for an empty prompt, as a list; empty when the model has none."""
    candidates = (
        tokenizer.bos_token_id,
        model.generation_config.bos_token_id,
        tokenizer.get_vocab().get("<|endoftext|>"),
        tokenizer.eos_token_id,
    )
    return [i for i in candidates if i is not None][:1]
