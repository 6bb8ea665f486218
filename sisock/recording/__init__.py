"""Recordings: what was followed of a node, as a folder of Parquet files from which its rows can be read back.

    DIR/NODE/recording.json                    what is recorded: fields with units, from when on
    DIR/NODE/TIMELINE/00000007-00000042.parquet   a part: what came from commit 7 to commit 42

A part says: in the ranges that I revise, all that earlier parts hold is replaced; then these are my rows. Parts can be
composed: of two that follow each other one can be made that says the same, and takes the place of both. Each names how
far it reaches, the position and newest time, so that one rename commits the rows and the place to go on from together.
`parts` knows the files, `tape` writes one timeline, `reading` reads it back.
"""

from __future__ import annotations

from sisock.recording.reading import Recording
from sisock.recording.tape import Tape

__all__ = ["Recording", "Tape"]
