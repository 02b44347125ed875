"""The report's numbers, choices and text, without a browser."""

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from report_files import RUN, decode, read_files
from run_folder import RADIUS, face, failed, lit_crop, no_face, ok, sphere, write_photo, write_run

from pipeline.errors import ConfigError
from pipeline.normals.encoding import SIGNS, decode_normals
from pipeline.pixels import srgb_to_linear
from pipeline.redact import shown_uri
from pipeline.report.facts import AXES
from pipeline.report.light import fit_light, harmonics
from pipeline.report.light_rows import parse_condition
from pipeline.report.sheet import card_of, photo_of, short_name
from pipeline.report.spread import pace
from pipeline.report.tally import WORST_OF_EACH, Place, read_rows, some_shards, tally_records
from pipeline.report.write import FACES, make_report, write_report
from pipeline.run.counts import Counts
from pipeline.run.markers import Marker


def names(count):
    return [f"records/shard-{number:05d}.parquet" for number in range(count)]


class Elements(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of_class(self, name):
        return [
            attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()
        ]


class TestTally:
    def test_counts_every_row_of_every_shard(self, tmp_path):
        shards = [
            [[ok(1, "a", [face(0), face(1)]), no_face(2, "b")], [failed(3, "c", "truncated", "cut")]],
            [
                [
                    failed(4, "d", "truncated", "cut too"),
                    failed(5, "e", "empty_file", "empty"),
                    ok(6, "f", [face()]),
                ]
            ],
        ]
        tally = tally_records(write_run(tmp_path, shards, RUN), names(2), 48, 5, 5)
        assert tally.statuses == {"ok": 2, "no_face": 1, "failed": 3}
        assert (tally.photos, tally.faces) == (6, 3)
        assert {code: problem.count for code, problem in tally.problems.items()} == {
            "truncated": 2,
            "empty_file": 1,
        }
        assert tally.problems["truncated"].examples == [("c", "cut"), ("d", "cut too")]
        assert tally.shown == {Place(0, 0, 0): [0, 1], Place(1, 0, 2): [0]}
        assert tally.faceless == [Place(0, 0, 1)]
        assert tally.unreadable == []

    def test_keeps_no_more_examples_than_asked(self, tmp_path):
        rows = [failed(n, f"{n}.jpg", "truncated", "cut") for n in range(9)]
        tally = tally_records(write_run(tmp_path, [[rows[:4], rows[4:]]], RUN), names(1), 48, 5, 5)
        assert [uri for uri, _ in tally.problems["truncated"].examples] == [f"{n}.jpg" for n in range(5)]
        assert tally.problems["truncated"].count == 9

    def test_a_large_run_is_drawn_from_some_shards(self):
        def marker(shard, **statuses):
            return Marker(shard, Counts(records=sum(statuses.values()), statuses=Counter(statuses)), [], "s")

        failed_alone = [marker(shard, failed=9) for shard in range(50)]
        assert some_shards(failed_alone) == []
        few = [marker(50, ok=3), marker(51, no_face=1), marker(52, ok=2, no_face=4)]
        assert some_shards([*failed_alone, *few]) == [50, 51, 52]
        many = [marker(shard, ok=5, no_face=5) for shard in range(1000)]
        chosen = some_shards(many)
        assert len(chosen) == 12
        assert chosen == some_shards(many[::-1])
        assert 250 < np.mean(chosen) < 750

    def test_the_choice_is_even_and_does_not_depend_on_the_order(self, tmp_path):
        one = face()
        rows = [ok(n, f"{n}.jpg", [one]) for n in range(300)]
        forwards = write_run(tmp_path / "a", [[rows[:200]], [rows[200:]]], RUN)
        backwards = write_run(tmp_path / "b", [[rows[::-1]]], RUN)
        chosen = []
        for store, count in ((forwards, 2), (backwards, 1)):
            tally = tally_records(store, names(count), 60, 5, 5)
            found = read_rows(store, names(count), tally.shown).values()
            chosen.append(sorted(int(row["uri"].removesuffix(".jpg")) for row in found))
        assert chosen[0] == chosen[1]
        assert len(chosen[0]) == 60
        # 60 of 300 drawn evenly: each third has about 20 of them, within three standard deviations.
        assert all(9 < sum(start <= n < start + 100 for n in chosen[0]) < 31 for start in (0, 100, 200))

    def test_one_crowd_does_not_fill_the_sheet(self, tmp_path):
        one = face()
        crowd = ok(1, "crowd.jpg", [one | {"index": n} for n in range(40)])
        others = [ok(n, f"{n}.jpg", [one]) for n in range(2, 8)]
        store = write_run(tmp_path, [[[crowd, *others]]], RUN)
        shown = tally_records(store, names(1), 10, 5, 5).shown
        assert shown[Place(0, 0, 0)] == [0, 1, 2, 3]
        assert len(shown) == 7
        with_room = tally_records(store, names(1), 30, 5, 5).shown
        assert len(with_room[Place(0, 0, 0)]) == 24

    def test_reads_back_the_rows_it_chose(self, tmp_path):
        one = face()
        chunks = [[ok(10 * chunk + n, f"{chunk}-{n}", [one]) for n in range(5)] for chunk in range(3)]
        store = write_run(tmp_path, [chunks], RUN)
        places = [Place(0, 2, 4), Place(0, 0, 1), Place(0, 2, 0)]
        rows = read_rows(store, names(1), places, rows_at_once=2)
        assert {place: row["uri"] for place, row in rows.items()} == {
            Place(0, 0, 1): "0-1",
            Place(0, 2, 0): "2-0",
            Place(0, 2, 4): "2-4",
        }
        assert rows[Place(0, 2, 4)]["faces"][0]["crop_png"] == one["crop_png"]

    def test_names_a_shard_that_is_cut_short(self, tmp_path):
        store = write_run(tmp_path, [[[ok(1, "a", [face()])]], [[ok(2, "b", [face()])]]], RUN)
        path = tmp_path / "records" / "shard-00000.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        tally = tally_records(store, names(2), 48, 5, 5)
        assert tally.photos == 1
        assert len(tally.unreadable) == 1
        assert tally.unreadable[0].startswith("shard-00000.parquet: ")


class TestLight:
    def test_finds_the_shading_of_a_lit_sphere(self):
        normals, mask = sphere()
        light = np.array([0.5, 0.3, 0.8]) / np.linalg.norm([0.5, 0.3, 0.8])
        crop = lit_crop(tuple(light), (0.5, 0.5, 0.5))
        truth = 0.3 + 0.7 * np.clip(normals @ light, 0, None)
        found = harmonics(normals) @ fit_light(crop, normals, mask)
        inside = mask > 0
        ratio = (found / truth)[inside] / np.mean((found / truth)[inside])
        assert np.abs(ratio - 1).mean() < 0.05
        assert found[inside].mean() == pytest.approx(1, abs=1e-3)
        albedo = srgb_to_linear(crop)[inside, 0] / found[inside]
        assert (
            albedo.std() / albedo.mean()
            < 0.25 * srgb_to_linear(crop)[inside, 0].std() / srgb_to_linear(crop)[inside, 0].mean()
        )

    @pytest.mark.parametrize("case", ["empty mask", "black"])
    def test_is_even_where_nothing_can_be_fitted(self, case):
        normals, mask = sphere()
        crop = lit_crop((0, 0, 1), (0.5, 0.5, 0.5))
        crop, mask = (crop, mask * 0) if case == "empty mask" else (crop * 0, mask)
        assert fit_light(crop, normals, mask).tolist() == [1] + [0] * 8


class TestSheet:
    @pytest.mark.parametrize("convention", list(SIGNS))
    @pytest.mark.parametrize("bits", [8, 16])
    def test_normals_on_the_page_are_those_of_the_records(self, convention, bits):
        row = ok(1, "a.jpg", [face(bits=bits, convention=convention)])
        card = card_of(row, 0, photo_of(row, ""), convention)
        data = base64.b64decode(card.normals.partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        normals, mask = sphere()
        inside = mask > 0
        assert np.array_equal(pixels[..., 3], mask)
        signs = np.array([float(sign) for sign in card.signs.split()])
        shown = (pixels[..., :3] / 127.5 - 1) * signs
        assert np.abs(shown[inside] - normals[inside]).max() < 0.02
        assert np.abs(decode_normals(pixels[..., :3], convention)[inside] - normals[inside]).max() < 0.02

    def test_boxes_and_landmarks_are_where_the_record_says(self):
        row = ok(1, "a.jpg", [face(0), face(1)])
        card = card_of(row, 1, photo_of(row, ""), "opengl")
        # Pixel 210 begins at 210 in SVG; a box from pixel 210 to 309 is 100 wide.
        assert card.box == (210.0, 90.0, 100.0, 100.0)
        assert card.other_boxes == [(110.0, 90.0, 100.0, 100.0)]
        first = re.match(r"M([\d.]+) ([\d.]+)", card.dots)
        assert first
        assert (float(first[1]), float(first[2])) == (210.5, 140.5)  # a centre lies half a pixel further
        assert card.dots.count("M") == 68
        assert card.lines.count("Z") == 4
        assert card.hidden == ""

    def test_points_are_drawn_in_place_of_landmarks(self):
        points = np.column_stack([np.arange(500), np.full(500, 20), np.ones(500)]).ravel().tolist()
        visible = [255] * 300 + [0] * 200
        row = ok(1, "a.jpg", [face(0) | {"points": points, "visible": visible}])
        card = card_of(row, 0, photo_of(row, ""), "opengl")
        assert card.dots.startswith("M0.5 20.5h0M1.5 20.5h0")
        assert card.hidden.startswith("M300.5 20.5h0")
        assert (card.dots.count("M"), card.hidden.count("M"), card.lines.count("Z")) == (300, 200, 4)

    def test_a_detector_without_scores(self):
        row = ok(1, "a.jpg", [face() | {"score": float("nan")}])
        assert card_of(row, 0, photo_of(row, ""), "opengl").score is None

    @pytest.mark.parametrize(
        ("uri", "shown", "name"),
        [
            ("/photos/a b.jpg", "/photos/a b.jpg", "a b.jpg"),
            ("/photos/what?.jpg", "/photos/what?.jpg", "what?.jpg"),
            ("s3://bucket/a?b/c?.jpg", "s3://bucket/a?b/c?.jpg", "c?.jpg"),
            ("https://host/a/b.jpg?Signature=secret", "https://host/a/b.jpg", "b.jpg"),
            ("https://user:secret@host/b.jpg", "https://host/b.jpg", "b.jpg"),
            ("http://[half/b.jpg", "http://[half/b.jpg", "b.jpg"),
            ("ftp://user:secret@host", "ftp://host", "host"),
            ("", "", ""),
        ],
    )
    def test_what_is_secret_in_a_uri_is_not_shown(self, uri, shown, name):
        assert shown_uri(uri) == shown
        assert short_name(uri) == name


class TestFacts:
    def test_every_convention_is_explained(self):
        assert AXES.keys() == SIGNS.keys()


class TestPage:
    def page(self, store):
        path = write_report(store, read_files, decode)
        with open(path, encoding="utf-8") as file:
            return file.read()

    def test_shows_what_the_records_hold(self, tmp_path):
        data = write_photo(tmp_path / "a.png")
        bare = write_photo(tmp_path / "b.png", seed=1)
        rows = [
            ok(1, str(tmp_path / "a.png"), [face(0), face(1)], data),
            no_face(2, str(tmp_path / "b.png"), bare),
            failed(3, "c.jpg", "truncated", "The file ends early."),
        ]
        html = self.page(write_run(tmp_path / "out", [[rows]], RUN))
        page = Elements(html)
        assert "2 faces in 3 photos" in page.text
        assert "truncated" in page.text
        assert "The file ends early." in page.text
        assert "12ab" * 16 in page.text
        assert "convention: opengl" in page.text
        assert "hidden files left out: 2" in page.text
        assert len(page.of_class("card")) == 2
        assert len(page.of_class("gone")) == 0
        pictures = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
        assert len(pictures) == 2 * 3 + 1
        assert all(source.startswith("data:image/") for source in pictures)

    def test_a_photo_that_is_gone_or_changed_is_drawn_without_a_picture(self, tmp_path):
        write_photo(tmp_path / "changed.png")
        rows = [
            ok(1, str(tmp_path / "gone.png"), [face()], b"as it was"),
            ok(2, str(tmp_path / "changed.png"), [face()], b"as it was"),
        ]
        page = Elements(self.page(write_run(tmp_path / "out", [[rows]], RUN)))
        assert len(page.of_class("card")) == len(page.of_class("gone")) == 2

    def test_nothing_from_outside_becomes_markup(self, tmp_path):
        evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='alert(1).jpg"
        rows = [
            ok(1, evil, [face()]),
            no_face(2, evil),
            failed(3, evil, "decode_failed", evil),
        ]
        plain = self.page(write_run(tmp_path / "a", [[[ok(1, "a", [face()]), no_face(2, "b")]]], RUN))
        models = {"weights": RUN["models"]["weights"] | {"name": evil}}
        run = RUN | {"input": evil, "output": evil, "models": models}
        page = Elements(self.page(write_run(tmp_path / "b", [[rows]], run)))
        assert page.text.count("onerror=alert(1)") > 5
        assert [tag for tag, _ in page.elements].count("script") == 1
        known = {name for _, attributes in Elements(plain).elements for name in attributes}
        assert {name for _, attributes in page.elements for name in attributes} <= known
        assert not any(name.startswith("on") for name in known)

    def test_the_security_policy_fits_the_page(self, tmp_path):
        html = self.page(write_run(tmp_path, [[[ok(1, "a", [face()])]]], RUN))
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert Elements(html).of_class("card")
        assert not any("style" in attributes for _, attributes in Elements(html).elements)
        assert not re.findall(r'(?:src|href)="(?!data:)', html)

    def test_a_run_without_a_face(self, tmp_path):
        page = Elements(self.page(write_run(tmp_path, [[[failed(1, "a", "empty_file", "")]]], RUN)))
        assert "0 faces in 1 photo" in page.text
        assert "No face in this run." in page.text

    def test_a_run_stopped_before_its_first_shard(self, tmp_path):
        page = Elements(self.page(write_run(tmp_path, [], RUN)))
        assert "0 faces in 0 photos" in page.text

    def test_the_size_is_bounded(self, tmp_path):
        one = face()
        rows = [ok(n, f"{n}.jpg", [one]) for n in range(100)]
        rows += [failed(n, "x" * 5000, "truncated", "y" * 5000) for n in range(100, 150)]
        html = self.page(write_run(tmp_path, [[rows]], RUN))
        assert len(Elements(html).of_class("card")) == FACES + 2 * WORST_OF_EACH
        assert len(html) < 8_000_000

    def test_the_worst_and_the_spread_of_a_run(self, tmp_path):
        one = face()
        rows = [
            ok(n, f"{n}.jpg", [one | {"score": (n + 0.5) / 100, "mask_share": (n % 10) / 10}])
            for n in range(99)
        ]
        rows += [no_face(100, "bare.jpg"), failed(101, "cut.jpg", "truncated", "cut")]
        html = self.page(write_run(tmp_path, [[[row] for row in rows]], RUN))
        page = Elements(html)
        assert len(page.of_class("card")) == FACES + 2 * WORST_OF_EACH
        lowest = html[html.index("Lowest score of the detector") :]
        names = re.findall(r'<button type="button" title="([^"]*)">', lowest)
        assert names[:4] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
        assert sorted(names[4:8]) == ["0.jpg", "10.jpg", "20.jpg", "30.jpg"]  # fewest normals
        labels = [attributes["aria-label"] for _, attributes in page.elements if "aria-label" in attributes]
        assert "Faces in a record. 0: 1, 1: 99, 2: 0, 3: 0, 4: 0, 5 or more: 0" in labels
        (scores,) = (label for label in labels if label.startswith("Detector"))
        assert "0 to 0.1: 10, 0.1 to 0.2: 10," in scores
        assert "0.9 or more: 9" in scores
        (sizes,) = (label for label in labels if label.startswith("Size"))
        assert "128 to 256: 99" in sizes

    def test_a_sheet_of_a_selection(self, tmp_path):
        rows = [
            ok(1, "a/one.jpg", [face(0) | {"score": 0.9}, face(1) | {"score": 0.2}]),
            ok(2, "b/two.jpg", [face() | {"score": 0.3}]),
            no_face(3, "a/bare.jpg"),
            failed(4, "a/cut.jpg", "truncated", "cut"),
        ]
        store = write_run(tmp_path, [[rows]], RUN)

        def sheet(*where):
            html = make_report(store, read_files, decode, where)
            return Elements(html), re.findall(r'<button type="button" title="([^"]*)">', html)

        page, names = sheet("score<0.5")
        assert ("2 faces in 2 photos" in page.text, names) == (True, ["a/one.jpg", "b/two.jpg"])
        assert "Only what meets: score<0.5" in page.text
        page, names = sheet("score<0.5", "uri=a/*")
        assert ("1 face in 1 photo" in page.text, names) == (True, ["a/one.jpg"])
        page, names = sheet("error_code=no_face")
        assert ("0 faces in 1 photo" in page.text, names) == (True, [])
        assert "bare.jpg" in page.text
        page, _ = sheet("status != ok")
        assert "0 faces in 2 photos" in page.text
        assert sheet("faces>=2")[1] == ["a/one.jpg"] * 2
        assert sheet("points_sigma<1", "width>0")[1] == []

    @pytest.mark.parametrize("text", ["score", "age<30", "score~1", "score<low", "uri<a", ""])
    def test_what_is_no_condition(self, text):
        with pytest.raises(ConfigError):
            parse_condition(text)

    def test_photos_a_minute(self):
        def marker(shard, committed):
            return Marker(shard, Counts(images=60), [], "s", committed)

        markers = [marker(shard, f"2026-01-02T03:{4 + shard:02d}:05+00:00") for shard in range(1, 9)]
        spread = pace(markers, "2026-01-02T03:04:05+00:00")
        assert spread.counts == [30.0, 60.0, 60.0, 90.0]  # two minutes each; a border counts to what follows
        assert pace(markers[:3], "2026-01-02T03:04:05+00:00") is None
        assert pace([marker(0, "")] * 9, "2026-01-02T03:04:05+00:00") is None

    def test_records_of_before_lack_columns(self, tmp_path):
        store = write_run(tmp_path, [[[ok(1, "a", [face()])]]], RUN)
        path = tmp_path / "records" / "shard-00000.parquet"
        table = pq.read_table(path)
        faces = table["faces"].combine_chunks()
        fields = [field for field in faces.type.value_type if field.name != "mask_share"]
        flat = faces.flatten()
        struct = pa.StructArray.from_arrays([flat.field(field.name) for field in fields], fields=fields)
        column = pa.ListArray.from_arrays(faces.offsets, struct)
        index = table.schema.get_field_index("faces")
        pq.write_table(table.set_column(index, "faces", column), path)
        assert "1 face in 1 photo" in Elements(self.page(store)).text

    def test_says_which_records_it_could_not_read(self, tmp_path):
        store = write_run(tmp_path, [[[ok(1, "a", [face()])]], [[ok(2, "b", [face()])]]], RUN)
        (tmp_path / "records" / "shard-00001.parquet").write_bytes(b"nothing")
        page = Elements(self.page(store))
        assert "shard-00001.parquet" in page.text
        assert "2 faces in 2 photos" in page.text

    def test_the_same_run_gives_the_same_page(self, tmp_path):
        one = face()
        store = write_run(tmp_path, [[[ok(n, f"{n}", [one]) for n in range(60)]]], RUN)
        assert self.page(store) == self.page(store)


def test_the_sphere_of_these_tests_faces_the_viewer():
    normals, mask = sphere()
    assert mask[128, 128] == 255
    assert mask[0, 0] == 0
    assert normals[128, 127 + RADIUS // 2, 0] == pytest.approx(0.5, abs=0.02)  # right of the centre: x > 0
    assert normals[127 - RADIUS // 2, 128, 1] == pytest.approx(0.5, abs=0.02)  # above it: y > 0


@pytest.mark.parametrize("images", ["none", "normals"])
def test_a_run_whose_records_hold_no_images_or_no_crops(tmp_path, images):
    output = {"convention": "opengl", "bits": 8, "images": images}
    dropped = {"crop_png": None} | ({"normal_png": None, "mask_png": None} if images == "none" else {})
    store = write_run(tmp_path, [[[ok(1, "a", [face() | dropped])]]], RUN | {"config": {"output": output}})
    page = Elements(make_report(store, read_files, decode))
    assert "1 face in 1 photo" in page.text
    assert len(page.of_class("card")) == (0 if images == "none" else 1)
    assert ("hold no images" in page.text) == (images == "none")
