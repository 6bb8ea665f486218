"""Writes the golden files."""

from tests.golden.make import FOLDER, files, text

for name, content in files().items():
    (FOLDER / name).write_text(text(content), encoding="utf-8")
