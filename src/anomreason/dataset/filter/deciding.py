"""Writes what a rule says of each image into the store: decisions, and the clusters of duplicates.

Decisions are a function of the rules, the measures and what people restored: whatever a rule said under other settings,
or of images that an earlier rule drops now, is replaced or taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from sqlalchemy import delete, select, update

from anomreason.dataset.filter.duplicates import Clusters
from anomreason.dataset.filter.measuring import Failures
from anomreason.dataset.filter.pool import ImagePool, Ints, Mask, batches
from anomreason.dataset.filter.rules import DUPLICATE_RULES, Rule
from anomreason.dataset.filter.scoring import RuleScores
from anomreason.dataset.store import Store, decide, refresh_status
from anomreason.dataset.tables import DecisionRow, ImageRow

_FIELDS = ("score", "keep", "reason", "message")


class Decider:
    """Records decisions of one command."""

    def __init__(self, store: Store, pool: ImagePool, command: int) -> None:
        self.store, self.pool, self.command = store, pool, command

    def restored(self, name: str) -> Mask:
        """Images that somebody brought back from this rule."""
        with self.store.reading() as session:
            query = select(DecisionRow.image_id).where(DecisionRow.filter == name, DecisionRow.restored)
            mask = np.zeros(len(self.pool), bool)
            mask[self.pool.places(list(session.scalars(query)))] = True
            return mask

    def record(self, name: str, rule: Rule, scores: RuleScores, looked: Mask, failures: Failures) -> None:
        """Record a rule's decisions about the images it looked at, and take back those about others."""
        for batch in batches(np.flatnonzero(self.pool.candidate)):
            stored = self._stored(name, batch)
            seen = batch[looked[batch]]
            rows = self._rows(name, rule, scores, seen, failures)
            changed = [row for row in rows if _values(row) != _values(stored.get(row["image_id"], {}))]
            seen_ids = {row["image_id"] for row in rows}
            stale = [id for id, row in stored.items() if id not in seen_ids and not row["restored"]]
            if changed or stale:
                with self.store.writing() as session:
                    if stale:
                        outdated = DecisionRow.image_id.in_(stale)
                        session.execute(delete(DecisionRow).where(outdated, DecisionRow.filter == name))
                        refresh_status(session, stale)
                    decide(session, [{**row, "command_id": self.command} for row in changed])

    def _stored(self, name: str, batch: Ints) -> dict[int, Mapping[str, Any]]:
        """The rule's earlier decisions about the images of a batch, by image."""
        ids = self.pool.ids[batch].tolist()
        columns = (DecisionRow.image_id, *(getattr(DecisionRow, field) for field in _FIELDS), DecisionRow.restored)
        query = select(*columns).where(DecisionRow.image_id.in_(ids), DecisionRow.filter == name)
        with self.store.reading() as session:
            return {row.image_id: dict(row._mapping) for row in session.execute(query)}

    def _rows(self, name: str, rule: Rule, scores: RuleScores, seen: Ints, failures: Failures) -> list[dict[str, Any]]:
        partners = self._partners(scores, seen)
        rows = []
        for place in seen.tolist():
            failure, value = failures.get(place), float(scores.score[place])
            drop = bool(scores.drop[place]) and failure is None
            row = {
                "image_id": int(self.pool.ids[place]),
                "filter": name,
                "score": None if failure or np.isnan(value) else value,
                "keep": not drop,
                "reason": failure.reason if failure else scores.reasons.get(place, name) if drop else None,
                "message": failure.message if failure else rule.message(value, partners.get(place)) if drop else None,
            }
            rows.append(row)
        return rows

    def _partners(self, scores: RuleScores, seen: Ints) -> dict[int, str]:
        """Names of the images that these are duplicates of, by the place of the duplicate."""
        if scores.clusters is None:
            return {}
        copies = seen[scores.drop[seen]]
        leaders = scores.clusters.leader[copies]
        names = self.names(leaders)
        return {int(copy): names[int(leader)] for copy, leader in zip(copies, leaders, strict=True)}

    def names(self, places: Ints) -> dict[int, str]:
        """Names of the images at these places."""
        ids = self.pool.ids[places].tolist()
        with self.store.reading() as session:
            names = dict(session.execute(select(ImageRow.id, ImageRow.name).where(ImageRow.id.in_(ids))).all())
        return {int(place): names[id] for place, id in zip(places, ids, strict=True)}

    def foreign_clusters(self, own: Collection[str]) -> Clusters | None:
        """The stored clusters, when rules about duplicates that are not among `own` had a part in them."""
        others = set(DUPLICATE_RULES).difference(own)
        with self.store.reading() as session:
            if session.scalar(select(DecisionRow.image_id).where(DecisionRow.filter.in_(others)).limit(1)) is None:
                return None
            query = select(ImageRow.id, ImageRow.cluster).where(ImageRow.cluster.is_not(None))
            rows = [(id, str(key)) for id, key in session.execute(query.order_by(ImageRow.id))]
        named = list(zip(self.pool.places([id for id, _ in rows]).tolist(), (key for _, key in rows), strict=True))
        leaders = {key: place for place, key in named if self.pool.key(place) == key}
        clusters = Clusters.alone(len(self.pool))
        for place, key in named:
            if leaders.get(key, place) != place:
                clusters.leader[place] = leaders[key]
        return clusters

    def record_clusters(self, clusters: Ints) -> None:
        """Give the images of each cluster one name; clusters: (n,) place of the image that names it, -1 for none."""
        for batch in batches(np.arange(len(self.pool))):
            names = [self.pool.key(place) if place >= 0 else None for place in clusters[batch]]
            ids = self.pool.ids[batch].tolist()
            with self.store.reading() as session:
                there = dict(session.execute(select(ImageRow.id, ImageRow.cluster).where(ImageRow.id.in_(ids))).all())
            changed = [{"id": id, "cluster": name} for id, name in zip(ids, names, strict=True) if there[id] != name]
            if changed:
                with self.store.writing() as session:
                    session.execute(update(ImageRow), changed)


class ClusterUnion:
    """The clusters that several rules find together."""

    def __init__(self, n: int) -> None:
        self._above = np.arange(n)

    def add(self, clusters: Clusters) -> None:
        for place in np.flatnonzero(clusters.leader >= 0).tolist():
            one, other = self._root(place), self._root(int(clusters.leader[place]))
            self._above[one] = other

    def roots(self) -> Ints:
        """(n,) The place that names each image's cluster; -1 for an image that is alone."""
        roots = np.array([self._root(place) for place in range(len(self._above))], np.int64)
        return np.where(np.bincount(roots, minlength=len(roots))[roots] > 1, roots, -1)

    def _root(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = int(self._above[place])
        return place


def _values(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(field, row) for field in _FIELDS)
