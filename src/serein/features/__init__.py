"""Front ends: waveforms in, frames out; plain functions of the waveform.

A front end is a file with a ``Config`` dataclass and a ``FrontEnd`` module that knows its sampling
rate (Hz), width (bins a frame), hop (seconds) and the longest stretch that it takes (seconds).

B = batch, S = samples, T = frames, F = bins.
"""
