"""Real photographs of two countries: CamVid (Cambridge) -> IDD-Lite (India), in IDD-Lite's seven classes.

    python -m trainables.data prepare camvid-seven --root CAMVID --out CAMVID_SEVEN --size 144x192
    python -m trainables.data prepare idd-lite --root IDD_LITE --out IDD --size 144x192
    python -m mfm_tune.run search_spaces/cities_camvid_idd.py --data camvid-seven=CAMVID_SEVEN idd-lite=IDD

Everything else is as in `cities.py`.
"""

from __future__ import annotations

from search_spaces.cities import between, studies

COMPARABLE = (
    "Source and target are CamVid and IDD-Lite at 144x192, not GTA and Cityscapes: no number here is one of the "
    "paper's.",
    "What lies beside a road is divided otherwise in the two data sets, which no adaptation can learn: miou5 merges "
    "drivable with non-drivable, and roadside with far.",
)
STUDIES = studies("cities_camvid_idd", "CamVid → IDD-Lite", COMPARABLE, between("camvid-seven", "idd-lite"))
