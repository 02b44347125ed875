"""What every worker of a run knows."""

from dataclasses import dataclass

from pipeline.run.config import RunConfig
from pipeline.run.plan import Plan
from pipeline.run.recipe import Recipe
from pipeline.storage.store import Store


@dataclass(frozen=True)
class Work:
    """A run that is carried out.

    Attributes:
        store: The run folder.
        session: Names this process's scratch files, apart from those of earlier sessions.
        plan: The plan of the run.
        recipe: What is made.
        config: The resolved configuration.
        codes: Only items whose committed record has one of these error codes are worked on, and their new
            records take the place of the old ones. Empty: a shard is done as a whole.
    """

    store: Store
    session: str
    plan: Plan
    recipe: Recipe
    config: RunConfig
    codes: frozenset[str] = frozenset()
