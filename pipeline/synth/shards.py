"""One shard of a data set: a range of samples, rendered into one file by one process."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from pipeline.config import Section
from pipeline.processes import available_cpus
from pipeline.samples.schema import RENDERED_SCHEMA
from pipeline.storage.store import Store
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import SampleConfig, Sampler


class DatasetConfig(Section):
    """What to render; two data sets with equal values are equal."""

    count: int = Field(default=1000, ge=1, description="number of samples")
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of all samples")
    shard_rows: int = Field(default=256, ge=1, description="samples per shard")
    sample: SampleConfig = Field(default_factory=SampleConfig)


@dataclass(frozen=True)
class Shard:
    """A range of samples in one file."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"faces-{self.start:08d}-{self.stop:08d}.parquet"

    def __len__(self) -> int:
        return self.stop - self.start


def plan_shards(config: DatasetConfig) -> list[Shard]:
    """Cuts a data set into shards."""
    starts = range(0, config.count, config.shard_rows)
    return [Shard(start, min(start + config.shard_rows, config.count)) for start in starts]


@dataclass
class ShardRenderer:
    """Renders shards in one process; what it needs is loaded with the first one.

    Attributes:
        store: The data set's folder.
        config: What to render.
        device: "cpu" or "cuda".
        batch_size: Samples rendered at once.
        model: Path of the head model, or None to look for it.
    """

    store: Store
    config: DatasetConfig
    device: str
    batch_size: int
    model: str | None = None
    _sampler: Sampler | None = None

    def __call__(self, shard: Shard) -> int:
        """Renders and stores one shard; returns its number of samples."""
        if self._sampler is None:
            if self.device == "cpu":
                torch.set_num_threads(1)
            self._sampler = Sampler(self.config.sample, self.config.seed, self.device, self.model)
        with ExitStack() as stack:
            # A GPU renders faster than one thread encodes.
            threads = (
                None if self.device == "cpu" else stack.enter_context(ThreadPoolExecutor(available_cpus()))
            )
            file = stack.enter_context(self.store.create(shard.name))
            sink = pa.PythonFile(file, mode="w")
            # Images are compressed already; zstd is for lists and numbers.
            with pq.ParquetWriter(sink, RENDERED_SCHEMA, compression="zstd") as writer:
                for start in range(shard.start, shard.stop, self.batch_size):
                    indices = range(start, min(start + self.batch_size, shard.stop))
                    rows = encode_batch(self._sampler.render(indices), f"synth-{self.config.seed}-", threads)
                    writer.write_table(pa.Table.from_pylist(rows, RENDERED_SCHEMA))
        return len(shard)
