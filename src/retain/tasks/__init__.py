"""Tasks: what a memory is trained on and asked. A task is a frozen dataclass of sizes, and its samples depend on those and a seed alone."""

from .book import Book as Book
from .codec import BytePairs as BytePairs
from .codec import Bytes as Bytes
from .codec import Codec as Codec
from .codec import Hosted as Hosted
from .corpus import Corpus as Corpus
from .corpus import library as library
from .corpus import site_packages as site_packages
from .facts import Facts as Facts
from .hash_hop import HashHop as HashHop
from .haystack import Haystack as Haystack
from .haystack import Noise as Noise
from .haystack import Repeated as Repeated
from .language import LanguageModelling as LanguageModelling
from .needle import Needle as Needle
from .recall import MQAR as MQAR
from .recall import ForgettingMQAR as ForgettingMQAR
from .state_tracking import S3 as S3
from .state_tracking import AnBn as AnBn
from .state_tracking import EvenCopies as EvenCopies
from .state_tracking import Parity as Parity
from .state_tracking import S3Word as S3Word
from .task import AbstractTask as AbstractTask
from .task import Batch as Batch
from .task import Sample as Sample
from .variables import VariableTracing as VariableTracing
