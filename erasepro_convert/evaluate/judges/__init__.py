"""Judges: each looks at the pictures of both models and says what it sees, in figures."""

from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.evaluate.judges.clip import ClipJudge
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.judges.demo import DemoFeatures, DemoJudge
from erasepro_convert.evaluate.judges.distance import DistanceJudge
from erasepro_convert.evaluate.judges.features import Features
from erasepro_convert.evaluate.judges.inception import InceptionFeatures
from erasepro_convert.evaluate.judges.nudity import NudeJudge
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
class Found:
    """Judges that are there, and for each that is not a line that says what to give."""

    judges: tuple[Judge, ...]
    missing: tuple[str, ...]


def find_judges(*, is_demo: bool, clip: Path | None = None, inception: Path | None = None) -> Found:
    """The judges of what was given; nothing is ever fetched.

    KID and FID are on features of each network that is there: the demo judge's for the demo model,
    CLIP's, Inception's.  NudeNet is no judge of the demo's world, where nobody wears anything.

    Raises UsageError for a folder or file that is given and not what it should be.
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
            judges.append(NudeJudge.installed())
        except ImportError:
            missing.append(NO_NUDENET)
    return Found(tuple(judges), tuple(missing))
