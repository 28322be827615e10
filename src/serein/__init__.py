"""Speech emotion recognition, end to end and multitask."""
