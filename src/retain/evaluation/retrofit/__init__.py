"""Evaluation of pretrained models with memories: what is read is lost from sight before anything is asked, and four controls stand beside each number."""

from .after_cut import AfterCut as AfterCut
from .after_cut import Stretch as Stretch
from .after_cut import after_cut as after_cut
from .page_recall import PageOutcome as PageOutcome
from .page_recall import PageRecall as PageRecall
from .page_recall import PageRow as PageRow
from .page_recall import page_recall as page_recall
from .preservation import Preservation as Preservation
from .preservation import preservation as preservation
from .readings import CONTROLS as CONTROLS
from .readings import READINGS as READINGS
