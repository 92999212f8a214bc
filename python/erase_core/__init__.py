"""Exact unlearning for the examples that adapt an LLM.

`Erase` stores examples, builds prompts from them, and forgets them on request. After a removal, store and model are,
bit for bit, what they would be if the removed examples had never been added. A receipt proves each removal.

>>> import tempfile
>>> from erase_core import Erase
>>> tickets = [
...     {"id": 1, "input": "where is my parcel", "output": "delivery", "subject": "ann"},
...     {"id": 2, "input": "please refund the kettle", "output": "refund", "subject": "bob"},
...     {"id": 3, "input": "my parcel is late", "output": "delivery", "subject": "cem"},
... ]
>>> folder = tempfile.TemporaryDirectory()
>>> with Erase.create(f"{folder.name}/store", n_shots=2, receipts=f"{folder.name}/receipts") as erase:
...     n_added = erase.ingest(tickets).n_added
...     report = erase.forget(subject="ann")
...     texts = [example.input for example in erase.prompt("is my parcel late").demonstrations]
...     verification = erase.verify(absent=["where is my parcel"])
>>> n_added, report.ids, report.n_examples
(3, [1], 2)
>>> sorted(texts)
['my parcel is late', 'please refund the kettle']
>>> verification.ok
True
>>> folder.cleanup()

`scan_folder` searches the folders of other programs for texts and vectors that should be gone.

`Erase.ask` and `Erase.choose` send such a prompt to a language model. `AsyncErase` has the methods of `Erase` as
coroutines. `QKMeans` is the clustering underneath: a quantised k-means with exact removal, and a scikit-learn
estimator. Importing this package is fast: scikit-learn is imported with the first use of `QKMeans`, torch when a model
is loaded. All errors are listed in `erase_core.errors`.
"""

import warnings as _warnings
from typing import TYPE_CHECKING as _TYPE_CHECKING

from erase_core import _core
from erase_core._core import UpdateReport, __version__
from erase_core.async_erase import AsyncErase
from erase_core.embedding.projection import principal_axes
from erase_core.embedding.sentence import Embedder, SentenceEmbedder
from erase_core.erase import Erase
from erase_core.erasure_report.contents import report_erasure, traces_of
from erase_core.erasure_report.facts import ErasureReport
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
    KeyFileError,
    LLMError,
    MissingPackageError,
    ModelFileError,
    NotPicklableError,
    OldCopyWarning,
    ParameterError,
    PartError,
    PlatformError,
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
    WorkerLostError,
)
from erase_core.examples.example import AnyExample, BadRow, Example, NewExample, Reading
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, Answer, Choice, OpenAILLM, ServerOptions, TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from erase_core.receipts.chain import ChainVerification, verify_receipts
from erase_core.receipts.problem import Problem
from erase_core.receipts.receipt import Receipt, ReceiptRef
from erase_core.receipts.signing import Signer
from erase_core.reports import ForgetReport, IngestReport, PromptChanges, Route, Status, Verification, WarmReport
from erase_core.scan.folder import scan_folder
from erase_core.scan.report import ScanFinding, ScanReport, UnreadPlace
from erase_core.settings import GivenSettings, Settings

if _TYPE_CHECKING:
    from erase_core.kmeans import QKMeans

__all__ = [
    "LLM",
    "Answer",
    "AnyExample",
    "AsyncErase",
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
    "ErasureReport",
    "Example",
    "ExampleError",
    "ForgetReport",
    "ForgottenError",
    "GivenSettings",
    "IdKindError",
    "IngestReport",
    "KeyFileError",
    "LLMError",
    "MissingPackageError",
    "ModelFileError",
    "NewExample",
    "NotPicklableError",
    "OldCopyWarning",
    "OpenAILLM",
    "ParameterError",
    "PartError",
    "PlatformError",
    "Problem",
    "Prompt",
    "PromptChanges",
    "PromptTooLongError",
    "QKMeans",
    "Reading",
    "Receipt",
    "ReceiptError",
    "ReceiptRef",
    "Route",
    "ScanFinding",
    "ScanReport",
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
    "UnreadPlace",
    "UpdateReport",
    "Verification",
    "WarmReport",
    "WorkerLostError",
    "__version__",
    "principal_axes",
    "read_examples",
    "report_erasure",
    "scan_folder",
    "traces_of",
    "verify_receipts",
]


def __getattr__(name: str) -> object:
    # Imported on first use: scikit-learn takes a second to import.
    if name != "QKMeans":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from erase_core.kmeans import QKMeans

    globals()[name] = QKMeans
    return QKMeans


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if _core.DEBUG_BUILD:
    _warnings.warn(
        "erase_core was built without optimisation and is many times slower. Run `maturin develop --release`.",
        RuntimeWarning,
        stacklevel=2,
    )
