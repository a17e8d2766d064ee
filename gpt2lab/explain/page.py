"""``explain.html``: one page that carries its script, style and data, and asks the network for nothing.

The page's policy allows this one script, by its hash, and no request. Text of the prompt is data; the script shows it
as text only.
"""

import base64
import hashlib
import html
import importlib.metadata
import importlib.resources
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2lab.explain.explanation import Explanation
from gpt2lab.explain.page_data import page_data
from gpt2lab.explain.token_text import label
from gpt2lab.explain.words import Step, page_steps

SCRIPTS = ("data.js", "draw.js", "attention.js", "stream.js", "sampling.js", "page.js")
"""in the order in which they run"""
SUBSECTIONS = ("norm", "attention", "residual", "mlp")
"""steps within a block"""


def explanation_html(explanation: Explanation, source: str) -> str:
    """The whole page.

    Args:
        explanation: of one prompt.
        source: where the model came from, in one line.
    """
    data = json.dumps(page_data(explanation), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    script = '"use strict";\n' + "".join(map(_asset, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    figures = _asset("figures.html")
    steps = page_steps(explanation)
    body = "\n".join(_section(step, _figure(figures, step.id)) for step in steps.values())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>One forward pass – gpt2lab</title>
<link rel="icon" href="data:,">
<style>{_asset("page.css")}</style>
</head>
<body>
<a class="skip" href="#text">Skip to the first step</a>
{_header(explanation, source)}
<div id="chooser" class="chooser"></div>
<main>
{body}
<footer>gpt2lab {importlib.metadata.version("gpt2lab")}. Numbers are from one float32 pass; queries, keys, values and
 strips are stored rounded.</footer>
</main>
<noscript><p class="note">The figures are drawn by a script within this page.</p></noscript>
<script type="application/json" id="data">{data.replace("<", chr(92) + "u003c")}</script>
<script>{script}</script>
</body>
</html>
"""


def _header(explanation: Explanation, source: str) -> str:
    model, config = explanation.model, explanation.model.config
    tokenizer, ids = explanation.tokenizer, explanation.trace.ids_T.tolist()
    first = explanation.steps[0]
    chosen = label(tokenizer.decode_bytes([first.token]))
    percent = 100 * float(first.logits_V.double().softmax(dim=-1)[first.token])
    text = html.escape("".join(label(tokenizer.decode_bytes([token])) for token in ids).replace("␣", " "))
    left_out = (
        f'<p class="note">The prompt is longer: its first {explanation.n_left_out:,} tokens are not read.</p>'
        if explanation.n_left_out
        else ""
    )
    facts = [
        f"{model.num_parameters():,} parameters", f"{config.n_layer} blocks of {config.n_head} heads",
        f"width {config.n_embd}", f"positions {config.positions.name}", config.norm.name, f"MLP {config.mlp.name}",
        source,
    ]  # fmt: skip
    return f"""<header>
<p class="name">One forward pass, step by step</p>
<h1><bdi>{text}</bdi> <span class="next" title="the next token"><bdi>{html.escape(chosen)}</bdi></span></h1>
<p class="lead">A language model reads a text and gives each token of its vocabulary a probability of coming next.
 After this text it gave <q><bdi>{html.escape(chosen)}</bdi></q> {percent:.3g} %, and it was drawn. Below is everything
 that happened in between, with the numbers of this model.</p>
<p class="facts">{html.escape(" · ".join(facts))}</p>{left_out}
</header>"""


def _section(step: Step, figure: str) -> str:
    inner = step.id in SUBSECTIONS
    level = 3 if inner else 2
    code = "".join(map(_source, step.code))
    return (
        f'<section id="{step.id}" aria-labelledby="{step.id}-title"{" class=inner" if inner else ""}>'
        f'<h{level} id="{step.id}-title">{html.escape(step.title)}</h{level}>'
        f"<p>{html.escape(step.text)}</p>\n{figure}\n{code}</section>"
    )


def _figure(figures: str, name: str) -> str:
    """The part of assets/figures.html between its comment and the next one."""
    return figures.partition(f"<!-- {name} -->")[2].partition("<!-- ")[0].strip()


def _source(code: Callable[..., Any] | type) -> str:
    """The function or class, folded, under the name of its file."""
    file = Path(inspect.getfile(sys.modules[code.__module__]))
    names = code.__module__.count(".") + 1 + (file.name == "__init__.py")  # the module may be in a folder of the user's
    path = "/".join(file.parts[-names:])
    lines, first = inspect.getsourcelines(code)
    text = html.escape(inspect.cleandoc("\n" + "".join(lines)))
    return (
        f'<details class="code"><summary>The code: <code>{path}</code>, line {first}, <code>{code.__qualname__}'
        f'</code></summary><pre tabindex="0"><code>{text}</code></pre></details>'
    )


def _asset(name: str) -> str:
    return (importlib.resources.files("gpt2lab.explain") / "assets" / name).read_text(encoding="utf-8")
