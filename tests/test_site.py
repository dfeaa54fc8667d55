"""The documentation site builds without a warning, its links lead somewhere, and it loads nothing from elsewhere."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tests.chromium import CHROMIUM, PATIENCE

import anomreason

ROOT = Path(__file__).parents[1]


class SitePage(HTMLParser):
    """Anchors of a page, what it links to and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = set[str](), list[str](), list[str]()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        loads = tag == "link" and values.get("rel") not in ("canonical", "prev", "next")
        self.loaded += [values[name] for name in ("src", "data", "poster") if name in values and tag != "a"]
        self.loaded += [values["href"]] if loads and "href" in values else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Its warnings are errors: dead links and anchors, pages that the navigation lacks."""
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    folder = tmp_path_factory.mktemp("docs") / "site"
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, SitePage]:
    return {file: SitePage(file) for file in sorted(site.rglob("*.html"))}


def test_each_link_leads_to_a_place_on_the_site(site: Path, pages: dict[Path, SitePage]) -> None:
    """HTML within Markdown and what the theme adds included, which MkDocs does not check."""
    dead = []
    for file, page in pages.items():
        for link in [*page.links, *page.loaded] if file.name != "404.html" else []:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            to = (file.parent / unquote(target.path)).resolve() if target.path else file
            anchor = unquote(target.fragment)
            anchors = pages[to].anchors | {"", "__skip"} if to in pages else {""}
            if not to.is_relative_to(site) or not to.is_file() or anchor not in anchors:
                dead.append(f"{file.name}: {link}")
    assert dead == []


def test_pages_load_nothing_from_elsewhere(site: Path, pages: dict[Path, SitePage]) -> None:
    outside = re.compile(r"(?:https?:)?//")
    assert [(f.name, url) for f, page in pages.items() for url in page.loaded if outside.match(url)] == []
    for style in site.rglob("*.css"):
        loads = re.findall(r"@import\s+[^;]+|url\(\s*['\"]?(?:https?:)?//[^)]*\)", style.read_text(encoding="utf-8"))
        assert loads == [], style.name


def test_each_list_and_table_is_one(pages: dict[Path, SitePage]) -> None:
    """A code host makes a list of lines right below a paragraph; the site needs an empty line between them."""
    broken = re.compile(r"<p>(?:(?!</p>).)*\n(?:[-*|]|\d+\.) .*", re.DOTALL)
    assert [f.name for f in pages if broken.search(f.read_text(encoding="utf-8"))] == []


def test_each_public_name_is_described(site: Path, pages: dict[Path, SitePage]) -> None:
    names = {f"anomreason.{name}" for name in anomreason.__all__ if name != "__version__"}
    assert names - pages[site / "api.html"].anchors == set()


def test_each_screenshot_is_small_and_shown_with_words_for_it() -> None:
    pytest.importorskip("playwright", reason="needs playwright: pip install playwright")
    from tools.screenshots import MOST_BYTES, SCREENSHOTS

    files = {file.stem: file for file in (ROOT / "docs" / "pages").iterdir()}
    assert files.keys() == SCREENSHOTS.keys()
    assert [name for name, file in files.items() if file.stat().st_size > MOST_BYTES] == []
    text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md"))
    shown = re.findall(r'!\[[^\]]{20,}\]\(pages/([\w-]+)\.webp\)|<img src="pages/([\w-]+)\.webp" alt="[^"]{20,}"', text)
    assert files.keys() == {markdown or html for markdown, html in shown}


@pytest.mark.parametrize("module", ["tools.site.pages", "tools.site.docstrings"])
def test_the_examples_of_the_makers_of_the_site_do_what_they_show(module: str) -> None:
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    ran = doctest.testmod(importlib.import_module(module))
    assert ran.failed == 0 < ran.attempted


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_search_works_in_pages_opened_from_disk(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        wrong, asked = list[str](), list[str]()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.click("input[name=query]")
        page.keyboard.type("ollama")
        page.locator(".md-search-result__link", has_text="Models and servers").first.click()
        page.wait_for_url("**/servers.html**")
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
