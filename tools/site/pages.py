"""Turns the Markdown of the repository into pages of the documentation site: a hook of MkDocs, see `mkdocs.yml`.

The pages read the same on a code host. There, `README.md` is the first page, and links lead to files of the repository;
the site has the README as its start page, and names such files instead of linking to them.
"""

from __future__ import annotations

import re
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
    files.append(File.generated(config, START, content=site_links(readme, PurePosixPath())))
    for asset in sorted(ASSETS.iterdir()):
        files.append(File.generated(config, f"assets/{asset.name}", abs_src_path=str(asset)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links as the site has them. The start page has them already. Pages on the API are found last."""
    if page.file.src_uri.startswith("api"):
        page.meta["search"] = {"boost": 0.5}
    if page.file.src_uri == START:
        return markdown
    return site_links(markdown, PurePosixPath("docs", page.file.src_uri).parent)


def site_links(markdown: str, folder: PurePosixPath) -> str:
    """Links of a page in this folder of the repository, led to the site's pages. Blocks of code stay as they are.

    >>> site_links("[Cost](docs/detect.md#cost), [the start](README.md), [notes](tools/venv.sh)", PurePosixPath())
    '[Cost](detect.md#cost), [the start](index.md), notes (`tools/venv.sh`)'
    """
    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(b if b.startswith("```") else LINK.sub(lambda m: _link(m, folder), b) for b in blocks)


def _link(match: re.Match[str], folder: PurePosixPath) -> str:
    image, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or ":" in path or path.startswith("/"):
        return match[0]
    place = PurePosixPath(normpath(folder / path))
    anchor = f"#{anchor}" if anchor else ""
    if place == PurePosixPath("README.md"):
        return f"[{text}]({START}{anchor})"
    if place.parts[0] == "docs":
        return f"{image}[{text}]({place.relative_to('docs')}{anchor})"
    if not (ROOT / place).exists():
        return match[0]  # MkDocs reports it
    return f"`{place}`" if text.strip("`") == str(place) else f"{text} (`{place}`)"
