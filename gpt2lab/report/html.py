"""``report.html``: one page that carries its script, style and data, and asks the network for nothing."""

import html
import importlib.metadata
import importlib.resources
import json

from gpt2lab.report import html_svg, tables
from gpt2lab.report.html_data import curve_data
from gpt2lab.report.results import ReportResult
from gpt2lab.report.tables import Cell, Table
from gpt2lab.report.words import DOCUMENTS_NOTE, EFFECTS_NOTE, FOOTNOTE, PAIRS_NOTE, SCALING_NOTE, plural

TEXT_COLUMNS = ("verdict", "kind", "test", "minus", "evaluation", "status", "note", "90 % interval")
PILLS = ("verdict", "status")


def as_html(report: ReportResult) -> str:
    """The whole page."""
    body = "\n".join(
        part
        for part in (
            _header(report), _comparison(report), _curves(report), _effects(report), _pairs(report), _scaling(report),
            _tuning(report),
            _documents(report), _noise(report), _runs(report),
            f"<footer>gpt2lab {importlib.metadata.version('gpt2lab')}. Curves by uPlot 1.6.32 (MIT).</footer>",
        )
        if part
    )  # fmt: skip
    data = json.dumps(curve_data(report), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)} – gpt2lab report</title>
<link rel="icon" href="data:,">
<style>{_asset("vendor", "uPlot.min.css")}{_asset("assets", "page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="data">{data}</script>
<script>/*! uPlot 1.6.32
{_asset("vendor", "uPlot.LICENSE")}*/
{_asset("vendor", "uPlot.iife.min.js")}</script>
<script>{_asset("assets", "page.js")}</script>
</body>
</html>
"""


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(text)


def _asset(folder: str, name: str) -> str:
    return (importlib.resources.files("gpt2lab.report") / folder / name).read_text(encoding="utf-8")


def _header(report: ReportResult) -> str:
    counted = sum(run.is_counted for run in report.runs)
    facts = (
        f"{plural(len(report.conditions), 'condition')}, {plural(len(report.runs), 'run')}, {counted} compared; "
        f"baseline {report.baseline}; {report.metric}, margin ±{report.margin:g}"
    )
    banner = f'<p class="banner">{escape(report.banner)}</p>' if report.banner else ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    opened = " open" if len(report.warnings) <= 4 else ""
    warnings = (
        f'<details class="warnings"{opened}><summary>{plural(len(report.warnings), "warning")}</summary>'
        f"<ul>{items}</ul></details>"
        if items
        else ""
    )
    return (
        f'<header><p class="name">{escape(report.title)}</p><h1>{escape(report.verdict)}</h1>'
        f'<p class="facts">{escape(facts)}</p>{banner}{warnings}</header>'
    )


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"{_text_class(heading)}><button type="button">{escape(heading)}</button></th>'
        for heading in table.headings
    )
    rows = "".join(
        "<tr>" + "".join(_cell(c, h) for c, h in zip(row, table.headings, strict=True)) + "</tr>" for row in table.rows
    )
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="sortable pinned">{inner}</table></div>'


def _text_class(heading: str) -> str:
    return ' class="text"' if heading in TEXT_COLUMNS else ""


def _cell(cell: Cell, heading: str) -> str:
    text = escape(cell.text)
    if heading in PILLS:
        word = cell.text.split(":")[0]
        text = f'<span class="verdict {escape(word)}">{text}</span>'
    classes = ' class="text long"' if heading == "note" else _text_class(heading)
    sort = "" if cell.sort is None else escape(str(cell.sort))
    return f'<td{classes} data-sort="{sort}">{text}</td>'


def _comparison(report: ReportResult) -> str:
    parts = ["<h2>Comparison</h2>", _table(tables.conditions_table(report)), f'<p class="note">{FOOTNOTE} ']
    parts.append(f"{escape(report.speed_up_note)}</p>" if report.speed_up_note else "</p>")
    sentences = [c.comparison.sentence for c in report.conditions if c.comparison]
    if len(sentences) > 1:
        parts.append(f'<ul class="notes">{"".join(f"<li>{escape(text)}</li>" for text in sentences)}</ul>')
    forest = html_svg.forest(report)
    if forest:
        parts += [f"<h2>Difference to {escape(report.baseline)}</h2>", forest]
    return "\n".join(parts)


def _curves(report: ReportResult) -> str:
    if not any(len(run.curves.val_loss) or len(run.curves.loss) for run in report.runs if run.is_counted):
        return ""
    return """<h2>Loss during training</h2>
<div class="controls">
<div class="switch" data-key="loss"><button type="button" data-value="val" aria-pressed="true">Validation</button
><button type="button" data-value="train" aria-pressed="false">Training</button></div>
<div class="switch" data-key="show"><button type="button" data-value="conditions" aria-pressed="true">Mean and seed
 band</button><button type="button" data-value="runs" aria-pressed="false">Every run</button></div>
</div>
<div class="legend"></div>
<div class="charts">
<figure class="card" data-by="tokens"><figcaption>Against tokens <small>nats per token</small></figcaption><div
 class="plot"></div></figure>
<figure class="card" data-by="seconds"><figcaption>Against training time <small>nats per token</small></figcaption><div
 class="plot"></div></figure>
</div>
<p class="note">The band reaches from the lowest to the highest seed. The scale starts after the first fifth of
 training; drag to zoom, double-click to return. Time is that of
 training steps, without validations and checkpoints.</p>"""


def _effects(report: ReportResult) -> str:
    heat = html_svg.heat(report)
    if not report.effects:
        return ""
    table = _table(tables.effects_table(report))
    note = EFFECTS_NOTE.format(seeds=plural(report.effects[0].seeds, "seed"))
    return f'<h2>Main effects and interactions</h2>{table}<p class="note">{note}</p>{heat}'


def _pairs(report: ReportResult) -> str:
    if not report.pairs:
        return ""
    note = escape(PAIRS_NOTE.format(test=report.pairs[0].test))
    return f'<h2>All pairs</h2>{_table(tables.pairs_table(report))}<p class="note">{note}</p>'


def _scaling(report: ReportResult) -> str:
    if not report.scaling:
        return ""
    sentences = "".join(f"<li>{escape(row.sentence)}</li>" for row in report.scaling)
    table = _table(tables.scaling_table(report))
    return f'<h2>Scaling</h2><ul class="notes">{sentences}</ul>{table}<p class="note">{SCALING_NOTE}</p>'


def _tuning(report: ReportResult) -> str:
    if not report.tuning:
        return ""
    table = _table(tables.tuning_table(report))
    return f'<h2>Tuning</h2>{html_svg.tuning(report)}{table}<p class="note">{report.tuning_note}</p>'


def _documents(report: ReportResult) -> str:
    if not report.documents:
        return ""
    return f'<h2>Over documents</h2>{_table(tables.documents_table(report))}<p class="note">{DOCUMENTS_NOTE}</p>'


def _noise(report: ReportResult) -> str:
    notes = "".join(f"<li>{escape(line)}</li>" for line in [*report.noise, *report.method])
    details = _table(tables.details_table(report)) if any(c.comparison for c in report.conditions) else ""
    return (
        f'<h2>Noise floor and design</h2><ul class="notes">{notes}</ul>{details}'
        f"<h3>Every value</h3>{_table(tables.values_table(report))}"
    )


def _runs(report: ReportResult) -> str:
    return f"<h2>Runs</h2>{_table(tables.runs_table(report))}"
