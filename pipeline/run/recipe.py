"""What a run makes of photos, as data: the engine carries it out and knows no more about it.

A recipe is a list of stages, the format of its records, and what decides its results. Every function in it
stands at the top of a module, so that a recipe reaches worker processes by reference.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from pipeline.images.items import ListedFile, ListedItem, one_photo_each
from pipeline.storage.store import Store

PAGE = "report/index.html"
"""The report of a run, in its folder."""


def nothing(config: Any) -> tuple[Any, ...]:
    """Returns the arguments of a stage that takes none."""
    return ()


def no_models(config: Any) -> dict[str, dict[str, str]]:
    """Returns the models of a recipe that has none."""
    return {}


def always(config: Any) -> bool:
    """Says yes, whatever the configuration."""
    return True


def on_cpu(config: Any) -> str:
    """Returns the device of a recipe that needs no other."""
    return "cpu"


def leave(item: Any, config: Any) -> None:
    """Leaves a record as the stages made it."""


def all_alike(table: pa.Table) -> Iterator[str]:
    """Says of every row that photos of the same bytes have the same result."""
    return repeat("", len(table))


def none_of(*_: Any) -> Iterator[Any]:
    """Yields nothing."""
    return iter(())


@dataclass(frozen=True)
class Stage:
    """One step of the work on an item.

    Attributes:
        name: Key of the stage's times and of `engine.workers`.
        make: Makes the stage, once per worker, from what `arguments` returns. On a core it is a callable
            that takes one `pipeline.run.items.Item`, for a network one that takes a list of them; either
            changes items in place. An `ImageError` becomes the item's record, any other `FacetError` ends
            the run.
        place: core: it takes a CPU core; network: a GPU where there is one, else a core.
        arguments: Configuration -> arguments of `make`. Made once by the driver where workers can share it.
        isolated: Whether items are worked on in a child process, with the limits of time and memory that
            `limits` of the configuration sets: for native code that reads what comes from outside.
    """

    name: str
    make: Callable[..., Callable[[Any], None]]
    place: Literal["core", "network"] = "core"
    arguments: Callable[[Any], tuple[Any, ...]] = nothing
    isolated: bool = False


class FileBeside(NamedTuple):
    """A file that lies beside the records: its name, the item and the photo it is of, and its content.

    Read back from records that were told not to hold it, its content is None.
    """

    name: str
    id: int
    uri: str
    content: bytes | None


def as_it_is(table: pa.Table, config: Any) -> pa.Table:
    """Returns all that is known."""
    return table


@dataclass(frozen=True)
class RecordFormat:
    """What the records of a recipe look like.

    Attributes:
        schema: Has the fields of `pipeline.run.records` and the recipe's own.
        things: The list column whose entries are counted, empty unless the item is ok.
        empty: Status, and error code, of an item that was read and in which there is nothing.
        codes: Error codes that this recipe has beside those of `pipeline.run.records`.
        parquet: How the files are written; see pyarrow.parquet.ParquetWriter.
        finish: Item and configuration -> completes the item's record, on the core that writes it: images are
            encoded here.
        told_apart_by: Yields for every row what tells its result from that of other photos of the same
            bytes.
        files: Yields the files that lie beside some records, if they are asked for; takes the configuration.
        kept: Returns what of some records is written; takes the configuration.
        check: Yields what is wrong with a row, to be read after the item's name; takes row, configuration,
            and whether to look thoroughly.
        bytes_per_photo: About what a photo takes.
    """

    schema: pa.Schema
    things: str
    empty: str
    codes: tuple[str, ...] = ()
    parquet: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[Any, Any], None] = leave
    told_apart_by: Callable[[pa.Table], Iterator[str]] = all_alike
    files: Callable[[pa.Table, Any], Iterator[FileBeside]] = none_of
    check: Callable[[dict[str, Any], Any, bool], Iterator[str]] = none_of
    bytes_per_photo: int = 10_000
    kept: Callable[[pa.Table, Any], pa.Table] = as_it_is


@dataclass(frozen=True)
class Recipe:
    """What a run makes of photos.

    Attributes:
        name: Name of the command.
        config: Class of its configuration.
        stages: Between reading and writing, which are the engine's.
        record: Its records.
        item: What one record is of, for messages.
        group: Makes items of the listed photos; one record comes of each.
        most_photos: Photos of one item that are read, spread evenly over its list; None: all.
        models: Checks what the configuration names, and returns the models that decide the results beside
            it: name -> {"name", and "sha256" where it has one, ...}.
        joins: Whether photos with the same bytes have the same results.
        device: Where the network computes, as far as the configuration says: auto, cpu, cuda or cuda:N.
        report: Writes `PAGE` of a run, and returns where it is; None where there is nothing to show.
        sheet: Returns the page of those of its photos and things that meet conditions, as text.
        free: Fields of the configuration that may differ when a run is resumed, beside the engine's own.
        retried: Fields that may differ when items are tried again, beside those.
        packages: Packages whose versions are noted, beside the engine's own.
        preload: Modules that worker processes are to share.
    """

    name: str
    config: type[Any]
    stages: tuple[Stage, ...]
    record: RecordFormat
    item: str = "photo"
    group: Callable[[Iterable[ListedFile]], Iterator[ListedItem]] = one_photo_each
    most_photos: int | None = None
    models: Callable[[Any], dict[str, dict[str, str]]] = no_models
    joins: Callable[[Any], bool] = always
    device: Callable[[Any], str] = on_cpu
    report: Callable[[Store, Any], str | None] | None = None
    sheet: Callable[[Store, Any, Sequence[str]], str] | None = None
    free: tuple[str, ...] = ()
    retried: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that carries it out, for messages."""
        return f"facet {self.name}"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """All stages of a run, the engine's own included."""
        return ("read", *(stage.name for stage in self.stages), "write")
