"""Writes collected images and prompts into the store, a batch a transaction; what is there already is left alone.

recorder = Recorder(store, command.id, CollectTally())
recorder.images(entries, lambda fresh: {entry.place: look(entry, store.folder, False) for entry in fresh})
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from anomreason import archives
from anomreason.anomaly import Anomaly
from anomreason.buckets import Address
from anomreason.dataset.collect.entries import ImageEntry, ImageSource, PromptEntry, Remark
from anomreason.dataset.collect.looking import SeenImage, is_lost
from anomreason.dataset.image_facts import image_facts
from anomreason.dataset.store import BATCH, Store, add_new, decide, ids_by, put, storable
from anomreason.dataset.tables import (
    CandidateRow,
    DetectionRow,
    FileRow,
    FileState,
    ImageRow,
    ImageState,
    Origin,
    PromptRow,
    SourceRow,
)
from anomreason.errors import shown

Seen = Mapping[str, SeenImage | Remark]
"""By place."""
CHANGED = "changed"
"""Reason of images whose file holds other bytes now."""
_NEVER = -1
"""A time that no file has, so that the next command looks at it again."""
BAD_ROWS = ("bad_row", "bad_prompt", "long_prompt", "bad_input", "outside")
"""Reasons that a person removes by repairing a list."""


@dataclass
class CollectTally:
    """What a command did so far."""

    images: int = 0
    """New in the dataset."""
    duplicates: int = 0
    known: int = 0
    """Files passed over, since they are as they were."""
    prompts: int = 0
    """New in the dataset."""
    prompts_known: int = 0
    candidates: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    """By reason."""
    remarks: Counter[str] = field(default_factory=Counter)
    """By reason; of images that were collected all the same."""


class _StoredFile(NamedTuple):
    """A file as the store knows it."""

    size: int | None
    mtime: int | None
    status: str
    image_id: int | None


class _StoredImage(NamedTuple):
    """An image as the store knows it."""

    id: int
    path: str
    reason: str | None


class Recorder:
    """Records the entries of one command."""

    def __init__(self, store: Store, command: int, tally: CollectTally) -> None:
        self._store, self._command, self._tally = store, command, tally
        self._sources: dict[ImageSource, int] = {}

    def all_known(self, places: list[str], size: int | None, mtime: int | None) -> bool:
        """Whether the store knows all these places, with this size and time."""
        with self._store.reading() as session:
            for start in range(0, len(places), BATCH):
                part = places[start : start + BATCH]
                known = _files(session, part)
                if any(place not in known or known[place][:2] != (size, mtime) for place in part):
                    return False
        return True

    def images(self, entries: Sequence[ImageEntry], look: Callable[[list[ImageEntry]], Seen]) -> dict[str, int]:
        """Write down one batch; gives the images' ids by place.

        look: called with the first entry of each place whose file is new or changed.
        """
        with self._store.reading() as session:
            known = _files(session, {entry.place for entry in entries})
        fresh: dict[str, ImageEntry] = {}
        for entry in entries:
            if not _is_known(entry, known.get(entry.place)):
                fresh.setdefault(entry.place, entry)
        seen = self._with_namesakes(fresh, look([entry for entry in fresh.values() if entry.unreadable is None]))
        with self._store.writing() as session:
            prompts = self._prompt_ids(session, [entry.prompt for entry in entries if entry.prompt is not None])
            files = {**known, **self._collect(session, list(fresh.values()), seen, prompts)}
            self._drop_changed(session, known, files)
            found = [(entry, image) for entry in entries if (image := files[entry.place].image_id) is not None]
            self._complete(session, found, files, prompts)
            truths = [(image, entry.anomalies) for entry, image in found if entry.anomalies is not None]
            self._add_candidates(session, truths)
            for source in {entry.source for entry in entries if entry.source is not None}:
                self._source(session, source, create=False)
        self._tally.known += len(files) - len(fresh)
        return {entry.place: image for entry, image in found}

    def _with_namesakes(self, fresh: Mapping[str, ImageEntry], seen: Seen) -> Seen:
        """The same; what is missing, but was collected by the same name from elsewhere, says from where."""
        missing = {place: one for place, one in seen.items() if isinstance(one, Remark) and one.reason == "missing"}
        if not missing:
            return seen
        names = {place: (fresh[place].name, fresh[place].name.rpartition("/")[2]) for place in missing}
        wanted = {name for both in names.values() for name in both}
        query = select(ImageRow.name, func.min(FileRow.path)).join(FileRow, FileRow.image_id == ImageRow.id)
        with self._store.reading() as session:
            rows = session.execute(query.where(ImageRow.name.in_(wanted)).group_by(ImageRow.name)).all()
        found = {row[0]: row[1] for row in rows}
        hints: dict[str, Remark] = {}
        for place, one in missing.items():
            where = next((found[name] for name in names[place] if name in found), place)
            if where != place:
                hint = f"an image of this name was collected from {where!r}: write paths relative to the list's folder"
                hints[place] = replace(one, message=f"{one.message}; {hint}")
        return {**seen, **hints}

    def _collect(
        self, session: Session, fresh: Sequence[ImageEntry], seen: Seen, prompts: Mapping[str, int]
    ) -> dict[str, _StoredFile]:
        """Store new images and what became of each file; gives the files by place."""
        whole = [(entry, one) for entry in fresh if isinstance(one := seen.get(entry.place), SeenImage)]
        stored = self._stored(session, [one.image.sha256 for _, one in whole])
        owners: dict[str, str] = {}
        """Place of the file that an image is taken from, by sha256; others are duplicates."""
        rows = []
        for entry, one in whole:
            sha = one.image.sha256
            if sha in owners:
                continue
            if sha not in stored:
                owners[sha] = entry.place
                rows.append(self._image_row(session, entry, one, prompts))
            elif self._is_gone(stored[sha]):
                owners[sha] = entry.place
                self._bring_back(session, stored[sha], one.copied or entry.place)
            elif stored[sha].path == entry.place:
                owners[sha] = entry.place
        self._tally.images += add_new(session, ImageRow, rows)
        stored |= self._stored(session, owners)
        files = [self._file_row(session, e, e.unreadable or seen[e.place], stored, owners) for e in fresh]
        put(session, FileRow, files, ("path",))
        return {row["path"]: _StoredFile(row["size"], row["mtime"], row["status"], row["image_id"]) for row in files}

    def _file_row(
        self,
        session: Session,
        entry: ImageEntry,
        seen: SeenImage | Remark,
        stored: Mapping[str, _StoredImage],
        owners: Mapping[str, str],
    ) -> dict[str, Any]:
        image, remark = None, entry.remark
        if isinstance(seen, Remark):
            state, remark = FileState.UNREADABLE, seen
            self._tally.unreadable[seen.reason] += 1
        else:
            image = stored[seen.image.sha256]
            if owners.get(seen.image.sha256) == entry.place:
                state = FileState.COLLECTED
                self._tally.remarks.update([remark.reason] if remark else [])
            else:
                state, remark = FileState.DUPLICATE, Remark("exact_duplicate", f"the same bytes as {image.path!r}")
                self._tally.duplicates += 1
        return {
            "path": entry.place,
            "size": entry.size,
            "mtime": _NEVER if isinstance(seen, Remark) and is_lost(entry, seen) else entry.mtime,
            "image_id": image and image.id,
            "source_id": entry.source and self._source(session, entry.source),
            "status": state,
            "reason": remark and remark.reason,
            "message": remark and remark.message,
            "command_id": self._command,
        }

    def _image_row(
        self, session: Session, entry: ImageEntry, seen: SeenImage, prompts: Mapping[str, int]
    ) -> dict[str, Any]:
        return {
            **image_facts(seen.image),
            "path": seen.copied or entry.place,
            "name": entry.name,
            "source_id": self._source(session, entry.source or ImageSource("images")),
            "prompt_id": prompts.get(entry.prompt or ""),
            "group": entry.group,
            "seed": entry.seed,
            "settings": entry.settings,
            "status": ImageState.KEPT,
            "command_id": self._command,
        }

    def _stored(self, session: Session, shas: Iterable[str]) -> dict[str, _StoredImage]:
        query = select(ImageRow.sha256, ImageRow.id, ImageRow.path, ImageRow.reason)
        rows = session.execute(query.where(ImageRow.sha256.in_(set(shas)))).all()
        return {row[0]: _StoredImage(*row[1:]) for row in rows}

    def _is_gone(self, image: _StoredImage) -> bool:
        """Whether the file that an image was taken from is no more, or holds other bytes."""
        path = self._store.path(image.path)  # a bucket is not asked
        return image.reason == CHANGED or (not isinstance(path, Address) and archives.stat(path) is None)

    def _bring_back(self, session: Session, image: _StoredImage, place: str) -> None:
        session.execute(update(ImageRow).where(ImageRow.id == image.id).values(path=place))
        if image.reason == CHANGED:
            self._decide(session, image.id, None)

    def _drop_changed(
        self, session: Session, known: Mapping[str, _StoredFile], files: Mapping[str, _StoredFile]
    ) -> None:
        """Images whose file holds other bytes by now are dropped: nobody can open them any more."""
        lost = {
            file.image_id: place
            for place, file in known.items()
            if file.image_id is not None and files[place].image_id != file.image_id
        }
        query = select(ImageRow.id, ImageRow.path).where(ImageRow.id.in_(lost))
        for image, place in session.execute(query).all():
            if place == lost[image]:
                self._decide(session, image, f"{place!r} holds other bytes since this image was collected")

    def _decide(self, session: Session, image: int, against: str | None) -> None:
        """Drop an image since its file changed, or take that back."""
        reason = None if against is None else CHANGED
        row = {"image_id": image, "filter": "collect", "score": None, "keep": against is None, "reason": reason}
        decide(session, [{**row, "message": against, "command_id": self._command}])

    def _complete(
        self,
        session: Session,
        found: Sequence[tuple[ImageEntry, int]],
        files: Mapping[str, _StoredFile],
        prompts: Mapping[str, int],
    ) -> None:
        """What a later row says of an image, and no earlier one did, is added to it; a second prompt is recorded."""
        columns = (ImageRow.prompt_id, ImageRow.seed, ImageRow.settings, ImageRow.group)
        rows = session.execute(select(ImageRow.id, *columns).where(ImageRow.id.in_({image for _, image in found})))
        stated = {row[0]: dict(zip(("prompt_id", "seed", "settings", "group"), row[1:], strict=True)) for row in rows}
        for entry, image in found:
            prompt, there = prompts.get(entry.prompt or ""), stated[image]
            says: dict[str, Any] = {
                "prompt_id": prompt,
                "seed": entry.seed,
                "settings": entry.settings,
                "group": entry.group,
            }
            more = {key: value for key, value in says.items() if value is not None and there[key] is None}
            if more:
                there.update(more)
                session.execute(update(ImageRow).where(ImageRow.id == image).values(**more))
            if prompt not in (None, there["prompt_id"]) and files[entry.place].status == FileState.COLLECTED:
                message = f"another row gives the prompt {shown(entry.prompt)}; the first one counts"
                change = update(FileRow).where(FileRow.path == entry.place, FileRow.reason.is_(None))
                done = session.execute(change.values(reason="other_prompt", message=message))
                self._tally.remarks.update(["other_prompt"] * done.rowcount)  # type: ignore[attr-defined]

    def _add_candidates(self, session: Session, known: Sequence[tuple[int, tuple[Anomaly, ...]]]) -> None:
        by = {"detector": "scenes", "command_id": self._command}
        add_new(session, DetectionRow, [searched_row(image, "scenes", self._command) for image, _ in known])
        rows = [
            row for image, anomalies in known for row in candidate_rows(image, anomalies, origin=Origin.SCENE, **by)
        ]
        self._tally.candidates += add_new(session, CandidateRow, rows)

    def prompts(self, entries: Sequence[PromptEntry], source: ImageSource | None) -> None:
        """Write down a batch of prompts; what cannot be stored is recorded as a file of its own."""
        new_rows: dict[str, dict[str, Any]] = {}
        with self._store.writing() as session:
            by = {"command_id": self._command, "source_id": self._source(session, source) if source else None}
            good = [entry for entry in entries if entry.unreadable is None]
            for entry in good:
                sha = _sha(entry.text)
                row = {"sha256": sha, "text": entry.text, "group": entry.group, "tags": list(entry.tags) or None, **by}
                new_rows.setdefault(sha, row)
            self._group_prompts(
                session, {sha: row["group"] for sha, row in new_rows.items() if row["group"] is not None}
            )
            new = add_new(session, PromptRow, list(new_rows.values()))
        self._tally.prompts += new
        self._tally.prompts_known += len(good) - new
        if bad := [entry for entry in entries if entry.unreadable is not None]:
            rows = [ImageEntry(e.place, e.place, mtime=e.mtime, unreadable=e.unreadable) for e in bad]
            self.images(rows, lambda fresh: {})

    def _group_prompts(self, session: Session, groups: Mapping[str, str]) -> None:
        """Prompts that came with images, which name no group, get the one of the list."""
        shas = list(groups)
        for start in range(0, len(shas), BATCH):
            part = PromptRow.sha256.in_(shas[start : start + BATCH])
            bare = session.execute(select(PromptRow.id, PromptRow.sha256).where(part, PromptRow.group.is_(None))).all()
            if bare:
                session.execute(update(PromptRow), [{"id": id, "group": groups[sha]} for id, sha in bare])

    def is_list_read(self, place: str, size: int | None, mtime: int | None) -> bool:
        """Whether a list of prompts was read to its end, and is as it was."""
        with self._store.reading() as session:
            file = _files(session, [place]).get(place)
        return file is not None and file[:3] == (size, mtime, FileState.COLLECTED)

    def list_read(self, entry: ImageEntry) -> None:
        """A list of prompts was read to its end, so that it is passed over until it changes."""
        row = {"path": entry.place, "size": entry.size, "mtime": entry.mtime, "status": FileState.COLLECTED}
        row |= {"reason": "list", "message": "a list of prompts", "command_id": self._command}
        with self._store.writing() as session:
            put(session, FileRow, [row], ("path",))
        self.repaired(entry.place, entry.mtime)

    def _prompt_ids(self, session: Session, texts: Iterable[str]) -> dict[str, int]:
        shas = {text: _sha(text) for text in texts}
        rows = [{"sha256": sha, "text": text, "command_id": self._command} for text, sha in shas.items()]
        self._tally.prompts += add_new(session, PromptRow, rows)
        ids = ids_by(session, PromptRow.sha256, PromptRow.id, shas.values())
        return {text: ids[sha] for text, sha in shas.items()}

    def _source(self, session: Session, source: ImageSource, create: bool = True) -> int:
        """Id of a source; what was not known of it is added. Another kind of the same name is a source of its own.

        create: make the source where there is none; else the answer is 0.
        """
        if source in self._sources:
            return self._sources[source]
        row = session.scalar(select(SourceRow).where(SourceRow.name == source.name))
        if row is None and not create:
            return 0
        if row is None:
            row = SourceRow(**asdict(source), command_id=self._command)
            session.add(row)
            session.flush()
        elif "unknown" not in (row.kind, source.kind) and row.kind != source.kind:
            kind = {"ai": "AI images", "photograph": "photographs"}[source.kind]
            return self._source(session, replace(source, name=f"{source.name} {kind}"), create)
        else:
            if row.kind == "unknown":
                row.kind = source.kind
            for key in ("generator", "licence", "terms"):
                if getattr(row, key) is None:
                    setattr(row, key, getattr(source, key))
            session.flush()
        self._sources[source] = row.id
        return row.id

    def repaired(self, place: str, mtime: int | None) -> None:
        """What was wrong with a list or its rows is settled, since it changed and was read to its end."""
        inside = FileRow.path.startswith(f"{place}/", autoescape=True)
        settled = (FileRow.path == place) | inside & FileRow.mtime.is_distinct_from(mtime)
        wrong = (FileRow.status == FileState.UNREADABLE) & FileRow.reason.in_(BAD_ROWS)
        values = {"status": FileState.COLLECTED, "reason": "repaired", "message": "the list was repaired since"}
        with self._store.writing() as session:
            session.execute(update(FileRow).where(wrong, settled).values(**values))


def searched_row(image: int, detector: str, command: int, failure: str | None = None) -> dict[str, Any]:
    """A row of `DetectionRow`: the image was searched, also where no anomaly was found.

    failure: why the search failed, in a word.
    """
    status = "ok" if failure is None else "failed"
    row = {"image_id": image, "detector": detector, "status": status, "reason": failure, "command_id": command}
    return {**row, "record": {}, "calls": 0, "tokens": 0}


def candidate_rows(image: int, anomalies: Iterable[Anomaly], **shared: object) -> list[dict[str, Any]]:
    """Rows of `CandidateRow`, all with the same keys; shared: origin, detector and command_id."""
    return [
        {
            "image_id": image,
            "number": number,
            "name": storable(anomaly.name),
            "phenomenon": storable(anomaly.phenomenon),
            "reasoning": storable(anomaly.reasoning),
            "severity": anomaly.severity,
            "kind": anomaly.kind and storable(anomaly.kind),
            "objects": [storable(name) for name in anomaly.objects],
            "region": anomaly.region and anomaly.region.model_dump(mode="json", exclude_none=True),
            **shared,
        }
        for number, anomaly in enumerate(anomalies)
    ]


def _files(session: Session, places: Collection[str]) -> dict[str, _StoredFile]:
    query = select(FileRow.path, FileRow.size, FileRow.mtime, FileRow.status, FileRow.image_id)
    return {row[0]: _StoredFile(*row[1:]) for row in session.execute(query.where(FileRow.path.in_(places))).all()}


def _is_known(entry: ImageEntry, file: _StoredFile | None) -> bool:
    """Whether the file is as the store knows it; one that was wrong, or is wrong now, only if it still is."""
    if file is None or (file.size, file.mtime) != (entry.size, entry.mtime):
        return False
    return entry.unreadable is None or file.status == FileState.UNREADABLE


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
