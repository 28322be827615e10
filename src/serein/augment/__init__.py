"""What training hears in place of a recording: other speeds, rooms, noises, channels, and masks.

Waveforms are changed before the front end, so that their frames can be cached: a few forms of each
utterance are made once, and every epoch hears one of them. Masks are drawn for every batch.
"""
