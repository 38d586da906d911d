"""What the routes work with. Built by ``app``, frozen, handed to every request."""

from __future__ import annotations

from dataclasses import dataclass

from ..clock import Clock
from ..engine.model_names import ModelNames
from ..engine.runs import Runs
from ..engine.worker import Worker
from ..measurements import Measurements
from ..providers.contract import ModelProvider
from ..settings import Settings
from ..store.database import Database
from .keys import KeyRing
from .open_streams import OpenStreams
from .readiness import Readiness


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    settings: Settings
    clock: Clock
    database: Database
    provider: ModelProvider
    model_names: ModelNames
    worker: Worker
    runs: Runs
    keys: KeyRing
    streams: OpenStreams
    readiness: Readiness

    @property
    def measurements(self) -> Measurements:
        return self.worker.measurements

    def now(self) -> int:
        """Unix time in whole seconds, as objects carry it."""
        return int(self.clock.now())
