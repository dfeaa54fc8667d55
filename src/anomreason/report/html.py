"""The report of a run: a gallery (`report.html`) and a page an image, opened from the file system without a network.

Images are shown by reference. Beside the gallery, `report/` holds pages, previews and copies of the few images that
browsers cannot show; previews and copies are named by the hash of the image's bytes, so a later build finds them again
and an image that is gone can still be shown small. Whatever comes from a model or a file name is escaped.

    build_report(Path("runs/demo"))    # PosixPath('runs/demo/report.html')
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from anomreason import archives, parquet
from anomreason.agent.observer import other_models
from anomreason.anomaly import Detection, Failure
from anomreason.buckets import Address, is_address
from anomreason.english import counted
from anomreason.errors import UnreadableImage
from anomreason.files import remove_drafts, write_atomically
from anomreason.images import browser_can_show, file_bytes, thumbnail
from anomreason.report.calls import CallLog, timeline
from anomreason.report.marks import mark
from anomreason.report.results import BANDS, Results, Tally, band, status
from anomreason.runs import image_folder, read_settings

FAILURES = {
    "unreadable_image": (
        "the file cannot be opened as an image",
        "Replace or repair the file, then run the same command again.",
    ),
    "unreachable_image": (
        "the bucket or web server with the image did not give it",
        "Check keys, network and address, then run the same command again: it continues with what failed.",
    ),
    "refused": (
        "the model refused to answer",
        "The same command does not ask again. Another model, or other prompts (--prompts), in a new run may answer.",
    ),
    "truncated": (
        "a reply was cut off",
        "Make the change that the message names, then run the same command again: it continues with what failed.",
    ),
    "unparsable": (
        "a reply was not in the asked form, even when asked again",
        "Run the same command again. If many images fail like this, the model does not follow the form: try another.",
    ),
    "endpoint": (
        "the server gave no usable answer",
        "Check its address, the key and its log, then run the same command again: it continues with what failed.",
    ),
    "budget": (
        "the limit on cost or tokens was reached before this image was done",
        "Run the same command with a higher --max-cost or --max-tokens: it continues.",
    ),
    "missing": ("the predictions do not have this image", ""),
}
"""What each kind of failure means, and what to do about it."""

PREVIEW_SIDE = 256
COPY_SIDE = 2048
_FETCHING = 16
"""Images of a bucket that are fetched at a time."""
_ASSETS = ("report.css", "gallery.js", "page.js")


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What all pages of one report share."""

    run: Path
    record: Mapping[str, object]
    """All of `run.json`."""
    settings: Mapping[str, object]
    """The part of it that decides the results."""
    title: str
    """What was looked at, and by which model."""
    log: CallLog
    detectors: set[str]
    pages: list[str]
    """File names of the pages, in the order of the gallery."""

    @property
    def simulated(self) -> bool:
        names = {str(self.settings.get("model", "")), *self.log.models, *self.detectors}
        return any(name.startswith(("sim:", "simulat")) for name in names)


def build_report(run: Path, results: Results | None = None) -> Path:
    """Write or rebuild `run/report.html` and its pages; gives its path. Raises UsageError for no run folder.

    results: the run's results, if they are open already. Each file is replaced whole, the gallery last, so a reader
    never sees half a page.
    """
    record, state = read_settings(run), _state(run)
    if results is None:
        with closing(Results(run)) as results:
            return build_report(run, results)
    run = Path(os.path.abspath(run))  # not resolved: browsers follow `..` in the address that was opened
    report, root = run / "report", image_folder(run, record.get("root", "."))
    for part in ("pages", "thumbs", "pictures"):
        (report / part).mkdir(parents=True, exist_ok=True)
    for folder in (run, report, *(report / part for part in ("pages", "thumbs", "pictures"))):
        remove_drafts(folder)
    for name in _ASSETS:
        write_atomically(report / name, (files(__package__) / "templates" / name).read_text(encoding="utf-8"))
    threads = _FETCHING if isinstance(root, Address) else os.cpu_count()
    with closing(CallLog(run)) as log, ThreadPoolExecutor(threads) as pool:
        pages, settings = [_page_name(i) for i in results.images()], record.get("settings", {})
        inputs = [Path(i).name or root.name for i in record.get("inputs", [root])]
        title = _title(inputs, settings.get("model"))
        context = ReportContext(run, record, settings, title, log, results.detectors, pages)
        prepared, tally, rows = partial(prepare, root=root, report=report), Tally(), []
        for batch in results.batches():
            for detection, shown in zip(batch, pool.map(prepared, batch), strict=True):
                page = context.pages[tally.images]
                write_atomically(report / "pages" / page, _page(context, detection, tally.images, shown), sync=False)
                rows.append(json_script(_row(detection, page, shown)))
                tally.add(detection)
        # Taken before the results were read: whatever is written meanwhile makes the report an old one.
        write_atomically(run / "report.html", f"{_gallery(context, tally, rows).rstrip()}\n{_mark(state)}")
    return run / "report.html"


def is_current(run: Path) -> bool:
    """Whether the report shows the settings, results and calls as they are now; image files may have changed since."""
    try:
        with (run / "report.html").open("rb") as page:
            page.seek(-len(_mark("0" * 64)), os.SEEK_END)
            return page.read().decode("ascii", "replace") == _mark(_state(run))
    except OSError:
        return False


def _state(run: Path) -> str:
    """Hash of what a report is made from. Not of dates: clocks jump, and copies get new ones."""
    state = hashlib.sha256()
    for name in ("run.json", "results.jsonl", "calls.jsonl"):
        if (run / name).is_file():
            with (run / name).open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
        state.update(name.encode())
    return state.hexdigest()


def _mark(state: str) -> str:
    return f"<!-- made from {state} -->\n"


def _title(inputs: Sequence[str], model: str | None) -> str:
    more = f" and {len(inputs) - 2} more" if len(inputs) > 2 else ""
    return ", ".join(inputs[:2]) + more + (f" · {model}" if model else "")


def _page_name(image: str) -> str:
    """Stays the same from build to build."""
    return hashlib.sha256(image.encode()).hexdigest()[:20] + ".html"


def _gallery(context: ReportContext, tally: Tally, rows: list[Markup]) -> str:
    return (
        templates()
        .get_template("gallery.html")
        .render(
            title=context.title,
            simulated=context.simulated,
            other=other_models(str(context.settings.get("model") or ""), context.log.models),
            record=context.record,
            settings=context.settings,
            detectors=sorted(context.detectors),
            date=_date(context),
            usage=context.log.usage if context.log.usage.calls else tally.usage,
            tally=tally,
            rows=Markup(",\n").join(rows),
        )
    )


def _date(context: ReportContext) -> str:
    """Times of the first and last call, or of the last result; in UTC."""
    log, results = context.log, context.run / "results.jsonl"
    if log.first is None or log.last is None:
        return _minute(results.stat().st_mtime) if results.is_file() else "no results yet"
    first, last = _minute(log.first), _minute(log.last)
    if first == last:
        return first + " UTC"
    return f"{first} to {last.removeprefix(first[:11])} UTC"


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _row(d: Detection, page: str, shown: ReportImage) -> dict[str, Any]:
    """What the gallery's script needs for one image."""
    worst = sorted(d.anomalies, key=lambda a: a.severity)
    texts = [t for a in worst for t in (a.name, a.phenomenon[:400])]
    became = status(d)
    title = worst[0].name if worst else _without_anomalies(d, became)
    return {
        "image": d.image,
        "page": page,
        "preview": shown.preview,
        "status": became,
        "worst": d.worst,
        "count": len(worst),
        "title": title,
        "text": "\n".join([*texts[1:], d.description or "", f"source: {d.source.label}" if d.source else ""]),
    }


def _without_anomalies(d: Detection, became: str) -> str:
    """What the gallery says of an image without anomalies."""
    if d.failure:
        return f"failed: {d.failure.kind.replace('_', ' ')}"
    if became == "none found":
        dropped = sum(c.dropped is not None for c in d.candidates)
        return "searched, nothing found" + (
            f"; {counted(dropped, 'candidate', 'candidates')} dropped" if dropped else ""
        )
    if became == "described":
        return "described, not searched for anomalies"
    return "out of domain, no anomalies named" if d.out_of_domain else "not searched for anomalies"


def json_script(value: Any) -> Markup:
    """JSON that can stand inside a <script> element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _page(context: ReportContext, d: Detection, place: int, shown: ReportImage) -> str:
    anomalies = sorted(d.anomalies, key=lambda a: a.severity)
    folder, _, name = d.image.rpartition("/")
    pages = context.pages
    return (
        templates()
        .get_template("page.html")
        .render(
            d=d,
            name=name,
            folder=folder,
            title=context.title,
            simulated=context.simulated,
            shown=shown,
            anomalies=anomalies,
            marks=mark(anomalies, (d.sent.width, d.sent.height) if d.sent else None),
            remedy=remedy(d.failure) if d.failure else ("", ""),
            kept=[(n, c) for n, c in enumerate(d.candidates) if c.dropped is None],
            dropped=[(n, c) for n, c in enumerate(d.candidates) if c.dropped is not None],
            with_counts=[o for o in d.objects if o.counts],
            bars=timeline(context.log.of(d.image), context.log.stored),
            page=pages[place],
            before=pages[place - 1] if place else None,
            after=pages[place + 1] if place + 1 < len(pages) else None,
            place=place + 1,
            total=len(pages),
        )
    )


def remedy(failure: Failure) -> tuple[str, str]:
    """(what a failure means, what to do about it); empty texts where we cannot say."""
    meaning, what = FAILURES.get(failure.kind, ("", ""))
    named = [option for option in ("--max-objects", "--max-side") if option in failure.message]
    if failure.kind == "truncated" and named:
        decide = "decide" if len(named) > 1 else "decides"
        what += f" {' and '.join(named)} {decide} the results, so another value needs a new run (--run)."
    return meaning, what


@dataclass(frozen=True, slots=True)
class ReportImage:
    """How one image appears. Addresses are percent-encoded and relative to `report/pages`."""

    preview: str | None
    """File name in `report/thumbs`; None when there is none."""
    source: str | None
    """What the page shows large; None when nothing can be shown."""
    original: str | None
    """The image file itself; None when it is missing, inside an archive or Parquet file, or in a bucket."""
    note: str | None
    """A warning about the image shown, e.g. that the file is missing."""

    @property
    def large(self) -> bool:
        """Whether more than the preview is shown, so that parts can be enlarged."""
        return self.source is not None and not (self.preview and self.source.endswith(f"thumbs/{self.preview}"))


def prepare(detection: Detection, root: Path, report: Path) -> ReportImage:
    """Make the preview and, where a browser cannot show the file, the copy; neither is made twice."""
    path = Address(detection.image) if is_address(detection.image) else root / detection.image
    name = scaled_name(detection.sha256)
    preview = report / "thumbs" / name if name else None
    copy = report / "pictures" / name if name else None
    original, note = _original(path, detection, report / "pages")
    shows = original
    if note is None and preview and copy:
        try:
            data = None if original or (preview.exists() and copy.exists()) else _fetched_same(path, detection)
            keep_scaled(preview, path, PREVIEW_SIDE, data)
            if not (original and browser_can_show(path)):
                keep_scaled(copy, path, COPY_SIDE, data)
                shows = None
                why = "Browsers cannot show this kind of file" if original else _where(path)
                note = f"{why}; this is a JPEG copy, at most {COPY_SIDE} pixels a side."
        except (UnreadableImage, OSError) as e:
            shows, note = None, f"The image cannot be opened: {e}"
    elif not preview:
        shows, note = None, note or "The file could not be opened as an image, so there is nothing to show."
    for kept in (copy, preview):
        if shows is None and kept is not None and kept.is_file():
            shows = link(kept, report / "pages")
    return ReportImage(name if preview and preview.is_file() else None, shows, original, note)


def _fetched_same(path: Path, detection: Detection) -> bytes | None:
    """The bytes of an image that is not opened where it lies, if it is still the one that was examined."""
    data = file_bytes(path) if isinstance(path, Address) or parquet.is_row(path) else None
    if data is not None and hashlib.sha256(data).hexdigest() != detection.sha256:
        raise UnreadableImage("it has changed since it was examined")
    return data


def _where(path: Path) -> str:
    if isinstance(path, Address):
        return "The image is in a bucket"
    return "The image is inside a Parquet file" if parquet.is_row(path) else "The image is inside an archive"


def link(target: Path, start: Path) -> str:
    """The address of a file as seen from a page in the folder `start`, safe for any file name."""
    return quote(os.fsencode(os.path.relpath(target, start)))


def scaled_name(sha256: str | None) -> str | None:
    """File name of the scaled copies of an image with this hash; None for what is no hash."""
    if sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return None
    return f"{sha256[:40]}.jpg"


def _original(path: Path, detection: Detection, pages: Path) -> tuple[str | None, str | None]:
    """(the file's address or None, what is wrong with it or None); neither for an image in an archive or bucket."""
    if isinstance(path, Address):
        return None, None
    try:
        stat = path.stat()
        if not path.is_file():
            return None, f"There is no image file at {path} any more."
        if _changed(path, stat, detection):
            return link(path, pages), "The file has changed since it was examined: anomalies and boxes may not fit it."
    except NotADirectoryError:
        packed = archives.stat(path)
        if packed is None:
            return None, f"The image file is missing: it was at {path}."
        same = detection.file_size is None or packed == (detection.file_size, detection.file_mtime)
        return None, None if same else "The image has changed since it was examined; it is not shown."
    except FileNotFoundError:
        return None, f"The image file is missing: it was at {path}."
    except (OSError, ValueError) as e:
        return None, f"The image file cannot be read: {e}."
    return link(path, pages), None


def _changed(path: Path, stat: os.stat_result, detection: Detection) -> bool:
    """Whether the file's bytes differ from those examined. The file is hashed only if size and date leave a doubt."""
    if detection.file_size is None or detection.sha256 is None:
        return False
    if stat.st_size != detection.file_size:
        return True
    if stat.st_mtime_ns == detection.file_mtime:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() != detection.sha256


def keep_scaled(target: Path, path: Path, side: int, data: bytes | None = None) -> None:
    """Write the image scaled to `side` unless it is kept already; never half of it. data: its bytes, if at hand."""
    if target.exists():
        return
    write_atomically(target, thumbnail(path, side, data), sync=False)


def duration(seconds: float) -> str:
    """Seconds in words: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def money(cost: float | None) -> str:
    """US dollars, or that the price is unknown."""
    if cost is None:
        return "price unknown"
    return f"${cost:.4f}" if 0 < cost < 0.1 else f"${cost:,.2f}"


def size(count: int) -> str:
    """A number of bytes as `312 kB`."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def readable(value: Any) -> str:
    """A setting as a person reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@cache
def templates() -> Environment:
    env = Environment(
        loader=PackageLoader("anomreason.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(band=band, duration=duration, money=money, size=size, readable=readable)
    env.filters.update(plain="{:.10g}".format, thousands="{:,}".format)
    env.globals.update(BANDS=BANDS, FAILURES=FAILURES, counted=counted)
    return env
