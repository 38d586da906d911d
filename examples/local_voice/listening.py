"""Recognition by PocketSphinx, whose wheel brings its own English model.

It knows a grammar, not a language: what a caller may say is written down, and anything else is
nothing. That is what such an old and small engine does well, in a fraction of the time of speech.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from typing import Any

from livekit.agents import APIConnectOptions, stt, utils
from livekit.agents.stt import SpeechData, SpeechEvent, SpeechEventType
from livekit.agents.types import NOT_GIVEN, NotGivenOr

from livekit import rtc

_RATE = 16_000
_SILENCE = bytes(_RATE)  # half a second; the decoder wants some on both sides

# Wider than the defaults, which lose the ends of synthetic speech.
_BEAMS = {"beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-60}


class PocketSphinxSTT(stt.STT[Any]):
    """Recognises sentences of a JSGF ``grammar``. It takes whole utterances, as a VAD cuts them."""

    def __init__(self, grammar: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        pocketsphinx = importlib.import_module("pocketsphinx")
        # The mean of a whole utterance is known, so that the first one is heard as well as others.
        decoder = pocketsphinx.Decoder(
            loglevel="FATAL", samprate=_RATE, lm=None, cmn="batch", **_BEAMS
        )
        decoder.add_jsgf_string("caller", grammar)
        decoder.activate_search("caller")
        self._decoder = decoder
        self._one_at_a_time = threading.Lock()

    @property
    def model(self) -> str:
        return "en-us"

    @property
    def provider(self) -> str:
        return "pocketsphinx"

    def transcribe(self, pcm: bytes) -> str:
        """The sentence in these 16-bit samples, 16,000 a second, or nothing."""
        with self._one_at_a_time:
            self._decoder.start_utt()
            self._decoder.process_raw(_SILENCE + pcm + _SILENCE, full_utt=True)
            self._decoder.end_utt()
            found = self._decoder.hyp()
        return found.hypstr if found is not None else ""

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> SpeechEvent:
        pcm = _samples(utils.merge_frames(buffer))
        text = await asyncio.get_running_loop().run_in_executor(None, self.transcribe, pcm)
        return SpeechEvent(
            type=SpeechEventType.FINAL_TRANSCRIPT,
            alternatives=[SpeechData(language="en", text=text)],  # type: ignore[arg-type]
        )


def _samples(frame: rtc.AudioFrame) -> bytes:
    frames = [frame]
    if frame.sample_rate != _RATE:
        resampler = rtc.AudioResampler(frame.sample_rate, _RATE)
        frames = [*resampler.push(frame), *resampler.flush()]
    return b"".join(bytes(one.data.cast("b")) for one in frames)
