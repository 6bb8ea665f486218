"""Settings of the site streams, from the environment.

| name | what it sets | default |
|---|---|---|
| SISOCK_STREAMS_HOST, SISOCK_STREAMS_PORT | where subscribers and producers come | 127.0.0.1, 8020 |
| SISOCK_STREAMS_TLS | 1 serves https and wss, with a certificate of the site's own authority | off |
| SISOCK_STREAMS_INSECURE | 1 listens beyond this machine without TLS | off |
| SISOCK_STREAMS_STAGES | the stages that are served | dev,prod |
| SISOCK_STREAMS_QUEUES | queues that are read: `prod=datastreamIncomingQueue-prod`, by name or address, commas between | none |
| SISOCK_STREAMS_READERS | threads that read each queue | 2 |
| SISOCK_STREAMS_KEEP | how long messages are kept in the store: 30d; `sisock run streams --keep` | for ever |

How a queue is reached, boto3's own settings say: AWS_ENDPOINT_URL_SQS, AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and so on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sisock.errors import SetupError
from sisock.nodes.streams.message import UnknownStage
from sisock.retention import keep_of

PORT = 8020
OPTIONS = {"keep": "SISOCK_STREAMS_KEEP"}
_STAGE = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment names. `queues` are names or addresses, each with the stage that it feeds; `keep` is in seconds."""

    stages: tuple[str, ...] = ("dev", "prod")
    queues: Mapping[str, str] = field(default_factory=dict)
    readers: int = 2
    keep: float | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings that the environment names; SetupError for what is not understood."""
        stages = tuple(filter(None, (environ.get("SISOCK_STREAMS_STAGES") or "dev,prod").split(",")))
        for stage in stages:
            if not _STAGE.fullmatch(stage):
                raise SetupError(f"SISOCK_STREAMS_STAGES: {stage!r} is no stage; it takes letters, digits, _ and -.")
        queues: dict[str, str] = {}
        for text in filter(None, environ.get("SISOCK_STREAMS_QUEUES", "").split(",")):
            stage, equals, queue = text.partition("=")
            if not equals or stage not in stages or not queue:
                raise SetupError(
                    f"SISOCK_STREAMS_QUEUES: {text!r:.100} is not understood. Write STAGE=QUEUE with one of the stages "
                    f"{', '.join(stages)}, such as {stages[0]}=datastreamIncomingQueue-{stages[0]}."
                )
            queues[queue] = stage
        readers = environ.get("SISOCK_STREAMS_READERS") or "2"
        if not readers.isdecimal() or not 1 <= int(readers) <= 100:
            raise SetupError(f"SISOCK_STREAMS_READERS={readers} in the environment is no number from 1 to 100.")
        return cls(stages, queues, int(readers), keep_of(environ, "SISOCK_STREAMS_KEEP"))

    def check_stage(self, stage: str) -> None:
        """Raises UnknownStage for one that is not served."""
        if stage not in self.stages:
            raise UnknownStage(f"there is no stage {stage!r:.80}; there are {', '.join(self.stages)}")
