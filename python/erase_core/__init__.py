"""Exact unlearning for the examples that adapt an LLM.

`Erase` keeps examples, makes prompts of them, and forgets them. `QKMeans`, beneath it, is quantised k-means whose state
after any removals and additions is, bit for bit, that of a fit on the rows that remain. This package is
quick to import: scikit-learn comes with the first use of `QKMeans`, torch when a model is loaded.
"""

import warnings as _warnings
from typing import TYPE_CHECKING as _TYPE_CHECKING

from erase_core import _core
from erase_core._core import UpdateReport, __version__
from erase_core.embedding.projection import principal_axes
from erase_core.embedding.sentence import Embedder, SentenceEmbedder
from erase_core.erase import Erase
from erase_core.errors import (
    DataError,
    DataWarning,
    DuplicateIdError,
    EmbedderError,
    EmptyModelError,
    EraseError,
    ExampleError,
    ForgottenError,
    IdKindError,
    LLMError,
    MissingPackageError,
    ModelFileError,
    NotPicklableError,
    OldCopyWarning,
    ParameterError,
    PromptTooLongError,
    ReceiptError,
    ScrubError,
    ScrubWarning,
    ServerError,
    SourceError,
    StopWarning,
    StoreError,
    StoreLockedError,
    StoreVersionError,
    UncertainError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.examples.example import BadRow, Example, Reading
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, Answer, Choice, OpenAILLM, ServerOptions, TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from erase_core.receipts.chain import ChainVerification, verify_receipts
from erase_core.receipts.receipt import Receipt, ReceiptRef
from erase_core.receipts.signing import Signer
from erase_core.reports import ForgetReport, IngestReport, Status, Verification
from erase_core.settings import Settings

if _TYPE_CHECKING:
    from erase_core.kmeans import QKMeans

__all__ = [
    "LLM",
    "Answer",
    "BadRow",
    "ChainVerification",
    "Choice",
    "DataError",
    "DataWarning",
    "DuplicateIdError",
    "Embedder",
    "EmbedderError",
    "EmptyModelError",
    "Erase",
    "EraseError",
    "Example",
    "ExampleError",
    "ForgetReport",
    "ForgottenError",
    "IdKindError",
    "IngestReport",
    "LLMError",
    "MissingPackageError",
    "ModelFileError",
    "NotPicklableError",
    "OldCopyWarning",
    "OpenAILLM",
    "ParameterError",
    "Prompt",
    "PromptTooLongError",
    "QKMeans",
    "Reading",
    "Receipt",
    "ReceiptError",
    "ReceiptRef",
    "ScrubError",
    "ScrubWarning",
    "SentenceEmbedder",
    "ServerError",
    "ServerOptions",
    "Settings",
    "Signer",
    "SourceError",
    "Status",
    "StopWarning",
    "StoreError",
    "StoreLockedError",
    "StoreVersionError",
    "Template",
    "TransformersLLM",
    "UncertainError",
    "UnknownIdError",
    "UnknownSubjectError",
    "UpdateReport",
    "Verification",
    "__version__",
    "principal_axes",
    "read_examples",
    "verify_receipts",
]


def __getattr__(name: str) -> object:
    # Not before it is asked for: scikit-learn, whose estimator it is, takes a second to import.
    if name != "QKMeans":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from erase_core.kmeans import QKMeans

    globals()[name] = QKMeans
    return QKMeans


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if _core.DEBUG_BUILD:
    _warnings.warn(
        "erase_core was built without optimisation and is many times slower; build it with `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )
