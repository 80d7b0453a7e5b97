"""What the parts of bertlab know of each other: the shape legend, the batch, the blocks, the protocols.

Shape legend, used by every docstring:

- B batch, T tokens of a padded sequence, D hidden size, V vocabulary size, C labels (classes)
- packed: N tokens of all sequences of a batch one after another, S sequences
- G sequences of a whole optimizer step (all micro-batches of all ranks together)
- W words with a tag
"""

from bertlab.interfaces.asked_of_callbacks import (
    RecordsEvents,
    ShowsWork,
    WatchesMetrics,
)
from bertlab.interfaces.asked_of_data import (
    DrawsPoisson,
    FixedRows,
    FollowsCourse,
    ForeseesSteps,
    HasClassCounts,
    HasFixedRows,
    HasRowScores,
    KnowsValidation,
)
from bertlab.interfaces.asked_of_tasks import (
    HasBlocks,
    HasClassWeights,
    HasConfusionMatrix,
    HasEncoderBlocks,
    HasParts,
    HasTasks,
    HasTrainingLoss,
    HasTrunk,
    HasWordEmbedding,
    NamesMetrics,
    NamesUnvalidatedTasks,
    TakesAdapters,
)
from bertlab.interfaces.batches import (
    EncoderOutput,
    MultiTaskBatch,
    PretrainingBatch,
    TextBatch,
    WordBatch,
)
from bertlab.interfaces.blocks import (
    TRAINED_WEIGHTS,
    Block,
    Trunk,
)
from bertlab.interfaces.steps import (
    Course,
    Growth,
    Order,
    PoissonDraw,
    StepData,
)

__all__ = [
    "TRAINED_WEIGHTS",
    "Block",
    "Course",
    "DrawsPoisson",
    "EncoderOutput",
    "FixedRows",
    "FollowsCourse",
    "ForeseesSteps",
    "Growth",
    "HasBlocks",
    "HasClassCounts",
    "HasClassWeights",
    "HasConfusionMatrix",
    "HasEncoderBlocks",
    "HasFixedRows",
    "HasParts",
    "HasRowScores",
    "HasTasks",
    "HasTrainingLoss",
    "HasTrunk",
    "HasWordEmbedding",
    "KnowsValidation",
    "MultiTaskBatch",
    "NamesMetrics",
    "NamesUnvalidatedTasks",
    "Order",
    "PoissonDraw",
    "PretrainingBatch",
    "RecordsEvents",
    "ShowsWork",
    "StepData",
    "TakesAdapters",
    "TextBatch",
    "Trunk",
    "WatchesMetrics",
    "WordBatch",
]
