"""Runs, one or several side by side, as one self-contained HTML file, or as a page that follows them.

`runs` reads run folders, `groups` puts seeds of one recipe together, `marft.eval.results` reads an evaluation; `curves`
and `evaluation` decide what is drawn, `chart` and `heat` draw it as SVG; `transcripts` and `tokens` make data of
episodes, `pieces` packs it; `write` puts the page together, `watch` serves it while a run goes on. The page opens no
connection: style, scripts, charts and data stand in the file, and its content policy forbids anything else. The same
input gives the same bytes.
"""
