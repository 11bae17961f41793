"""Tokens that were added to a vocabulary: words of DreamBooth and textual inversion.

They are taken out of a text ahead of the byte-pair encoding. As transformers does it:
what is not normalized is looked for in the text as it stands, the rest in the cleaned
text; the leftmost is taken first, and of those the longest.

Reference:
    huggingface/tokenizers `tokenizer/added_vocabulary.rs`; transformers
    `tokenization_utils_base.py`, `_from_pretrained`, for the files; diffusers
    `loaders/textual_inversion.py`, `maybe_convert_prompt`, for words of several
    vectors.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kerasdiffusion.storage.bounds import check_bound, shown
from kerasdiffusion.storage.reading import read_json

FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
#: Named tokens of transformers in the order in which it adds them, those of them that
#: the byte-pair encoding reads itself, and where others are listed.
NAMED = tuple(f"{n}_token" for n in "bos eos unk sep pad cls mask".split())
ENCODED = ("bos_token", "eos_token", "unk_token", "pad_token")
LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class AddedToken:
    """A token beside the byte-pair encoding.

    Args:
        content: What it looks like in a text.
        id: Its id.
        lstrip: Whether it takes the spaces before it.
        rstrip: Whether it takes those behind it.
        single_word: Whether it stands for itself alone and never for a part of a word.
        normalized: Whether it is looked for in the cleaned text, in any case.
        special: Whether transformers leaves it out where special tokens are.
    """

    content: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = True
    special: bool = False


class Splitter:
    """Takes added tokens out of texts.

    Args:
        added: The tokens.
        clean: What brings a text into the form that normalized ones are found in.

    Example:

    >>> splitter = Splitter([AddedToken("<toy>", 49408)], str.lower)
    >>> list(splitter("A <Toy> dog"))
    ['a ', (49408,), ' dog']
    """

    def __init__(self, added: Iterable[AddedToken], clean: Callable[[str], str]):
        added = tuple(added)
        ids = {token.content: token.id for token in added}
        self._clean = clean
        self._raw = _Finder(
            {t.content: (t, _vectors(t, ids)) for t in added if not t.normalized}
        )
        self._cleaned = _Finder(
            {
                _normalized(t.content): (t, _vectors(t, ids))
                for t in added
                if t.normalized
            }
        )

    def __call__(self, text: str) -> Iterator[str | tuple[int, ...]]:
        """Cleaned pieces of a text, and ids where added tokens stood."""
        for piece in self._raw(text):
            if isinstance(piece, tuple):
                yield piece
            else:
                yield from self._cleaned(self._clean(piece))


def _normalized(content: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", content)).lower()


def _vectors(token: AddedToken, ids: Mapping[str, int]) -> tuple[int, ...]:
    """The token and those that diffusers puts behind it: `<toy>_1`, `<toy>_2`."""
    found = [token.id]
    while (more := ids.get(f"{token.content}_{len(found)}")) is not None:
        found.append(more)
    return tuple(found)


class _Finder:
    """From a text to its pieces, with ids in the place of tokens."""

    def __init__(self, tokens: Mapping[str, tuple[AddedToken, tuple[int, ...]]]):
        self.tokens = tokens
        longest_first = sorted(tokens, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)))

    def __call__(self, text: str) -> Iterator[str | tuple[int, ...]]:
        done = 0
        for match in self.pattern.finditer(text) if self.tokens else ():
            token, ids = self.tokens[match[0]]
            start, stop = match.span()
            if token.single_word and (
                re.match(r"\w", text[max(start - 1, 0) : start])
                or re.match(r"\w", text[stop : stop + 1])
            ):
                continue
            while token.lstrip and start > done and text[start - 1].isspace():
                start -= 1
            while token.rstrip and stop < len(text) and text[stop].isspace():
                stop += 1
            if start > done:
                yield text[done:start]
            yield ids
            done = stop
        if done < len(text):
            yield text[done:]


def read_added_tokens(
    folder: Path, ids: Mapping[str, int], config: Mapping
) -> tuple[AddedToken, ...]:
    """The added tokens of a tokenizer folder.

    Those of `added_tokens_decoder` in `tokenizer_config.json`; without it of
    `added_tokens.json` (transformers 4) and `tokenizer.json` (5). What is named special
    besides is added last.

    Args:
        folder: The folder.
        ids: The vocabulary's.
        config: What `tokenizer_config.json` and `special_tokens_map.json` hold.

    Returns:
        The tokens, by id.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is not of this form, or a token has another id than the
            next behind the vocabulary's, or than its own there.
    """
    where = folder / "tokenizer_config.json"
    named = {name: _content(config.get(name)) for name in NAMED}
    special = {content: config[name] for name, content in named.items() if content}
    for name in LISTS:
        special |= {_content(each): each for each in _listed(config, name, where)}
    found: dict[int, AddedToken] = {}
    decoder = config.get("added_tokens_decoder")
    if decoder is None:
        found = _older(folder, special)
    elif not isinstance(decoder, dict):
        raise _wrong(where, "added_tokens_decoder", decoder)
    else:
        for index, token in decoder.items():
            if not re.fullmatch("[0-9]{1,9}", index) or not isinstance(token, dict):
                raise _wrong(where, f"added_tokens_decoder[{shown(index)}]", token)
            found[int(index)] = _token(token, int(index), where)
    check_bound("added_tokens", len(found) + len(special), folder)
    encoded = {named[name] for name in ENCODED} & set(ids)
    following = max(ids.values(), default=-1) + 1
    tokens = []
    for _, token in sorted(found.items()):
        wanted = ids.get(token.content, following)
        if token.id != wanted:
            raise ValueError(
                "An added token must have the id behind the last one, or its own of "
                f"the vocabulary: {wanted}. Received: {token.id} for "
                f"{shown(token.content)} in {folder}"
            )
        following += wanted == following
        if token.content not in encoded:
            tokens.append(token)
    there = {token.content for token in found.values()} | set(ids)
    for content, value in special.items():
        if content not in there:
            flags = value if isinstance(value, dict) else {"content": content}
            flags = {"normalized": False, **flags, "special": True}
            tokens.append(_token(flags, following, where))
            following += 1
    return tuple(tokens)


def _older(folder: Path, special: Mapping) -> dict[int, AddedToken]:
    """Those of `added_tokens.json`, then those of `tokenizer.json`."""
    found = {}
    path = folder / "added_tokens.json"
    if path.is_file():
        for content, index in _object(path).items():
            if type(index) is not int or index < 0:
                raise _wrong(path, shown(content), index)
            plain = content not in special
            token = AddedToken(content, index, normalized=plain, special=not plain)
            found[index] = token
    path = folder / "tokenizer.json"
    if path.is_file():
        rows = _object(path).get("added_tokens", [])
        if not isinstance(rows, list):
            raise _wrong(path, "added_tokens", rows)
        for row in rows:
            index = row.get("id") if isinstance(row, dict) else None
            if type(index) is not int or index < 0:
                raise _wrong(path, "added_tokens", row)
            found[index] = _token(row, index, path)
    return found


def _token(values: Mapping, index: int, where: Path) -> AddedToken:
    content, special = values.get("content"), values.get("special", False)
    flags = {name: values.get(name, False) for name in FLAGS}
    flags["normalized"] = values.get("normalized", not special)
    if not isinstance(content, str) or not content:
        raise _wrong(where, "content", content)
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise _wrong(where, name, value)
    return AddedToken(content, index, **flags)


def _content(value) -> str | None:
    """What a special token looks like, however it is written."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _listed(config: Mapping, name: str, where: Path) -> list[str]:
    rows = config.get(name) or []
    if isinstance(rows, dict):  # transformers 5: names for the tokens
        rows = list(rows.values())
    if not isinstance(rows, list) or not all(map(_content, rows)):
        raise _wrong(where, name, rows)
    return list(map(_content, rows))


def _object(path: Path) -> dict:
    value = read_json(path, "tokenizer")
    if not isinstance(value, dict):
        raise ValueError(
            f"{path.name} must hold a JSON object. Received: {type(value).__name__} in "
            f"{path}"
        )
    return value


def _wrong(where: Path, name: str, value) -> ValueError:
    return ValueError(
        f"Added tokens must be as transformers writes them. Received: {name} is "
        f"{shown(value)} in {where}"
    )


def to_json(added: Iterable[AddedToken]) -> dict[str, dict]:
    """`added_tokens_decoder`, as transformers writes it."""
    return {
        str(token.id): {
            name: value for name, value in asdict(token).items() if name != "id"
        }
        for token in added
    }
