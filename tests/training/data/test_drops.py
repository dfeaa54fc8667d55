"""What was left out, counted."""

from anomreason.training.data.drops import Dropped, tally


def test_reasons_are_counted_apart_for_images_and_anomalies_the_most_frequent_first() -> None:
    dropped = [
        Dropped("a", "too long", what="anomaly"),
        Dropped("a", "rare"),
        Dropped("b", "frequent"),
        Dropped("c", "frequent"),
    ]
    assert tally(dropped) == {"image": {"frequent": 2, "rare": 1}, "anomaly": {"too long": 1}}
    assert list(tally(dropped)["image"]) == ["frequent", "rare"]
    assert tally([]) == {}
