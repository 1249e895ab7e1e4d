"""Training the memories of a pretrained model, which itself is frozen: pages are read, the attention cache is cut, and questions are asked."""

from .estimate import config_of as config_of
from .estimate import plan_of as plan_of
from .lengths import plan_for as plan_for
from .lengths import sizes_of as sizes_of
from .lengths import tokenizer_of as tokenizer_of
from .run import Fitting as Fitting
from .run import PageReading as PageReading
from .run import Restraint as Restraint
from .run import RetrofitRun as RetrofitRun
from .trainer import RetrofitTrainer as RetrofitTrainer
