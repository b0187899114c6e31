"""From renderings to photographs: CARLA + AirSim -> IDD-Lite (India), in IDD-Lite's seven classes.

The source is that of `camvid.py`: `source` of the folder that `trainables.data.datasets.realpair` describes.

    python -m trainables.data prepare carla-seven --root PATH --out CARLA_SEVEN --size 144x192
    python -m trainables.data prepare idd-lite --root IDD_LITE --out IDD --size 144x192
    python -m mfm_tune.run search_spaces/cities_carla_idd.py --data carla-seven=CARLA_SEVEN idd-lite=IDD

Everything else is as in `cities.py`.
"""

from __future__ import annotations

from search_spaces.cities import between, studies

COMPARABLE = (
    "The source is a few CARLA and AirSim frames, and the target IDD-Lite at 144x192, not GTA and Cityscapes: no "
    "number here is one of the paper's.",
    "What lies beside a road is divided otherwise in the two, which no adaptation can learn: miou5 merges drivable "
    "with non-drivable, and roadside with far.",
)
STUDIES = studies("cities_carla_idd", "CARLA + AirSim → IDD-Lite", COMPARABLE, between("carla-seven", "idd-lite"))
