"""The plan of a run: every photo in exactly one place, the same cut every time."""

import json
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from faulty_store import FaultyStore, full_disk
from normals_run import count_rows, write_rows
from run_folder import failed

from pipeline.errors import OutputError
from pipeline.images.items import ListedFile, ListedItem, one_photo_each, one_subject_each
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run import plan as plans
from pipeline.run import plan_photos
from pipeline.run.config import PlanConfig
from pipeline.run.ledger import chunk_refs
from pipeline.run.markers import committed_shards
from pipeline.run.new_items import NewItems, plan_ids
from pipeline.run.plan import Plan, cut, file_names, leftovers, read_plan
from pipeline.run.plan_photos import chunk_items, count_images, extend_plan, shard_items, write_plan
from pipeline.run.shards import commit_shard
from pipeline.run.work import Work
from pipeline.storage.store import Store


def photos(count: int, start: int = 0) -> list[ListedItem]:
    files = (
        ListedFile(7 * index - 3, f"/photos/{index} é.jpg", 100 + index, f"e{index}")
        for index in range(start, start + count)
    )
    return list(one_photo_each(files))


def all_items(store: Store, plan: Plan) -> list[ListedItem]:
    return [item for shard in range(plan.shards) for item in shard_items(store, plan, shard)]


def chunks_of(store: Store, plan: Plan, shards: range | None = None) -> list[list[ListedItem]]:
    shards = range(plan.shards) if shards is None else shards
    return [chunk_items(store, plan, *reference) for reference in chunk_refs(plan, shards)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [1, 7, 31, 32, 33, 200, 1029])
def test_every_photo_is_in_exactly_one_chunk(tmp_path, count):
    store = Store(str(tmp_path))
    plan = write_plan(store, photos(count), PlanConfig(shard_size=50, chunk_size=16))
    chunks = chunks_of(store, plan)
    assert list(chain(*chunks)) == photos(count) == all_items(store, plan)
    assert all(1 <= len(chunk) <= plan.chunk_size for chunk in chunks)
    assert sum(plan.shard_items(shard) for shard in range(plan.shards)) == plan.images == plan.items == count
    assert plan.bytes == sum(item.photos[0].size or 0 for item in photos(count))
    assert read_plan(store) == plan


def test_plan_of_several_files_keeps_order_and_shards(tmp_path):
    store = Store(str(tmp_path))
    plan = write_plan(store, photos(620), PlanConfig(shard_size=3, chunk_size=2))
    assert len(list((tmp_path / "plan").glob("*.parquet"))) == 3
    assert all_items(store, plan) == photos(620)
    table = ds.dataset(sorted(map(str, (tmp_path / "plan").glob("*.parquet")))).to_table()
    assert table["shard"].to_pylist() == [index // 3 for index in range(620)]


def test_list_is_not_held_in_memory(tmp_path):
    """Rows are written as they come: when the listing breaks late, the first file is there already."""

    def broken():
        yield from photos(plans.SHARDS_PER_FILE * 10 + 1)
        raise RuntimeError("listing broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_plan(Store(str(tmp_path)), broken(), PlanConfig(shard_size=10))
    assert len(list((tmp_path / "plan").glob("photos-00000-*.parquet"))) == 1
    assert read_plan(Store(str(tmp_path))) is None


def test_same_list_gives_same_bytes_and_another_list_another_digest(tmp_path):
    stores = [Store(str(tmp_path / name)) for name in "abc"]
    first, second = (write_plan(store, photos(300), PlanConfig()) for store in stores[:2])
    assert first.digest == second.digest
    assert [stores[0].read(name) for name in file_names(first)] == [
        stores[1].read(name) for name in file_names(second)
    ]
    assert write_plan(stores[2], photos(300)[::-1], PlanConfig()).digest != first.digest


@pytest.mark.parametrize(
    ("images", "shard", "chunk"),
    [(1, 32, 8), (10, 32, 8), (200, 32, 8), (2000, 125, 32), (16_000, 1000, 32), (10**7, 1000, 32)],
)
def test_small_inputs_are_cut_finer(images, shard, chunk):
    assert cut(images, PlanConfig()) == (shard, chunk)


def test_cut_never_exceeds_the_configuration():
    assert cut(10**6, PlanConfig(shard_size=5, chunk_size=3)) == (5, 3)
    assert cut(10**6, PlanConfig(shard_size=3, chunk_size=32)) == (3, 3)


def test_damaged_plan_is_refused(tmp_path):
    store = Store(str(tmp_path))
    store.write("plan/plan.json", b'{"images": ')
    with pytest.raises(OutputError, match="damaged"):
        read_plan(store)


def test_first_of_two_planners_wins(tmp_path):
    """The second lists another photo, and must go on with the plan that others may have begun to work on."""
    store = Store(str(tmp_path))
    first = []

    def overtaken():
        yield from photos(40)
        first.append(write_plan(store, photos(39), PlanConfig()))

    assert write_plan(store, overtaken(), PlanConfig()) == first[0] == read_plan(store)
    assert all_items(store, first[0]) == photos(39)
    assert leftovers(store, first[0]) == []


class TestExtension:
    def test_what_was_planned_stays_and_the_rest_follows(self, tmp_path, monkeypatch):
        for module in (plans, plan_photos):
            monkeypatch.setattr(module, "SHARDS_PER_FILE", 3)
        store = Store(str(tmp_path))
        config = PlanConfig(shard_size=32, chunk_size=8)
        plan = write_plan(store, photos(260), config, "run")
        before, chunks = content(tmp_path / "plan"), chunks_of(store, plan)
        for count, start in ((1, 260), (500, 261), (7, 761)):
            new = NewItems(store, plan, photos(start + count))
            extended = extend_plan(store, plan, new, PlanConfig(shard_size=50, chunk_size=20), "run")
            assert (new.count, new.vanished) == (count, 0)
            assert extended.images == start + count
            assert chunks_of(store, extended, range(plan.shards)) == chunks
            plan, chunks = extended, chunks_of(store, extended)
        assert read_plan(store) == plan
        assert list(chain(*chunks)) == photos(768) == all_items(store, plan)
        assert [(plan.shard_items(shard), plan.shard_chunks(shard)) for shard in (8, 9, 10)] == [
            (4, 1),
            (1, 1),
            (32, 4),
        ]
        assert sum(plan.shard_items(shard) for shard in range(plan.shards)) == 768
        assert plan.bytes == sum(item.photos[0].size or 0 for item in photos(768))
        assert plan.run == "run"
        assert {name: data for name, data in content(tmp_path / "plan").items() if name in before} == (
            before | {"plan.json": store.read("plan/plan.json")}
        )
        table = ds.dataset([str(tmp_path / name) for name in file_names(plan)]).to_table()
        assert table["uri"].to_pylist() == [item.uri for item in photos(768)]
        assert sorted(set(table["shard"].to_pylist())) == list(range(plan.shards))

    def test_new_and_vanished_photos_are_told_apart(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(100), PlanConfig())
        new = NewItems(store, plan, [*photos(5, 200), *photos(90, 3), *photos(2, 300)])
        assert [item.id for item in new] == [photo.id for photo in [*photos(5, 200), *photos(2, 300)]]
        assert (new.count, new.vanished) == (7, 10)
        assert np.array_equal(plan_ids(store, plan, "id"), sorted(photo.id for photo in photos(100)))

    def test_nothing_new_changes_nothing(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(10), PlanConfig())
        before = content(tmp_path / "plan")
        assert extend_plan(store, plan, NewItems(store, plan, photos(10)), PlanConfig()) == plan
        assert content(tmp_path / "plan") == before

    @pytest.mark.parametrize("broken", ["plan/photos-", "plan/plan.json"])
    def test_planner_that_is_killed_leaves_the_old_plan(self, tmp_path, broken):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(40), PlanConfig())
        with pytest.raises(OutputError, match="no space"):
            extend_plan(FaultyStore(str(tmp_path), full_disk(broken)), plan, photos(5, 40), PlanConfig())
        assert read_plan(store) == plan
        assert len(leftovers(store, plan)) == (broken == "plan/plan.json")
        extended = extend_plan(store, plan, photos(5, 40), PlanConfig())
        assert all_items(store, extended) == photos(45)

    def test_two_at_once_do_not_overwrite_each_other(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(40), PlanConfig())

        def overtaken():
            yield photos(1, 40)[0]
            extend_plan(store, plan, photos(3, 50), PlanConfig())

        with pytest.raises(OutputError, match="repeat"):
            extend_plan(store, plan, overtaken(), PlanConfig())
        now = read_plan(store)
        assert now is not None
        assert all_items(store, now) == [*photos(40), *photos(3, 50)]

    def test_plan_stays_small(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(1), PlanConfig())
        for number in range(1, 31):
            plan = extend_plan(store, plan, photos(1, number), PlanConfig())
        assert len(store.read("plan/plan.json")) < 300 + 30 * 120
        assert all_items(store, plan) == photos(31)


def test_shards_beyond_the_padding_of_names(tmp_path):
    """Names have five digits, and more from shard 100,000 on."""
    store = Store(str(tmp_path))
    large = Plan(items=10**7, images=10**7, bytes=0, shard_size=100, chunk_size=10, digest="", token="large")
    store.write("plan/plan.json", json.dumps(asdict(large)).encode())
    for name in file_names(large):
        store.write(name, b"")
    plan = extend_plan(store, large, photos(3), PlanConfig(shard_size=2))
    assert (large.shards, plan.shards) == (100_000, 100_002)
    assert chunks_of(store, plan, range(100_000, 100_002)) == [photos(2), photos(1, 2)]
    with pytest.raises(IndexError):
        plan.shard_items(100_002)
    rows, work = [failed(1, "/1", "truncated", "Cut.")], Work(store, "s", plan, RECIPE, NormalsRun())
    write_rows(work, 100_001, 0, rows)
    commit_shard(work, 100_001, count_rows(rows))
    assert committed_shards(store) == {100_001}
    assert ds.dataset(f"{tmp_path}/records").count_rows() == 1


class TestFolders:
    """Items of several photos."""

    @staticmethod
    def folders(*sizes: int) -> list[ListedItem]:
        files = [
            ListedFile(1000 * folder + index, f"/people/{folder:03}/{index}.jpg", 10)
            for folder, size in enumerate(sizes)
            for index in range(size)
        ]
        return list(one_subject_each(files))

    def test_shards_and_chunks_end_at_items(self, tmp_path):
        items = self.folders(*([1, 2, 3, 7] * 20))
        store = Store(str(tmp_path))
        plan = write_plan(store, items, PlanConfig(shard_size=32, chunk_size=5))
        assert (plan.items, plan.images, plan.bytes, plan.shards) == (80, 260, 2600, 3)
        assert list(chain(*chunks_of(store, plan))) == items == all_items(store, plan)
        assert [len(chunk) for chunk in chunks_of(store, plan, range(1))] == [5] * 6 + [2]
        assert count_images(store, plan, range(plan.shards)) == 260
        assert count_images(store, plan, [2]) == sum(len(item.photos) for item in items[64:])

    def test_extension_takes_new_items_and_names_changed_ones(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, self.folders(2, 2, 2), PlanConfig())
        new = NewItems(store, plan, self.folders(2, 3, 1, 4))
        extended = extend_plan(store, plan, new, PlanConfig())
        assert (new.count, new.changed, new.vanished) == (1, 1, 0)
        assert (extended.items, extended.images) == (4, 10)
        assert [len(item.photos) for item in all_items(store, extended)] == [2, 2, 2, 4]


@pytest.mark.s3
def test_first_of_two_planners_wins_on_s3(moto_bucket, monkeypatch):
    """Also when neither has seen the other's plan."""
    storage, _ = moto_bucket
    store = Store("s3://facet/run", storage)
    plan = write_plan(store, photos(40), PlanConfig())
    monkeypatch.setattr(store.filesystem, "exists", lambda path: False)
    assert not store.write_new("plan/plan.json", b"{}")
    assert read_plan(store) == plan
    monkeypatch.undo()
    extended = extend_plan(store, plan, NewItems(store, plan, photos(50)), PlanConfig())
    assert all_items(store, extended) == photos(50)
    assert leftovers(store, extended) == []
