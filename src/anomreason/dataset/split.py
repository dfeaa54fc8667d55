"""Splits: each kept image in one part of the dataset, e.g. train or test, whole groups together.

    split(store, SplitOptions(ratios={"train": 0.8, "test": 0.2}))    # SplitReport(scheme='default', ...)

Images of one prompt or one group of prompts, of one cluster of near-duplicates, and a scene and its twins are one
group; groups that share an image are one. A salted hash of the group's key chooses its split, so the order of arrival
has no influence. An image that has a split keeps it. A new image joins the split of its group. One that would join
groups of different splits gets none: in either split it would be the leak between them. It stays in the dataset, is
reported, and gets a split with `reassign`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Result
from anomreason.dataset.store import Store, put
from anomreason.dataset.tables import CommandRow, DecisionRow, ImageRow, ImageState, PromptRow, SplitRow
from anomreason.errors import UsageError

Codes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

RATIOS = {"train": 0.5, "test": 0.5}
"""The paper's division."""
SALT = "anomreason"
KINDS = ("group", "prompt", "cluster", "image")
"""Columns of `Members.keys`. The first of these that a group has gives the group its key."""
NEW, LEFT_OUT = -1, -2
"""Places of images without a split."""
_ROWS = 1000
_STEP = 50_000
"""Images between two steps of the progress: a second or two."""
_NAMES = r"\w+(\.\w+)*"


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How to divide."""

    ratios: Mapping[str, float] | None = None
    """Share of each split, adding up to 1. None: as this scheme was divided before, else RATIOS."""
    salt: str | None = None
    """Another one gives another division. None: as before, else SALT."""
    scheme: str = "default"
    """Name of this division; images may be divided in several ways."""
    reassign: bool = False
    """Divide all images anew, also those that have a split."""
    dry_run: bool = False
    """Report, write nothing."""


class UnsplitImage(Result):
    """A new image that joins groups of different splits."""

    image: str
    """Its name."""
    path: str
    why: str
    """E.g. `prompt in train, cluster in test`."""


class SplitReport(Result):
    """One scheme after a split; counts are of kept images."""

    scheme: str
    salt: str
    ratios: dict[str, float]
    images: dict[str, int]
    groups: dict[str, int]
    largest_group: int
    added: int
    """Images that got a split now."""
    moved: int
    """Images that had another split before."""
    left_out: tuple[UnsplitImage, ...]
    straddling: int
    """Prompts, clusters and scenes with images in several splits; the leak check lists them."""
    near_duplicates_known: bool
    """Whether a filter has looked for them; else images that are alike may be in different splits."""
    dry_run: bool


class _Settings(NamedTuple):
    ratios: dict[str, float]
    salt: str


class Members(NamedTuple):
    """Images that a scheme divides: kept ones, and dropped ones that have a split."""

    ids: Ints
    """(images,)"""
    keys: Codes
    """(images, 4): hashes of what binds an image to others, in the order of KINDS; 0 where it has none."""
    splits: Ints
    """(images,): place of its split among the names, or NEW."""
    kept: npt.NDArray[np.bool_]


def parse_ratios(text: str) -> dict[str, float]:
    """`train=0.8,test=0.2` as a mapping. Raises UsageError for another form."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            value = float(share)
        except ValueError:
            raise UsageError(f"{part!r} is no share of a split; write ratios as train=0.8,test=0.2") from None
        if name.strip() in found:
            raise UsageError(f"split {name.strip()!r} is given twice; name each split once")
        found[name.strip()] = value
    return found


def split(
    store: Store,
    options: SplitOptions = SplitOptions(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SplitReport:
    """Give every kept image its split, in one transaction.

    Raises UsageError for ratios or a salt other than those the scheme has, unless `reassign`, and when no image is
    kept.
    """
    with store.reading() as session:
        settings = _settings(session, options)
        if options.dry_run:
            return _divide(session, settings, options, progress).report
    recorded = {"scheme": options.scheme, **settings._asdict(), "reassign": options.reassign}
    with store.command("split", recorded) as command, store.writing() as session:
        division = _divide(session, settings, options, progress)
        changed = division.after >= 0
        if not options.reassign:
            changed &= division.before == NEW
        names, ids = list(settings.ratios), division.ids[changed]
        shared = {"scheme": options.scheme, "command_id": command.id}
        rows = [
            {"image_id": int(image), "split": names[place], **shared}
            for image, place in zip(ids, division.after[changed], strict=True)
        ]
        for start in range(0, len(rows), _ROWS):
            put(session, SplitRow, rows[start : start + _ROWS], ("scheme", "image_id"))
        report = division.report
        command.report |= report.model_dump(include={"images", "groups", "added", "moved", "straddling"})
        command.report["left_out"] = len(report.left_out)
    return report


@dataclass(frozen=True, slots=True)
class _Division:
    ids: Ints
    before: Ints
    after: Ints
    report: SplitReport


def _divide(
    session: Session, settings: _Settings, options: SplitOptions, progress: Callable[[int, int], None]
) -> _Division:
    names = list(settings.ratios)
    members = load_members(session, options.scheme, names, progress)
    if not members.kept.any():
        raise UsageError("no image is kept, so there is nothing to split: collect images, or restore dropped ones")
    before = members.splits
    start = np.full_like(before, NEW) if options.reassign else before
    after = assign(members.keys, start, settings.ratios, settings.salt)
    kept = members.kept
    low, high = _ends(*_nodes(members.keys[kept, :-1]), after[kept])
    placed = kept & (after >= 0)
    labels = group_labels(members.keys[placed])
    _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    report = SplitReport(
        scheme=options.scheme,
        salt=settings.salt,
        ratios=settings.ratios,
        images=_counts(names, after[placed]),
        groups=_counts(names, after[placed][first]),
        largest_group=int(sizes.max(initial=0)),
        added=int((placed & (before == NEW)).sum()),
        moved=int(((before != NEW) & (after != before)).sum()),
        left_out=_left_out(session, members, after, names),
        straddling=int((low < high).sum()),
        near_duplicates_known=near_duplicates_known(session),
        dry_run=options.dry_run,
    )
    return _Division(members.ids, before, after, report)


def near_duplicates_known(session: Session) -> bool:
    """Whether anybody has looked for near-duplicates."""
    looked = select(DecisionRow.image_id).where(DecisionRow.filter.like("near_duplicates%")).exists()
    return session.scalar(select(ImageRow.id).where(or_(ImageRow.cluster.is_not(None), looked)).limit(1)) is not None


def _counts(names: Sequence[str], places: Ints) -> dict[str, int]:
    return dict(zip(names, np.bincount(places, minlength=len(names)).tolist(), strict=True))


def _settings(session: Session, options: SplitOptions) -> _Settings:
    """What to divide by: as asked, or as before. Raises UsageError where the two differ."""
    if options.ratios is not None:
        _check(options.ratios)
    scheme = options.scheme
    last = session.scalar(select(func.max(SplitRow.command_id)).where(SplitRow.scheme == scheme))
    if last is None:
        ratios = RATIOS if options.ratios is None else options.ratios
        return _Settings(dict(ratios), SALT if options.salt is None else options.salt)
    row = session.get_one(CommandRow, last)
    if row.name != "split":
        raise UsageError(
            f"the scheme {scheme!r} came with the images ('dataset {row.name}'); name your own with --scheme NAME"
        )
    before = _Settings(row.settings["ratios"], row.settings["salt"])
    ratios = before.ratios if options.ratios is None else dict(options.ratios)
    wanted = _Settings(ratios, before.salt if options.salt is None else options.salt)
    if wanted != before and not options.reassign:
        raise UsageError(
            f"the scheme {scheme!r} was divided by {_line(before)}, not by {_line(wanted)}: leave --ratios and --salt "
            "out to continue it, name another --scheme, or see with --reassign --dry-run how many images would move"
        )
    return wanted


def _line(settings: _Settings) -> str:
    return f"{','.join(f'{name}={share:g}' for name, share in settings.ratios.items())} and salt {settings.salt!r}"


def _check(ratios: Mapping[str, float]) -> None:
    for name, share in ratios.items():
        if not re.fullmatch(_NAMES, name, re.ASCII):
            raise UsageError(f"{name!r} is no name of a split; use letters, digits and underscores")
        if not 0 < share <= 1:
            raise UsageError(f"split {name!r} has the share {share!r}; give one above 0 and up to 1")
    if abs(sum(ratios.values()) - 1) > 0.002:
        raise UsageError(f"the ratios add up to {sum(ratios.values()):g} instead of 1; give shares of the whole")


def load_members(
    session: Session, scheme: str, names: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None
) -> Members:
    """The images that a scheme divides, as arrays."""
    has_split = and_(SplitRow.image_id == ImageRow.id, SplitRow.scheme == scheme)
    query = (
        select(
            ImageRow.id,
            ImageRow.sha256,
            ImageRow.group,
            ImageRow.cluster,
            PromptRow.sha256,
            PromptRow.group,
            ImageRow.status,
            SplitRow.split,
        )
        .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
        .outerjoin(SplitRow, has_split)
        .where(or_(ImageRow.status == ImageState.KEPT, SplitRow.split.is_not(None)))
        .order_by(ImageRow.id)
    )
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    places = {name: place for place, name in enumerate(names)}
    ids, keys, splits, kept = array("q"), array("Q"), array("q"), array("b")
    rows = session.execute(query.execution_options(yield_per=_ROWS))
    for done, (image, sha, group, cluster, prompt, prompts, status, name) in enumerate(rows, 1):
        ids.append(image)
        keys.extend(image_keys(sha, group, cluster, prompt, prompts))
        # A split whose name is no longer asked for (with `reassign`) gets a place after the others.
        splits.append(NEW if name is None else places.setdefault(name, len(places)))
        kept.append(status == ImageState.KEPT)
        if done % _STEP == 0:
            progress(done, total)
    table = np.frombuffer(keys, dtype=np.uint64).reshape(-1, len(KINDS))
    return Members(np.array(ids), table, np.array(splits, dtype=np.int64), np.array(kept, dtype=np.bool_))


def image_keys(
    sha: str, group: str | None, cluster: str | None, prompt: str | None, prompts: str | None
) -> tuple[int, int, int, int]:
    """A row of `Members.keys`; prompt: its hash, prompts: its group, whose prompts share a key."""
    by_prompt = code("prompts", prompts) if prompts is not None else code("prompt", prompt)
    return code("group", group), by_prompt, code("cluster", cluster), code("image", sha)


def code(kind: str, value: str | None) -> int:
    """64 bits for what binds images; 0 for None. Two values of one code would only make their groups one."""
    if value is None:
        return 0
    return int.from_bytes(blake2b(f"{kind}\0{value}".encode(), digest_size=8).digest()) or 1


def group_labels(keys: Codes) -> Ints:
    """(images,): number of each image's group, from 0; images that share a key, at once or over others, are one."""
    images, nodes, count = _nodes(keys)
    size = len(keys) + count
    graph = coo_matrix((np.ones(len(images), dtype=np.bool_), (images, len(keys) + nodes)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][: len(keys)]
    found: Ints = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return found


def assign(keys: Codes, splits: Ints, ratios: Mapping[str, float], salt: str) -> Ints:
    """(images,): place of each image's split; LEFT_OUT for new ones that join groups of different splits.

    keys: (images, 4). splits: (images,), NEW for those to place; the others stay.
    """
    result = splits.copy()
    new = np.flatnonzero(splits == NEW)
    if not len(new):
        return result
    images, nodes, count = _nodes(keys)
    low, high = _ends(images, nodes, count, splits)
    # Groups of the new images alone, and the first and last split of old images that each group touches.
    labels = np.full(len(keys), -1, dtype=np.int64)
    labels[new] = group_labels(keys[new])
    of_new = labels[images] >= 0
    groups = int(labels.max()) + 1
    first, last = np.full(groups, _FAR), np.full(groups, NEW)
    np.minimum.at(first, labels[images[of_new]], low[nodes[of_new]])
    np.maximum.at(last, labels[images[of_new]], high[nodes[of_new]])
    result[new] = np.where(first == last, last, NEW)[labels[new]]
    joining = new[(first < last)[labels[new]]]
    if len(joining):
        _settle(keys, result, joining)
    fresh = result == NEW
    result[fresh] = _choose(keys[fresh], ratios, salt)
    return result


_FAR = np.iinfo(np.int64).max


def _nodes(keys: Codes) -> tuple[Ints, Ints, int]:
    """All pairs (image, number of a key that it has), and the number of keys."""
    images, columns = np.nonzero(keys)
    values, nodes = np.unique(keys[images, columns], return_inverse=True)
    return images, nodes, len(values)


def _ends(images: Ints, nodes: Ints, count: int, splits: Ints) -> tuple[Ints, Ints]:
    """(keys,): first and last split of the images that have a key; _FAR and NEW where none of them has a split."""
    low, high = np.full(count, _FAR), np.full(count, NEW)
    placed = splits[images] >= 0
    np.minimum.at(low, nodes[placed], splits[images[placed]])
    np.maximum.at(high, nodes[placed], splits[images[placed]])
    return low, high


def _settle(keys: Codes, result: Ints, joining: Ints) -> None:
    """Place new images of groups that touch several splits, so that no key gets images of two: change `result`.

    In the order of their hashes, an image joins the split of what it shares keys with, or is left out where that are
    several. What is then bound to no placed image stays NEW.
    """
    waiting = sorted(joining.tolist(), key=lambda image: int(keys[image, -1]))
    near_joining = np.isin(keys, keys[joining][keys[joining] != 0]).any(axis=1)
    of_key: dict[int, set[int]] = {}
    for image in np.flatnonzero(near_joining & (result >= 0)).tolist():
        for key in keys[image].tolist():
            of_key.setdefault(key, set()).add(int(result[image]))
    while waiting:
        later = []
        for image in waiting:
            own = [key for key in keys[image].tolist() if key]
            near = set().union(*(of_key.get(key, ()) for key in own))
            if not near:
                later.append(image)
            elif len(near) > 1:
                result[image] = LEFT_OUT
            else:
                result[image] = min(near)
                for key in own:
                    of_key.setdefault(key, set()).add(min(near))
        if len(later) == len(waiting):
            return
        waiting = later


def _choose(keys: Codes, ratios: Mapping[str, float], salt: str) -> Ints:
    """(images,): the split of groups without any, by rendezvous hashing.

    Each split draws a number by hash, weighted by its share, and the highest wins. So the order of the splits has no
    influence, and a split that is added later takes its share from the others while nothing else moves.
    """
    if not len(keys):
        return np.empty(0, dtype=np.int64)
    labels = group_labels(keys)
    group_keys = _group_keys(keys, labels)
    scores = [[_draw(salt, name, key, share) for name, share in ratios.items()] for key in group_keys.tolist()]
    found: Ints = np.argmax(scores, axis=1)[labels]
    return found


def _group_keys(keys: Codes, labels: Ints) -> Codes:
    """(groups,): the least key of the first kind that a group has, so that more images of a scene do not change it."""
    found = np.zeros(int(labels.max()) + 1, dtype=np.uint64)
    for column in range(keys.shape[1]):
        has = keys[:, column] != 0
        least = np.full(len(found), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(least, labels[has], keys[has, column])
        vacant = (found == 0) & np.isin(np.arange(len(found)), labels[has])
        found[vacant] = least[vacant]
    return found


def _draw(salt: str, name: str, key: int, share: float) -> float:
    number = int.from_bytes(blake2b(f"{salt}\0{name}\0{key}".encode(), digest_size=8).digest())
    return -share / float(np.log(((number >> 11) + 0.5) / 2**53))


def _left_out(session: Session, members: Members, after: Ints, names: Sequence[str]) -> tuple[UnsplitImage, ...]:
    places = np.flatnonzero((after == LEFT_OUT) & members.kept)
    found = []
    for place in places.tolist():
        parts = []
        for column, kind in enumerate(KINDS[:-1]):
            key = members.keys[place, column]
            near = np.unique(after[(members.keys[:, column] == key) & (after >= 0)]) if key else ()
            if len(near):
                parts.append(f"{kind} in {_all(names[int(n)] for n in near)}")
        image = session.execute(
            select(ImageRow.name, ImageRow.path).where(ImageRow.id == int(members.ids[place]))
        ).one()
        found.append(UnsplitImage(image=image.name, path=image.path, why=", ".join(parts)))
    return tuple(found)


def _all(names: Iterable[str]) -> str:
    return " and ".join(names)
