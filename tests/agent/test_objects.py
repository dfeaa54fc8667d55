"""Facts about what becomes of the perceiver's drafts."""

from anomreason.agent.objects import agreed, croppable, even_groups, most_prominent, unite
from anomreason.anomaly import Region, SceneObject


def seen(name: str, box: tuple[float, float, float, float] | None = None, **more: object) -> SceneObject:
    region = Region(x0=box[0], y0=box[1], x1=box[2], y1=box[3]) if box else None
    return SceneObject(name=name, region=region, **more)  # type: ignore[arg-type]


def test_the_same_name_at_the_same_place_is_one_thing() -> None:
    drafts = [
        [seen("Dog", (0, 0, 0.5, 0.5), description="short")],
        [seen("dog", (0, 0, 0.5, 0.45), description="a longer one")],
        [seen("dog", (0.5, 0.5, 1, 1))],
    ]
    united = unite(drafts)
    assert [(o.name, o.description) for o in united] == [("Dog", "a longer one"), ("dog #2", "")]


def test_nearly_the_same_box_and_a_shared_word_is_one_thing_and_less_is_not() -> None:
    box = (0.1, 0.1, 0.9, 0.9)
    assert [o.name for o in unite([[seen("man", box)], [seen("man in blazer", box)]])] == ["man"]
    assert len(unite([[seen("man", box)], [seen("coat", box)]])) == 2
    assert len(unite([[seen("left hand", box)], [seen("left foot", box)]])) == 2
    assert len(unite([[seen("man", box)], [seen("man in blazer", (0.1, 0.1, 0.9, 0.5))]])) == 2


def test_two_of_a_kind_in_one_draft_stay_two() -> None:
    draft = [seen("horse", (0, 0, 0.4, 1)), seen("horse #2", (0.6, 0, 1, 1))]
    assert [o.name for o in unite([draft, draft])] == ["horse", "horse #2"]


def test_what_more_drafts_saw_comes_first_and_people_before_things() -> None:
    drafts = [[seen("cup"), seen("lamp")], [seen("lamp"), seen("child", person=True)], [seen("lamp")]]
    assert [o.name for o in unite(drafts)] == ["lamp", "cup", "child"]
    assert [o.name for o in most_prominent(unite(drafts), 2)] == ["child", "lamp"]


def test_agreement_decides_whether_a_box_is_cut_out() -> None:
    box = (0.2, 0.2, 0.6, 0.6)
    alike = agreed(seen("cup", box), [[seen("mug", box)], [seen("cup", box)], [seen("x")]])
    assert alike.agreement is not None
    assert round(alike.agreement, 3) == 0.667
    assert croppable(alike)
    assert not croppable(agreed(seen("cup", box), [[seen("cup", (0.7, 0.7, 0.8, 0.8))]]))
    assert not croppable(agreed(seen("all", (0, 0, 1, 0.7)), [[seen("all", (0, 0, 1, 0.7))]]))
    assert not croppable(agreed(seen("dot", (0, 0, 0.05, 0.05)), [[seen("dot", (0, 0, 0.05, 0.05))]]))
    assert not croppable(agreed(seen("cup"), []))


def test_groups_are_as_few_and_as_even_as_can_be() -> None:
    things = [seen(str(n)) for n in range(13)]
    assert [len(g) for g in even_groups(things, 6)] in ([4, 5, 4], [4, 4, 5], [5, 4, 4])
    assert [len(g) for g in even_groups(things[:8], 6)] == [4, 4]
    assert even_groups([], 6) == []
