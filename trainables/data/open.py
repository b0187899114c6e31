"""From a config's data to its domains."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trainables.config import Experiment, PackedPair, RealPhotographs, SelfTraining, ToyCity
from trainables.data.domains import Domains


def open_domains(config: Experiment, data: Mapping[str, str], device: torch.device) -> Domains:
    """The source and target of a trial.

    Args:
        config: Which domains; rare-class sampling, ignore borders of pseudo-labels and the holdout shape batches, too.
        data: Dataset name -> path of its store or folder.
        device: Where batches end up.

    Raises:
        ValueError: A dataset has no path, or its folder or store cannot be used.
    """
    margins = config.adaptation.margins if isinstance(config.adaptation, SelfTraining) else None
    match config.data:
        case ToyCity():
            from trainables.data.toy_city.domains import ToyCityDomains

            return ToyCityDomains(config.data, device, config.rare_class_sampling, margins, config.source_holdout)
        case RealPhotographs():
            from trainables.data.pairs import open_real_photographs

            return open_real_photographs(
                config.data, data, device, config.rare_class_sampling, margins, config.source_holdout
            )
        case PackedPair():
            from trainables.data.pairs import open_packed_pair

            return open_packed_pair(
                config.data, data, device, config.rare_class_sampling, margins, config.source_holdout
            )
