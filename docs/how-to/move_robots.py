"""Makes files for `sisock store import` of a dump of the old telemetry's events, one a robot.

    python move_robots.py events.csv robots > import.sh
    sh import.sh

The dump is CSV with the columns robot, x, y and timestamp (milliseconds), by time. An event that does not come after its
robot's last is left out, as the node does; how many these were is said at the end.
"""

import csv
import shlex
import sys
from pathlib import Path

from sisock.errors import InvalidArgument
from sisock.nodes.telemetry.source import Robot, parse

ROWS = 1000


class File:
    """The rows of one robot, on their way to its file."""

    def __init__(self, path, name):
        self.robot = Robot(name)
        self.path = path
        self._rows = []
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerow(["t", *(f"{name}.{field}" for field in ("x", "y", "odometer", "speed"))])

    def take(self, event):
        moved = self.robot.move(event)
        if moved is not None:
            seconds, milli = divmod(event.timestamp, 1000)
            self._rows.append((f"{seconds}.{milli:03d}", event.x, event.y, *moved))
            if len(self._rows) == ROWS:
                self.write()

    def write(self):
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows(self._rows)
        self._rows.clear()


def main(dump, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    with Path(dump).open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                # Names with a comma never came in: a frame has four parts.
                event = parse(f"{row['x']},{row['y']},{row['timestamp']},{row['robot']}")
            except (InvalidArgument, KeyError) as error:
                sys.exit(f"{dump}, row {number}: {error}")
            if event.robot not in files:
                # By its number: a name may hold what no file's may, and be longer.
                files[event.robot] = File(folder / f"robot-{len(files) + 1}.csv", event.robot)
            files[event.robot].take(event)
    for name, one in files.items():
        one.write()
        print(shlex.join(["sisock", "store", "import", "telemetry", f"--timeline={name}", str(one.path)]))
    dropped = sum(one.robot.dropped for one in files.values())
    print(f"{len(files)} robots; {dropped} events did not come after their robot's last and are left out.", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
