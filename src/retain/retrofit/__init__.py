"""Memory for language models that are trained already: where one comes from, and what is put into it."""

from .smollm2 import FetchError as FetchError
from .smollm2 import default_folder as default_folder
from .smollm2 import fetch_smollm2 as fetch_smollm2
