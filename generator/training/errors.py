"""What can go wrong while training."""

from __future__ import annotations

from generator.errors import GeneratorError


class TrainingError(GeneratorError):
    """Base of the training errors."""

    code = "training-error"


class InvalidTrainingConfig(TrainingError):
    """The configuration file does not say something we understand."""

    code = "invalid-training-config"


class InvalidTrainingData(TrainingError):
    """A data file is missing, empty or malformed; the message names file, line and field."""

    code = "invalid-training-data"


class TrainingDiverged(TrainingError):
    """The loss or the gradient stopped being a number."""

    code = "training-diverged"


class InvalidCheckpoint(TrainingError):
    """A checkpoint cannot be resumed from: damaged, or written by another model or configuration."""

    code = "invalid-checkpoint"


class CheckpointNotSaved(TrainingError):
    """A checkpoint could not be written (no space, no permission); the one before it is untouched."""

    code = "checkpoint-not-saved"


class OptimizerMissing(TrainingError):
    """An optimiser whose library is not installed."""

    code = "optimizer-missing"


class DataLoadingFailed(TrainingError):
    """The thread that prepares batches raised; the cause is attached."""

    code = "data-loading-failed"
