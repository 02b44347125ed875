"""Labels of the pixels of a labelled face crop, shared by the renderer, the trainer and the evaluation."""

from enum import IntEnum


class Region(IntEnum):
    """What a pixel of a crop shows. Stored as an 8-bit greyscale PNG with these values."""

    BACKGROUND = 0
    SKIN = 1  # the face: skin, lips, brows, beard through which the skin shows
    EYE = 2  # eyeball between the lids
    MOUTH = 3  # interior of the mouth: teeth, gums, tongue
    NECK = 4  # bare skin of the head that is not the face: ears, scalp, neck
    HAIR = 5  # hair dense enough to hide the skin
    OCCLUDER = 6  # glasses, hands, objects, clothes
    IGNORE = 255  # no trustworthy truth: silhouettes, nostril walls


ANSWER = (Region.SKIN, Region.EYE, Region.MOUTH, Region.NECK)
"""Regions on which a normal is meant: the target of the mask that the networks learn."""
