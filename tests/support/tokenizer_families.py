"""Small tokenizers, one of each family, with turn markers of every kind, and small models that use them.

It judges nothing. The vocabularies are trained on a few sentences, so that most words are of several tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

CORPUS = [
    "where is my parcel? please refund the late parcel, it is broken.",
    "Q: Is ice cold?\nA: yes\n\nQ: Is fire cold?\nA: no, So the answer is no",
    "user system assistant im start end of turn think sep cls <|[</>]|> s e p",
    "the quick brown fox jumps over a lazy dog while rain falls 0 1 2 3 4 5 6 7 8 9",
]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING_CHAT = CHAT.replace("['content']", "['content'] | trim")
# As of models that drop the thoughts of earlier turns.
THOUGHTLESS_CHAT = CHAT.replace("message['content']", "message['content'].split('</think>')[-1]")
BRACKETS = ("<s>", "</s>", "<unk>")
MARKERS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
WORDS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]")


def added(content: str, **flags: bool) -> Any:
    from tokenizers import AddedToken

    return AddedToken(content, **{"normalized": False, **flags})


def _trained(model: Any, trainer: Any, normalizer: Any = None, pre_tokenizer: Any = None) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _wrapped(backend: Any, chat: str = CHAT, **special: str) -> Any:
    import transformers

    backend.add_special_tokens([added(token, special=True) for token in MARKERS[:2]])
    backend.add_tokens([added(MARKERS[2]), added(MARKERS[3], normalized=True)])  # not special
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=chat, **special)


def _bytes(normalizer: Any = None, *, special: tuple[str, ...] = BRACKETS[:2]) -> Any:
    from tokenizers import decoders, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet)
    backend = _trained(models.BPE(), trainer, normalizer, pre_tokenizers.ByteLevel(add_prefix_space=False))
    backend.decoder = decoders.ByteLevel()
    return backend


def byte_level() -> Any:
    return _wrapped(_bytes(), eos_token="</s>")


def byte_level_normalized() -> Any:
    """Matches some of its tokens after lower case and compatible forms, so in texts that do not have them."""
    from tokenizers import normalizers

    backend = _bytes(normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))
    backend.add_tokens([added("<|user|>", normalized=True), added("[INST]", normalized=True, special=True)])
    return _wrapped(backend, CHAT.replace("{% for", "<|user|>{% for"), eos_token="</s>")


def byte_level_stripping() -> Any:
    """Has tokens that take the white space beside them."""
    backend = _bytes()
    backend.add_special_tokens([added("<|end|>", rstrip=True), added("<mask>", lstrip=True)])
    backend.add_tokens([added("   "), added("\n\n"), added("<word>", single_word=True)])  # as Gemma and NeoX have
    return _wrapped(backend, CHAT.replace("<|im_end|>", "<|end|>"), eos_token="</s>")


def _metaspace_vocabulary() -> Any:
    from tokenizers import models, trainers

    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"])
    from tokenizers import pre_tokenizers

    return _trained(models.BPE(unk_token="<unk>"), trainer, None, pre_tokenizers.Metaspace())


def legacy_llama() -> Any:
    """Puts a space before the text after every added token."""
    from tokenizers import normalizers, processors

    backend = _metaspace_vocabulary()
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return _wrapped(backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def metaspace_first() -> Any:
    from tokenizers import pre_tokenizers

    backend = _metaspace_vocabulary()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _wrapped(backend, TRIMMING_CHAT, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram() -> Any:
    """Has control tokens among the pieces of its model."""
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")
    backend = _trained(models.Unigram(), trainer, normalizers.NFKC(), pre_tokenizers.Metaspace())
    return _wrapped(backend, THOUGHTLESS_CHAT, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wordpiece(pre_tokenizer: Any = None) -> Any:
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(WORDS))
    backend = _trained(
        models.WordPiece(unk_token="[UNK]"),
        trainer,
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer() if pre_tokenizer is None else pre_tokenizer,
    )
    ends = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return _wrapped(backend, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]")


def wordpiece_of_words() -> Any:
    """Finds whole words, brackets and all, in its vocabulary."""
    from tokenizers import pre_tokenizers

    return wordpiece(pre_tokenizers.WhitespaceSplit())


def word_level() -> Any:
    from tokenizers import models, pre_tokenizers, trainers

    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "[SEP]"])
    backend = _trained(models.WordLevel(unk_token="[UNK]"), trainer, None, pre_tokenizers.WhitespaceSplit())
    return _wrapped(backend, sep_token="[SEP]", unk_token="[UNK]")


def in_python() -> Any:
    """Is no tokenizer of the library `tokenizers`."""
    import transformers

    tokenizer = transformers.ByT5Tokenizer(extra_ids=3)
    tokenizer.add_tokens([added(token, special=token in MARKERS[:2]) for token in MARKERS])
    tokenizer.chat_template = CHAT
    return tokenizer


FAMILIES: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        byte_level,
        byte_level_normalized,
        byte_level_stripping,
        legacy_llama,
        metaspace_first,
        unigram,
        wordpiece,
        wordpiece_of_words,
        word_level,
        in_python,
    )
}
# Of whose tokens a text can be told to the letter.
LOSSLESS = ("byte_level", "byte_level_stripping")


def save_model(folder: Path, tokenizer: Any) -> Path:
    """Save a small model for a tokenizer, and the tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.LlamaConfig(**size, vocab_size=len(tokenizer), max_position_embeddings=4096)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
