"""Training: a run in full, and a loop that may be killed at any moment and goes on as if nothing had happened."""

from .checkpoint import CheckpointError as CheckpointError
from .checkpoint import checkpoints as checkpoints
from .describe import described as described
from .loop import Stop as Stop
from .metrics import read_metrics as read_metrics
from .run import Lesson as Lesson
from .run import Reading as Reading
from .run import Run as Run
from .run import Schedule as Schedule
from .run import Watch as Watch
from .trainer import Trainer as Trainer
from .workers import Workers as Workers
