"""A telephone line: what the caller says goes to the session, what the agent says is played.

One clock moves both tracks, a frame at a time, so that the recording is what somebody on the line
would have heard. As a room's, the agent's track can be paused, and cut at any frame.
"""

from __future__ import annotations

import asyncio
import time
import wave
from collections import deque
from pathlib import Path
from types import TracebackType

from livekit.agents.utils import aio
from livekit.agents.voice import io
from typing_extensions import Self

from livekit import rtc


class Line:
    """Both ends of a call. Use it as a context; it carries sound while the context is open."""

    def __init__(self, *, rate: int = 16_000, frame: float = 0.02, record: bool = False) -> None:
        self.rate = rate
        self.microphone = Microphone()
        self.loudspeaker = Loudspeaker(rate)
        self._frame = frame
        self._samples = round(rate * frame)
        self._coming: deque[bytes] = deque()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._record = record
        self._tracks: list[tuple[bytes, bytes]] = []
        self._clock: asyncio.Task[None] | None = None

    def speak(self, pcm: bytes) -> None:
        """The caller says this, as soon as she has said everything before it."""
        size = self._samples * 2
        self._coming.extend(pcm[at : at + size] for at in range(0, len(pcm), size))
        if self._coming:
            self._quiet.clear()

    async def quiet(self) -> None:
        """Until the caller has said everything."""
        await self._quiet.wait()

    @property
    def caller_speaks(self) -> bool:
        return not self._quiet.is_set()

    def write_recording(self, path: Path) -> None:
        """The call as a WAV file: the caller on the left, the agent on the right."""
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            for left, right in self._tracks:
                both = bytearray(2 * len(left))
                for byte in (0, 1):
                    both[byte::4] = left[byte::2]
                    both[byte + 2 :: 4] = right[byte::2]
                file.writeframes(bytes(both))

    async def __aenter__(self) -> Self:
        self._clock = asyncio.create_task(self._run(), name="line")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._clock is not None:
            await aio.cancel_and_wait(self._clock)
        self.microphone.end()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        size = self._samples * 2
        while True:
            due += self._frame
            await asyncio.sleep(due - loop.time())
            if self._coming:
                left = self._coming.popleft().ljust(size, b"\0")
            else:
                left = bytes(size)
                self._quiet.set()
            right = self.loudspeaker.play(size).ljust(size, b"\0")
            self.microphone.carry(rtc.AudioFrame(left, self.rate, 1, self._samples))
            if self._record:
                self._tracks.append((left, right))


class Microphone(io.AudioInput):
    """What the session hears of the caller."""

    def __init__(self) -> None:
        super().__init__(label="line")
        self._frames = aio.Chan[rtc.AudioFrame]()

    def carry(self, frame: rtc.AudioFrame) -> None:
        self._frames.send_nowait(frame)

    def end(self) -> None:
        self._frames.close()

    async def __anext__(self) -> rtc.AudioFrame:
        try:
            return await self._frames.recv()
        except aio.ChanClosed:
            raise StopAsyncIteration from None


class Loudspeaker(io.AudioOutput):
    """What the caller hears of the agent. It takes sound faster than it plays it."""

    def __init__(self, rate: int) -> None:
        super().__init__(
            label="line",
            capabilities=io.AudioOutputCapabilities(pause=True),
            sample_rate=rate,
        )
        self._rate = rate
        self._waiting = bytearray()  # sound of the segment that was not played yet
        self._played = 0.0
        self._open = False  # a segment was begun and is not over
        self._started = False
        self._complete = False
        self._paused = False

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._open = True
        self._complete = False
        self._waiting += frame.data.cast("b")

    def flush(self) -> None:
        super().flush()
        self._complete = self._open

    def clear_buffer(self) -> None:
        if self._open:
            self._finish(interrupted=True)

    def pause(self) -> None:
        super().pause()
        self._paused = True

    def resume(self) -> None:
        super().resume()
        self._paused = False

    def play(self, size: int) -> bytes:
        """The next bytes of sound, as far as there are any."""
        if not self._open or self._paused:
            return b""
        if not self._waiting:
            if self._complete:
                self._finish(interrupted=False)
            return b""
        if not self._started:
            self._started = True
            self.on_playback_started(created_at=time.time())
        sound = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._played += len(sound) / 2 / self._rate
        return sound

    def _finish(self, *, interrupted: bool) -> None:
        position = self._played
        self._waiting.clear()
        self._played = 0.0
        self._open = self._started = self._complete = False
        self.on_playback_finished(playback_position=position, interrupted=interrupted)
