"""What a run found, for people: a table in the terminal, and one HTML page.

Everything is drawn from `serein.results.Results` alone.
"""
