"""The plan of a run: every photo in exactly one place, the same cut every time."""

from __future__ import annotations

from itertools import chain

import pyarrow.dataset as ds
import pytest

from pipeline.errors import OutputError
from pipeline.images.sources import ListedFile
from pipeline.run import plan as plans
from pipeline.run.config import PlanConfig
from pipeline.run.ledger import chunk_refs
from pipeline.run.plan import all_photos, chunk_photos, cut, read_plan, write_plan
from pipeline.run.store import Store


def photos(count: int) -> list[ListedFile]:
    return [
        ListedFile(7 * index - 3, f"/photos/{index} é.jpg", 100 + index, f"e{index}")
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [1, 7, 31, 32, 33, 200, 1029])
def test_every_photo_is_in_exactly_one_chunk(tmp_path, count):
    store = Store(str(tmp_path))
    plan = write_plan(store, photos(count), PlanConfig(shard_size=50, chunk_size=16))
    chunks = [chunk_photos(store, plan, *ref) for ref in chunk_refs(plan, range(plan.shards))]
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
    assert (tmp_path / "plan" / "photos-00000.parquet").exists()
    assert read_plan(Store(str(tmp_path))) is None


def test_same_list_gives_same_bytes_and_another_list_another_digest(tmp_path):
    stores = [Store(str(tmp_path / name)) for name in "abc"]
    first, second = (write_plan(store, photos(300), PlanConfig()) for store in stores[:2])
    assert first == second
    name = "plan/photos-00000.parquet"
    assert stores[0].read(name) == stores[1].read(name)
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
