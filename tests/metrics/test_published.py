"""The paper's tables stand in the package as the paper prints them."""

from collections import Counter

import pytest

from anomreason.errors import UsageError
from anomreason.metrics.published import PublishedFigure, published


def value(table: int, model: str, metric: str, assessor: str | None = None) -> float:
    (row,) = published(table=table, model=model, metric=metric, assessor=assessor)
    return row.value


def test_every_table_is_whole() -> None:
    rows = published()
    assert Counter(r.table for r in rows) == {1: 18 * 6, 2: 18 * 7, 3: 15 * 6, 4: 18 * 6, 5: 18 * 6}
    assert len({r[:5] for r in rows}) == len(rows), "a figure stands twice"
    for table in (1, 2, 4, 5):
        assert len({r.model for r in published(table=table)}) == 18
    assert len({r.model for r in published(table=3)}) == 15


def test_the_detectors_of_tables_1_2_4_and_5_are_the_same() -> None:
    names = [{r.model for r in published(table=t)} for t in (1, 2, 4, 5)]
    assert names[0] == names[1] == names[2] == names[3]
    assert "GPT-4o" in names[0]


def test_every_table_names_its_backbone_or_its_assessor() -> None:
    backbones = {t: {r.backbone for r in published(table=t)} for t in range(1, 6)}
    assert backbones[1] == {"distilbert-base-uncased"}
    assert backbones[2] == {"distilbert-base-uncased", None}
    assert backbones[3] == {None}
    assert backbones[4] == {"roberta-large-mnli"}
    assert backbones[5] == {"google/mt5-large"}
    assert {r.assessor for r in published(table=3)} == {"AnomReasonor", "AnomAgent"}
    assert {r.assessor for r in published() if r.table != 3} == {None}


@pytest.mark.parametrize(
    ("table", "model", "figures"),
    [
        (1, "LongVA-7B", [0.2579, 0.2593, 0.2494, 0.1641, 0.1617, 0.1578]),
        (1, "Qwen2.5-VL-72B", [0.4926, 0.4353, 0.4568, 0.4423, 0.3912, 0.4104]),
        (1, "GPT-4o", [0.4908, 0.4562, 0.4727, 0.5304, 0.4930, 0.5109]),
        (1, "AnomReasonor-7B", [0.5221, 0.5130, 0.5162, 0.5066, 0.4977, 0.5009]),
        (2, "GPT-4o", [87.76, 0.3750, 0.3487, 0.3612, 0.4054, 0.3770, 0.3905]),
        (2, "InternVL2-26B", [54.73, 0.0194, 0.0172, 0.0179, 0.0180, 0.0160, 0.0166]),
        (3, "HunyuanImage-2.1", [4.10, 5.95, 24.40, 6.14, 8.55, 52.51]),
        (3, "Qwen-Image", [4.45, 6.20, 27.59, 6.37, 8.72, 55.61]),
        (4, "GPT-4o", [0.3434, 0.2955, 0.3083, 0.3707, 0.3188, 0.3325]),
        (5, "AnomReasonor-7B", [0.2736, 0.2612, 0.2653, 0.2655, 0.2532, 0.2574]),
    ],
)
def test_a_row_reads_as_printed(table: int, model: str, figures: list[float]) -> None:
    assert [r.value for r in published(table=table, model=model)] == figures


def test_the_figures_quoted_in_the_papers_text_are_those_of_its_tables() -> None:
    assert value(1, "AnomReasonor-7B", "SemAP_Rea") == 0.5130
    assert value(1, "InternVL3-8B", "SemAP_Phe") == 0.4552
    assert value(2, "AnomReasonor-7B", "Acc") == 82.61
    assert value(2, "Qwen2.5-VL-72B", "CSemF1_Full") == 0.2266
    assert value(2, "InternVL3-8B", "CSemAP_Full") == 0.2559
    best = sorted(published(table=3, assessor="AnomReasonor", metric="CAP"), key=lambda r: r.value)[:2]
    assert [r.model for r in best] == ["HunyuanImage-2.1", "OmniGen V2"]


def test_full_lies_near_the_other_views_and_every_share_is_one() -> None:
    """A digit that was misread would stand out: Full averages Phe and Rea before the threshold."""
    by: dict[tuple[int, str, str], dict[str, float]] = {}
    for row in published():
        if "_" in row.metric:
            assert 0 < row.value < 0.6
            kind, view = row.metric.split("_")
            by.setdefault((row.table, row.model, kind), {})[view] = row.value
    assert len(by) == 4 * 18 * 2
    for views in by.values():
        assert min(views["Phe"], views["Rea"]) * 0.6 <= views["Full"] <= max(views["Phe"], views["Rea"])


def test_a_name_that_the_paper_does_not_print_is_an_error_that_lists_those_it_does() -> None:
    with pytest.raises(UsageError, match="GPT-4o"):
        published(table=1, model="GPT-40")


def test_a_row_says_where_it_stands() -> None:
    assert published(table=3, model="BRIA-3.2", assessor="AnomAgent", metric="AF") == [
        PublishedFigure(3, "BRIA-3.2", None, "AnomAgent", "AF", 8.60)
    ]
