"""Images and crops: by id alone, bounded, made once, and kept by the browser only where their bytes are named."""

import hashlib
from io import BytesIO

from PIL import Image
from sqlalchemy import select
from tests.review.visiting import draw_images, visits

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, ImageRow
from anomreason.review.images import CROP_SIDE


def test_an_image_and_its_crop_are_shown_and_may_be_kept_for_ever(sqlite_store: Store) -> None:
    with visits(sqlite_store, images=2) as visit:
        draw_images(sqlite_store)
        with sqlite_store.writing() as session:
            for candidate in session.scalars(select(CandidateRow)):
                candidate.region = {"x0": 0.6, "y0": 0.4, "x1": 0.8, "y1": 0.6}
        owner = visit["owner"]
        item = owner.get("/api/next?count=1")["items"][0]
        whole = owner.client.get(item["src"], headers=owner.headers)
        assert whole.headers["content-type"] == "image/jpeg"
        assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert Image.open(BytesIO(whole.content)).size == (200, 100)
        crop = owner.client.get(item["crop"], headers=owner.headers)
        part = Image.open(BytesIO(crop.content)).convert("RGB")
        assert part.size == (CROP_SIDE, CROP_SIDE // 2), "a quarter more on each side, enlarged"
        red, _, blue = part.getpixel((20, 20))
        assert blue > 200 > 50 > red, "from the right half"
        sqlite_store.path("images").rename(sqlite_store.path("elsewhere"))
        assert owner.client.get(item["src"], headers=owner.headers).content == whole.content, "made once"


def test_an_address_that_does_not_name_the_bytes_is_not_kept(sqlite_store: Store) -> None:
    with visits(sqlite_store, images=1) as visit:
        draw_images(sqlite_store)
        for query in ("", "?v=", "?v=00000000", "?v=1"):
            answer = visit["owner"].client.get(f"/image/1{query}", headers=visit["owner"].headers)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_a_large_image_is_made_smaller(sqlite_store: Store) -> None:
    with visits(sqlite_store, images=1) as visit:
        draw_images(sqlite_store)
        with sqlite_store.writing() as session:
            row = session.scalars(select(ImageRow)).one()
            path = sqlite_store.path(row.path)
            Image.new("RGB", (1200, 600)).save(path)
            row.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        answer = visit["owner"].client.get("/image/1?side=512", headers=visit["owner"].headers)
        assert Image.open(BytesIO(answer.content)).size == (512, 256)
        assert visit["owner"].get("/image/1?side=9999", status=422)["error"].startswith("side: ")


def test_what_cannot_be_shown_says_why(sqlite_store: Store) -> None:
    with visits(sqlite_store, images=2) as visit:
        owner = visit["owner"]
        assert "does not exist" in owner.get("/image/1", status=404)["error"]
        draw_images(sqlite_store)
        with sqlite_store.writing() as session:
            sqlite_store.path(session.get_one(ImageRow, 1).path).write_bytes(b"GIF89a")
            session.get_one(CandidateRow, 4).region = None
        assert owner.get("/image/1", status=404)["error"]
        assert "no such image" in owner.get("/image/77", status=404)["error"]
        assert "no such image" in owner.get("/crop/4", status=404)["error"]
        assert next(i for i in owner.get("/api/image-items/2")["items"] if i["candidate"] == 4)["crop"] is None


def test_a_file_that_was_exchanged_is_not_shown_as_the_image(sqlite_store: Store) -> None:
    with visits(sqlite_store, images=1) as visit:
        draw_images(sqlite_store)
        with sqlite_store.reading() as session:
            Image.new("RGB", (200, 100)).save(sqlite_store.path(session.get_one(ImageRow, 1).path))
        assert "put the original back" in visit["owner"].get("/image/1", status=404)["error"]
