"""What holds for exports of every format: what goes in, whole or not at all, the same bytes, nothing of others lost."""

import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select
from tests.dataset.export.filling import HAND, SHADOW, Filler, fill
from tests.forking import exit_codes
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.export import FORMATS, ExportOptions, export, verify
from anomreason.dataset.export.folder import CARD, MANIFEST, places, sum_of
from anomreason.dataset.export.planning import plan_images
from anomreason.dataset.export.records import exported_images
from anomreason.dataset.store import Store, add_new, open_store
from anomreason.dataset.tables import DescriptionRow, ImageRow, Origin, SplitRow
from anomreason.errors import StorageError, UsageError


def asked(form: str) -> ExportOptions:
    """Options with which every format takes all images."""
    return ExportOptions(form, task="authenticity" if FORMATS[form].chat else "anomalies")


def selected(store: Store, options: ExportOptions) -> dict[str, list[str]]:
    """Names of the anomalies of each image that goes in."""
    with store.reading() as session:
        images = exported_images(session, store, plan_images(session, options), options)
        return {image.name: [a.name for a in image.quadruples] for image in images}


def contents(folder: Path) -> dict[str, str]:
    return {place: sum_of(folder / place) for place in places(folder)}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def test_what_people_accepted_goes_in_and_what_nobody_judged_only_where_its_origin_vouches_for_it(
    filled: Store,
) -> None:
    sign, shadow = '=HYPERLINK("x")', "No shadow"
    script = "etc/_script_alert(_x_)_/script___q_.png"
    assert selected(filled, ExportOptions()) == {
        "clean.webp": [],
        script: [sign],
        "sd _ 3.5/two.jpg": [shadow],
        "cats/one.png": ["A sixth finger"],
        "flux/two.jpg": [sign, shadow],
        "0_real/park.png": [],
        "scene.png": ["Six fingers"],
    }
    strict = selected(filled, ExportOptions(accepted_only=True))
    assert script not in strict
    assert "scene.png" not in strict
    both = selected(filled, ExportOptions(verdicts=("accepted", "unverified")))
    assert both["undecided.png"] == ["Six fingers"]
    assert both["sd _ 3.5/two.jpg"] == [shadow, "Six fingers"]
    assert selected(filled, ExportOptions(verdicts=("rejected",)))["cats/one.png"] == [shadow]


def test_candidates_on_which_too_few_agree_stay_out_and_their_image_does_not_pass_for_settled(filled: Store) -> None:
    with filled.reading() as session:
        options = ExportOptions(min_agreement=0.7)
        images = {i.name: i for i in exported_images(session, filled, plan_images(session, options), options)}
    assert [a.name for a in images["flux/two.jpg"].quadruples] == ["No shadow"]
    assert images["flux/two.jpg"].undecided == 1
    assert images["cats/one.png"].undecided == 0


def test_what_a_person_wrote_freely_need_not_be_all_so_a_detectors_accepted_candidates_go_in_too(filled: Store) -> None:
    with filled.command("annotate", {}) as command, filled.writing() as session:
        make = Filler(filled, session, command.id)
        image = make.image(make.source("more"), "known.png", split="train")
        make.candidate(image, HAND, origin=Origin.PERSON, detector="ada")
        make.judge(make.candidate(image, SHADOW), "accept")
    assert sorted(selected(filled, ExportOptions())["known.png"]) == sorted([HAND["name"], SHADOW["name"]])


@pytest.mark.parametrize("origin", [Origin.SCENE, Origin.PUBLISHED])
def test_what_a_detector_found_again_in_an_image_with_known_anomalies_stays_out_and_is_counted(
    filled: Store, tmp_path: Path, origin: Origin
) -> None:
    with filled.command("annotate", {}) as command, filled.writing() as session:
        make = Filler(filled, session, command.id)
        image = make.image(make.source("more"), "known.png", split="train")
        make.candidate(image, HAND, origin=origin, detector="truth")
        make.judge(make.candidate(image, {**HAND, "name": "Extra finger"}), "accept")
        make.candidate(image, SHADOW, 1)
    with filled.reading() as session:
        plan = plan_images(session, ExportOptions())
        known = {i.name: i for i in exported_images(session, filled, plan, ExportOptions())}["known.png"]
    assert ([a.name for a in known.quadruples], known.undecided) == (["Six fingers"], 0)
    both = selected(filled, ExportOptions(beside_known=True))["known.png"]
    assert sorted(both) == ["Extra finger", "Six fingers"]
    done = run("export", filled.folder, tmp_path / "out")
    line = "Left out: 1 candidate of a detector, in images whose anomalies are known. To add them: --beside-known"
    assert line in done.stdout
    assert "Unverified candidates, not exported: 2." in done.stdout  # those of other images
    assert "1 candidate of a detector left out" in (tmp_path / "out" / CARD).read_text()
    assert "a detector's in images with known anomalies: 1." in run("stats", filled.folder).stdout
    assert "--beside-known" not in run("export", filled.folder, tmp_path / "all", "--beside-known").stdout


def test_a_known_anomaly_that_people_rejected_does_not_keep_a_detectors_out(filled: Store) -> None:
    with filled.command("annotate", {}) as command, filled.writing() as session:
        make = Filler(filled, session, command.id)
        image = make.image(make.source("more"), "wrong.png", split="train")
        make.judge(make.candidate(image, HAND, origin=Origin.PUBLISHED, detector="truth"), "reject")
        make.judge(make.candidate(image, SHADOW), "accept")
    assert selected(filled, ExportOptions())["wrong.png"] == ["No shadow"]


def test_an_image_that_its_detector_does_not_know_is_not_clean_unless_another_one_looked(store: Store) -> None:
    fill(store)
    with store.command("annotate", {}) as command, store.writing() as session:
        make = Filler(store, session, command.id)
        source = make.source("more")
        for name in ("strange.png", "seen.png"):
            make.searched(make.image(source, name, split="train"), out_of_domain=True, notes=["\0"])
        seen = session.scalars(select(ImageRow.id).where(ImageRow.name == "seen.png")).one()
        make.searched(seen, detector="other lean", out_of_domain=False)
        make.searched(
            make.image(source, "known.png", split="train"), out_of_domain=None, notes=['"out_of_domain": true']
        )
    with store.reading() as session:
        plan = plan_images(session, ExportOptions())
    assert plan.left_out["out_of_domain"] == 1
    names = {image.name for image in plan.images}
    assert {"seen.png", "known.png"} <= names
    assert "strange.png" not in names
    done = run("export", store.folder, store.folder.parent / "out")
    assert "Left out: 1 image, out_of_domain (the detector does not know such images" in done.stdout


def test_an_edit_of_a_person_counts_and_the_original_is_kept(filled: Store) -> None:
    options = ExportOptions(with_steps=True)
    with filled.reading() as session:
        images = {i.name: i for i in exported_images(session, filled, plan_images(session, options), options)}
    one = images["cats/one.png"]
    (hand,) = one.anomalies
    assert hand.anomaly
    assert (hand.anomaly.name, hand.anomaly.severity) == ("A sixth finger", 5)
    assert hand.anomaly.phenomenon == HAND["phenomenon"]
    assert hand.original
    assert (hand.original.name, hand.original.severity) == ("Six fingers", 12.5)
    assert [(c.role, c.step, c.score, c.dropped) for c in one.candidates] == [
        ("RelationReasoner", "inspect", 80.0, None),
        ("RelationReasoner", "inspect", 80.0, None),
        ("RelationReasoner", "inspect", 20.0, "score under 50"),
    ]
    assert [(detector, o.name, o.person) for detector, o in one.objects] == [("reader lean", "hand", True)]


def test_an_edit_that_makes_no_anomaly_leaves_the_original(filled: Store) -> None:
    with filled.command("annotate", {}) as command, filled.writing() as session:
        make = Filler(filled, session, command.id)
        image = make.image(make.source("more"), "edited.png", split="train")
        make.judge(make.candidate(image, HAND), "accept", edit={"severity": "terrible"})
    assert selected(filled, ExportOptions())["edited.png"] == ["Six fingers"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_whole_and_the_same_store_gives_the_same_bytes(filled: Store, tmp_path: Path, form: str) -> None:
    report = export(filled, tmp_path / "one", asked(form))
    found = verify(tmp_path / "one")
    assert found.differences == ()
    assert (found.images, found.anomalies) == (report.images, report.anomalies) == (7, 6)
    assert report.left_out == {"unverified": 1, "detection_failed": 1, "not_annotated": 1}
    before = contents(tmp_path / "one")
    assert report.files == len(before)
    export(filled, tmp_path / "two", asked(form))
    assert contents(tmp_path / "two") == before
    export(filled, tmp_path / "one", asked(form))
    assert contents(tmp_path / "one") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "one", "two"]
    with filled.reading() as session:
        images = exported_images(session, filled, plan_images(session, asked(form)), asked(form))
        shas = {image.sha256 for image in images}
    if form != "parquet":  # the images are in it, see test_huggingface
        assert shas <= set(before.values())  # byte for byte, also out of an archive


def test_sha256sum_reads_the_sums(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out")
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "out").returncode == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from anomreason.dataset.export import ExportOptions, export
from anomreason.dataset.store import open_store

data, out, form, moment = sys.argv[1:]

def die(now):
    if now == moment:
        os.kill(os.getpid(), signal.SIGKILL)

def audit(event, arguments):
    if event == "os.rename" and str(arguments[1]).rstrip("/") == out:
        die("before the rename")

sys.addaudithook(audit)
with open_store(Path(data)) as store:
    export(store, Path(out), ExportOptions(form), lambda done, total: die(str(done)))
"""


@pytest.mark.parametrize(
    ("form", "moments"),
    [("imagefolder", ["3", "47", "before the rename"]), ("parquet", ["30"])],
)
def test_a_killed_export_continues_to_the_same_bytes(
    filled: Store, tmp_path: Path, form: str, moments: list[str]
) -> None:
    with filled.command("collect", {"more": 1}) as command, filled.writing() as session:
        make = Filler(filled, session, command.id)
        source = make.source("many")
        for n in range(40):
            make.searched(make.image(source, f"{n}.png", split="train"))
    export(filled, tmp_path / "whole", ExportOptions(form))
    out = tmp_path / "out"
    ends = exit_codes(KILLED, [(filled.folder, out, form, moment) for moment in moments])
    assert ends == [-signal.SIGKILL] * len(moments)
    assert not out.exists()
    export(filled, out, ExportOptions(form))
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


def test_a_death_between_the_two_renames_loses_nothing(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out)
    before = contents(out)
    os.replace(out, tmp_path / ".out.anomreason-old")
    export(filled, out)
    assert contents(out) == before
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_a_message_and_the_same_command_continues(filled: Store, tmp_path: Path) -> None:
    with filled.command("collect", {"more": 1}) as command, filled.writing() as session:
        make = Filler(filled, session, command.id)
        make.searched(make.image(make.source("large"), "large.png", split="train", data=os.urandom(3_000_000)))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limit[1]))
        for form in ("imagefolder", "parquet"):
            with pytest.raises(StorageError, match=r"cannot write .*run the same command again"):
                export(filled, tmp_path / form, ExportOptions(form))
            assert not (tmp_path / form).exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert export(filled, tmp_path / "parquet", ExportOptions("parquet")).images == 8


def test_a_folder_with_anything_else_in_it_is_never_touched(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out)
    with pytest.raises(UsageError, match="is an export with with_steps = False, and not True; give a new folder"):
        export(filled, out, ExportOptions(with_steps=True))
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes.txt', which is no part of the export"):
        export(filled, out)
    (out / "notes.txt").unlink()
    (out / CARD).write_text("edited")
    with pytest.raises(UsageError, match=r"README.md' was edited"):
        export(filled, out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").touch()
    for place, message in ((other, "holds other files and no export"), (other / "a.txt", "is a file")):
        with pytest.raises(UsageError, match=message):
            export(filled, place)
    with pytest.raises(UsageError, match="holds other files and no export"):
        export(filled, filled.folder)
    with pytest.raises(UsageError, match="does not exist; make it first"):
        export(filled, tmp_path / "no" / "out")
    (tmp_path / "empty").mkdir()
    assert export(filled, tmp_path / "empty").images == 7


def test_a_file_that_is_gone_or_another_one_is_left_out_named_and_counted(filled: Store, tmp_path: Path) -> None:
    with filled.reading() as session:
        paths = {i.name: filled.path(i.path) for i in session.query(ImageRow)}
    paths["scene.png"].unlink()
    paths["clean.webp"].write_bytes(b"another image")
    report = export(filled, tmp_path / "out")
    assert report.images == 5
    assert (report.left_out["missing"], report.left_out["changed"]) == (1, 1)
    assert [problem.partition(":")[0] for problem in report.problems] == ["clean.webp", "scene.png"]
    assert verify(tmp_path / "out").whole
    assert "1 image left out, `changed`" in (tmp_path / "out" / CARD).read_text()


def test_links_share_the_file_and_copies_do_not(filled: Store, tmp_path: Path) -> None:
    with filled.reading() as session:
        (one,) = [filled.path(i.path) for i in session.query(ImageRow) if i.name == "cats/one.png"]
    one.rename(tmp_path / "elsewhere.png")
    one.symlink_to(tmp_path / "elsewhere.png")
    export(filled, tmp_path / "links", ExportOptions(images="link"))
    export(filled, tmp_path / "copies")
    assert (tmp_path / "links/train/scene.png").stat().st_nlink == 2
    assert not (tmp_path / "links/train/cats/one.png").is_symlink()
    assert (tmp_path / "copies/train/scene.png").stat().st_nlink == 1
    assert (tmp_path / "links/test/sd _ 3.5/two.jpg").is_file()  # from an archive, so copied
    assert verify(tmp_path / "links").whole


def test_a_large_split_lies_in_folders_of_at_most_5000_files(filled: Store) -> None:
    with filled.command("collect", {"more": 1}) as command, filled.writing() as session:
        by = {"command_id": command.id}
        image = {"source_id": 1, "width": 1, "height": 1, "format": "PNG", "facts": {}, "bytes": 1, "status": "kept"}
        rows = [{"sha256": f"{n:064}", "name": f"{n:05}.png", "path": "many", **image, **by} for n in range(5_001)]
        add_new(session, ImageRow, rows)
        ids = session.scalars(select(ImageRow.id).where(ImageRow.path == "many")).all()
        add_new(session, SplitRow, [{"scheme": "default", "image_id": i, "split": "val", **by} for i in ids])
        add_new(session, DescriptionRow, [{"image_id": i, "author": "reader", "text": "x", **by} for i in ids])
    with filled.reading() as session:
        images = plan_images(session, ExportOptions(split="val")).images
    assert [image.place for image in images[4_999:]] == ["000/04999.png", "001/05000.png"]


def test_one_split_alone_and_a_dataset_without_splits(filled: Store, tmp_path: Path) -> None:
    report = export(filled, tmp_path / "test", ExportOptions(split="test"))
    assert list(report.splits) == ["test"]
    assert report.left_out == {"not_annotated": 1}
    with pytest.raises(UsageError, match="there is no split 'dev'; choose one of 'test', 'train'"):
        export(filled, tmp_path / "dev", ExportOptions(split="dev"))
    with pytest.raises(UsageError, match="no division 'other' into splits; give --scheme 'default'"):
        export(filled, tmp_path / "other", ExportOptions(scheme="other"))
    with filled.writing() as session:
        session.execute(delete(SplitRow))
    report = export(filled, tmp_path / "all")
    assert (list(report.splits), report.split_by) == (["train"], None)
    assert "The dataset is not split" in (tmp_path / "all" / CARD).read_text()
    with pytest.raises(UsageError, match="the dataset is not split, so there is no 'train'"):
        export(filled, tmp_path / "train", ExportOptions(split="train"))


def test_images_in_no_split_are_left_out_with_that_reason(filled: Store, tmp_path: Path) -> None:
    with filled.writing() as session:
        first = session.query(ImageRow.id).where(ImageRow.name == "scene.png").scalar_subquery()
        session.execute(delete(SplitRow).where(SplitRow.image_id == first))
    assert export(filled, tmp_path / "out").left_out["no_split"] == 1


def test_where_nothing_is_verified_the_message_says_what_to_type(tmp_path: Path) -> None:
    with open_store(tmp_path / "data", create=True) as store:
        with pytest.raises(UsageError, match="holds no image that was kept; first: anomreason dataset collect"):
            export(store, tmp_path / "out")
        with store.command("annotate", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            make.candidate(make.image(make.source("flux"), "a.png"), HAND)
        with pytest.raises(
            UsageError, match=r"nothing is verified yet: none of the 1 candidates .* --verdict accepted,unv"
        ):
            export(store, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert export(store, tmp_path / "out", ExportOptions(verdicts=("accepted", "unverified"))).anomalies == 1
        assert "a model's word alone, seen by nobody: 1" in (tmp_path / "out" / CARD).read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions("tarball"), "unknown format 'tarball'; choose one of imagefolder, parquet"),
        (ExportOptions(verdicts=("yes",)), "unknown verdict 'yes'; choose from unverified, accepted"),
        (ExportOptions(verdicts=()), "no verdict is given"),
        (ExportOptions(accepted_only=True, verdicts=("unsure",)), "contradict each other"),
        (ExportOptions(min_agreement=80), "agreement is 80; give a share from 0 to 1"),
        (ExportOptions("parquet", images="link"), r"parquet has no place for --images link \(only copy\)"),
        (ExportOptions(images="none"), r"imagefolder has no place for --images none \(only copy or link\)"),
        (ExportOptions("published", with_steps=True), r"published has no place for --with-steps \(only imagefolder"),
        (ExportOptions(seed=3), "imagefolder has no place for --task and --seed"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    filled: Store, tmp_path: Path, options: ExportOptions, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export(filled, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_the_card_says_what_a_reader_must_know_and_nobodys_text_becomes_markup(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text()
    for part in (
        "**Severity: 0 = completely implausible, 100 = fully realistic.**",
        "| flux | ai | flux | Apache-2.0 | See \\<https://example.org/flux\\> | 1 / 0 | 2 / 3 |",
        r"| sd \| 3.5 | ai | sd \| 3.5 | CC0-1.0 |",
        "| all |  |  |  |  | 3 / 2 | 4 / 4 |",
        "- 4 accepted by people",
        "- 1 from a published dataset",
        "3 people judged 5 candidates of the dataset (7 accept, 2 reject).",
        "Agreement: 66.7% of the pairs of people who judged the same candidate said the same",
        "| anatomy | 2 |",
        '"collect" {"inputs": ["images/", "own=a b.json"], "terms": "https://x.org/a"}',
    ):
        assert part in card
    assert "/home/ada" not in card + (tmp_path / "out" / MANIFEST).read_text()
    assert "ada" not in card.replace("data", "")


def test_the_manifest_holds_the_counts(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["splits"] == {"test": {"images": 3, "anomalies": 2}, "train": {"images": 4, "anomalies": 4}}
    assert manifest["sources"]["flux"]["anomalies"] == {"test": 0, "train": 3}
    assert manifest["outcomes"] == {"accepted": 4, "published": 1, "scene": 1}


def test_what_differs_is_named_and_the_exit_status_says_so(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", filled.folder, out).exit_code == 0
    whole = run("verify", out)
    assert (whole.exit_code, whole.stdout.splitlines()[-1]) == (0, "11 files, 7 images, 6 anomalies: all as exported")
    (out / "train/scene.png").unlink()
    (out / "test/clean.webp").write_bytes(b"x")
    (out / "test/more.png").write_bytes(b"x")
    (out / "link").symlink_to("/etc")
    broken = run("verify", out)
    assert broken.exit_code == 1
    assert broken.stdout.splitlines()[-5:] == [
        "changed: test/clean.webp",
        "missing: train/scene.png",
        "extra: link",
        "extra: test/more.png",
        "11 files, 7 images, 6 anomalies: 4 differences",
    ]
    found = json.loads(run("verify", out, "--json").stdout)
    assert [one["what"] for one in found["differences"]] == ["changed", "missing", "extra", "extra"]


def test_where_a_table_is_missing_verify_names_it_and_says_that_nothing_could_be_counted(
    filled: Store, tmp_path: Path
) -> None:
    export(filled, out := tmp_path / "out", ExportOptions("csv"))
    (out / "images.csv").unlink()
    assert run("verify", out).stdout.splitlines()[-3:] == [
        "missing: images.csv",
        "count: all splits (images and anomalies cannot be counted: files are missing or changed, see the other "
        "differences)",
        "11 files, 0 images, 0 anomalies: 2 differences",
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_that_are_not_in_the_files_are_found_also_where_the_sums_were_made_anew(
    filled: Store, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    export(filled, out, asked(form))
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["splits"]["train"]["anomalies"] = 9
    before = sum_of(out / MANIFEST)
    (out / MANIFEST).write_text(json.dumps(manifest))
    sums = (out / "SHA256SUMS").read_text()
    (out / "SHA256SUMS").write_text(sums.replace(before, sum_of(out / MANIFEST)))
    (difference,) = verify(out).differences
    assert (difference.what, difference.place) == ("count", "train")
    assert difference.message == ("the manifest says 4 images and 9 anomalies, the files hold 4 images and 4 anomalies")


def test_sums_that_lead_out_of_the_folder_are_not_followed_and_other_folders_are_no_export(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no export \(it has no SHA256SUMS\)"):
        verify(tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  ../../etc/passwd\n")
    (tmp_path / MANIFEST).write_text('{"format": "imagefolder", "splits": {}}')
    assert "lies outside of the folder" in verify(tmp_path).differences[0].message
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(UsageError, match="line 1: 'nonsense' is no sum and file"):
        verify(tmp_path)


def test_the_command_says_what_was_done_what_was_left_out_and_what_is_next(filled: Store, tmp_path: Path) -> None:
    done = run("export", filled.folder, tmp_path / "out", "--with-steps")
    assert done.exit_code == 0
    for line in (
        "train: 4 images, 4 anomalies",
        "Left out: 1 image, unverified (nobody decided on any candidate)",
        "Left out: 1 image, not_annotated (nobody looked for anomalies: anomreason dataset annotate)",
        "Unverified candidates, not exported: 2. To add them: --verdict accepted,unverified",
        f"Next: anomreason dataset verify {tmp_path / 'out'}",
    ):
        assert line in done.stdout
    report = json.loads(run("export", filled.folder, tmp_path / "two", "--json", "--format", "parquet").stdout)
    assert report["splits"]["test"] == {"images": 3, "anomalies": 2}


def test_coco_says_how_many_anomalies_are_no_annotations(filled: Store, tmp_path: Path) -> None:
    done = run("export", filled.folder, tmp_path / "out", "--format", "coco")
    assert "2 anomalies without a region (in anomalies_without_region of the images)" in done.stdout
    assert "without a region" not in run("export", filled.folder, tmp_path / "table", "--format", "csv").stdout


def test_the_help_names_every_format() -> None:
    shown = " ".join(run("export", "--help").stdout.split())
    assert all(form in shown for form in FORMATS)


def test_both_databases_give_the_same_export(store: Store, tmp_path: Path) -> None:
    fill(store)
    report = export(store, tmp_path / "out", ExportOptions(with_steps=True, min_agreement=0.5))
    assert (report.images, report.anomalies, report.unverified) == (7, 6, 2)
    assert verify(tmp_path / "out").whole
