"""Ears, mouth and telephone line of a session, as far as a test needs them.

All that happens is in the audio: a sample's value says which utterance it belongs to, and silence
is zero. So voice activity and transcripts come from frames that went through LiveKit's pipeline,
at the moments at which they came, and nothing here knows what a test is about.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from examples.local_voice.line import Line
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, stt, tts, utils, vad
from livekit.agents.stt import SpeechData, SpeechEvent, SpeechEventType
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.vad import VADEvent, VADEventType
from livekit.agents.voice import io
from livekit.agents.voice.io import PlaybackFinishedEvent

from livekit import rtc

RATE = 16_000
FRAME = 0.05
"""Seconds of a frame."""


@dataclass(frozen=True)
class Heard:
    """What the recogniser makes of an utterance, ``at`` seconds after its first sound."""

    at: float
    text: str
    kind: Literal["interim", "preflight", "final"] = "final"


@dataclass(frozen=True)
class Utterance:
    """Something a caller says: sound for so long, and what is recognised of it when."""

    seconds: float
    heard: tuple[Heard, ...] = ()


def sound(value: int, seconds: float) -> bytes:
    """Samples of one value; ``value`` is an utterance's number."""
    return value.to_bytes(2, "little") * round(RATE * seconds)


def value_of(frame: rtc.AudioFrame) -> int:
    return frame.data[0]


class Telephone(Line):
    """A line on which utterances are spoken."""

    def __init__(self) -> None:
        super().__init__(rate=RATE, frame=FRAME)
        self.utterances: list[Utterance] = []
        self.played: list[PlaybackFinishedEvent] = []
        self.loudspeaker.on("playback_finished", self.played.append)

    def utter(self, utterance: Utterance) -> None:
        """Begin to speak now, or as soon as the last utterance is over."""
        self.utterances.append(utterance)
        self.speak(sound(len(self.utterances), utterance.seconds))


class Ears(vad.VAD):
    """Voice activity: whatever is not silence."""

    MIN_SILENCE: ClassVar[float] = 0.5

    def __init__(self) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=FRAME))

    def stream(self) -> vad.VADStream:
        return _EarsStream(self)


class _EarsStream(vad.VADStream):
    async def _main_task(self) -> None:
        self._samples = 0
        self._reset()
        async for frame in self._input_ch:
            if isinstance(frame, rtc.AudioFrame):
                self._listen(frame)
            else:
                self._reset()

    def _reset(self) -> None:
        self._speaking = False
        self._segment = 0.0  # seconds since it began
        self._sound = self._silence = 0.0  # seconds at a stretch

    def _listen(self, frame: rtc.AudioFrame) -> None:
        self._samples += frame.samples_per_channel
        sound = value_of(frame) != 0
        begins = sound and not self._speaking
        self._speaking = self._speaking or sound
        self._sound = self._sound + frame.duration if sound else 0.0
        self._silence = 0.0 if sound else self._silence + frame.duration
        self._segment = self._segment + frame.duration if self._speaking else 0.0
        self._tell(VADEventType.INFERENCE_DONE, frame)
        if begins:
            self._tell(VADEventType.START_OF_SPEECH, frame)
        elif self._speaking and self._silence > Ears.MIN_SILENCE - FRAME / 2:
            self._tell(VADEventType.END_OF_SPEECH, frame)
            self._reset()

    def _tell(self, kind: VADEventType, frame: rtc.AudioFrame) -> None:
        self._event_ch.send_nowait(
            VADEvent(
                type=kind,
                samples_index=self._samples,
                timestamp=self._samples / RATE,
                speech_duration=self._segment,
                silence_duration=self._silence,
                raw_accumulated_speech=self._sound,
                raw_accumulated_silence=self._silence,
                speaking=self._speaking,
                frames=[frame],
            )
        )


class Recogniser(stt.STT[Any]):
    """Says of every utterance what the script says is heard of it."""

    _KINDS: ClassVar = {
        "interim": SpeechEventType.INTERIM_TRANSCRIPT,
        "preflight": SpeechEventType.PREFLIGHT_TRANSCRIPT,
        "final": SpeechEventType.FINAL_TRANSCRIPT,
    }

    def __init__(self, telephone: Telephone) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True, interim_results=True, offline_recognize=False
            )
        )
        self.utterances = telephone.utterances

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> SpeechEvent:
        raise NotImplementedError("it listens to streams")

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        return _RecogniserStream(stt=self, conn_options=conn_options, utterances=self.utterances)


class _RecogniserStream(stt.RecognizeStream):
    def __init__(self, *, utterances: list[Utterance], **options: Any) -> None:
        super().__init__(**options)
        self._utterances = utterances

    async def _run(self) -> None:
        now = 0.0
        known: set[int] = set()
        coming: list[tuple[float, Heard]] = []
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            number = value_of(frame)
            if number and number not in known:
                known.add(number)
                coming += [(now + one.at, one) for one in self._utterances[number - 1].heard]
            now += frame.duration
            for moment, one in coming:
                if moment <= now:
                    self._tell(one)
            coming = [(moment, one) for moment, one in coming if moment > now]

    def _tell(self, heard: Heard) -> None:
        self._event_ch.send_nowait(
            SpeechEvent(
                type=Recogniser._KINDS[heard.kind],
                alternatives=[SpeechData(language="en", text=heard.text, confidence=1.0)],  # type: ignore[arg-type]
            )
        )


class Voice(tts.TTS[Any]):
    """Speaks a character in ``1/PACE`` seconds, word by word as the words arrive."""

    PACE: ClassVar[float] = 15.0

    def __init__(self, *, latency: float = 0.1, streaming: bool = True) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=streaming), sample_rate=RATE, num_channels=1
        )
        self.latency = latency

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(
        self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.SynthesizeStream:
        return _VoiceStream(tts=self, conn_options=conn_options, voice=self)

    def pronounce(self, text: str) -> bytes:
        """The sound of it."""
        return sound(1, len(text) / self.PACE)


class ExpressiveVoice(Voice):
    """Understands LiveKit's markup, in one provider's dialect. LiveKit hands it whole sentences, in
    which the markup is the provider's."""

    class Markup(Voice.Markup):
        def _provider_key(self) -> str:
            return "inworld"

    def __init__(self, *, latency: float = 0.1) -> None:
        super().__init__(latency=latency, streaming=False)


class _VoiceStream(tts.SynthesizeStream):
    def __init__(self, *, voice: Voice, **options: Any) -> None:
        super().__init__(**options)
        self._voice = voice

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=RATE,
            num_channels=1,
            mime_type="audio/pcm",
            stream=True,
        )
        begun = False
        async for text in self._input_ch:
            if not isinstance(text, str):
                continue
            if not begun:
                begun = True
                self._mark_started()
                await asyncio.sleep(self._voice.latency)
                output_emitter.start_segment(segment_id=utils.shortuuid())
            output_emitter.push(self._voice.pronounce(text))
        if begun:
            output_emitter.end_segment()


@dataclass
class _Caption:
    words: str = ""
    over: bool = False


class Captions(io.TextOutput):
    """The transcript as it is shown: each word when it is spoken."""

    def __init__(self) -> None:
        super().__init__(label="captions", next_in_chain=None)
        self.lines: list[_Caption] = []
        self._changed = asyncio.Condition()

    async def capture_text(self, text: str) -> None:
        if not self.lines or self.lines[-1].over:
            self.lines.append(_Caption())
        self.lines[-1].words += str(text)
        async with self._changed:
            self._changed.notify_all()

    def flush(self) -> None:
        if self.lines:
            self.lines[-1].over = True

    @property
    def text(self) -> str:
        return "\n".join(line.words for line in self.lines)

    async def shown(self, words: str, *, times: int = 1) -> None:
        """Until these words have been spoken."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.text.count(words) >= times)
