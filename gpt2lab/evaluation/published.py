"""Values published in the literature, for the model, the text and the protocol that they were taken with.

Each has the place where it stands. A figure of another protocol or text is no figure to compare with, and is not here;
docs/evaluation.md says which of the GPT-2 paper's columns can be met, and why the others cannot.
"""

from gpt2lab.weights import StoredModel

PAPER = "GPT-2 paper, table 3"
PERPLEXITY_PAGE = "transformers, perplexity page"
HF_13761 = "huggingface/transformers#13761"
NEO_README = "EleutherAI/gpt-neo, README"
LM_EVAL_2159 = "EleutherAI/lm-evaluation-harness#2159"
LLM_C_HELLASWAG = "karpathy/llm.c, dev/data/hellaswag.py"
LM_EVAL_LOG = "a stored log of lm-evaluation-harness, task wikitext"
BFLM = "bflm, eval_lambada.py"

Published = tuple[float, str]
"""a figure and where it stands"""

_SMALL, _MEDIUM, _LARGE, _XL = (f"openai-community/gpt2{size}" for size in ("", "-medium", "-large", "-xl"))

_WIKITEXT: dict[tuple[str, str, int | None], dict[str, Published]] = {
    (_SMALL, "huggingface", 1024): {"token_perplexity": (29.94, HF_13761)},
    (_LARGE, "huggingface", 1024): {"token_perplexity": (19.44, PERPLEXITY_PAGE)},
    (_LARGE, "huggingface", 512): {"token_perplexity": (16.44, PERPLEXITY_PAGE)},
    (_SMALL, "lm_eval", None): {"word_perplexity": (37.37, HF_13761), "bits_per_byte": (0.9769, LM_EVAL_LOG)},
    (_XL, "lm_eval", None): {"word_perplexity": (17.48, NEO_README)},
}
PUBLISHED_PERPLEXITIES: dict[tuple[str, str, str, int | None], dict[str, Published]] = {
    (model, corpus, protocol, stride): values
    for (model, protocol, stride), values in _WIKITEXT.items()
    for corpus in ("wikitext2", "wikitext103")  # they have the same test text
}
"""by model, corpus, protocol and stride"""

_PAPER_COLUMNS = {
    "ptb": ("word_perplexity", (65.85, 47.33, 40.31, 35.76)),
    "enwik8": ("bits_per_byte", (1.16, 1.01, 0.97, 0.93)),
    "text8": ("bits_per_byte", (1.17, 1.06, 1.02, 0.98)),
    "wikitext2": ("word_perplexity", (29.41, 22.76, 19.93, 18.34)),
    "wikitext103": ("word_perplexity", (37.50, 26.37, 22.05, 17.48)),
}
PUBLISHED_PERPLEXITIES |= {
    (model, corpus, "gpt2_paper", 32): {metric: (value, PAPER)}
    for corpus, (metric, values) in _PAPER_COLUMNS.items()
    for model, value in zip((_SMALL, _MEDIUM, _LARGE, _XL), values, strict=True)
}

_CBT = {"cbt_cn": (0.8765, 0.9235, 0.9345, 0.9330), "cbt_ne": (0.834, 0.871, 0.880, 0.8905)}
PUBLISHED_TASKS: dict[tuple[str, str], dict[str, Published]] = {
    (_SMALL, "lambada_openai"): {
        "acc": (0.3256, LM_EVAL_2159),
        "perplexity": (40.0554, LM_EVAL_2159),
        "acc_last_token": (0.4667, BFLM),
    },
    (_XL, "lambada_openai"): {"acc": (0.5121, NEO_README), "perplexity": (10.634, NEO_README)},
    (_SMALL, "hellaswag"): {"acc": (0.2892, LLM_C_HELLASWAG), "acc_norm": (0.3114, LLM_C_HELLASWAG)},
    (_XL, "hellaswag"): {"acc": (0.4003, NEO_README), "acc_norm": (0.5089, NEO_README)},
    **{
        (model, task): {"acc": (value, PAPER)}
        for task, values in _CBT.items()
        for model, value in zip((_SMALL, _MEDIUM, _LARGE, _XL), values, strict=True)
    },
}
"""by model and task, every question of it"""


def find_published(source: StoredModel, corpus: str, protocol: str, stride: int | None) -> dict[str, Published]:
    """What is published of this model on this corpus under this protocol, by metric."""
    return PUBLISHED_PERPLEXITIES.get((str(source.origin["checkpoint"]), corpus, protocol, stride), {})


def find_published_task(source: StoredModel, task: str) -> dict[str, Published]:
    """What is published of this model on this task, by metric."""
    return PUBLISHED_TASKS.get((str(source.origin["checkpoint"]), task), {})
