"""Real photographs of two countries: IDD-Lite (India) -> CamVid (Cambridge), in IDD-Lite's seven classes.

    python -m trainables.data prepare idd-lite --root IDD_LITE --out IDD --size 144x192
    python -m trainables.data prepare camvid-seven --root CAMVID --out CAMVID_SEVEN --size 144x192
    python -m mfm_tune.run search_spaces/cities_idd_camvid.py --data idd-lite=IDD camvid-seven=CAMVID_SEVEN

Everything else is as in `cities.py`.
"""

from __future__ import annotations

from search_spaces.cities import between, studies
from search_spaces.cities_camvid_idd import COMPARABLE

EASY = "The images that are scored are of a drive of which more than half of the target's training images are, too."
STUDIES = studies("cities_idd_camvid", "IDD-Lite → CamVid", (*COMPARABLE, EASY), between("idd-lite", "camvid-seven"))
