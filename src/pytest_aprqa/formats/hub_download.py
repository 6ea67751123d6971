"""Download a model's snapshot from the Hugging Face Hub."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOW_PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja", "*.txt")
"""What a download fetches: no pickled weights and no code."""
REPORT_INTERVAL_S = 5.0
"""Seconds between two lines of progress."""


def download_snapshot(
    model_id: str, *, revision: str, cache: Path, progress: Callable[[str], None] | None = None
) -> Path:
    """Fetch what a model needs into the cache and return the snapshot's directory.

    Raises:
        ModelUnavailable: the Hub cannot be reached, or does not give this out; one line why.
    """
    import huggingface_hub

    report = progress or (lambda _line: None)
    report(f"downloading {model_id} at revision {revision} to {cache}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory = huggingface_hub.snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache,
                allow_patterns=list(ALLOW_PATTERNS),
                tqdm_class=_reporting_bar(model_id, report),
            )
    except Exception as error:
        raise ModelUnavailable(
            f"{model_id} at revision {revision}: {_reason(error, model_id)}"
        ) from error
    report(f"downloaded {model_id} at revision {revision}")
    return Path(directory)


def _reason(error: Exception, model_id: str) -> str:
    """What went wrong and what to do, in one line."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{model_id}"
    # Without a snapshot to fall back on, huggingface_hub wraps what the Hub answered.
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"gated; accept its terms at {page} and log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision; expected a branch, a tag or a commit"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or private; check the id, or log in with `hf auth login`"
    if status in (401, 403):
        return f"access refused (HTTP {status}); log in with `hf auth login`"
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return "the Hub is switched off by HF_HUB_OFFLINE; unset it to download"
    if status is not None:
        return f"the Hub answered HTTP {status}; try again later"
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(error, errors.LocalEntryNotFoundError) or "connect" in text.lower():
        return f"the Hub cannot be reached: {text[:200]}"
    return f"the download failed: {type(error).__name__}: {text[:200]}"


def _reporting_bar(model_id: str, report: Callable[[str], None]) -> Any:
    """A progress bar class that gives lines to `report` in place of drawing on the terminal."""
    import huggingface_hub.utils

    utils: Any = huggingface_hub.utils

    class ReportingBar(utils.tqdm):  # type: ignore[misc]  # tqdm has no types
        monitor_interval = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            settings = {"file": io.StringIO(), "mininterval": REPORT_INTERVAL_S}
            super().__init__(*args, **{**kwargs, **settings})

        def display(self, *_args: Any, **_kwargs: Any) -> None:
            if self.total and self.n:
                report(f"{model_id}: {self.desc or 'downloading'} {self.n}/{self.total}")

    return ReportingBar
