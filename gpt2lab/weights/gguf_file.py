"""Writes a model as a GGUF file, which llama.cpp runs: float32 weights, settings and tokenizer in one file.

model -> the architecture of Hugging Face that has all its settings -> llama.cpp's names and layouts of its tensors
      -> FOLDER/ (model.gguf, README.md)

Names, keys and layouts are those of llama.cpp's own converter, convert_hf_to_gguf.py.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpt2lab.config import ModelConfig, UserError, not_installed
from gpt2lab.config.tokenizer import TOKENIZER_JSON
from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.tokenizers.byte_level import byte_characters
from gpt2lab.weights.architectures import ARCHITECTURES
from gpt2lab.weights.export import find_architecture
from gpt2lab.weights.new_folder import check_ids, new_folder
from gpt2lab.weights.parameter_map import MappedTensor

if TYPE_CHECKING:
    from gguf import GGUFWriter

GGUF = "model.gguf"
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's types of tokens; it finds those that are user-defined in any text, and shows them"""


def save_gguf(
    model: GPT,
    tokenizer: Tokenizer,
    folder: str | Path,
    card: str | None = None,
    trained_with: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Write ``folder``; return what opens it.

    Args:
        model: its weights.
        tokenizer: that its ids are of; byte-level BPE with GPT-2's splitting, or bytes.
        folder: a new one.
        card: the text of README.md; None: no such file.
        trained_with: further metadata, ``StoredModel.trained_with()``.

    Raises:
        UserError: the package gguf is missing, llama.cpp does not have the model's settings or its tokenizer, or
            ``folder`` already exists.
    """
    if importlib.util.find_spec("gguf") is None:
        raise not_installed("format=gguf", "gguf", "'gpt2lab[gguf]'")
    import gguf  # noqa: PLC0415

    check_ids(model, tokenizer)
    config = model.config
    architecture = find_architecture(config)
    layout = LAYOUTS[architecture.NAME]
    if config.mlp.name != layout.mlp:
        raise UserError(f"model/mlp={config.mlp.name}: llama.cpp's {layout.name} expects model/mlp={layout.mlp}")
    vocabulary = _vocabulary(tokenizer)
    names = gguf.get_tensor_name_map(layout.architecture(), config.n_layer)
    with new_folder(folder, model, card) as temporary:
        writer = gguf.GGUFWriter(temporary / GGUF, layout.name)
        writer.add_name(Path(folder).resolve().name)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        _add_settings(writer, model)
        for key, value in trained_with.items():
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
        layout.add_settings(writer, config)
        vocabulary.add_to(writer)
        for name, mapped in architecture.parameter_map(model).items():
            theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert theirs is not None, name
            writer.add_tensor(theirs, _array(layout.tensor(name, mapped, config)))
        if config.tie_head and not layout.shares_head:
            writer.add_tensor("output.weight", _array(model.head_PC[: config.vocab_size]))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return f"llama-cli -m {Path(folder) / GGUF}"


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().float().contiguous().numpy()
    return array


def _add_settings(writer: "GGUFWriter", model: GPT) -> None:
    """Add the settings that all architectures have."""
    config = model.config
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(model.get_parameter("blocks.0.mlp.c_proj.weight").shape[1])
    writer.add_head_count(config.n_head)
    writer.add_vocab_size(config.vocab_size)


def _norm_settings(writer: "GGUFWriter", config: ModelConfig) -> None:
    writer.add_layer_norm_eps(config.norm.eps)


def _neox_settings(writer: "GGUFWriter", config: ModelConfig) -> None:
    _norm_settings(writer, config)
    writer.add_parallel_residual(use=False)
    _rope_settings(writer, config)


def _llama_settings(writer: "GGUFWriter", config: ModelConfig) -> None:
    writer.add_layer_norm_rms_eps(config.norm.eps)
    writer.add_head_count_kv(config.kv_heads)
    _rope_settings(writer, config)


def _rope_settings(writer: "GGUFWriter", config: ModelConfig) -> None:
    writer.add_rope_dimension_count(int(config.head_dim * config.positions.rope_fraction))
    writer.add_rope_freq_base(config.positions.rope_theta)


def _gpt2_tensor(name: str, mapped: MappedTensor, config: ModelConfig) -> Tensor:
    """[out, in], where GPT-2 of ``transformers`` has [in, out]."""
    is_conv1d = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
    return mapped.view.t() if is_conv1d else mapped.view


def _neox_tensor(name: str, mapped: MappedTensor, config: ModelConfig) -> Tensor:
    """q, k, v one after the other, where GPT-NeoX of ``transformers`` has those of each head together."""
    is_qkv = ".query_key_value." in name
    return mapped.view.transpose(0, 1).reshape(mapped.shape) if is_qkv else mapped.view


def _llama_tensor(name: str, mapped: MappedTensor, config: ModelConfig) -> Tensor:
    """Queries and keys with the rotated pairs (2r, 2r + 1) of a head, where ours are (r, r + R)."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return mapped.view
    by_pair = mapped.view.unflatten(0, (-1, 2, config.head_dim // 2))
    return by_pair.transpose(1, 2).reshape(mapped.shape)


class GGUFLayout(NamedTuple):
    """How llama.cpp stores an architecture."""

    name: str
    mlp: str
    """the one activation that llama.cpp has for it; its GELU is the tanh form"""
    add_settings: Callable[["GGUFWriter", ModelConfig], None]
    tensor: Callable[[str, MappedTensor, ModelConfig], Tensor]
    """of a tensor's name in ``transformers``"""
    shares_head: bool = True
    """a file without a head has the embedding's"""

    def architecture(self) -> Any:
        """Return its number in the package gguf."""
        from gguf.constants import MODEL_ARCH_NAMES  # noqa: PLC0415

        return next(number for number, name in MODEL_ARCH_NAMES.items() if name == self.name)


LAYOUTS = {
    ARCHITECTURES["gpt2"].NAME: GGUFLayout("gpt2", "gelu", _norm_settings, _gpt2_tensor),
    ARCHITECTURES["gpt_neox"].NAME: GGUFLayout("gptneox", "gelu", _neox_settings, _neox_tensor, shares_head=False),
    ARCHITECTURES["llama"].NAME: GGUFLayout("llama", "swiglu", _llama_settings, _llama_tensor),
}
"""by the name of the architecture"""


class Vocabulary(NamedTuple):
    """A byte-level BPE as llama.cpp has it."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos_id: int
    eos_id: int

    def add_to(self, writer: "GGUFWriter") -> None:
        """Add it to a file."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_bos_token_id(self.bos_id)
        writer.add_eos_token_id(self.eos_id)
        writer.add_add_bos_token(self.bos_id != self.eos_id)
        writer.add_add_space_prefix(value=False)


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Return what llama.cpp needs to give the tokenizer's ids.

    Raises:
        UserError: it splits text in another way than GPT-2's.
    """
    values = json.loads(tokenizer.hugging_face_files()[TOKENIZER_JSON])
    split, bpe = values.get("pre_tokenizer") or {}, values["model"]
    is_byte_level = split.get("type") == "ByteLevel" and not split.get("add_prefix_space")
    splits_as_gpt2 = is_byte_level and (split.get("use_regex", True) or not bpe.get("merges"))
    if bpe.get("type", "BPE") != "BPE" or values.get("normalizer") or not splits_as_gpt2:
        raise UserError(
            f"tokenizer={tokenizer.name}: format=gguf writes byte-level BPE with GPT-2's splitting (gpt2, bpe, bytes); "
            "expected one of these; try format=transformers and llama.cpp's convert_hf_to_gguf.py"
        )
    tokens = [f"[PAD{token}]" for token in range(tokenizer.vocab_size)]
    types = [UNUSED] * tokenizer.vocab_size
    for piece, token in bpe["vocab"].items():
        tokens[token], types[token] = piece, NORMAL
    for added in values["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"]]
    return Vocabulary(tokens, types, merges or [_merge_of_no_text()], tokenizer.bos_id, tokenizer.eot_id)


def _merge_of_no_text() -> str:
    """A merge of two bytes that no UTF-8 has: llama.cpp refuses a file without merges."""
    return f"{byte_characters()[0xFE]} {byte_characters()[0xFF]}"
