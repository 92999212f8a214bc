"""Finds the context length of a model in a server's list of models: llama.cpp, vLLM and some providers include it."""

from __future__ import annotations

__all__ = ["context_length_in"]

NAMES = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")


def context_length_in(listed: object, model: str) -> int | None:
    """Return the context length of a model in tokens; None if the list does not contain it.

    Parameters
    ----------
    listed : object
        The JSON of ``/v1/models``.
    model : str
        Name or alias of the model. If the list has only one model, as for llama.cpp, any name matches it.
    """
    data = listed.get("data") if isinstance(listed, dict) else None
    models = [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []
    own = [each for each in models if each.get("id") == model or model in _list(each.get("aliases"))]
    for each in own or (models if len(models) == 1 else []):
        meta = each.get("meta")
        for place in (meta if isinstance(meta, dict) else {}, each):
            for name in NAMES:
                value = place.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    return value
    return None


def _list(given: object) -> list[object]:
    return given if isinstance(given, list) else []
