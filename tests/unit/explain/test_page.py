"""``explain.html`` in headless Chromium: no error, no request, nothing of the prompt runs, sliders are right."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gpt2lab.config import DecodingConfig
from gpt2lab.explain import plots, trace
from gpt2lab.explain.explanation import explain_prompt
from gpt2lab.explain.page import explanation_html
from gpt2lab.explain.page_data import page_data
from gpt2lab.explain.plots import write_explanation_plots
from gpt2lab.explain.token_text import label
from gpt2lab.explain.words import page_steps
from gpt2lab.generation.filters import sampling_probs
from gpt2lab.model.positions import Rope
from gpt2lab.tokenizers import load_tokenizer
from tests.unit.report.browser import drive, find_browser

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium: apt-get install chromium")
NASTY = "<script>document.title='run'</script></script><img src=x onerror=alert(1)>\x07\u202e日本 🦊"


def explained(tiny_model, prompt, tokenizer="bytes", decoding=None, **settings):
    tokenizer = load_tokenizer(tokenizer)
    model = tiny_model(vocab_size=tokenizer.vocab_size, block_size=128, **settings)
    return explain_prompt(model, tokenizer, prompt, decoding or DecodingConfig(), steps=3, max_tokens=100, seed=0)


@needs_browser
@pytest.mark.parametrize("positions", ["learned", "rope", "alibi", "none"])
@pytest.mark.parametrize("prompt", [NASTY, "", "x" * 300])
def test_page_opens_and_runs_nothing_of_the_prompt(positions, prompt, tiny_model, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(explanation_html(explained(tiny_model, prompt, positions=positions), "a test"), encoding="utf-8")

    async def task(page):
        for width in (1400, 400):
            await page.open(path, width)
            wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, f"the page scrolls sideways at {width} pixels"
        return page.errors, page.requests, await page.evaluate("document.title")

    errors, requests, title = drive(task, tmp_path / "profile")
    assert errors == []
    assert {address for address in requests if not address.startswith("data:")} == {path.resolve().as_uri()}
    assert title.startswith("One forward pass")


@pytest.mark.parametrize(("length", "sentence"), [(14, "nothing above changes"), (15, "computed anew"), (40, "anew")])
def test_the_page_says_whether_the_next_step_changes_what_is_above(tiny_model, length, sentence):
    model, tokenizer = tiny_model(vocab_size=257, block_size=16, positions="learned"), load_tokenizer("bytes")
    prompt = "The fox and the hound, two of a kind, ..."[:length]
    explanation = explain_prompt(model, tokenizer, prompt, DecodingConfig(), steps=3, max_tokens=64, seed=0)
    assert sentence in page_steps(explanation)["again"].text
    read = explanation.trace.ids_T.tolist() + [step.token for step in explanation.steps[:-1]]
    last_pass = trace(model, read[-16:]).logits_TV  # the one that the last token is drawn from
    first = explanation.trace.logits_TV[: len(last_pass)]
    assert torch.allclose(last_pass[: len(first)], first, atol=1e-5) == (sentence == "nothing above changes")


@needs_browser
@pytest.mark.parametrize("tokenizer", ["bytes", "gpt2"])
def test_sliders_give_sampling_probs(tokenizer, tiny_model, tmp_path):
    explanation = explained(tiny_model, "The fox", tokenizer)
    path = tmp_path / "page.html"
    path.write_text(explanation_html(explanation, "a test"), encoding="utf-8")
    cases = [(1, None, None), (0.5, None, 0.9), (1.7, 40, None), (1, 7, 0.5), (0, None, None), (2, 3000, 0.95)]

    async def task(page):
        await page.open(path)
        js = [str(list(case)).replace("None", "null") for case in cases]
        return [await page.evaluate(f"probabilities(1, ...{case})") for case in js]

    logits_BV = explanation.steps[1].logits_V[None]
    order_V = logits_BV[0].sort(descending=True, stable=True).indices
    for (temperature, top_k, top_p), found in zip(cases, drive(task, tmp_path / "profile"), strict=True):
        expected_V = sampling_probs(logits_BV, DecodingConfig(temperature, top_k, top_p))[0]
        n = min(256, len(expected_V))
        torch.testing.assert_close(
            torch.tensor(found["probs"][:n], dtype=torch.float32), expected_V[order_V[:n]], rtol=2e-3, atol=1e-6
        )
        kept = int((expected_V > 0).sum())
        assert abs(sum(found["kept"]) - kept) <= max(1, kept // 100)


@needs_browser
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "shown"),
    [
        (0.33, 40, None, ["0.33", "40", "all"]),
        (3.0, 250, None, ["3.00", "250", "all"]),
        (0.02, None, 0.925, ["0.02", "all", "0.925"]),
    ],
)
def test_page_shows_the_distribution_that_was_drawn_from(temperature, top_k, top_p, shown, tiny_model, tmp_path):
    recorded = DecodingConfig(temperature, top_k, top_p)
    explanation = explained(tiny_model, "The fox", decoding=recorded)
    path = tmp_path / "page.html"
    path.write_text(explanation_html(explanation, "a test"), encoding="utf-8")
    texts = "['temperature', 'top-k', 'top-p'].map((id) => at(`${id}-value`).textContent)"
    sentence = "at('next-sentence').textContent"

    async def task(page):
        await page.open(path)
        first = await page.evaluate(texts), await page.evaluate(sentence)
        await page.evaluate("at('temperature').value = 1.5; at('temperature').dispatchEvent(new Event('input'))")
        moved = await page.evaluate(texts)
        await page.evaluate("at('reset').click()")
        return *first, moved, await page.evaluate(sentence)

    found, first, moved, reset = drive(task, tmp_path / "profile")
    possible = int((sampling_probs(explanation.steps[0].logits_V[None], recorded) > 0).sum())
    assert found == shown
    assert first.startswith(f"{possible} of 257 tokens can be drawn")
    assert moved == ["1.50", *shown[1:]]
    assert reset == first


CHECKS = Path(__file__).with_name("accessibility.js").read_text()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_every_text_enough_contrast(scheme, tiny_model, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(explanation_html(explained(tiny_model, "The fox"), "a test"), encoding="utf-8")

    async def task(page):
        await page.open(path, scheme=scheme)
        await page.evaluate(CHECKS)
        return await page.evaluate("controls()"), await page.evaluate("contrasts()")

    controls, contrasts = drive(task, tmp_path / "profile")
    assert len(controls) > 30
    assert [control for control, focusable, name in controls if focusable < 0 or not name] == []
    assert len(contrasts) > 100
    assert {text: ratio for text, ratio in contrasts if ratio < 4.5} == {}  # WCAG 2.2, level AA


class PlainNorm(nn.Module):
    """A norm of a user's own without weight: OLMo's layer norm."""

    def __init__(self, dim, config):
        super().__init__()
        self.eps = config.norm.eps

    def forward(self, x):
        return nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)

    def linearized(self, x, reference):
        centered = x - x.mean(dim=-1, keepdim=True)
        return centered / (reference.var(dim=-1, correction=0, keepdim=True) + self.eps).sqrt()


class ComplexRope(Rope):
    """Rope with one table of complex numbers."""

    def tables(self, pos_BT):
        return (torch.complex(*super().tables(pos_BT)),)

    def rotate(self, q_BHTD, k_BHTD, tables):
        return super().rotate(q_BHTD, k_BHTD, (tables[0].real, tables[0].imag))


def test_page_of_a_norm_without_weight(tiny_model):
    explanation = explained(tiny_model, "The fox", norm=f"{__name__}:PlainNorm")
    logits_V = explanation.trace.logits_TV[-1].double()
    torch.testing.assert_close(explanation.contributions.logits_NV.sum(dim=0), logits_V, rtol=0, atol=1e-4)
    assert "PlainNorm" in explanation_html(explanation, "a test")


def test_page_draws_no_angles_of_tables_that_are_not_ropes(tiny_model):
    assert page_data(explained(tiny_model, "The fox", positions="rope"))["positions"]["angles"]
    explanation = explained(tiny_model, "The fox", positions=f"{__name__}:ComplexRope")
    assert page_data(explanation)["positions"]["angles"] == []


def test_prompt_longer_than_the_page_is_read_from_its_end(tiny_model):
    explanation = explained(tiny_model, "y" * 50 + "x" * 100)
    assert explanation.n_left_out == 50
    assert bytes(explanation.trace.ids_T.tolist()) == b"x" * 100


def test_label_shows_a_mark_without_a_letter():
    shown = [label(text.encode()) for text in ("\u0301", "\u093e", "\ufe0f", "e\u0301", "\u200d", " \n")]
    assert shown == ["◌\u0301", "◌\u093e", "◌\ufe0f", "e◌\u0301", "\\u200d", "␣⏎"]


def test_plot_of_one_block_holds_all_of_its_words(tiny_model):
    figure = plots._lens(explained(tiny_model, "The fox", n_layer=1), list("The fox"))
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.yaxis.label.get_window_extent()
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.height


def test_plots(tiny_model, tmp_path):
    paths = write_explanation_plots(explained(tiny_model, "a $x$ b"), tmp_path / "page.html")
    assert [path.name for path in paths] == [
        "page.attention_01.png", "page.attention_02.png", "page.logit_lens.png", "page.residual_norms.png",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
