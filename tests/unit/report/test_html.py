"""``report.html`` in headless Chromium: no error, no request, a legend that hides curves, tables that sort."""

import pytest

from gpt2lab.report.analysis import analyze
from gpt2lab.report.html import as_html
from tests.unit.report.browser import drive, find_browser
from tests.unit.report.synthetic import add_tuning, write_sweep

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    sweep = write_sweep(folder / "study", effects={"rmsnorm": 0.3})
    add_tuning(sweep)
    path = folder / "report.html"
    path.write_text(as_html(analyze(sweep)))
    return path


def test_page_opens_without_error_and_asks_for_nothing_else(page_file, tmp_path):
    async def task(page):
        for width, scheme in ((1400, "light"), (400, "dark")):
            await page.open(page_file, width, scheme=scheme)
            wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, f"the page scrolls sideways at {width} pixels"
            assert await page.evaluate("document.querySelectorAll('.plot canvas').length") == 2
        return page.errors, page.requests

    errors, requests = drive(task, tmp_path)
    assert errors == []
    assert {address for address in requests if not address.startswith("data:")} == {page_file.resolve().as_uri()}


def test_legend_entry_hides_its_curve_and_brings_it_back(page_file, tmp_path):
    shown = "reportPlots.map((p) => p.plot.series.slice(1).filter((s) => s.show).length)"
    pixels = (
        "(() => { const c = document.querySelector('.plot canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, "
        "c.height).data; let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200 && d[i] < 60 && "
        "Math.abs(d[i + 1] - 114) < 40 && Math.abs(d[i + 2] - 178) < 40) n++; return n; })()"
    )
    click = "document.querySelectorAll('.chip')[0].click()"
    settled = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

    async def task(page):
        await page.open(page_file)
        before = await page.evaluate(shown), await page.evaluate(pixels)
        await page.evaluate(click)
        await page.evaluate(settled)
        hidden = await page.evaluate(shown), await page.evaluate(pixels)
        pressed = await page.evaluate("document.querySelectorAll('.chip')[0].getAttribute('aria-pressed')")
        await page.evaluate(click)
        await page.evaluate(settled)
        return before, hidden, pressed, (await page.evaluate(shown), await page.evaluate(pixels)), page.errors

    before, hidden, pressed, again, errors = drive(task, tmp_path)
    assert (before[0], hidden[0], pressed) == ([12, 12], [9, 9], "false")
    assert before[1] > 20
    assert hidden[1] == 0
    assert again == before
    assert errors == []


def test_cursor_shows_the_nearest_run_of_each_condition(page_file, tmp_path):
    """At the height of the highest run of the first condition, not that of its lowest run."""
    at_highest = """(() => {
      const { plot, owner } = reportPlots[0], i = 8;
      const own = plot.data.map((y, s) => [y[i], plot.series[s].label]).filter((_, s) => owner[s] === 0);
      own.sort((a, b) => a[0] - b[0]);
      const [value, label] = own[own.length - 1];
      plot.setCursor({ left: plot.valToPos(plot.data[0][i], "x"), top: plot.valToPos(value, "y") });
      const row = [...plot.over.querySelectorAll(".tip div")].find((r) => r.textContent.startsWith(label));
      return [label, row && row.querySelector("em").textContent, value.toFixed(4), own[0][0].toFixed(4)];
    })()"""

    async def task(page):
        await page.open(page_file)
        await page.evaluate("document.querySelector('[data-value=runs]').click()")
        return await page.evaluate(at_highest), page.errors

    (label, shown, highest, lowest), errors = drive(task, tmp_path)
    assert "seed " in label
    assert shown == highest != lowest
    assert errors == []


def test_switches_and_sorting(page_file, tmp_path):
    first = "document.querySelector('table').tBodies[0].rows[0].cells[0].textContent"
    mean = "document.querySelector('table').tHead.rows[0].cells[2].querySelector('button').click()"

    async def task(page):
        await page.open(page_file)
        await page.evaluate("document.querySelector('[data-value=runs]').click()")
        runs = await page.evaluate("reportPlots[0].plot.series.length - 1")
        await page.evaluate("document.querySelector('[data-value=train]').click()")
        points = await page.evaluate("reportPlots[0].plot.data[0].length")
        await page.evaluate(mean)
        lowest = await page.evaluate(first)
        await page.evaluate(mean)
        return runs, points, lowest, await page.evaluate(first), page.errors

    runs, points, lowest, highest, errors = drive(task, tmp_path)
    assert (runs, points, errors) == (20, 40, [])
    assert lowest.startswith("positions=rope")
    assert highest.startswith("positions=learned")


def test_times_below_a_second_have_ticks_of_their_own(page_file, tmp_path):
    ticks = "reportPlots.find((p) => p.place.closest('figure').dataset.by === 'seconds').plot.axes[0].values(null, %s)"

    async def task(page):
        await page.open(page_file)
        return await page.evaluate(ticks % "[0, 0.05, 0.25, 12, 90]"), page.errors

    assert drive(task, tmp_path) == (["0 s", "0.05 s", "0.25 s", "12 s", "1.5 min"], [])
