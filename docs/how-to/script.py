"""Keeps what an instrument measured on one day, and says what was highest: `python script.py NODE FIELD DAY FILE`.

    python docs/how-to/script.py apex_archive apex_temperature 2017-07-16 day.csv

`sisock.connect()` finds the site that runs on this machine; README.md tells of others.
"""

import sys
from datetime import date, timedelta

import sisock


def main(node: str, field: str, day: str, path: str) -> None:
    start = date.fromisoformat(day)
    with sisock.connect() as hub:
        data = hub[node].get([field], start=start, end=start + timedelta(days=1))
    frame = data.to_pandas()
    frame.to_csv(path)
    print(f"{len(frame)} rows of {field} are in {path}.")
    if len(frame):
        units = data.fields[field].units or ""
        print(f"The highest was {frame[field].max():g} {units} at {frame[field].idxmax():%Y-%m-%dT%H:%M:%SZ}.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except sisock.SisockError as error:
        # Each error is a sentence that says what to do.
        sys.exit(str(error))
