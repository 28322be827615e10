"""Data augmentation: speed, pitch, rooms, noise, channels, and SpecAugment.

Waveforms are augmented before the front end, so that their frames can be cached: a few augmented
copies of each utterance are made once, and every epoch uses one of them. SpecAugment is drawn anew
for every batch.
"""
