"""Directories with a tokenizer.json of each kind, in the form of Hugging Face, trained on a few sentences."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog, and the dog does not mind 123 times",
    "it's a naïve café; the fox isn't there, they've left: Ωμέγα, русский, 日本語 и 12345",
    "def f(x):\n    return  x + 1\n\n\n    # the end of the thing\n",
] * 4


def smollm(folder, vocab_size=400):
    """SmolLM's form: byte-level BPE, digits one by one, end-of-text is id 0 and stands before a document too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>", "<|im_start|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _save(tokenizer, folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def pythia(folder, vocab_size=400):
    """Pythia's form: byte-level BPE with GPT-2's splitting, text normalized to NFC, runs of spaces as added tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(8, 1, -1)])
    return _save(tokenizer, folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def llama(folder, vocab_size=400):
    """Llama 2's form: SentencePiece's BPE, a space before the text, bytes for unknown characters, <s> and </s>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False, limit_alphabet=60)
    tokenizer.train_from_iterator(CORPUS, trainer)
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = values["added_tokens"][:3]  # the byte pieces are no added tokens in Llama's file
    return _save(Tokenizer.from_str(json.dumps(values)), folder, bos_token="<s>", eos_token="</s>")


def t5(folder, vocab_size=200):
    """T5's form: SentencePiece's Unigram, spaces collapsed, no bytes."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _save(tokenizer, folder, eos_token="</s>")


def bert(folder):
    """BERT's form, whose ids stand for no bytes."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _save(tokenizer, folder, eos_token="[SEP]")


MAKERS = {"smollm": smollm, "pythia": pythia, "llama": llama, "t5": t5}


def _save(tokenizer, folder, **special):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | special
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def mixed_text(generator, characters):
    """Words, digits, spaces and characters of all 17 planes of Unicode, assigned or not, without surrogates."""
    words = " ".join(CORPUS).split(" ")
    parts, length = [], 0
    while length < characters:
        kind = generator.randrange(4)
        if kind == 0:
            point = generator.randrange(0x110000) if generator.random() < 0.5 else generator.randrange(0x3000)
            part = chr(point) * generator.randrange(1, 4) if not 0xD800 <= point < 0xE000 else "x"
        elif kind == 1:
            part = generator.choice(["\n", "  ", "\t", " \n ", "'s", "...", "<|endoftext|>", "</s>", "0", "42"])
        else:
            part = generator.choice([" ", ""]) + generator.choice(words)
        parts.append(part)
        length += len(part)
    return "".join(parts)
