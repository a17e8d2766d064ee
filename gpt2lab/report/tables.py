"""The tables of a report, once, for every renderer: headings, cells as text, and the values to sort by."""

from dataclasses import dataclass

from gpt2lab.report.compare import DUNNETT
from gpt2lab.report.results import Condition, ReportResult
from gpt2lab.report.words import count, interval_text, number, p_text, signed, speed_up_text


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, and what the column is sorted by."""

    text: str
    sort: float | str | None = None


@dataclass(frozen=True)
class Table:
    """Headings and rows."""

    headings: list[str]
    rows: list[list[Cell]]


def conditions_table(report: ReportResult) -> Table:
    """One row for each condition."""
    headings = [
        "condition", "n", "mean", "sd", "difference", "95 % interval", "p", "verdict", "parameters*", "tokens/s",
        "throughput", "speed-up",
    ]  # fmt: skip
    return Table(headings, [_condition_row(c, report) for c in report.conditions])


def _condition_row(condition: Condition, report: ReportResult) -> list[Cell]:
    c = condition.comparison
    inner, rate = condition.numbers["parameters_without_embeddings"], condition.numbers["tokens_per_second"]
    runs = f"{len(condition.values)}" + (f" (+{condition.diverged} diverged)" if condition.diverged else "")
    verdict = c.verdict if c else "baseline" if condition.name == report.baseline else "–"
    return [
        Cell(condition.name, condition.name),
        Cell(runs, len(condition.values)),
        Cell(number(condition.mean), condition.mean),
        Cell(number(condition.sd), condition.sd),
        Cell(signed(c.mean) if c else "–", c.mean if c else None),
        Cell(interval_text(c.interval) if c else "–", c.interval[0] if c and c.interval else None),
        Cell(p_text(c.p) if c else "–", c.p if c else None),
        Cell(verdict, verdict),
        Cell(count(inner), inner),
        Cell(count(rate), rate),
        Cell(number(condition.throughput, 2), condition.throughput),
        Cell(speed_up_text(condition.speed_up), condition.speed_up.factor if condition.speed_up else None),
    ]


def values_table(report: ReportResult) -> Table:
    """The value of every seed of every condition."""
    seeds = sorted({seed for c in report.conditions for seed in c.values})
    rows = []
    for condition in report.conditions:
        lost = {run.seed for run in condition.runs if run.is_counted and run.diverged}
        cells = [
            Cell("diverged" if seed in lost else number(condition.values.get(seed)), condition.values.get(seed))
            for seed in seeds
        ]
        rows.append([Cell(condition.name, condition.name), *cells])
    return Table(["condition", *(f"seed {seed}" for seed in seeds)], rows)


def details_table(report: ReportResult) -> Table:
    """Pairing and the other tests of each comparison."""
    headings = [
        "condition", "sd_d", "r", "sd_d / (√2 sd)", "MDE80", "90 % interval", "own 95 % interval",
        "sign-flip p", "test",
    ]  # fmt: skip
    rows = []
    for condition in report.conditions:
        c = condition.comparison
        if c is None:
            continue
        test = (
            "paired t" if c.test == DUNNETT and len(report.conditions) == 2 else c.test
        )  # the same for one comparison
        rows.append(
            [
                Cell(condition.name, condition.name),
                Cell(number(c.sd), c.sd),
                Cell(number(c.correlation, 2), c.correlation),
                Cell(number(c.pairing, 2), c.pairing),
                Cell(number(c.detectable), c.detectable),
                Cell(interval_text(c.equivalence), c.equivalence[0] if c.equivalence else None),
                Cell(interval_text(c.own_interval), c.own_interval[0] if c.own_interval else None),
                Cell(p_text(c.sign_flip_p), c.sign_flip_p),
                Cell(test, test),
            ]
        )
    return Table(headings, rows)


def effects_table(report: ReportResult) -> Table:
    """Main effects and interactions."""
    rows = [
        [
            Cell(effect.name, effect.name),
            Cell("interaction" if effect.is_interaction else "main effect"),
            Cell(signed(effect.mean), effect.mean),
            Cell(interval_text(effect.interval), effect.interval[0]),
            Cell(p_text(effect.p), effect.p),
        ]
        for effect in report.effects
    ]
    return Table(["effect", "kind", "mean", "95 % interval", "p (Holm)"], rows)


def pairs_table(report: ReportResult) -> Table:
    """Every condition against every other."""
    rows = [
        [
            Cell(pair.condition, pair.condition),
            Cell(pair.other, pair.other),
            Cell(signed(pair.mean), pair.mean),
            Cell(interval_text(pair.interval), pair.interval[0] if pair.interval else None),
            Cell(p_text(pair.p), pair.p),
        ]
        for pair in report.pairs
    ]
    return Table(["condition", "minus", "difference", "95 % interval", "p"], rows)


def tuning_table(report: ReportResult) -> Table:
    """Chosen values, and the validation loss at the condition's own and at the baseline's value."""
    rows = []
    for curve in report.tuning:
        lowest = min(loss for _, loss, _ in curve.points)
        rows.append(
            [
                Cell(curve.label, curve.label),
                Cell(f"{curve.best:g}{' (edge)' if curve.at_edge else ''}", curve.best),
                Cell(number(lowest), lowest),
                Cell(number(curve.at_baseline_rate), curve.at_baseline_rate),
                Cell(f"{curve.width[0]:g} to {curve.width[1]:g}", curve.width[0]),
            ]
        )
    key = report.tuning[0].key if report.tuning else "value"
    return Table(
        ["condition", f"chosen {key}", "lowest mean val_loss", "at the baseline's value", "within 0.02 nats"], rows
    )


def scaling_table(report: ReportResult) -> Table:
    """Mean loss of each size, and how far it lies from the fitted curve."""
    rows = [
        [
            Cell(row.name or "all", row.name),
            Cell(count(size), size),
            Cell(number(loss), loss),
            Cell(signed(loss - row.fit.curve.loss(size)) if row.fit else "–"),
        ]
        for row in report.scaling
        for size, loss in row.points
    ]
    return Table(["conditions", "parameters", "mean", "mean − curve"], rows)


def documents_table(report: ReportResult) -> Table:
    """Paired differences over documents."""
    rows = [
        [
            Cell(row.condition),
            Cell(row.evaluation or "–"),
            Cell(str(row.documents)),
            Cell(signed(row.nats_per_token)),
            Cell(interval_text(row.interval)),
        ]
        for row in report.documents
    ]
    return Table(
        ["condition", "evaluation", "documents", "difference (nats/token)", "95 % interval over documents"], rows
    )


def runs_table(report: ReportResult) -> Table:
    """Every run, with what failed or is not compared."""
    headings = [
        "run", "seed", "status", report.metric, "tokens", "parameters", "FLOPs/token", "tokens/s", "minutes", "note",
    ]  # fmt: skip
    rows = []
    for run in report.runs:
        numbers, seconds = run.numbers, run.numbers["wall_seconds"]
        status = "diverged" if run.diverged else run.status
        note = run.apart or run.error or (f"{run.broken_lines} broken metrics lines" if run.broken_lines else "")
        rows.append(
            [
                Cell(run.name, run.name),
                Cell("–" if run.seed is None else str(run.seed), run.seed),
                Cell(status, status),
                Cell(number(run.value), run.value),
                Cell(count(run.tokens), run.tokens),
                Cell(count(numbers["parameters"]), numbers["parameters"]),
                Cell(count(numbers["flops_per_token"]), numbers["flops_per_token"]),
                Cell(count(numbers["tokens_per_second"]), numbers["tokens_per_second"]),
                Cell(number(seconds / 60 if seconds is not None else None, 1), seconds),
                Cell(note, note),
            ]
        )
    return Table(headings, rows)
