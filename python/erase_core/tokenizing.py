"""Tokenising texts so that nothing that somebody else wrote becomes a control token.

A tokenizer looks for its added tokens anywhere in a text, before anything else: ``<|im_start|>`` in a customer's
question begins a turn. So a text comes in parts here, each either ours (a template) or given (an example, a query, an
option), and the control tokens of the result are those of our parts alone.

Where that holds anyway, the tokens are those of the tokenizer itself. Otherwise a second tokenizer, made of the first,
takes its place. It has the same tokens, but its control tokens have private names: in its model and among its added
tokens. Our parts are written with these names. A given part cannot contain them, and no rule that joins, lowers or
normalises characters leads to them. All else, such as the space that some put before a word, stays as it is.

Transformers has `sanitize_control_tokens` for chats (5.24). It does not know plain prompts and continuations, removes
characters from given texts, and refuses tokens that a unigram model has in its vocabulary.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from erase_core.errors import LLMError
from erase_core.libraries import in_fresh_thread

__all__ = [
    "Part",
    "PlainTokenizer",
    "Written",
    "control_tokens",
    "plain_backend",
    "plain_tokenizer",
    "private_names",
    "renamed",
]

# Joins no neighbour to a control token, and is none itself.
STAND_IN = "erasecoretext"
# Characters that hardly any vocabulary has.
RARE = "\U00012000\U00013000\ua66e\U000f0000"
# Added tokens that are not special and have none of these are words that a model was taught, or white space.
MARKS = frozenset(string.punctuation) - frozenset("-_'.,")


class Part(NamedTuple):
    """A part of a text: given by an example, a query or an option, or ours."""

    text: str
    given: bool


class Written(NamedTuple):
    """A text to be tokenised, and its parts.

    The text may differ from its parts where a chat template changes what it is given; the parts then have the given
    texts as they came. They are not complete where the template has left a given text out, or made another of it.
    """

    text: str
    parts: Sequence[Part]
    is_complete: bool = True

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Written:
        """Return the text of parts, which is nothing else than these."""
        return cls("".join(part.text for part in parts), parts)

    def followed_by(self, ours: str, given: str) -> Written:
        """Return this text with one of ours and a given one after it."""
        parts = [*self.parts, Part(ours, given=False), Part(given, given=True)]
        return Written(self.text + ours + given, parts, self.is_complete)

    @property
    def frame(self) -> str:
        """The text with the same word in place of each given one."""
        return "".join(STAND_IN if part.given else part.text for part in self.parts)


def control_tokens(tokenizer: Any, template: str = "") -> dict[str, int]:
    """Return the tokens of a tokenizer that are more than text, and their ids.

    These are its special tokens, and those added ones that a template uses or that have a bracket, bar or the like.
    Turn markers are often added without being special.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase or tokenizers.Tokenizer
    template : str, default=""
        The chat template that is used with it.
    """
    special = set(getattr(tokenizer, "all_special_tokens", ()))
    is_backend = not hasattr(tokenizer, "added_tokens_decoder")
    added = tokenizer.get_added_tokens_decoder() if is_backend else tokenizer.added_tokens_decoder
    return {
        token.content: int(place)
        for place, token in added.items()
        if token.content.replace("\u2581", " ").strip()
        and (token.special or token.content in special or token.content in template or MARKS & set(token.content))
    }


def plain_backend(backend: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a tokenizer of the library `tokenizers` that has other names for some of its tokens.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
    names : mapping of str to str
        The new names of tokens. All of them keep their ids.

    Raises
    ------
    Exception
        If the tokenizer cannot be written as JSON, since it has parts in Python.
    """
    from tokenizers import Tokenizer

    made = json.loads(backend.to_str())
    made["truncation"] = made["padding"] = None
    for token in made["added_tokens"]:
        name = names.get(token["content"])
        if name is not None:
            normalizer = backend.normalizer
            kept = normalizer is None or name in normalizer.normalize_str(name)
            token |= {"content": name, "single_word": False, "normalized": token["normalized"] and kept}
    model = made["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): place for token, place in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [merge for merge in model["merges"] if not _leads_to(merge, prefix, names)]
    return Tokenizer.from_str(json.dumps(made))


def _leads_to(merge: str | list[str], prefix: str, names: Mapping[str, str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in names or right in names or left + right.removeprefix(prefix) in names


def plain_tokenizer(tokenizer: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a tokenizer of transformers that has other names for some of its tokens; see `plain_backend`."""
    from transformers import PreTrainedTokenizerFast

    special = {role: names.get(token, token) for role, token in tokenizer.special_tokens_map.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=plain_backend(tokenizer.backend_tokenizer, names),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **special,
    )


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a text of ours with the new names of the tokens in it, the longest first."""
    if not names:
        return text
    longest_first = sorted(names, key=lambda token: (-len(token), token))
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found.group()], text)


def private_names(tokens: Iterable[str]) -> dict[str, str]:
    """Return a name for each token that no text can contain, unless by guessing 128 bits."""
    key = secrets.token_hex(16)
    return {token: f"\0{key}{place}\0" for place, token in enumerate(tokens)}


class PlainTokenizer:
    """A tokenizer whose control tokens come from our parts of a text alone.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    name : str
        Of the model, for errors.
    add_special_tokens : bool
        Whether the tokenizer adds those that begin or end a text.
    template : str, default=""
        The chat template that is used with it.
    """

    def __init__(self, tokenizer: Any, name: str, *, add_special_tokens: bool, template: str = "") -> None:
        self._tokenizer, self._name, self._add = tokenizer, name, add_special_tokens
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self.control = control_tokens(tokenizer, template)
        longest_first = sorted(self.control, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._counted = set(self.control.values()) - self._unknown()
        self._names = private_names(self.control)
        self._plain: Any = None

    def _unknown(self) -> set[int]:
        """Return the id of the token for what is not in the vocabulary, if there is one: ordinary texts have it, too.

        What a tokenizer calls its unknown token is not always what its model makes, and may end a text as well.
        """
        stated = getattr(getattr(self._backend, "model", None), "unk_token", None)
        known = set() if stated is None else {int(self._tokenizer.convert_tokens_to_ids(stated))}
        return known.union(*self._tokenizer(list(RARE), add_special_tokens=False)["input_ids"])

    def encode(self, written: Sequence[Written]) -> list[list[int]]:
        """Return the tokens of each text.

        Raises
        ------
        LLMError
            If a control token in a given text cannot be kept from being one.
        """
        frames = list(dict.fromkeys(each.frame for each in written))
        made = in_fresh_thread(lambda: self._ids([*(each.text for each in written), *frames]))
        expected = dict(zip(frames, map(self._control_of, made[len(written) :]), strict=True))
        encoded = []
        for each, ids in zip(written, made, strict=False):
            wanted = expected[each.frame]
            is_right = self._is_plain(each) and self._control_of(ids) == wanted
            encoded.append(ids if is_right else self._apart(each, wanted))
        return encoded

    def forget(self) -> None:
        """Drop the words that the tokenizers keep for speed."""
        for backend in (self._backend, self._plain):
            # Private, but the only way to the words that BPE keeps, where it is not for each thread.
            getattr(getattr(backend, "model", None), "_clear_cache", lambda: None)()

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # Too long a prompt is the caller's error, not a warning.
        return list(self._tokenizer(texts, add_special_tokens=self._add, verbose=False)["input_ids"])

    def _control_of(self, ids: Iterable[int]) -> list[int]:
        return [place for place in ids if place in self._counted]

    def _is_plain(self, written: Written) -> bool:
        given = "\0".join(part.text for part in written.parts if part.given)
        return not any(token in given for token in self.control)

    def _apart(self, written: Written, wanted: list[int]) -> list[int]:
        if not written.is_complete:
            raise LLMError(self._refusal())
        try:
            by = self._ids_by_section if self._backend is None else self._ids_by_name
            ids = in_fresh_thread(lambda: by(written))
        except Exception as error:  # whatever a tokenizer of one's own may raise; it could quote the text
            raise LLMError(f"{self._refusal()} ({type(error).__name__})") from None
        if self._control_of(ids) != wanted:
            raise LLMError(self._refusal())
        return ids

    def _refusal(self) -> str:
        return (
            f"the tokenizer of {self._name} cannot take a control token in an example, the query or an option as text: "
            'take it out, or refuse such texts with on_control_tokens="refuse"'
        )

    def _ids_by_name(self, written: Written) -> list[int]:
        if self._plain is None:
            self._plain = plain_backend(self._backend, self._names)
        text = "".join(
            part.text if part.given else self._pattern.sub(lambda found: self._names[found.group()], part.text)
            for part in written.parts
        )
        return list(self._plain.encode(text, add_special_tokens=self._add).ids)

    def _ids_by_section(self, written: Written) -> list[int]:
        """Return the tokens of a tokenizer in Python, which can be told to look for no added tokens in a text."""
        ids: list[int] = []
        for section, is_control in self._sections(written.parts):
            tokens = [section] if is_control else self._tokenizer.tokenize(section, split_special_tokens=True)
            ids += self._tokenizer.convert_tokens_to_ids(tokens)
        return list(self._tokenizer.build_inputs_with_special_tokens(ids)) if self._add else ids

    def _sections(self, parts: Sequence[Part]) -> Iterator[tuple[str, bool]]:
        """Yield our control tokens, and the texts between them."""
        text = ""
        for part in parts:
            start = 0
            for found in () if part.given else self._pattern.finditer(part.text):
                text += part.text[start : found.start()]
                if text:
                    yield text, False
                yield found.group(), True
                text, start = "", found.end()
            text += part.text[start:]
        if text:
            yield text, False
