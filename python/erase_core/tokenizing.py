"""Tokenising texts so that user-supplied text never becomes a control token.

A tokenizer finds its added tokens anywhere in a text: ``<|im_start|>`` in a customer's question would begin a turn. So
a text consists of parts here. A part is either trusted (from a template) or given (an example, a query, an option).
Only trusted parts may produce control tokens.

If this holds already, the tokens are those of the original tokenizer. Otherwise a modified copy of it is used, whose
control tokens have private names, both in its model and among its added tokens. Trusted parts are written with these
names. Given parts cannot contain them, and no rule of the tokenizer (merges, lower-casing, normalisation) produces
them. Everything else, such as a space that some tokenizers put before a word, is unchanged.

transformers 5.24 has `sanitize_control_tokens` for chats. It does not support plain prompts and continuations, removes
characters from given texts, and refuses control tokens in the vocabulary of a unigram model.
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

# The placeholder for a given text: it is not a control token, and forms none with its neighbours.
STAND_IN = "erasecoretext"
# Characters that hardly any vocabulary contains.
RARE = "\U00012000\U00013000\ua66e\U000f0000"
# An added token that is not special and contains none of these is an ordinary word or white space.
MARKS = frozenset(string.punctuation) - frozenset("-_'.,")


class Part(NamedTuple):
    """A part of a text: given (by an example, a query or an option) or trusted (from a template)."""

    text: str
    given: bool


class Written(NamedTuple):
    """A text to tokenise, and its parts.

    A chat template may modify given texts. Then the text differs from its parts, which keep the original texts.
    `is_complete` is false if the template has dropped or replaced a given text.
    """

    text: str
    parts: Sequence[Part]
    is_complete: bool = True

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Written:
        """Return the concatenation of parts."""
        return cls("".join(part.text for part in parts), parts)

    def followed_by(self, ours: str, given: str) -> Written:
        """Return this text followed by a trusted and a given text."""
        parts = [*self.parts, Part(ours, given=False), Part(given, given=True)]
        return Written(self.text + ours + given, parts, self.is_complete)

    @property
    def frame(self) -> str:
        """The text with a placeholder for each given part."""
        return "".join(STAND_IN if part.given else part.text for part in self.parts)


def control_tokens(tokenizer: Any, template: str = "") -> dict[str, int]:
    """Return the control tokens of a tokenizer and their ids.

    These are its special tokens, and the added tokens that a template uses or that contain brackets, bars or the like:
    turn markers are often added tokens without being special.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase or tokenizers.Tokenizer
    template : str, default=""
        The chat template in use.
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
    """Return a copy of a tokenizer of the library `tokenizers` with new names for some of its tokens.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
    names : mapping of str to str
        The new names. The ids of the tokens do not change.

    Raises
    ------
    Exception
        The tokenizer has parts in Python, so it cannot be written as JSON.
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
    """Return a copy of a tokenizer of transformers with new names for some of its tokens: see `plain_backend`."""
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
    """Return a trusted text with its tokens replaced by their new names, the longest tokens first."""
    if not names:
        return text
    longest_first = sorted(names, key=lambda token: (-len(token), token))
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found.group()], text)


def private_names(tokens: Iterable[str]) -> dict[str, str]:
    """Return a secret name for each token. A text can contain it only by guessing 128 bits."""
    key = secrets.token_hex(16)
    return {token: f"\0{key}{place}\0" for place, token in enumerate(tokens)}


class PlainTokenizer:
    """A tokenizer that produces control tokens only from trusted parts of a text.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    name : str
        Name of the model, for messages.
    add_special_tokens : bool
        Whether the tokenizer adds special tokens at the beginning or end of a text.
    template : str, default=""
        The chat template in use.
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
        """Return the ids of the unknown token, which ordinary texts may contain, too.

        The unknown token that a tokenizer names is not always the one that its model produces; it may also be the token
        that ends a text.
        """
        stated = getattr(getattr(self._backend, "model", None), "unk_token", None)
        known = set() if stated is None else {int(self._tokenizer.convert_tokens_to_ids(stated))}
        return known.union(*self._tokenizer(list(RARE), add_special_tokens=False)["input_ids"])

    def encode(self, written: Sequence[Written], *, inside: bool = False) -> list[list[int]]:
        """Return the tokens of each text.

        Parameters
        ----------
        written : sequence of Written
        inside : bool, default=False
            Whether the texts are within a prompt, so that no special tokens are added at their ends.

        Raises
        ------
        LLMError
            A control token in a given text cannot be tokenised as text.
        """
        frames = list(dict.fromkeys(each.frame for each in written))
        add = self._add and not inside
        made = in_fresh_thread(lambda: self._ids([*(each.text for each in written), *frames], add))
        expected = dict(zip(frames, map(self._control_of, made[len(written) :]), strict=True))
        encoded = []
        for each, ids in zip(written, made, strict=False):
            wanted = expected[each.frame]
            is_right = self._is_plain(each) and self._control_of(ids) == wanted
            encoded.append(ids if is_right else self._as_text(each, wanted, add))
        return encoded

    def forget(self) -> None:
        """Empty the tokenizers' caches of words."""
        for backend in (self._backend, self._plain):
            # A private method, but the only way to empty the cache of words of BPE if it is shared by threads.
            getattr(getattr(backend, "model", None), "_clear_cache", lambda: None)()

    def _ids(self, texts: list[str], add: bool) -> list[list[int]]:
        # verbose=False: the caller raises an error for a prompt that is too long, so no warning is needed.
        return list(self._tokenizer(texts, add_special_tokens=add, verbose=False)["input_ids"])

    def _control_of(self, ids: Iterable[int]) -> list[int]:
        return [place for place in ids if place in self._counted]

    def _is_plain(self, written: Written) -> bool:
        given = "\0".join(part.text for part in written.parts if part.given)
        return not any(token in given for token in self.control)

    def _as_text(self, written: Written, wanted: list[int], add: bool) -> list[int]:
        if not written.is_complete:
            raise LLMError(self._refusal())
        try:
            by = self._ids_by_section if self._backend is None else self._ids_by_name
            ids = in_fresh_thread(lambda: by(written, add))
        except Exception as error:  # a custom tokenizer may raise anything, and its message may quote the text
            raise LLMError(f"{self._refusal()} ({type(error).__name__})") from None
        if self._control_of(ids) != wanted:
            raise LLMError(self._refusal())
        return ids

    def _refusal(self) -> str:
        return (
            f"the tokenizer of {self._name} cannot read a control token in an example, the query or an option as text. "
            'Remove it, or refuse such texts with on_control_tokens="refuse".'
        )

    def _ids_by_name(self, written: Written, add: bool) -> list[int]:
        if self._plain is None:
            self._plain = plain_backend(self._backend, self._names)
        text = "".join(
            part.text if part.given else self._pattern.sub(lambda found: self._names[found.group()], part.text)
            for part in written.parts
        )
        return list(self._plain.encode(text, add_special_tokens=add).ids)

    def _ids_by_section(self, written: Written, add: bool) -> list[int]:
        """Return the tokens of a tokenizer in Python, which has an option to ignore added tokens in a text."""
        ids: list[int] = []
        for section, is_control in self._sections(written.parts):
            tokens = [section] if is_control else self._tokenizer.tokenize(section, split_special_tokens=True)
            ids += self._tokenizer.convert_tokens_to_ids(tokens)
        return list(self._tokenizer.build_inputs_with_special_tokens(ids)) if add else ids

    def _sections(self, parts: Sequence[Part]) -> Iterator[tuple[str, bool]]:
        """Yield the control tokens of trusted parts, and the texts between them."""
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
