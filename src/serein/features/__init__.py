"""Front ends: waveforms in, frames out.

A front end is a file with a ``Config`` dataclass and a ``FrontEnd`` module. Its attributes are the
sampling rate (Hz), the width (bins of a frame), the hop (seconds) and the longest input (seconds).
A front end that can be exported to ONNX has a method ``to_onnx_module``.

B = batch, S = samples, T = frames, F = bins.
"""
