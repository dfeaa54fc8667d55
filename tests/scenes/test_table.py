"""The reader of a world's table."""

from importlib.resources import files

import pytest

from anomreason.errors import UsageError
from anomreason.scenes.sprites.sprite import vendored
from anomreason.scenes.sprites.table import SpriteThing, table
from anomreason.scenes.table import Thing, read_table

GOOD = """
version = "3"
[[thing]]
name = "scissors"
plural = true
size_cm = 18
support = "table"
places = ["desk"]
weight_kg = 0.1
[[thing]]
name = "mug"
size_cm = 10
colour = "red"
support = "table"
places = ["desk", "kitchen"]
parts = [{ name = "handle", box = [0.8, 0.2, 1, 0.7], vital = true }]
"""


def test_a_table_is_read_and_found_by_name_and_place() -> None:
    world = read_table(GOOD, "mine.toml", Thing)
    assert world.version == "3"
    assert world.named("scissors").plural
    assert world.named("mug").phrase == "red mug"
    assert [thing.name for thing in world.at("kitchen")] == ["mug"]
    assert world.named("mug").parts[0].box == (0.8, 0.2, 1, 0.7)


def test_a_world_may_have_columns_of_its_own() -> None:
    assert read_table(GOOD, "mine.toml", Thing).named("scissors").model_extra == {"weight_kg": 0.1}


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        ('version = "3"', "", "mine.toml has version None"),
        ("size_cm = 10", "", "thing 2 .'mug'., column size_cm"),
        ("size_cm = 10", "size_cm = -4", "thing 2 .'mug'., column size_cm: .*not -4"),
        ('support = "table"', 'support = "shelf"', "column support"),
        ('name = "mug"', 'name = "scissors"', "more than one thing named 'scissors'"),
        ('name = "mug"', 'name = ""', "column name"),
        ("[0.8, 0.2, 1, 0.7]", "[0.8, 0.2, 0.5, 0.7]", "part 'handle'"),
        ("[[thing]]", "[[thingg]]", "no .*thing.* entries"),
        ("plural = true", "plural =", "is not TOML"),
    ],
)
def test_a_wrong_table_says_where_it_is_wrong(change: str, to: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_table(GOOD.replace(change, to), "mine.toml", Thing)


def test_a_mistyped_column_of_the_sprites_table_is_an_error() -> None:
    text = 'version = "1"\n[[thing]]\nname = "x"\nsort = "food"\nsize_cm = 1\nsupport = "table"\nimpossibel = ["desk"]'
    with pytest.raises(UsageError, match="impossibel"):
        read_table(text, "sprites/things.toml", SpriteThing)


def test_an_unknown_thing_is_a_clear_error() -> None:
    with pytest.raises(UsageError, match="'unicorn'"):
        table().named("unicorn")


def test_every_thing_has_one_sprite_and_places_that_do_not_contradict() -> None:
    for thing in table().things:
        assert bool(thing.picture) != bool(thing.drawn), thing.name
        assert not thing.picture or vendored(thing.picture).mode == "RGBA"
        assert not set(thing.places) & {*thing.impossible, *thing.strange}, thing.name
        assert not set(thing.impossible) & set(thing.strange), thing.name
        assert thing.places or thing.home, f"{thing.name} belongs nowhere"


def test_every_sprite_is_used() -> None:
    folder = files("anomreason.scenes").joinpath("sprites", "art")
    there = {file.name.removesuffix(".webp") for file in folder.iterdir() if file.name.endswith(".webp")}
    assert there == {thing.picture for thing in table().things if thing.picture}
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= 2_000_000
