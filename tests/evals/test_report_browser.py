"""The page in a real browser: it sorts, filters, opens prompts by keyboard, fetches nothing, complains of nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from report_runs import N, full_run
from sample_runs import quick_run

from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.report.page import write
from prefzoo.evals.report.serve import server_of

pytestmark = pytest.mark.browser
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><!--\u2028'\"&lt;"
)
FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "force-prefers-reduced-motion",
    "window-size=1280,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; Debian's packages chromium and chromium-driver."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        missing = "no chromium with chromedriver here; on Debian: apt-get install chromium chromium-driver"
        if os.environ.get("PREFZOO_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


def opened(browser: Any, run: Path, out: Path) -> str:
    """Write a run's page, open it, and give its address."""
    write(read_run(run), out)
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what an earlier page left
    browser.get(out.as_uri())
    return out.as_uri()


def check_quiet(browser: Any, address: str) -> None:
    """Nothing asked for but the page itself, and no complaint on the console (a breach of its policy is one)."""
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert address in asked
    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("fault", ['<img src="http://127.0.0.1:9/x.png">', "<script>null.x</script>"])
def test_the_check_sees_what_it_looks_for(browser: Any, tmp_path: Path, fault: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>t</title>{fault}", encoding="utf-8")
    browser.get(page.as_uri())
    with pytest.raises(AssertionError):
        check_quiet(browser, page.as_uri())


def find_all(browser: Any, css: str) -> list[Any]:
    return list(browser.find_elements("css selector", css))


def column(browser: Any, number: int) -> list[str]:
    return [
        cell.text.split("\n")[0] for cell in find_all(browser, f"#board tbody tr :nth-child({number})") if cell.text
    ]


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def names(browser: Any) -> list[str]:
    rows = find_all(browser, "#board tbody tr")
    return [
        row.find_element("css selector", "th .who > span").text.split("\n")[0] for row in rows if row.is_displayed()
    ]


def test_a_run_sorts_and_filters(browser: Any, tmp_path: Path) -> None:
    run = quick_run(tmp_path / "quickstart")
    address = opened(browser, run, tmp_path / "report.html")
    board = read_run(run).long.pivot(index="variant", columns="metric", values="value")
    shown = names(browser)
    assert set(shown) == set(board.index) and len(shown) == len(board)
    assert browser.find_element("css selector", ".verdict").text.startswith(f"No winner: {shown[0]}, ")
    falling = board.words.sort_values(ascending=False).index.tolist()
    heads = {head.text.split("\xa0")[0].replace("\n", " "): head for head in find_all(browser, "#board thead th")}
    words = heads["words"]
    words.find_element("css selector", "button").click()
    assert words.get_attribute("aria-sort") == "descending"
    assert names(browser) == falling
    words.find_element("css selector", "button").click()
    assert (words.get_attribute("aria-sort"), names(browser)[0]) == ("ascending", falling[-1])
    heads["win rate"].find_element("css selector", "button").click()
    assert names(browser)[-2:] == ["base", "ipo"]  # the base at one half
    heads["win rate"].find_element("css selector", "button").click()
    assert names(browser)[0] == board.win_rate.idxmin() == "ipo"
    for _ in range(2):
        heads["training"].find_element("css selector", "button").click()
        assert names(browser)[-1] == "base"  # it was not trained: last in either direction
    browser.find_element("id", "find").send_keys("DPO")
    assert set(names(browser)) == {"dpo", "cdpo"}
    assert browser.find_element("id", "matched").text == "2 of 5 shown"
    check_quiet(browser, address)


def shown_columns(browser: Any) -> list[str]:
    heads = find_all(browser, "#board thead th[data-column]")
    return [head.get_attribute("data-column") for head in heads if head.is_displayed()]


def test_columns_are_chosen_and_remembered(browser: Any, tmp_path: Path) -> None:
    address = opened(browser, quick_run(tmp_path / "quickstart"), tmp_path / "report.html")
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    main = shown_columns(browser)
    assert "win_rate" in main and "repetition" not in main
    assert browser.execute_script("return document.getElementById('board').offsetWidth") <= 1240
    browser.find_element("css selector", "#chooser summary").click()
    browser.find_element("css selector", "#chooser [data-column=repetition]").click()
    browser.find_element("css selector", "#chooser [data-column=words]").click()
    chosen = shown_columns(browser)
    assert set(chosen) == set(main) - {"words"} | {"repetition"}
    rows = find_all(browser, "#board tbody tr")
    cells = [[c for c in row.find_elements("tag name", "td") if c.is_displayed()] for row in rows]
    assert {len(row) for row in cells} == {len(chosen) + 1}  # and the rank
    browser.refresh()
    assert shown_columns(browser) == chosen
    browser.find_element("css selector", "#chooser summary").click()
    browser.find_element("id", "columns-all").click()
    assert set(shown_columns(browser)) > set(main) | {"repetition", "finished"}
    browser.find_element("id", "columns-main").click()
    assert shown_columns(browser) == main
    check_quiet(browser, address)


def test_a_prompt_is_opened_by_keyboard(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    run = quick_run(tmp_path / "quickstart")
    address = opened(browser, run, tmp_path / "report.html")
    outputs = json.loads((run / "simpo" / "model_outputs.json").read_text(encoding="utf-8"))
    browser.find_element("id", "search").click()
    press(browser, Keys.TAB, Keys.TAB, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    sheet = browser.find_element("css selector", "#opened .sheet")
    assert browser.find_element("css selector", ".asked").text == outputs[2]["instruction"]
    assert sheet.find_element("css selector", ".text").text.split() == outputs[2]["output"].split()
    assert sheet.find_element("css selector", ".badge").text in ("▲ better", "▼ worse", "= tie")
    browser.find_element("id", "search").send_keys("eval:100 7")
    assert 0 < len(find_all(browser, "#prompts li")) < 100
    check_quiet(browser, address)


def test_every_section_stands_and_nothing_overflows_on_a_phone_in_the_dark(browser: Any, tmp_path: Path) -> None:
    address = opened(browser, full_run(tmp_path / "run"), tmp_path / "report.html")
    assert not find_all(browser, ".empty")
    # lead; by length, frontier, along the training; training; benchmarks
    assert len(find_all(browser, "figure svg.chart")) == 1 + 3 + 7 + 2
    assert "Likelihood displacement" in browser.find_element("id", "training").text
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        links = find_all(browser, "nav a")
        assert [link.get_attribute("href").partition("#")[2] for link in links][-1] == "glossary" and len(links) == 11
        for link in links:  # all of it is on the screen
            box = link.rect
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] > 0 and link.is_displayed()
        paper = "return getComputedStyle(document.body).backgroundColor"
        dark = browser.execute_script(paper)
        theme = browser.find_element("id", "theme")
        theme.click()
        assert browser.execute_script(paper) != dark  # light, although the system is dark
        theme.click()
        assert browser.execute_script(paper) == dark
        theme.click()
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    check_quiet(browser, address)


def test_a_chip_highlights_its_variant(browser: Any, tmp_path: Path) -> None:
    opened(browser, full_run(tmp_path / "run"), tmp_path / "report.html")
    chip = browser.find_element("css selector", "#training [data-highlight=dpo]")
    chip.click()
    lit = {m.get_attribute("data-variant") for m in find_all(browser, ".chart .on")}
    assert (lit, chip.get_attribute("aria-pressed")) == ({"dpo"}, "true")
    chip.click()
    assert not find_all(browser, ".chart .on")


def test_hostile_text_stays_text(browser: Any, tmp_path: Path) -> None:
    address = opened(browser, full_run(tmp_path / "run", HOSTILE), tmp_path / "report.html")
    assert browser.title == f"full{HOSTILE} · prefzoo report"
    assert not find_all(browser, "img") and len(find_all(browser, "script")) == 2
    assert len(find_all(browser, "#prompts li")) == N
    assert HOSTILE.split("\u2028", maxsplit=1)[0] in browser.find_element("css selector", ".asked").text
    check_quiet(browser, address)


@pytest.mark.slow
def test_a_served_page_reloads_when_the_run_goes_on(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    run = full_run(tmp_path / "run")
    server = server_of(run, 0)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        browser.get(f"http://127.0.0.1:{server.server_port}/")
        browser.execute_async_script("const go = arguments[0]; window.sameDocument = true; setTimeout(go, 1000)")
        (run / "verdict.json").write_text('{"decision": "Nothing is settled yet."}')
        WebDriverWait(browser, 60).until(lambda page: page.execute_script("return !window.sameDocument"))
        assert not [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
