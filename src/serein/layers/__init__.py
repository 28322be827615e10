"""Parts that know no paper.

B = batch, T = frames, N = rows of all sequences end to end, F or D = channels, H = heads.
A mask is (B, T), True where a frame is speech, not padding.
"""
