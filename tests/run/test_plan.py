"""The plan of a run: every photo in exactly one place, the same cut every time."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from run_folder import failed

from pipeline.errors import OutputError
from pipeline.images.items import ListedFile
from pipeline.run import plan as plans
from pipeline.run.config import OutputConfig, PlanConfig
from pipeline.run.counts import Counts
from pipeline.run.ledger import chunk_refs
from pipeline.run.markers import committed_shards
from pipeline.run.plan import (
    NewPhotos,
    Plan,
    all_photos,
    chunk_photos,
    cut,
    extend_plan,
    file_names,
    leftovers,
    plan_ids,
    read_plan,
    write_plan,
)
from pipeline.run.records import to_table
from pipeline.run.shards import commit_shard, write_part
from pipeline.storage.store import Store


def photos(count: int, start: int = 0) -> list[ListedFile]:
    return [
        ListedFile(7 * index - 3, f"/photos/{index} é.jpg", 100 + index, f"e{index}")
        for index in range(start, start + count)
    ]


def chunks_of(store: Store, plan: Plan, shards: range | None = None) -> list[list[ListedFile]]:
    shards = range(plan.shards) if shards is None else shards
    return [chunk_photos(store, plan, *reference) for reference in chunk_refs(plan, shards)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [1, 7, 31, 32, 33, 200, 1029])
def test_every_photo_is_in_exactly_one_chunk(tmp_path, count):
    store = Store(str(tmp_path))
    plan = write_plan(store, photos(count), PlanConfig(shard_size=50, chunk_size=16))
    chunks = chunks_of(store, plan)
    assert list(chain(*chunks)) == photos(count) == list(all_photos(store, plan))
    assert all(1 <= len(chunk) <= plan.chunk_size for chunk in chunks)
    assert sum(plan.shard_images(shard) for shard in range(plan.shards)) == plan.images == count
    assert plan.bytes == sum(photo.size or 0 for photo in photos(count))
    assert read_plan(store) == plan


def test_plan_of_several_files_keeps_order_and_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "SHARDS_PER_FILE", 3)
    store = Store(str(tmp_path))
    plan = write_plan(store, photos(260), PlanConfig(shard_size=32, chunk_size=8))
    assert len(list((tmp_path / "plan").glob("*.parquet"))) == 3
    assert list(all_photos(store, plan)) == photos(260)
    table = ds.dataset(sorted(map(str, (tmp_path / "plan").glob("*.parquet")))).to_table()
    assert table["shard"].to_pylist() == [index // 32 for index in range(260)]


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
    assert list(all_photos(store, first[0])) == photos(39)
    assert leftovers(store, first[0]) == []


class TestExtension:
    def test_what_was_planned_stays_and_the_rest_follows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(plans, "SHARDS_PER_FILE", 3)
        store = Store(str(tmp_path))
        config = PlanConfig(shard_size=32, chunk_size=8)
        plan = write_plan(store, photos(260), config, "run")
        before, chunks = content(tmp_path / "plan"), chunks_of(store, plan)
        for count, start in ((1, 260), (500, 261), (7, 761)):
            new = NewPhotos(store, plan, photos(start + count))
            extended = extend_plan(store, plan, new, PlanConfig(shard_size=50, chunk_size=20), "run")
            assert (new.count, new.vanished) == (count, 0)
            assert extended.images == start + count
            assert chunks_of(store, extended, range(plan.shards)) == chunks
            plan, chunks = extended, chunks_of(store, extended)
        assert read_plan(store) == plan
        assert list(chain(*chunks)) == photos(768) == list(all_photos(store, plan))
        assert [(plan.shard_images(shard), plan.shard_chunks(shard)) for shard in (8, 9, 10)] == [
            (4, 1),
            (1, 1),
            (32, 4),
        ]
        assert sum(plan.shard_images(shard) for shard in range(plan.shards)) == 768
        assert plan.bytes == sum(photo.size or 0 for photo in photos(768))
        assert plan.run == "run"
        assert {name: data for name, data in content(tmp_path / "plan").items() if name in before} == (
            before | {"plan.json": store.read("plan/plan.json")}
        )
        table = ds.dataset([str(tmp_path / name) for name in file_names(plan)]).to_table()
        assert table["uri"].to_pylist() == [photo.uri for photo in photos(768)]
        assert sorted(set(table["shard"].to_pylist())) == list(range(plan.shards))

    def test_new_and_vanished_photos_are_told_apart(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(100), PlanConfig())
        new = NewPhotos(store, plan, [*photos(5, 200), *photos(90, 3), *photos(2, 300)])
        assert [photo.id for photo in new] == [photo.id for photo in [*photos(5, 200), *photos(2, 300)]]
        assert (new.count, new.vanished) == (7, 10)
        assert np.array_equal(plan_ids(store, plan), sorted(photo.id for photo in photos(100)))

    def test_nothing_new_changes_nothing(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(10), PlanConfig())
        before = content(tmp_path / "plan")
        assert extend_plan(store, plan, NewPhotos(store, plan, photos(10)), PlanConfig()) == plan
        assert content(tmp_path / "plan") == before

    @pytest.mark.parametrize("broken", ["plan/photos-", "plan/plan.json"])
    def test_planner_that_is_killed_leaves_the_old_plan(self, tmp_path, monkeypatch, broken):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(40), PlanConfig())
        with monkeypatch.context() as patch:
            create = Store.create

            def failing(self, name):
                if name.startswith(broken):
                    raise OutputError("killed")
                return create(self, name)

            patch.setattr(Store, "create", failing)
            with pytest.raises(OutputError, match="killed"):
                extend_plan(store, plan, photos(5, 40), PlanConfig())
        assert read_plan(store) == plan
        assert len(leftovers(store, plan)) == (broken == "plan/plan.json")
        extended = extend_plan(store, plan, photos(5, 40), PlanConfig())
        assert list(all_photos(store, extended)) == photos(45)

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
        assert list(all_photos(store, now)) == [*photos(40), *photos(3, 50)]

    def test_plan_stays_small(self, tmp_path):
        store = Store(str(tmp_path))
        plan = write_plan(store, photos(1), PlanConfig())
        for number in range(1, 31):
            plan = extend_plan(store, plan, photos(1, number), PlanConfig())
        assert len(store.read("plan/plan.json")) < 300 + 30 * 120
        assert list(all_photos(store, plan)) == photos(31)


def test_shards_beyond_the_padding_of_names(tmp_path):
    """Names have five digits, and more from shard 100,000 on."""
    store = Store(str(tmp_path))
    large = Plan(images=10**7, bytes=0, shard_size=100, chunk_size=10, digest="", token="large")
    store.write("plan/plan.json", json.dumps(asdict(large)).encode())
    for name in file_names(large):
        store.write(name, b"")
    plan = extend_plan(store, large, photos(3), PlanConfig(shard_size=2))
    assert (large.shards, plan.shards) == (100_000, 100_002)
    assert chunks_of(store, plan, range(100_000, 100_002)) == [photos(2), photos(1, 2)]
    with pytest.raises(IndexError):
        plan.shard_images(100_002)
    write_part(store, "s", 100_001, 0, to_table([failed(1, "/1", "truncated", "Cut.")]))
    commit_shard(store, "s", 100_001, 1, Counts(images=1), OutputConfig())
    assert committed_shards(store) == {100_001}
    assert ds.dataset(f"{tmp_path}/records").count_rows() == 1


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
    extended = extend_plan(store, plan, NewPhotos(store, plan, photos(50)), PlanConfig())
    assert list(all_photos(store, extended)) == photos(50)
    assert leftovers(store, extended) == []
