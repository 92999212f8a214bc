"""A linear probe of hidden states, which may still contain answers that a model no longer gives.

From "Unforgettable Generalization" (2409.02228), where a linear classifier of hidden states still finds the answers of
a skill after the model was fine-tuned on random labels. The probe is fitted to the states of examples that were not
forgotten, and judged on the forgotten ones. Layer and classifier are our own choice: a logistic regression with
scikit-learn's defaults, on standardised states of any layer at the last token of the question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from erase_core.evaluate.measures.cost import count_tokens_of
from erase_core.examples.example import Example
from erase_core.llm.prompt import Prompt, Template
from erase_core.llm.transformers import TransformersLLM

__all__ = ["hidden_states", "probe_accuracy"]


def hidden_states(
    llm: TransformersLLM, template: Template, examples: Sequence[Example], layer: int = -1
) -> NDArray[np.float64]:
    """Return the hidden state at the last token of each question, without demonstrations.

    Parameters
    ----------
    llm : TransformersLLM
        Within `AdaptedModel.active()`, the states are those of the adapted model.
    template : Template
    examples : sequence of Example
    layer : int, default=-1
        0 is the embedding of tokens, -1 the last layer.

    Returns
    -------
    ndarray of shape (n, hidden size)
    """
    count_tokens_of(llm.network)
    rows = []
    with torch.no_grad():
        for example in examples:
            tokens, _ = llm.tokens(Prompt(template, (), example.input), [example.output])
            fed = torch.tensor([tokens], device=llm.network.device)
            states = llm.network(input_ids=fed, use_cache=False, output_hidden_states=True).hidden_states[layer]
            rows.append(states[0, -1].double().cpu().numpy())
    return np.array(rows)


def probe_accuracy(states: ArrayLike, labels: ArrayLike, probed: ArrayLike, probed_labels: ArrayLike) -> float:
    """Return the share of right answers of a linear probe.

    Parameters
    ----------
    states : array-like of shape (n, d)
        Of examples that were not forgotten.
    labels : array-like of int of shape (n,)
        Of two kinds or more.
    probed, probed_labels : array-like of shape (m, d) and (m,)
        Of the forgotten examples.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(classifier.fit(states, labels).score(probed, probed_labels))
