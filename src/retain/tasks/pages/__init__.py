"""Pages: text that is read, then lost from sight, then asked about, so that memory alone can answer."""

from .followed import Followed as Followed
from .page import AbstractPages as AbstractPages
from .page import Page as Page
from .page import Question as Question
from .pairs import HELD_OUT_FORMATS as HELD_OUT_FORMATS
from .pairs import TRAINED_FORMATS as TRAINED_FORMATS
from .pairs import Format as Format
from .pairs import Pairs as Pairs
