"""Run a causal language model with transformers."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_protocol import peak_memory_bytes
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.engines.engine import (
    EngineClosed,
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
    told,
)
from pytest_aprqa.engines.generation import (
    Watch,
    encodable,
    require_room,
    require_sane,
    require_start,
    require_tokens,
)
from pytest_aprqa.engines.streaming import Teller
from pytest_aprqa.engines.transformers_batch import (
    PROBE_LIMIT_S,
    Row,
    answer_rows,
    completion_of_row,
    padding_is_safe,
)
from pytest_aprqa.engines.transformers_load import load_model
from pytest_aprqa.engines.transformers_logprobs import TopLogprobs
from pytest_aprqa.engines.transformers_quiet import quiet, seeded, torch_threads
from pytest_aprqa.engines.transformers_trace import Tracing
from pytest_aprqa.engines.transformers_watch import NanGuard, StopWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
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


class TransformersEngine(Tracing):
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
        self._pads_safely: bool | None = None
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
        return self._answer(request, None)

    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        """Answer as `generate` does; `tell` gets each settled piece of text, all joined the answer.

        It is called after every token, with an empty piece where none is settled, and ends the
        answer by giving False: its text is then what was told, its reason a timeout.

        Raises:
            InvalidRequest: the model cannot be asked this; found before anything is told.
            EngineCrashed: torch or transformers raised, or the logits hold NaN.
        """
        return self._answer(request, Teller(tell, request.stop))

    def count_prompt(self, request: GenerationRequest) -> int:
        """How many tokens the request's prompt has.

        Raises:
            InvalidRequest: the model cannot be asked this.
        """
        self._require_open()
        with quiet():
            return len(self._tokenize(request)[1])

    def _answer(self, request: GenerationRequest, teller: Teller | None) -> Completion:
        self._require_open()
        require_sane(request)
        with quiet(), torch_threads(self._threads):
            rendered, prompt_ids = self._tokenize(request)
            require_room(len(prompt_ids), request.max_tokens, self.context_length)
            watch = StopWatch(
                request,
                end_ids=self._ends_of(request),
                text_of=lambda ids: self._text_after(prompt_ids, ids),
                teller=teller,
            )
            noted = TopLogprobs(request.top_logprobs) if request.top_logprobs else None
            try:
                self._run(request, prompt_ids, watch, noted)
                text = watch.text()
                if teller is not None:
                    teller.finish(text)
            except Exception as error:
                raise EngineCrashed.from_exception(error) from error
        return Completion(
            text=text,
            token_ids=tuple(watch.token_ids),
            prompt_tokens=len(prompt_ids),
            finish_reason=watch.finish_reason or FinishReason.LENGTH,
            ttft_s=watch.ttft_s,
            token_s=tuple(watch.token_s),
            total_s=watch.total_s,
            peak_memory_bytes=self._peak_memory_bytes(),
            rendered_prompt=rendered,
            prompt_token_ids=tuple(prompt_ids),
            logprobs=noted.choices(watch.token_ids, self._token_text) if noted else (),
        )

    def generate_batch(
        self,
        requests: Sequence[GenerationRequest],
        began: Callable[[float], None] = lambda _limit_s: None,
    ) -> tuple[Completion | None, ...]:
        """Answer greedy requests together; None for each that must be asked alone.

        Those are, beside what `BatchingEngine` names, the ones that ask for logprobs, and all of
        a model that answers padded prompts otherwise than alone. `began` is told the limit in
        seconds of what comes next, again and again.

        Raises:
            EngineCrashed: torch or transformers raised; nothing is known of any of them.
        """
        self._require_open()
        with quiet(), torch_threads(self._threads):
            places = {i: row for i, r in enumerate(requests) if (row := self._row(r)) is not None}
            rows = list(places.values())
            if len(rows) > 1 and self._pads_safely is None:
                began(PROBE_LIMIT_S)
                self._pads_safely = padding_is_safe(self._model, rows[0].prompt_ids)
            took = answer_rows(self._model, rows, began) if self._pads_safely else {}
            found: list[Completion | None] = [None] * len(requests)
            for index, place in enumerate(places):
                if index in took and rows[index].answered:
                    memory = self._peak_memory_bytes()
                    found[place] = completion_of_row(rows[index], *took[index], memory)
        return tuple(found)

    def prompt_of(self, request: GenerationRequest) -> tuple[str, list[int]]:
        """The text given to the tokenizer, chat template applied, and the tokens it becomes.

        Raises:
            InvalidRequest: the model cannot be asked this.
        """
        self._require_open()
        require_sane(request)
        with quiet():
            return self._tokenize(request)

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

    def _run(
        self,
        request: GenerationRequest,
        prompt_ids: list[int],
        watch: StopWatch,
        noted: TopLogprobs | None,
    ) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        greedy = request.greedy
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
                logits_processor=LogitsProcessorList([NanGuard(), *([noted] if noted else [])]),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
            watch.stop()

    def _tokenize(self, request: GenerationRequest) -> tuple[str, list[int]]:
        if given := request.prompt_token_ids:
            vocabulary = self._model.get_input_embeddings().weight.shape[0]
            require_tokens(given, vocabulary, self.context_length)
            return self._decode(list(given)), list(given)
        if request.prompt is None:
            rendered = self._render(request)
            return rendered, list(self._tokenizer(rendered, add_special_tokens=False).input_ids)
        rendered = encodable(request.prompt)
        ids = list(self._tokenizer(rendered).input_ids) or self._start_ids
        return rendered, require_start(ids, rendered)

    def _row(self, request: GenerationRequest) -> Row | None:
        """The request as a row of a batch; None when it has to be asked alone."""
        if not request.greedy or request.top_logprobs:
            return None
        try:
            require_sane(request)
            rendered, prompt_ids = self._tokenize(request)
            require_room(len(prompt_ids), request.max_tokens, self.context_length)
        except InvalidRequest:
            return None
        watch = Watch(
            request,
            end_ids=self._ends_of(request),
            text_of=lambda ids: self._text_after(prompt_ids, ids),
        )
        return Row(request, rendered, prompt_ids, watch)

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
            raise EngineClosed

    def _ends_of(self, request: GenerationRequest) -> frozenset[int]:
        # Special tokens are not in the text, so a stop string that names one acts by its id.
        added = self._tokenizer.get_added_vocab() if request.stop else {}
        named = frozenset(added[text] for text in request.stop if text in added)
        return named if request.ignore_eos else named | self._end_ids

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

    def _token_text(self, token_id: int) -> str:
        return str(self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False))

    def _peak_memory_bytes(self) -> int:
        if self.device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self.device))
        return peak_memory_bytes()


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
