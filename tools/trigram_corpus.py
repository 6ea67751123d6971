"""The healthy text that `build_trigram_table.py` reads: files by kind, prose and code."""

from __future__ import annotations

import gzip
import hashlib
import random
import re
from pathlib import Path

_AS_NAMED = (
    "py go js ts java c css scss html sh json xml md rst toml yaml sql rs rb kt scala pl cs php "
    "swift hs lua tex conf vim s jl ex clj f90 pas csv el cpp"
)
SUFFIXES = {suffix: suffix for suffix in _AS_NAMED.split()} | {
    "h": "c", "mm": "objc", "m": "objc", "yml": "yaml", "cfg": "conf", "ini": "conf"
}  # fmt: skip
"""Kind of text by the suffix of its file."""
MOST_FILES = 500
"""Files read of one kind."""
MOST_BYTES = 25_000
"""Of one file."""
SHARES = {"en": 0.28, "other": 0.29, "code": 0.43}
"""Of the excerpts: English prose, prose of other languages, code and markup."""
UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
_MESSAGE = re.compile(r'^msgstr(?:\[\d\])? ((?:"(?:[^"\\]|\\.)*"\s*\n)+)', re.MULTILINE)
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ROFF_LINE = re.compile(r"^[.'](?!(?:B|I|BR|IR|BI|RB|RI|IB|SM|SB)\s).*$", re.MULTILINE)
_ROFF_WORD = re.compile(
    r"^\.[A-Z]{1,2}\s+|\\f\(?[A-Z]{1,2}|\\f\[\w*\]|\\\[\w+\]|\\\(\w\w", re.MULTILINE
)


class Corpus:
    """Texts by kind, of the files that are held out or of the others."""

    def __init__(self, folders: list[Path], *, held_out: bool) -> None:
        self.texts: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
        random.Random(5).shuffle(files)
        for path in files:
            kind = _kind(path)
            if kind is None or counts.get(kind, 0) >= MOST_FILES:
                continue
            counts[kind] = counts.get(kind, 0) + 1
            for number, text in enumerate(_texts(path, kind)):
                digest = hashlib.md5(f"{path.name}#{number}".encode()).digest()
                if (digest[0] % 4 == 0) == held_out and len(text) >= 20:
                    self.texts.setdefault(kind, []).append(text)
        self._kinds: dict[str, list[str]] = {"en": [], "other": [], "code": []}
        for kind in sorted(self.texts):
            self._kinds[_group(kind)].append(kind)
        self._weights = {
            group: [min(sum(map(len, self.texts[kind])), 400_000) ** 0.5 for kind in kinds]
            for group, kinds in self._kinds.items()
        }

    def text(self, rng: random.Random) -> str:
        """Return a text of any kind."""
        return rng.choice(self.texts[rng.choice(sorted(self.texts))])

    def kind(self, rng: random.Random, group: str | None = None) -> str:
        """Return a kind, by the shares of the groups and the size of the kinds."""
        group = group or rng.choices(list(SHARES), list(SHARES.values()))[0]
        return rng.choices(self._kinds[group], self._weights[group])[0]

    def excerpt(self, rng: random.Random, low: int, high: int, group: str | None = None) -> str:
        """Return `low` to `high` characters that begin with a line or a word."""
        while True:
            text = rng.choice(self.texts[self.kind(rng, group)])
            length = int(low * (high / low) ** rng.random())
            if len(text) < max(low, 0.8 * length):
                continue
            start = rng.randrange(max(1, len(text) - length))
            if start:
                found = re.compile(r"\n" if rng.random() < 0.6 else r"\s").search(text, start)
                start = found.end() if found else len(text)
            part = text[start : start + length]
            if len(part.strip()) >= low and not UNUSABLE.search(part):
                return part


def _group(kind: str) -> str:
    if kind.startswith(("prose-en", "man-en", "po-en", "rst")):
        return "en"
    return "other" if kind.startswith(("prose-", "man-", "po-")) else "code"


def _kind(path: Path) -> str | None:
    place = path.as_posix()
    if "/games/fortunes" in place and path.suffix in ("", ".fortunes") and path.is_file():
        found = re.search(r"/fortunes-(?!min|off)(\w+)/", place)
        return f"prose-{found.group(1) if found else 'en'}"
    if path.suffix == ".gz" and "/man/" in place and "/manpages" in place:
        found = re.search(r"/manpages-(?!dev)([\w-]+)/", place)
        return f"man-{found.group(1) if found else 'en'}"
    if path.suffix == ".po":
        found = re.search(r"/locale/(\w+)/", place)
        return f"po-{found.group(1)}" if found else None
    if "/examplefiles/" in place:
        return None if path.suffix == ".output" else f"sample-{path.parent.name[:1]}"
    if path.suffix == ".txt":
        return "rst" if "/docs/" in place else None
    if ".min." in path.name and path.suffix == ".js":
        return "minified"
    return SUFFIXES.get(path.suffix.lstrip(".").lower())


def _texts(path: Path, kind: str) -> list[str]:
    content = path.read_bytes()
    if kind.startswith("man-"):
        text = _ROFF_LINE.sub("", gzip.decompress(content).decode("utf-8", "replace"))
        text = _ROFF_WORD.sub("", text).replace("\\-", "-").replace("\\&", "")
        return [re.sub(r"\n{3,}", "\n\n", text)] if text.count("\\") < 20 else []
    if kind.startswith("prose-"):
        encoding = "iso8859-2" if kind in ("prose-pl", "prose-cs") else "latin-1"
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            text = content.decode(encoding)
        return [part.strip() for part in re.split(r"\n%+\n", text)]
    text = content[: 10**6 if kind.startswith("po-") else MOST_BYTES].decode("utf-8", "ignore")
    if not kind.startswith("po-"):
        return [text]
    messages = ["".join(_LITERAL.findall(part)) for part in _MESSAGE.findall(text)[1:]]
    plain = [part.replace("\\n", "\n").replace('\\"', '"') for part in messages if part.strip()]
    return [re.sub(r"%\(\w+\)s|%s", "12", " ".join(plain))]
