"""A run, or several side by side, as one HTML file that needs nothing else to be read.

`runs` reads run folders, `results` an evaluation; `curves` and `evaluation` decide what is drawn, `chart` draws it as
SVG; `transcripts` picks the episodes to show; `write` puts the page together. The page opens no connection: style,
scripts, charts and data stand in the file, and its content policy forbids anything else. The same input gives the
same bytes.
"""

from marft.report.write import write_report

__all__ = ["write_report"]
