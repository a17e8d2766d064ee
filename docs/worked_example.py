"""Write docs/worked_example.md: one pass through a model of two heads of width 3, with every number.

    python docs/worked_example.py

The token vectors, position vectors, queries, keys and values are those printed in "How does a LLM work?" (2025-11-11);
all other numbers are computed by ``gpt2lab.explain.trace``, as for any model.

Legend: T = tokens, C = n_embd, H = heads, D = head_dim.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gpt2lab.config import ModelConfig
from gpt2lab.explain import Trace, trace
from gpt2lab.model import GPT
from gpt2lab.tokenizers import load_tokenizer

PAGE = Path(__file__).with_suffix(".md")
TEXT = "Hello, I'm a language model,"
N_HEAD, N_EMBD = 2, 6

# one line for each channel, one column for each token, as the article prints them
TOKEN_CT = """
 0.12 -0.05  0.33 -0.21  0.07  0.61 -0.30  0.00
-0.34  0.22  0.14  0.45 -0.18 -0.09  0.02 -0.07
 0.56 -0.13 -0.27  0.02  0.39  0.18  0.47  0.09
 0.03  0.40  0.58 -0.30  0.21 -0.42  0.11 -0.15
-0.11  0.01 -0.04  0.66 -0.50  0.25 -0.22  0.20
 0.89 -0.29  0.10 -0.08  0.04  0.33  0.55 -0.02"""
POSITION_CT = """
 0.05 -0.02  0.10 -0.07  0.03  0.06 -0.04  0.01
-0.01  0.08 -0.05  0.12 -0.09  0.02  0.07 -0.03
 0.14 -0.06  0.04  0.09 -0.02 -0.08  0.11  0.00
-0.07  0.03  0.13 -0.10  0.05  0.01 -0.02  0.08
 0.02 -0.04  0.06  0.00  0.09 -0.05  0.03 -0.01
 0.09  0.01 -0.08  0.04 -0.03  0.10 -0.06  0.02"""
QUERY_CT = """
 0.12 -0.21  0.35 -0.15  0.05  0.62 -0.28  0.03
-0.30  0.25  0.14  0.48 -0.22 -0.05  0.07 -0.12
 0.65 -0.12 -0.18  0.08  0.33  0.15  0.52  0.06
-0.02  0.39  0.67 -0.34  0.22 -0.36  0.06 -0.05
-0.07 -0.01  0.04  0.58 -0.36  0.17 -0.15  0.16
 0.92 -0.24  0.05 -0.02  0.03  0.38  0.45  0.02"""
KEY_CT = """
 0.18 -0.09  0.41 -0.26  0.11  0.68 -0.33  0.00
-0.36  0.31  0.08  0.55 -0.25 -0.09  0.10 -0.09
 0.71 -0.21 -0.21  0.12  0.39  0.08  0.56  0.08
-0.05  0.45  0.69 -0.38  0.27 -0.43  0.11 -0.08
-0.10 -0.02  0.01  0.63 -0.39  0.22 -0.17  0.18
 0.96 -0.30  0.00 -0.06  0.00  0.40  0.51 -0.01"""
VALUE_CT = """
 0.15 -0.18  0.38 -0.20  0.08  0.64 -0.31  0.02
-0.33  0.28  0.11  0.52 -0.24 -0.06  0.09 -0.11
 0.68 -0.16 -0.20  0.10  0.36  0.12  0.55  0.07
-0.03  0.41  0.70 -0.36  0.24 -0.40  0.08 -0.06
-0.08 -0.02  0.03  0.61 -0.38  0.21 -0.18  0.17
 0.95 -0.26  0.03 -0.03  0.02  0.41  0.48  0.01"""


def numbers(table: str) -> Tensor:
    """The numbers of a table, one row for each of its lines."""
    return torch.tensor([[float(word) for word in line.split()] for line in table.strip().splitlines()])


def example_trace() -> Trace:
    """One pass through a model with GPT-2's vocabulary whose embeddings, queries, keys and values are the article's."""
    tokenizer = load_tokenizer("gpt2")
    ids = tokenizer.encode(TEXT)
    torch.manual_seed(0)
    model = GPT(ModelConfig(
        n_layer=1, n_head=N_HEAD, n_embd=N_EMBD, block_size=len(ids), vocab_size=tokenizer.vocab_size
    ))  # fmt: skip
    with torch.no_grad():
        for token, vector_C in reversed([*zip(ids, numbers(TOKEN_CT).T, strict=True)]):
            model.wte.weight[token] = vector_C  # of the two commas, the first one's
        model.get_parameter("positions.wpe.weight").copy_(numbers(POSITION_CT).T)
    model.get_submodule("blocks.0.attn.attend").register_forward_pre_hook(_given_vectors)
    return trace(model, ids)


def _given_vectors(module: nn.Module, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The article's queries, keys and values in place of what the model's random matrices give."""
    return (*(_heads(numbers(table)) for table in (QUERY_CT, KEY_CT, VALUE_CT)), *inputs[3:])


def _heads(x_CT: Tensor) -> Tensor:
    """Channels parted into heads, [1, H, T, D]."""
    return x_CT.T.unflatten(1, (N_HEAD, -1)).transpose(0, 1)[None]


def page() -> str:
    """The whole page."""
    recorded, tokenizer = example_trace(), load_tokenizer("gpt2")
    block, ids = recorded.blocks[0], recorded.ids_T.tolist()
    names = [tokenizer.decode([token]).replace(" ", "␣") for token in ids]
    q_D, k_D = block.q_HTD[0, 0], block.k_KTD[0, 0]
    products = " + ".join(f"({q:.2f} * {k:.2f})" for q, k in zip(q_D.tolist(), k_D.tolist(), strict=True))
    row_S, value_S = block.weights_HTT[0, 1, :2].tolist(), block.v_KTD[0, :2, 0].tolist()
    mixed = " + ".join(f"({w:.4f} * {v:.2f})" for w, v in zip(row_S, value_S, strict=True))
    score, output = float(block.scores_HTT[0, 0, 0]), float(block.heads_HTD[0, 1, 0])
    H, D = N_HEAD, N_EMBD // N_HEAD

    def columns(x_TC: Tensor, digits: int = 2) -> str:
        return _table([str(token) for token in ids], [[f"{x:.{digits}f}" for x in row] for row in x_TC.T.tolist()])

    def square(x_TT: Tensor) -> str:
        rows = [[f"**{token}**", *(_cell(x) for x in row)] for token, row in zip(ids, x_TT.tolist(), strict=True)]
        return _table(["", *map(str, ids)], rows)

    return f"""# A forward pass with every number

<!-- written by python docs/worked_example.py -->

A model small enough to check by hand: width {N_EMBD}, {H} heads of width {D}, GPT-2's vocabulary. The vectors of
the tokens and places and the queries, keys and values are those printed in "How does a LLM work?" (2025-11-11),
where they were made up; everything computed from them below comes from `gpt2lab.explain.trace`, which records the
pass of any model. `python explain.py` draws the same steps for a trained model ([explain.md](explain.md)).

## Text becomes tokens

`{TEXT}` is {len(ids)} tokens of GPT-2's tokenizer (␣ is a space):

{_table(names, [[str(token) for token in ids]])}

## Tokens become vectors

Each id is a row of the table `wte`; here it stands as a column of {N_EMBD} channels. Both commas have the id 11.
The article gave each comma numbers of its own, but a table has one row for an id, so both have the first one's
here:

{columns(recorded.token_TC)}

Learned positions add a row of `wpe` for each place:

{columns(recorded.position_TC)}

Their sum enters the first block:

{columns(recorded.embedding_TC)}

## Attention

The norm and the matrix `c_attn` turn these vectors into queries, keys and values. Channels 1 to {D} belong to the
first head, {D + 1} to {N_EMBD} to the second. For the first head:

Queries

{columns(block.q_HTD[0])}

Keys

{columns(block.k_KTD[0])}

Values

{columns(block.v_KTD[0])}

**Scores.** Each query times each key, divided by √{D}. The first: ({products}) / √{D} = {score:.4f}.
Rows are queries, columns keys.

{square(block.scores_HTT[0])}

**Mask.** A token may not look at later ones: −∞ is added to those scores.

{square(block.mask_HTT[0])}

**Softmax** of each row, so that it sums to 1; exp(−∞) is 0.

{square(block.weights_HTT[0])}

**Weighted sum of the values.** The second token takes {100 * row_S[0]:.1f} % of the first value
and {100 * row_S[1]:.1f} % of its own; the first channel is {mixed} = {output:.4f}.

{columns(block.heads_HTD[0], 4)}

The second head does the same with its own channels. Side by side, the heads have the width of the model again:

{columns(torch.cat([*block.heads_HTD], dim=-1), 4)}

A last matrix, `c_proj`, mixes the heads, and the result is added to the vectors that entered the block. The second
norm and the MLP follow, and their result is added too. After the last block come one more norm and the product with
every row of `wte`: the logits.
"""


def _cell(x: float) -> str:
    if x == -torch.inf:
        return "−∞"
    return "0" if x == 0 else f"{x:.4f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
