"""Evaluation: how often a model is right, how well it foretells, and what it costs, never without controls."""

from .control import CONTROLS as CONTROLS
from .control import AbstractControl as AbstractControl
from .control import AbstractCut as AbstractCut
from .control import MemoryReset as MemoryReset
from .control import WindowCut as WindowCut
from .control import WritesOff as WritesOff
from .cost import Cost as Cost
from .cost import CostRow as CostRow
from .cost import cost as cost
from .figures import draw_page_recall as draw_page_recall
from .figures import draw_perplexity as draw_perplexity
from .figures import draw_recall as draw_recall
from .harness import for_lm_eval as for_lm_eval
from .perplexity import Perplexity as Perplexity
from .perplexity import perplexity as perplexity
from .question import question_start as question_start
from .recall import Outcome as Outcome
from .recall import Recall as Recall
from .recall import RecallRow as RecallRow
from .recall import recall as recall
from .result import AbstractResult as AbstractResult
from .retrofitted import PageOutcome as PageOutcome
from .retrofitted import PageRecall as PageRecall
from .retrofitted import PageRow as PageRow
from .retrofitted import page_recall as page_recall
from .share import Share as Share
