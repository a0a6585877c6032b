"""The pages in a real browser, opened by double click with the network off."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stdistill._report.cohort import write_cohort
from stdistill._report.write import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe judges whether pages are accessible")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, or else one that Playwright installed."""
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        try:
            browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)}, and none that Playwright installed")
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page, without network, and sees to it that nothing is said in the console."""
    said: list[str] = []
    contexts: list[Any] = []

    def visit(path: Path, place: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 860}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"not loaded: {request.url[:200]}"))
        page.goto(path.as_uri() + place)
        if page.locator("#view").count() and options.get("java_script_enabled", True):
            page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of report of a run, away from it."""
    folder = tmp_path_factory.mktemp("reports") / "run"
    shutil.copytree(finished, folder)
    write_report(folder)
    write_report(folder, single_file=True)
    apart = folder.parent / "apart"
    (folder / "report").rename(apart)
    (folder / "report.html").rename(apart / "single.html")
    return apart


def picture(page: Any) -> Any:
    """Wait until all tiles are drawn, and return what the viewer shows."""
    page.wait_for_function("stdistillViewer.world.getItemCount() > 0")
    page.wait_for_timeout(1000)
    return np.asarray(Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB")).astype(int)


def data(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("JSON.parse(document.getElementById('viewer-data').textContent)")
    return found


def niche_cell(page: Any, code: int) -> list[float]:
    """Find a cell of a niche through the page's own files: its x and y in pixels of the finest H&E."""
    cell: list[float] = page.evaluate(
        """async (code) => {
            const slide = JSON.parse(document.getElementById('viewer-data').textContent);
            const inline = JSON.parse((document.getElementById('inline-data') || {textContent: '{}'}).textContent);
            const kept = window.stdistillCells;
            let found = null;
            window.stdistillCells = (name, text) => {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                const n = bytes.length / (4 + slide.layers.length);
                const view = new DataView(bytes.buffer);
                const [column, row] = name.split('_').map(Number);
                for (let i = 0; i < n && !found; i += 1) if (bytes[4 * n + i] === code)
                    found = [column * slide.bin + view.getUint16(2 * i, true) / slide.parts,
                             row * slide.bin + view.getUint16(2 * (n + i), true) / slide.parts];
            };
            for (const name of slide.squares) await new Promise((done) => {
                const script = document.createElement('script');
                script.onload = done;
                script.src = inline[`cells/${name}.js`] || `cells/${name}.js`;
                document.head.append(script);
            });
            window.stdistillCells = kept;
            return found;
        }""",
        code,
    )
    return cell


@pytest.mark.parametrize("name", ["index.html", "single.html"])
def test_a_click_names_the_niche(visit: Callable[..., Any], report: Path, name: str) -> None:
    page = visit(report / name)
    slide = data(page)
    names = slide["layers"][0]["names"]
    for code in (1, 2, len(names)):
        x, y = niche_cell(page, code)
        page.evaluate(
            "([x, y]) => { const view = stdistillViewer.viewport; view.zoomTo(12, undefined, true);"
            " view.panTo(new OpenSeadragon.Point(x, y), true); }",
            [x / slide["width"], y / slide["width"]],
        )
        page.wait_for_timeout(300)
        spot = page.evaluate(
            "([x, y]) => { const p = stdistillViewer.viewport.pixelFromPoint(new OpenSeadragon.Point(x, y), true);"
            " return [p.x, p.y]; }",
            [x / slide["width"], y / slide["width"]],
        )
        page.locator("#picked").evaluate("(element) => element.replaceChildren()")
        page.locator("#view").click(position={"x": spot[0], "y": spot[1]})
        page.wait_for_function("document.querySelector('#picked dd') !== null")
        assert page.locator("#picked dd").first.inner_text() == names[code - 1]
        assert page.locator(".mark").count() == 1


@pytest.mark.parametrize("name", ["index.html", "single.html"])
def test_layers_can_be_toggled_and_faded(visit: Callable[..., Any], report: Path, name: str) -> None:
    """A picture of it: the H&E is pink, a layer changes it, its colour is that of the niches."""
    page = visit(report / name)
    page.get_by_label("Student", exact=True).uncheck()
    he = picture(page)
    middle = he[he.shape[0] // 4 : -he.shape[0] // 4, he.shape[1] // 3 : -he.shape[1] // 3]
    red, green, blue = middle.mean(axis=(0, 1))
    assert red > green + 15
    assert blue > green + 15
    page.get_by_label("Student", exact=True).check()
    page.get_by_label("Opacity of Student").fill("100")
    full = picture(page)
    colors = [[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in data(page)["layers"][0]["colors"]]
    near = np.min([np.abs(full - color).max(axis=-1) for color in colors], axis=0) < 6
    assert near.mean() > 0.1
    page.get_by_label("Opacity of Student").fill("40")
    faded = picture(page)
    assert 0 < np.abs(faded - he).mean() < np.abs(full - he).mean()
    page.get_by_label("Student", exact=True).uncheck()
    assert np.abs(picture(page) - he).mean() < 1
    page.get_by_label("H&E", exact=True).uncheck()
    assert picture(page).mean() > 250
    page.get_by_label("Confidence", exact=True).check()
    assert picture(page).mean() < 245


def test_a_link_leads_to_its_place(visit: Callable[..., Any], report: Path) -> None:
    page = visit(report / "index.html")
    page.evaluate("stdistillViewer.viewport.zoomTo(5, undefined, true)")
    page.evaluate("stdistillViewer.viewport.panTo(new OpenSeadragon.Point(0.4, 0.5), true)")
    page.wait_for_timeout(500)
    place = page.locator("#place").get_attribute("href")
    again = visit(report / "index.html", place)
    again.wait_for_timeout(500)
    where = "(() => { const c = stdistillViewer.viewport.getCenter(true);"
    where += " return [c.x, c.y, stdistillViewer.viewport.getZoom(true)]; })()"
    np.testing.assert_allclose(again.evaluate(where), page.evaluate(where), rtol=1e-2)
    assert again.locator("#place").get_attribute("href") == place


def test_scale_bar(visit: Callable[..., Any], report: Path) -> None:
    """As long as it says, by the width of the slide in µm."""
    page = visit(report / "index.html")
    slide = data(page)
    for zoom in (1, 7):
        page.evaluate(f"stdistillViewer.viewport.zoomTo({zoom}, undefined, true)")
        page.wait_for_timeout(400)
        shown = page.locator(".bar span").inner_text()
        um = float(shown.split()[0]) * (1000 if shown.endswith("mm") else 1)
        pixels = page.locator(".bar span").evaluate("(bar) => bar.getBoundingClientRect().width")
        across = page.evaluate("stdistillViewer.container.clientWidth")
        assert um / pixels == pytest.approx(slide["width"] * slide["mpp"] / (zoom * across), rel=0.01)


def test_keyboard(visit: Callable[..., Any], report: Path) -> None:
    """All controls are reached by the tabulator; keys zoom, and name the niche in the middle."""
    page = visit(report / "index.html")
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(() => { const e = document.activeElement;"
                " return e.dataset.layer || e.dataset.fade || e.dataset.act || e.id || e.className; })()"
            )
        )
    assert reached >= {"he", "student_niche", "student_ood", "outside", "in", "out", "home", "place", "skip"}
    page.locator(".openseadragon-canvas").focus()
    before = page.evaluate("stdistillViewer.viewport.getZoom()")
    page.keyboard.press("+")
    page.wait_for_timeout(300)
    assert page.evaluate("stdistillViewer.viewport.getZoom()") > before
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('#picked').textContent.startsWith('Click')")


@pytest.mark.parametrize("name", ["index.html", "single.html"])
def test_accessible(visit: Callable[..., Any], report: Path, name: str) -> None:
    page = visit(report / name)
    check_accessible(page)


def check_accessible(page: Any) -> None:
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS] == []


def test_without_javascript(visit: Callable[..., Any], report: Path) -> None:
    page = visit(report / "index.html", java_script_enabled=False)
    assert page.locator(".viewer").is_hidden()
    overview = page.locator("img.overview")
    assert overview.is_visible()
    assert overview.bounding_box()["width"] > 200
    assert page.locator("table.niches").is_visible()


def test_cohort(visit: Callable[..., Any], make_cohort: Callable[[], Path]) -> None:
    page = visit(write_cohort(make_cohort()))

    def slides() -> list[str]:
        return [name for name in page.locator("tbody th").all_inner_texts() if name]

    assert slides() == ["a", "b", "c"]
    page.get_by_role("button", name="age").click()
    assert slides() == ["b", "a", "c"]
    page.get_by_role("button", name="age").click()
    assert slides() == ["c", "a", "b"]
    page.get_by_role("button", name="Cells").click()
    assert slides()[-1] == "c"  # it has none
    page.get_by_label("Show slides with").fill("usable contr")
    assert page.locator("tbody tr:visible").count() == 1
    assert page.locator("#count").inner_text() == "1 of 3 slides"
    check_accessible(page)
    page.get_by_role("link", name="b").click()
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    page.get_by_role("link", name="All slides of the cohort").click()
    assert page.locator("#cohort").is_visible()
