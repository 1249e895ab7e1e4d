"""Pages: text that is read, then lost from sight, then asked about, so that memory alone can answer."""

from .code_pages import CodePages as CodePages
from .continued import Continued as Continued
from .exams import EXAMS as EXAMS
from .exams import exam as exam
from .followed import Followed as Followed
from .hash_hop_pages import HashHopPages as HashHopPages
from .needle_pages import NeedlePages as NeedlePages
from .page import AbstractPages as AbstractPages
from .page import Page as Page
from .page import Question as Question
from .pairs import HELD_OUT_FORMATS as HELD_OUT_FORMATS
from .pairs import TRAINED_FORMATS as TRAINED_FORMATS
from .pairs import Format as Format
from .pairs import Pairs as Pairs
from .tracing_pages import TracingPages as TracingPages
