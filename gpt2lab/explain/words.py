"""The sentences of the page: for each step what it is for, and the code that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt2lab.config import ModelConfig
from gpt2lab.explain.explanation import Explanation
from gpt2lab.generation import filters
from gpt2lab.model.attention import Attention, CausalAttention, attention_weights
from gpt2lab.model.gpt import GPT, Block
from gpt2lab.tokenizers import Tokenizer

POSITION_WORDS = {
    "learned": (
        "The same token means something else at another place, and attention alone cannot tell places apart. So the "
        "model has one more list of vectors, learned in training, one for each place in the text. The vector of the "
        "place is added to the vector of the token."
    ),
    "sinusoidal": (
        "The same token means something else at another place, and attention alone cannot tell places apart. So a "
        "fixed pattern of waves is added to each vector: fast waves tell neighbors apart, slow waves tell the "
        "beginning of the text from its end."
    ),
    "rope": (
        "The same token means something else at another place, and attention alone cannot tell places apart. This "
        "model adds nothing to the vectors. It turns each query and each key (they come below) by an angle that grows "
        "with the place, so what two tokens see of each other depends on how far apart they are."
    ),
    "alibi": (
        "The same token means something else at another place, and attention alone cannot tell places apart. This "
        "model adds nothing to the vectors. It lowers the scores of attention (they come below) the more, the farther "
        "back a token is. Each head has a slope of its own, so some heads see far and some only near."
    ),
    "none": (
        "This model gets no information about places. It can only use that a token sees the tokens before it and none "
        "after it: the first token sees one token, the second two."
    ),
}
NORM_WORDS = {
    "layernorm": (
        "Before each part of a block reads the vectors, they are brought to a common scale: from each number the "
        "vector's mean is subtracted, and the result is divided by the standard deviation. Then each channel is "
        "multiplied by a learned gain, and a learned bias is added if the model has one."
    ),
    "rmsnorm": (
        "Before each part of a block reads the vectors, they are brought to a common scale: each number is divided by "
        "the root of the vector's mean square. Then each channel is multiplied by a learned gain."
    ),
}


@dataclass(frozen=True)
class Step:
    """One section of the page."""

    id: str
    title: str
    text: str
    code: tuple[Callable[..., Any] | type, ...]
    """functions and classes that do it"""


def page_steps(explanation: Explanation) -> dict[str, Step]:
    """Every section, by its id, in the order of the page."""
    model = explanation.model
    steps = [*_input_steps(model, explanation.tokenizer), *_block_steps(model), *_output_steps(explanation)]
    return {step.id: step for step in steps}


def _input_steps(model: GPT, tokenizer: Tokenizer) -> list[Step]:
    """From the text to the vectors that the first block reads."""
    config, scheme = model.config, type(model.positions)
    return [
        Step(
            "text",
            "Text becomes tokens",
            "A computer stores text as bytes. The tokenizer joins bytes that often stand together into tokens, and "
            "each token has a number, its id. From here on the model sees only these ids.",
            (type(tokenizer).encode,),
        ),
        Step(
            "embedding",
            "Tokens become vectors",
            f"The model looks up each id in a table and finds a vector: {config.n_embd} numbers that were learned in "
            "training. Tokens that are used alike get similar vectors.",
            (GPT.hidden,),
        ),
        Step(
            "position",
            "Where in the text",
            POSITION_WORDS.get(config.positions.name, scheme.__doc__ or ""),
            (scheme,),
        ),
    ]


def _block_steps(model: GPT) -> list[Step]:
    """What a block does, and what the blocks do together."""
    config, n_layer = model.config, model.config.n_layer
    norm, mlp = type(model.norm_f), type(model.get_submodule("blocks.0.mlp"))
    return [
        Step(
            "blocks",
            f"Through {n_layer} block{'s' if n_layer > 1 else ''}",
            "A block changes the vectors in two ways. Attention lets each token collect information from the tokens "
            "before it; the MLP then works on each token alone. Both read the vectors and add something to them.",
            (Block,),
        ),
        Step(
            "norm",
            "Normalization",
            NORM_WORDS.get(config.norm.name, norm.__doc__ or ""),
            (norm,),
        ),
        Step("attention", "Attention", _attention_text(config), (Attention, CausalAttention, attention_weights)),
        Step(
            "residual",
            "Added, not replaced",
            "The heads' outputs are put side by side, multiplied by one more matrix, and added to the vectors they "
            "came from. This running sum is called the residual stream. It keeps what was there, and it lets training "
            "reach the early blocks.",
            (Block.forward,),
        ),
        Step(
            "mlp",
            "The MLP",
            "The MLP is the same small network for every token. Its hidden layer has units that respond to patterns in "
            "the vector. A unit that responds strongly adds its own direction to the stream.",
            (mlp,),
        ),
        Step(
            "stream",
            "The stream from block to block",
            "Reading the stream after each block as if it were the last shows how a prediction forms. This is the "
            "logit lens. The early rows are often meaningless: those vectors were made to be read by later blocks.",
            (GPT.logits,),
        ),
    ]


def _attention_text(config: ModelConfig) -> str:
    shared = (
        ""
        if config.kv_heads == config.n_head
        else f" Here {config.n_head // config.kv_heads} heads at a time share their keys and values."
    )
    return (
        f"A block has {config.n_head} heads. In each, every token has a query (what it looks for), a key (what it "
        f"offers) and a value (what it hands over), of {config.head_dim} numbers each.{shared} Where a query and a key "
        "agree, their product is large, and the token takes much of that value. No token may look at later ones."
    )


def _output_steps(explanation: Explanation) -> list[Step]:
    """From the last block to the next token."""
    config = explanation.model.config
    n_read = len(explanation.trace.ids_T) + len(explanation.steps) - 1
    return [
        Step(
            "logits",
            "From the last vector to one number per token",
            "A last normalization, then the vector is compared with a vector of every token of the vocabulary. "
            f"The results are {config.vocab_size:,} numbers, the logits: the higher, the more likely is it next.",
            (GPT.logits,),
        ),
        Step(
            "parts",
            "Which parts spoke for it",
            "The last vector is a sum: embeddings, every head, every MLP, and biases. So each logit is a sum, too. "
            "The last normalization depends on the whole vector. With what it computes from the vector kept at its "
            "value in this pass, the parts add up to the logit. This says what was added, not what would happen "
            "without it.",
            (),
        ),
        Step(
            "next",
            "Choosing the next token",
            "The softmax turns the logits into probabilities, and one token is drawn. A temperature below 1 makes "
            "likely tokens likelier, above 1 it evens them out. Top-k keeps only the k likeliest tokens, top-p only "
            "as many as are needed to reach the probability p.",
            (filters.sampling_probs, filters.draw),
        ),
        Step(
            "again",
            "And again",
            "The token is put at the end of the text, and the model reads the longer text to choose the next one. "
            + (
                "Since no token looks at later ones, nothing above changes: there is only one more token."
                if n_read <= config.block_size
                else f"It reads at most {config.block_size:,} tokens at once. Where there are more, the first ones are "
                "left out, so everything above is computed anew."
            ),
            (),
        ),
    ]
