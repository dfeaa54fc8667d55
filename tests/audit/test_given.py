"""Facts about images that exist: a manifest says of which prompt and seed each is, and contradictions are told."""

from pathlib import Path

import pytest
from tests.audit.audits import write_given

from anomreason.audit.given import read_given, share_no_files
from anomreason.audit.plan import GivenGenerator
from anomreason.audit.study import AuditPrompt
from anomreason.errors import UsageError

PROMPTS = [AuditPrompt(id=f"p{n}", text=text) for n, text in enumerate(("a cup", "a dog", "a lamp"), 1)]


def given(folder: Path, manifest: str, name: str = "mine", file: str = "manifest.csv") -> GivenGenerator:
    images = write_given(folder, name)
    (images / "manifest.csv").unlink()
    (images / file).write_text(manifest)
    return GivenGenerator(name, images, None)


@pytest.mark.parametrize(
    ("manifest", "file"),
    [
        ("image,prompt,seed\na-cup-0.png,a cup,0\na-cup-1.png,p1,1\na-dog-0.png,p2,0\n", "manifest.csv"),
        ("file_name;Prompt;Seed\na-cup-0.png;p1;0\na-cup-1.png;a cup;1\na-dog-0.png;a dog;0\n", "metadata.csv"),
        ("file_name,prompt\na-cup-0.png,p1\na-cup-1.png,p1\na-dog-0.png,a dog\n", "manifest.csv"),
        (
            '{"image": "a-cup-0.png", "prompt_id": "p1", "seed": 0}\n{"image": "a-cup-1.png", "prompt_id": "p1", '
            '"seed": 1}\n{"image": "a-dog-0.png", "text": "a dog", "seed": "0"}\n',
            "metadata.jsonl",
        ),
    ],
)
def test_images_are_known_by_the_id_or_the_text_of_their_prompt_and_by_their_seed_or_order(
    tmp_path: Path, manifest: str, file: str
) -> None:
    found = read_given(given(tmp_path, manifest, file=file), PROMPTS, (0, 1))
    assert {place: path.name for place, path in found.paths.items()} == {
        ("p1", 0): "a-cup-0.png",
        ("p1", 1): "a-cup-1.png",
        ("p2", 0): "a-dog-0.png",
    }
    assert found.notes == ()


def test_a_manifest_may_lie_elsewhere(tmp_path: Path) -> None:
    one = given(tmp_path, "")
    manifest = tmp_path / "list.csv"
    manifest.write_text("file_name,prompt\na-cup-0.png,p1\n")
    found = read_given(GivenGenerator("mine", one.folder, manifest), PROMPTS, (0, 1))
    assert found.paths == {("p1", 0): one.folder / "a-cup-0.png"}


def test_rows_that_are_not_used_and_files_that_are_not_there_are_counted(tmp_path: Path) -> None:
    manifest = "file_name,prompt,seed\na-cup-0.png,p1,0\na-dog-0.png,a cat,0\na-cup-1.png,p1,7\nlost.png,p2,0\n"
    notes = read_given(given(tmp_path, manifest), PROMPTS, (0, 1)).notes
    assert notes[0] == "mine: 1 image of a prompt that the audit does not have left out"
    assert notes[1] == "mine: 1 image of further seeds left out"
    assert "mine: 1 image of the manifest does not exist: " in notes[2]
    assert "lost.png" in notes[2]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("file_name,prompt\n", "it lists no images"),
        ("file_name,prompt\nx.png,p1\n", r"none of its images exists, e\.g\. .*x\.png"),
        ("file_name,prompt\na-cup-0.png,p9\n", "none of its prompts is one of the audit's"),
        ("file_name,prompt,seed\na-cup-0.png,p1,41\na-cup-1.png,p1,42\n",
         r"its seeds \(41, 42\) are none of the audit's \(0, 1\).*leave the column out"),
        ("file_name,seed\na-cup-0.png,0\n", "line 2: write the prompt's id or its text under prompt"),
        ("file_name,prompt,seed\na-cup-0.png,p1,one\n", "line 2: the seed is 'one'; write a whole number"),
        ("file_name,prompt,seed\na-cup-0.png,p1,0\na-cup-1.png,p1,0\n",
         r"line 3: prompt 'p1' has an image of seed 0 at .*line 2 already"),
        ("file_name,prompt,seed\na-cup-0.png,p1,0\n./a-cup-0.png,p2,0\n", "line 3: .* is listed at .*line 2 already"),
        ("prompt,seed\np1,0\n", "names no image"),
    ],
)  # fmt: skip
def test_a_manifest_that_contradicts_itself_or_the_audit_is_an_error(
    tmp_path: Path, manifest: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_given(given(tmp_path, manifest), PROMPTS, (0, 1))


def test_a_folder_without_a_manifest_and_one_that_is_not_there_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match=r"says nowhere of which prompt and seed .* put it there as manifest.jsonl"):
        read_given(GivenGenerator("mine", tmp_path / "bare", None), PROMPTS, (0,))
    with pytest.raises(UsageError, match="generator 'mine': there is no folder"):
        read_given(GivenGenerator("mine", tmp_path / "gone", None), PROMPTS, (0,))
    with pytest.raises(UsageError, match="generator 'mine': there is no manifest"):
        read_given(GivenGenerator("mine", tmp_path / "bare", tmp_path / "gone.csv"), PROMPTS, (0,))


def test_an_image_that_two_generators_share_is_an_error_also_by_another_path(tmp_path: Path) -> None:
    one = given(tmp_path, "file_name,prompt\na-cup-0.png,p1\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "link.png").symlink_to(one.folder / "a-cup-0.png")
    images = {"mine": {("p1", 0): one.folder / "a-cup-0.png"}, "other": {("p1", 0): other / "link.png"}}
    with pytest.raises(UsageError, match="the generators 'mine' and 'other' share the image"):
        share_no_files(images)
