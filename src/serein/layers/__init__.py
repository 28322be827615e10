"""Parts of networks that are not specific to one paper.

B = batch, T = frames, N = frames of all sequences packed end to end, F or D = channels, H = heads.
A mask is (B, T), True for frames that are not padding.
"""
