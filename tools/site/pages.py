"""Turns the Markdown of the repository into pages of the documentation site: a hook of MkDocs, see `mkdocs.yml`.

The pages read the same on a code host. There, `README.md` is the first page, and links lead to files of the repository;
the site has the README as its start page, names such files instead of linking to them, and calls its pages by their
titles where the text says `detect.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ASSETS = Path(__file__).parent / "assets"
START = "index.md"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README as start page, and what the pages load."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, START, content=site_links(readme, PurePosixPath(), titles(config.nav))))
    for asset in sorted(ASSETS.iterdir()):
        files.append(File.generated(config, f"assets/{asset.name}", abs_src_path=str(asset)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links as the site has them. The start page has them already. Pages on the API are found last."""
    if page.file.src_uri.startswith("api"):
        page.meta["search"] = {"boost": 0.5}
    if page.file.src_uri == START:
        return markdown
    return site_links(markdown, PurePosixPath("docs", page.file.src_uri).parent, titles(config.nav))


def titles(nav: object) -> dict[str, str]:
    """The title of each page in the navigation, by its file. nav: lists and mappings of titles, as in `mkdocs.yml`."""
    if isinstance(nav, list):
        return {page: title for part in nav for page, title in titles(part).items()}
    if isinstance(nav, dict):
        pages = {to: title for title, to in nav.items() if isinstance(to, str)}
        return pages | {page: title for part in nav.values() for page, title in titles(part).items()}
    return {}


def site_links(markdown: str, folder: PurePosixPath, titles: Mapping[str, str]) -> str:
    """Links of a page in this folder of the repository, led to the site's pages. Blocks of code stay as they are.

    >>> page = "[detect.md](detect.md), [cost](detect.md#cost), [notes](../tools/x.md)"
    >>> site_links(page, PurePosixPath("docs"), {"detect.md": "Detect"})
    '[Detect](detect.md), [cost](detect.md#cost), notes (`tools/x.md`)'
    """
    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(b if b.startswith("```") else LINK.sub(lambda m: _link(m, folder, titles), b) for b in blocks)


def _link(match: re.Match[str], folder: PurePosixPath, titles: Mapping[str, str]) -> str:
    image, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or ":" in path:
        return match[0]
    place = PurePosixPath(normpath(folder / path))
    if place.parts[0] != "docs" and place != PurePosixPath("README.md"):
        return f"`{place}`" if text.strip("`") == str(place) else f"{text} (`{place}`)"
    to = str(place.relative_to("docs")) if place.parts[0] == "docs" else START
    label = titles.get(to, text) if text == path else text
    return f"{image}[{label}]({to}{'#' * bool(anchor)}{anchor})"
