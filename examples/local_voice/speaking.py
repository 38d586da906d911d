"""Speech from espeak-ng, in a wheel of its own (``espeakng-loader``): text in, sound out.

espeak-ng keeps its state in the process, so one thread at a time speaks.
"""

from __future__ import annotations

import array
import asyncio
import ctypes
import functools
import importlib
import threading
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, tts, utils

from livekit import rtc

RATE = 22_050
"""Samples a second that espeak-ng makes."""

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS of speak_lib.h
_UTF8 = 1
_SPEED = 1  # espeakRATE

_one_at_a_time = threading.Lock()


@functools.cache
def _library() -> Any:
    loader = importlib.import_module("espeakng_loader")
    library = ctypes.CDLL(loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, loader.get_data_path().encode(), 0)
    if rate != RATE:
        raise RuntimeError(f"espeak-ng could not be started ({rate})")
    return library


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def synthesise(text: str, *, voice: str = "en-us", speed: int = 150, rate: int = RATE) -> bytes:
    """16-bit samples of somebody saying this, ``rate`` a second, ``speed`` words a minute."""
    sound = array.array("h")

    def collect(samples: Any, count: int, _: Any) -> int:
        if samples:
            sound.extend(samples[:count])
        return 0

    callback = _Callback(collect)  # kept alive for as long as espeak-ng may call it
    said = text.encode()
    with _one_at_a_time:
        library = _library()
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(_SPEED, speed, 0)
        library.espeak_Synth(said, len(said) + 1, 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
    pcm = sound.tobytes()
    return pcm if rate == RATE else _resampled(pcm, rate)


def _resampled(pcm: bytes, rate: int) -> bytes:
    resampler = rtc.AudioResampler(RATE, rate, quality=rtc.AudioResamplerQuality.HIGH)
    frames = resampler.push(rtc.AudioFrame(pcm, RATE, 1, len(pcm) // 2)) + resampler.flush()
    return b"".join(bytes(frame.data.cast("b")) for frame in frames)


class EspeakTTS(tts.TTS[Any]):
    """A voice for a session."""

    def __init__(self, *, voice: str = "en-us+f3", speed: int = 160) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1
        )
        self.voice = voice
        self.speed = speed

    @property
    def model(self) -> str:
        return self.voice

    @property
    def provider(self) -> str:
        return "espeak-ng"

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _Sentence(tts=self, input_text=text, conn_options=conn_options, espeak=self)


class _Sentence(tts.ChunkedStream):
    def __init__(self, *, espeak: EspeakTTS, **options: Any) -> None:
        super().__init__(**options)
        self._espeak = espeak

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        work = functools.partial(
            synthesise, self.input_text, voice=self._espeak.voice, speed=self._espeak.speed
        )
        sound = await asyncio.get_running_loop().run_in_executor(None, work)
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=RATE,
            num_channels=1,
            mime_type="audio/pcm",
        )
        output_emitter.push(sound)
        output_emitter.flush()
