"""Models that listen: speech, pitch, notes."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from serving.tensor import Array
from tests.real.real_model import Infer, RealModel, copied

_A4_HZ = 440.0
_A4_NOTE = 48  # of a piano's 88 keys, counted from 0


def _sine(hz: float, rate: int, samples: int) -> Array:
    wave_form: Array = 0.5 * np.sin(2 * np.pi * hz / rate * np.arange(samples))
    return wave_form.astype(np.float32)


def _speech(path: Path, seconds: float) -> Array:
    """Return the beginning of a recording of one voice, 16 kHz, in -1 to 1."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        raw = file.readframes(int(16000 * seconds))
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768


def _voice_probabilities(audio: Array, infer: Infer) -> Array:
    """Stream the audio: 512 samples a request, with the 64 before them and the state so far."""
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32)
    found = []
    for start in range(0, len(audio) - 511, 512):
        chunk = audio[start : start + 512]
        told = infer(
            {
                "input": np.concatenate([context, chunk])[None],
                "state": state,
                "sr": np.array(16000, np.int64),
            }
        )
        found.append(told["output"].array().item())
        state, context = told["stateN"].array(), chunk[-64:]
    return np.array(found)


def _ask_silero_vad(fetched: Path, infer: Infer) -> None:
    speech = _voice_probabilities(_speech(fetched / "beckett.wav", 3.0), infer)
    assert speech[0] < 0.1  # the recording begins before the voice
    assert speech.max() > 0.99
    assert (speech > 0.5).mean() > 0.3
    assert _voice_probabilities(np.zeros(4096, np.float32), infer).max() < 0.05


def _ask_swift_f0(fetched: Path, infer: Infer) -> None:
    for hz, samples, frames in ((_A4_HZ, 16000, 62), (_A4_HZ / 2, 8000, 31)):
        told = infer(
            {
                "audio": _sine(hz, 16000, samples)[None],
                "fmin": np.array(50, np.float32),
                "fmax": np.array(2000, np.float32),
            }
        )
        assert told["pitch"].datatype == "FP64"
        assert told["pitch"].shape == (1, frames)
        middle = told["pitch"].array()[0, frames // 4 : -frames // 4]
        assert np.median(middle) == pytest.approx(hz, rel=0.002)


def _ask_basic_pitch(fetched: Path, infer: Infer) -> None:
    audio = _sine(_A4_HZ, 22050, 43844)
    told = infer({"serving_default_input_2:0": audio[None, :, None]})
    note, contour = (told[f"StatefulPartitionedCall:{n}"].array()[0].mean(0) for n in (1, 0))
    assert note.argmax() == _A4_NOTE
    assert contour.argmax() == 3 * _A4_NOTE + 1  # three bins a semitone, the middle one in tune


MODELS = (
    RealModel("silero_vad", copied("silero_vad.onnx"), _ask_silero_vad),
    RealModel("swift_f0", copied("swift_f0.onnx"), _ask_swift_f0),
    RealModel("basic_pitch", copied("basic_pitch.onnx"), _ask_basic_pitch),
)
