"""Names of the classes of each label space, in the order of their ids. Imports nothing."""

CITYSCAPES_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
SYNTHIA_16 = tuple(name for name in CITYSCAPES_CLASSES if name not in ("terrain", "truck", "train"))
SYNTHIA_13 = tuple(name for name in SYNTHIA_16 if name not in ("wall", "fence", "pole"))
CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
IDD_LITE_CLASSES = ("drivable", "non-drivable", "living", "vehicle", "roadside", "far", "sky")
OTHER_CLASSES = {
    "camvid-day": CAMVID_CLASSES,
    "camvid-dusk": CAMVID_CLASSES,
    "camvid-seven": IDD_LITE_CLASSES,
    "carla-seven": IDD_LITE_CLASSES,
    "idd-lite": IDD_LITE_CLASSES,
}  # of data sets whose labels are not Cityscapes' 19, by name
TOY_CITY_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "fence",
    "pole",
    "sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "car",
    "truck",
)
