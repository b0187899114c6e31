"""From renderings to photographs: the pair of `camvid.py`, CARLA + AirSim -> CamVid, with frozen BatchNorm.

    python -m trainables.data prepare realpair --root PATH --out STORE
    python -m mfm_tune.run search_spaces/cities_carla_camvid.py --data realpair=STORE

There is no oracle: the folder holds no labels of the target's training images. Everything else is as in `cities.py`.
"""

from __future__ import annotations

from search_spaces.camvid import OF_PAIR
from search_spaces.cities import CROP, DACS, GATES, SIZE, studies
from trainables.config import RealPhotographs

GAINS = {row: GATES[row] for row in ("source-only", DACS)}
STUDIES = studies(
    "cities_carla_camvid",
    "CARLA + AirSim → CamVid",
    OF_PAIR,
    RealPhotographs(crop_size=CROP, evaluation_size=SIZE),
    GAINS,
)
