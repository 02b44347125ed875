"""What a reconstruction is to be like."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.config import Section
from pipeline.details.displace import DisplaceConfig
from pipeline.fitting.expressions import emotion_actions, hinted_weights
from pipeline.fitting.fit import FitConfig


class DetailsConfig(Section):
    """How heads are reconstructed.

    Attributes:
        level: How often the face is divided to be displaced: 2 (vertices .6 mm apart) or 3 (.3 mm).
        texture_size: Side of the maps in texels.
        expression: auto finds it; neutral takes the face for one without expression.
        emotion: What the user says of the expression: a hint, not an answer.
        action_units: The same as intensities 0..5 of action units, such as {AU12: 3}; it goes before.
        most_off: Median distance of the points from the head, as a share of the face's size, beyond which a
            fit is none.
        fit: The fit.
        displace: The displacement.
    """

    level: Literal[2, 3] = 2
    texture_size: int = Field(default=1024, ge=512, le=4096)
    expression: Literal["auto", "neutral"] = "auto"
    emotion: Literal["happy", "sad", "surprise", "fear", "anger", "disgust"] | None = None
    action_units: dict[str, Annotated[float, Field(ge=0, le=5)]] = Field(default_factory=dict)
    most_off: float = Field(default=0.06, gt=0)
    fit: FitConfig = Field(default_factory=FitConfig)
    displace: DisplaceConfig = Field(default_factory=DisplaceConfig)

    @field_validator("action_units")
    @classmethod
    def _are_known(cls, units: dict[str, float]) -> dict[str, float]:
        hinted_weights(units)
        return units

    @property
    def hints(self) -> dict[str, float]:
        """Action units that the user has said something of."""
        said = emotion_actions("neutral") if self.expression == "neutral" else {}
        return said | (emotion_actions(self.emotion) if self.emotion else {}) | self.action_units
