"""Exact unlearning for the examples that adapt an LLM.

`Erase` keeps examples, makes prompts of them, and forgets them. `QKMeans`, beneath it, is quantised k-means whose state
after any removals and additions is, bit for bit, that of a fit on the rows that remain. Neither loads torch before a
model is needed.
"""

import warnings as _warnings

from erase_core import _core
from erase_core._core import UpdateReport, __version__
from erase_core.chain import ChainVerification, verify_receipts
from erase_core.embed import Embedder, SentenceEmbedder
from erase_core.errors import (
    DataError,
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
    StoreError,
    StoreLockedError,
    StoreVersionError,
    UncertainError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.examples import BadRow, Example, Reading
from erase_core.kmeans import QKMeans
from erase_core.llm import LLM, Answer, Choice, OpenAILLM, TransformersLLM
from erase_core.pipeline import Erase
from erase_core.projection import principal_axes
from erase_core.prompt import Prompt, Template
from erase_core.receipts import Receipt
from erase_core.reports import ForgetReport, IngestReport, Status, Verification
from erase_core.settings import Settings
from erase_core.signing import Signer
from erase_core.sources import read_examples

__all__ = [
    "LLM",
    "Answer",
    "BadRow",
    "ChainVerification",
    "Choice",
    "DataError",
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
    "ScrubError",
    "ScrubWarning",
    "SentenceEmbedder",
    "ServerError",
    "Settings",
    "Signer",
    "SourceError",
    "Status",
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

if _core.DEBUG_BUILD:
    _warnings.warn(
        "erase_core was built without optimisation and is many times slower; build it with `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )
