"""What a memory does with a text, and what changed in it: measured, told in a terminal's words, and put on one page."""

from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .comparison import memory_in as memory_in
from .comparison import state_in as state_in
from .draws import Draws as Draws
from .lines import LineReading as LineReading
from .lines import ask as ask
from .page import comparison_page as comparison_page
from .page import memory_page as memory_page
from .page import text_page as text_page
from .pieces import in_pieces as in_pieces
from .reading import LayerReading as LayerReading
from .reading import Reading as Reading
from .reading import read as read
from .summary import told as told
from .summary import told_of_change as told_of_change
from .summary import told_of_lines as told_of_lines
