"""Makes the binary files of `examples/corpus`; the text files there are written by hand.

Run it in the repository's root, in a virtual environment of its own:

    python -m venv .venv-corpus
    .venv-corpus/bin/pip install reportlab python-docx python-pptx openpyxl pillow numpy matplotlib
    .venv-corpus/bin/python -m examples.make_corpus            # all of them, or the names of some

The words of most documents are in `text/`. The fonts are DejaVu, STIX and Computer Modern out of
matplotlib's wheel, so no font file is kept here. Dates and random seeds are fixed: the same versions of the
tools write the same bytes again. The files of today were made with reportlab 5.1, python-docx 1.2,
python-pptx 1.0.2, openpyxl 3.1.5, pillow 13.0 and numpy 2.4.
"""
