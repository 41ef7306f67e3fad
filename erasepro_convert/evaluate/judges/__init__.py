"""Judges: each computes metrics from the pictures of both models."""

from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.evaluate.judges.clip import ClipJudge
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.judges.demo import DemoFeatures, DemoJudge
from erasepro_convert.evaluate.judges.distance import DistanceJudge
from erasepro_convert.evaluate.judges.features import Features
from erasepro_convert.evaluate.judges.inception import InceptionFeatures
from erasepro_convert.evaluate.judges.nudity import NudityJudge
from erasepro_convert.evaluate.results import Judge

NO_CLIP = (
    "CLIP score A, T, O and ACC: —; give --clip FOLDER, "
    "a local copy of openai/clip-vit-base-patch32"
)
NO_FEATURES = (
    "KID, KIDp and FID: —; give --inception FILE, a local copy of inception-2015-12-05.pt, "
    "or --clip FOLDER"
)
NO_NUDENET = "NudeNet: —; pip install 'erasepro-convert[nudenet]'"


@dataclass(frozen=True)
class AvailableJudges:
    """The judges that can run, and for each other judge a line that says what it needs."""

    judges: tuple[Judge, ...]
    missing: tuple[str, ...]


def find_judges(
    *, is_demo: bool, clip: Path | None = None, inception: Path | None = None
) -> AvailableJudges:
    """Return the judges for which weights are shipped, installed or given; nothing is fetched.

    KID and FID are computed on the features of each available network: of the demo judge for the
    demo model, of CLIP and of Inception.  NudeNet does not judge the demo model, in whose world
    nobody wears anything.

    Raises UsageError for a given folder or file that does not hold such weights.
    """
    judges: list[Judge] = []
    missing: list[str] = []
    features: list[Features] = []
    if is_demo:
        judges.append(DemoJudge())
        features.append(DemoFeatures())
    if clip:
        features.append(found := ClipFeatures(clip))
        judges.append(ClipJudge(found))
    else:
        missing.append(NO_CLIP)
    if inception:
        features.append(InceptionFeatures(inception))
    judges += map(DistanceJudge, features)
    if not features:
        missing.append(NO_FEATURES)
    if not is_demo:
        try:
            judges.append(NudityJudge.installed())
        except ImportError:
            missing.append(NO_NUDENET)
    return AvailableJudges(tuple(judges), tuple(missing))
