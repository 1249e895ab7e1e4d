"""What the tools answer, and what is said of each field to whoever calls them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class Observed(BaseModel):
    """What one observation did."""

    id: Annotated[int, Field(description="The record's number, by which it can be forgotten.")]
    surprise: Annotated[float, Field(description="How surprising the text was, 0 to 1; 0.5 is a typical text that the memory has not seen.")]
    weight_delta: Annotated[float, Field(description="How far the memory's weights moved.")]
    patterns_activated: Annotated[list[str], Field(description="Earlier texts that this one excites, the nearest first.")]


class Inferred(BaseModel):
    """What the memory recalls."""

    confidence: Annotated[float, Field(description="How sure the memory is that the first pattern is the right one, 0 to 1.")]
    patterns: Annotated[list[str], Field(description="The texts that the answer is nearest to, the nearest first.")]
    attention_weights: Annotated[list[float], Field(description="Each pattern's share of attention; they add up to 1.")]
    ids: Annotated[list[int], Field(description="The patterns' record numbers.")]


class Surprise(BaseModel):
    """How new a text is."""

    surprise: Annotated[float, Field(description="0 to 1; 0.5 is a typical text that the memory has not seen, and near 0 is one that it knows.")]


class Stats(BaseModel):
    """Where the memory stands."""

    records: Annotated[int, Field(description="Texts that it holds.")]
    parameters: Annotated[int, Field(description="Numbers that its weights have; they do not grow.")]
    weight_norm: Annotated[float, Field(description="Length of all weights.")]
    typical_error: Annotated[float, Field(description="The memory's error at a typical new text.")]
    weight_hash: Annotated[str, Field(description="Names the weights: the same after the same history.")]
    embedder: Annotated[str, Field(description="What turns texts into vectors.")]
    path: Annotated[str, Field(description="The folder it lies in.")]
    snapshots: Annotated[list[str], Field(description="Names of the snapshots, the oldest first.")]


class Forgotten(BaseModel):
    """What is gone."""

    id: Annotated[int, Field(description="The record that is forgotten.")]
    snapshots_removed: Annotated[list[str], Field(description="Snapshots that held it, and are removed.")]
    weight_hash: Annotated[str, Field(description="Names the weights, which are those of a memory that never saw it.")]


class Kept(BaseModel):
    """The snapshot that was made."""

    name: Annotated[str, Field(description="The snapshot.")]
    snapshots: Annotated[list[str], Field(description="All of them, the oldest first.")]


class Restored(BaseModel):
    """Where the memory stands again."""

    name: Annotated[str, Field(description="The snapshot.")]
    records: Annotated[int, Field(description="Texts that the memory holds now.")]
    weight_hash: Annotated[str, Field(description="Names the weights.")]
